"""The door to one's own CT: odd names of folders and runs, stale results, short answers."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lib import apply as door
from lib.apply import CannotApply, apply
from lib.files import ROOT
from lib.networks import load_pretrained
from lib.paper import PHASES
from lib.report.notebooks import PROGRESS
from lib.run_notebook import QUIET

SHOW = """
import os
names = ("CT_FOLDER", "CT_RUN", "CT_NETWORK")
print(*(repr(os.environ[name]) for name in names), os.environ.get("DICOM"), os.environ.get("NETWORK"))
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    "odd", ["`touch {0}`", "$(touch {0})", "$(shell touch {0})", 'it\'s "a" $HOME {{b}}: c', "a;b&c"]
)
def test_make_hands_on_the_folder_as_it_was_typed(tmp_path, odd):
    odd = odd.format(tmp_path / "touched")
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "python"
    fake.write_text(f"#!{sys.executable}\n{SHOW}")
    fake.chmod(0o755)
    for name in ("Makefile",):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(tmp_path / "bin")
    for name in ("requirements.txt", "pyproject.toml", ".venv/installed"):
        (tmp_path / name).touch()
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    command = ["make", "apply", f"DICOM={odd}", "RUN=007", f"NETWORK={odd}"]
    told = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True)
    assert told.stdout.strip() == f"{odd!r} '007' {odd!r} None None", told.stderr
    assert not (tmp_path / "touched").exists()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository's root in which Snakemake is replaced by a script that says what it was given."""
    monkeypatch.setattr(door, "ROOT", tmp_path)
    monkeypatch.setattr("lib.files.ROOT", tmp_path)
    script = "import sys; print('CONFIG', open(sys.argv[-1]).read()); sys.exit(int(open('status').read()))"
    monkeypatch.setattr(door, "SNAKEMAKE", [sys.executable, "-c", script])
    for name in ("config", "ct"):
        (tmp_path / name).mkdir()
    (tmp_path / "config" / "quick.yaml").touch()
    (tmp_path / "config" / "apply.yaml").write_text("network: weights/seed01\n")
    trained(tmp_path / "weights" / "seed01")
    (tmp_path / "status").write_text("1")
    return tmp_path


def trained(folder):
    folder.mkdir(parents=True)
    for name in ("model.keras", "standardisation.json"):
        (folder / name).touch()
    return folder


def test_the_shipped_network_is_the_default():
    """What config/apply.yaml names is whole, is the network of load_pretrained, and its scale is in HU."""
    folder = ROOT / yaml.safe_load((ROOT / "config" / "apply.yaml").read_text())["network"]
    assert folder.parent == ROOT / "weights" and door._network(str(folder)) == folder
    model, scale = load_pretrained(folder.name)
    assert model.input_shape[1:] == (scale.image_size, scale.image_size, scale.channels)
    assert model.count_params() == 132181 and -100 < scale.mean < 50 and 100 < scale.sd < 250


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("", "weights/seed01"),
        ("seed01", "weights/seed01"),
        ("{0}/runs/quick/networks/top", "runs/quick/networks/top"),
        ("{0}/ct/it's {{mine}} $HOME", "runs/apply/private/network"),
        ("{0}/../elsewhere", "runs/apply/private/network"),
    ],
)
def test_the_network_that_is_taken(project, given, recorded, capfd):
    given = given.format(project)
    if given not in ("", "seed01"):
        trained(Path(given))
    assert apply(str(project / "ct"), network=given) == 1
    assert f"network: {recorded}\n" in capfd.readouterr().out
    chosen = Path(given) if "/" in given else project / "weights" / "seed01"
    assert (project / recorded).resolve() == chosen.resolve()


@pytest.mark.parametrize("lacking", ["model.keras", "standardisation.json", "both"])
def test_a_network_that_is_not_there_or_not_whole(project, lacking):
    folder = trained(project / "mine")
    for path in list(folder.iterdir()):
        if lacking in (path.name, "both"):
            path.unlink()
    lacks = "model.keras and standardisation.json" if lacking == "both" else lacking
    with pytest.raises(CannotApply, match=rf"mine lacks {lacks}\. Give the folder .* or one of weights/: seed01\."):
        apply(str(project / "ct"), network=str(folder))
    assert not (project / "runs").exists()


def test_a_folder_without_ct_is_answered_in_four_lines(tmp_path):
    """The workflow itself runs and stops; beside the files' progress nothing is told but what was done and why not."""
    (tmp_path / "notes.txt").write_text("not a CT")
    run = f"test_{os.getpid()}"
    command = [sys.executable, "-m", "lib.apply"]
    ours = os.environ | {"CT_FOLDER": str(tmp_path), "CT_RUN": run}
    try:
        told = subprocess.run(command, cwd=ROOT, env=ours, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        shutil.rmtree(ROOT / "runs" / run, ignore_errors=True)
    lines = [line for line in told.stdout.splitlines() if line.strip() and not PROGRESS.search(line)]
    assert told.returncode == 1
    assert lines[2].endswith("1 files: not a DICOM file."), lines
    assert [line.split()[0].rstrip(":") for line in lines] == [str(tmp_path), *["01_prepare_cohort"] * 2, "The", "make"]


def test_what_a_former_run_made_is_gone_before_the_new_one_fails(project, capfd):
    run = project / "runs" / "2024_01"
    for name in ("votes", "tables", "figures", "maps", "masking", "notebooks", "report", "cohort", "private/notebooks"):
        (run / name).mkdir(parents=True)
        (run / name / "old").touch()
    (run / "cohort" / "slices.zarr" / "a1").mkdir(parents=True)
    (run / "cohort" / "slices.zarr" / "a1" / "zarr.json").touch()
    (run / "predictions.parquet").touch()
    (run / "private" / "predictions.csv").touch()
    (run / "private" / "network").symlink_to(project / "ct")
    (run / "private" / "dicom_maps").mkdir()
    (run / "private" / "key").write_text("stays")
    assert apply(str(project / "ct"), "2024_01") == 1
    assert sorted(path.name for path in run.iterdir()) == ["cohort", "private"]
    assert (run / "cohort" / "slices.zarr" / "a1" / "zarr.json").exists()
    assert [path.name for path in (run / "cohort").iterdir()] == ["slices.zarr"], "tables of another folder's CT"
    assert sorted(path.name for path in (run / "private").iterdir()) == ["apply.yaml", "key", "source"]
    assert stat.S_IMODE((run / "private").stat().st_mode) == 0o700
    told = capfd.readouterr().out
    assert "run: '2024_01'" in told or 'run: "2024_01"' in told or "run: 2024_01" in told
    assert "dicom: runs/2024_01/private/source" in told
    assert os.path.realpath(run / "private" / "source") == str(project / "ct")


def test_maps_for_a_pacs_are_asked_for_by_one_command(project, capfd):
    assert door.QUIET == QUIET
    run = project / "runs" / "mine"
    with pytest.raises(CannotApply, match="no maps in runs/mine: make apply DICOM=/path/to/folder RUN=mine makes them"):
        door.export_maps("mine")
    with pytest.raises(CannotApply, match="no maps in runs"):
        door.export_maps("../mine")
    for name in ("private/apply.yaml", "maps/maps.npz"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("run: mine")
    told = f"import os, sys; assert os.environ[{QUIET!r}]; print(*sys.argv[1:]); "
    told += "sys.exit(int(open('status').read()))"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "SNAKEMAKE", [sys.executable, "-c", told, "--configfile", "config/apply.yaml"])
        assert door.export_maps("mine", ["--forcerun"]) == 1
        (project / "status").write_text("0")
        assert door.export_maps("mine") == 0
    lines = capfd.readouterr().out.splitlines()
    config = f"--configfile config/apply.yaml {run}/private/apply.yaml"
    assert lines[:2] == [f"{config} --forcerun -- export_maps_to_dicom", f"{config} -- export_maps_to_dicom"]
    assert lines[2:] == [
        "The maps are in runs/mine/private/dicom_maps, with the patients' names: for your own PACS only."
    ]


@pytest.mark.parametrize("name", ["", "../x", "a b", "-f", "a/b", "é"])
def test_names_that_no_run_can_have(project, name):
    with pytest.raises(CannotApply, match="a name of letters, digits"):
        apply(str(project / "ct"), name or " ")


def test_another_commands_run_is_not_touched(project):
    table = project / "runs" / "quick" / "cohort" / "slices.parquet"
    other = project / "runs" / "wide" / "cohort" / "slices.parquet"
    for path in (table, other):
        path.parent.mkdir(parents=True)
        path.touch()
        with pytest.raises(CannotApply, match="belongs to another command, and nothing in it was touched"):
            apply(str(project / "ct"), path.parts[-3])
        assert path.exists() and not (path.parents[1] / "private").exists()


def test_a_folder_that_is_none(project):
    with pytest.raises(CannotApply, match="DICOM is empty"):
        apply("")
    with pytest.raises(CannotApply, match=r"found no folder '.*nowhere'"):
        apply(str(project / "nowhere"))


def test_predictions_stand_beside_the_users_own_names_in_private_only(project, capsys):
    run = project / "runs" / "apply"
    (project / "status").write_text("0")
    tables = {
        "private/sources.csv": {"series": ["a1"], "patient": ["b2"], "patient_id": ["Doe"], "folder": ["/ct/Doe"]},
        "private/source_files.csv": {"series": ["a1"], "slice": [0], "file": ["/ct/Doe/1.dcm"], "frame": [-1]},
        "cohort/series.csv": {"series": ["a1"], "extent_source": ["none"], "notes": [""], "warning": ["1 of 1 slices"]},
        "cohort/rejected.csv": {"series": ["-"], "files": [3], "reason": ["not a DICOM file"]},
        "votes/series.csv": {"series": ["a1"], "slices": [1], "winner": ["neph"]},
    }
    predictions = {"series": ["a1"], "slice": [0], "z_mm": [1.5], "predicted": ["neph"], **{p: [0.2] for p in PHASES}}

    def written(*_, **__):
        for name, columns in tables.items():
            (run / name).parent.mkdir(exist_ok=True)
            pd.DataFrame(columns).to_csv(run / name, index=False)
        pd.DataFrame(predictions).to_parquet(run / "predictions.parquet")
        return subprocess.CompletedProcess([], 0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.subprocess, "run", written)
        assert apply(str(project / "ct")) == 0
    told = capsys.readouterr().out
    assert "neph" in told and "1 of 1 slices" in told and "3 files: not a DICOM file" in told and "Doe" not in told
    series = pd.read_csv(run / "private" / "predicted_series.csv")
    assert series.loc[0, ["patient_id", "predicted", "folder"]].tolist() == ["Doe", "neph", "/ct/Doe"]
    slices = pd.read_csv(run / "private" / "predictions.csv")
    assert slices.loc[0, ["file", "predicted"]].tolist() == ["/ct/Doe/1.dcm", "neph"]
