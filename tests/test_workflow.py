"""The graph of notebooks: what runs again when something changes, and the whole chain on the smoke profile."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import product

import keras
import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from executed_notebooks import faults_of_figures
from nbclient import NotebookClient
from pydicom import dcmread
from pydicom.data import get_testdata_file

from lib.files import ROOT
from lib.networks import REFERENCES
from lib.run_notebook import declared_parameters, read_notebook

FIGURES = [f"fig{n}" for n in range(1, 7)] + [f"s{n}" for n in range(1, 8)] + ["grad_cam_networks"]
FIGURES += ["sanity_checks", "deletion_curves", "deletion_areas", "sensitivity", "where_masked_go", "retraining"]


REAL_CT = ROOT.parent / "shared" / "real_ct"


def snakemake(folder, *arguments, profile="smoke"):
    configs = [f"config/{name}.yaml" for name in profile.split()]
    command = [sys.executable, "-m", "snakemake", "--configfile", *configs, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def train(folder, name, **parameters):
    """Run 02_train_network on the smoke cohort."""
    given = {"cohort": "runs/smoke/cohort", "network": f"runs/smoke/networks/{name}", **parameters}
    command = [sys.executable, "-m", "lib.run_notebook", "notebooks/02_train_network.py", str(folder / f"{name}.ipynb")]
    command += ["--parameters", json.dumps(given)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def copy_of_the_project(folder):
    """Copy what git tracks or would, into an empty folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The smoke profile, run from nothing."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("project"))
    start = time.monotonic()
    done = snakemake(folder)
    print(f"smoke profile: {time.monotonic() - start:.0f} s")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return folder


def would_run(folder, *arguments):
    planned = snakemake(folder, "--dry-run", "--quiet", "host", "--", *arguments)
    assert planned.returncode == 0, planned.stderr
    lines = (planned.stdout + planned.stderr).splitlines()
    return {line.split()[1].rstrip(":") for line in lines if line.startswith(("rule ", "localrule "))} - {"all"}


def test_every_figure_and_table_and_the_claims_are_there(finished):
    run = finished / "runs/smoke"
    for name in FIGURES:
        assert (run / f"figures/{name}.png").stat().st_size > 10_000, name
        assert (run / f"figures/{name}.pdf").exists() and (run / f"figures/{name}.png.json").exists()
    for name in ("table1_slices", "table1_volumes", "table2", "headline", "voting_rules"):
        assert (run / f"tables/{name}.csv").exists(), name
    claims = pd.read_csv(run / "claims.csv")
    assert len(claims) >= 60 and claims.verdict.notna().all()
    verdicts = claims.set_index("id")["verdict"]
    assert verdicts["C17"] == "reproduced" and verdicts["C12"] == "method, changed", "of 03_select_network"
    assert set(pd.read_csv(run / "tables/networks.csv").network) == {"top", "small", "small_three_slices"}


def test_the_related_texts_have_their_verdicts(finished):
    done = snakemake(finished, "--", "texts")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    tables = finished / "runs/smoke/tables"
    judged = [pd.read_csv(tables / f"{name}_verdicts.csv") for name in ("atlas", "architectures", "dental")]
    assert [len(table) for table in judged] == [9, 5, 5] and all(table.verdict.notna().all() for table in judged)
    assert judged[0].set_index("id").verdict["A8"] == "not tested here", "there is one network"
    assert set(judged[2].verdict[2:]) == {"network too weak"}, "two epochs on eight plates"
    four = pd.read_csv(tables / "four_studies.csv").set_index("id")
    assert four.verdict["M3"] == "network too weak" and four.verdict["C50"] != "not tested here"


@pytest.mark.slow
def test_the_arm_of_22_on_ct_has_its_table(finished):
    """Left out of the smoke profile, for its three trainings."""
    plates = yaml.safe_load((finished / "config/smoke.yaml").read_text())["parameters"]["22_grad_cam_dental_layers"]
    arm = {**plates, "ct_slices": 8, "ct_epochs": 2} | {name: f"ct/{name}" for name in ("figures", "tables", "cache")}
    command = [sys.executable, "-m", "lib.run_notebook", "notebooks/22_grad_cam_dental_layers.py", "ct/22.ipynb"]
    environment = {**os.environ, "PYTHONPATH": str(finished)}
    done = subprocess.run([*command, "--parameters", json.dumps(arm)], cwd=finished, env=environment, text=True,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(pd.read_csv(finished / "ct/tables/dental_ct.csv")["network"]) >= {"competent", "shuffled labels"}


def test_every_figure_of_the_executed_notebooks_is_seen(finished):
    assert faults_of_figures(finished / "runs/smoke/notebooks") == []


def test_nothing_runs_twice(finished):
    assert would_run(finished) == set()


CHAIN = {"prepare_cohort", "train_network", "vote_slices", "compute_maps", "mask_voxels", "anatomy_of_maps"}
FROM_MASKING = {"mask_voxels", "fig2_masking_specificity", "fig5_sam_against_grad_cam", "anatomy_of_maps"}


@pytest.mark.parametrize(
    ("module", "rerun", "kept"),
    [
        ("figures/maps", {"fig1_final_layer_maps", "fig3_grad_cam_layers"}, CHAIN - {"anatomy_of_maps", "vote_slices"}),
        ("claims/maps", {"compare_with_paper"}, CHAIN - {"anatomy_of_maps"}),
        ("masking/controls", FROM_MASKING, {"prepare_cohort", "train_network", "compute_maps", "vote_slices"}),
        ("masking/deletion", {"deletion_curves"}, CHAIN | {"sanity_checks"}),
        ("networks", {"train_network", "mask_voxels"}, {"prepare_cohort"}),
        ("resampling", CHAIN, set()),
        ("phantom/kinetics", CHAIN, set()),
    ],
)
def test_an_edit_of_a_module_reruns_what_depends_on_it_and_nothing_else(finished, module, rerun, kept):
    path = finished / f"lib/{module}.py"
    before, text = path.stat(), path.read_text()
    try:
        path.write_text(text + "# edited\n")
        rules = would_run(finished)
        assert rerun <= rules and not rules & kept
    finally:
        path.write_text(text)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_changed_parameter_reruns_what_depends_on_it(finished):
    config = finished / "config/smoke.yaml"
    text = config.read_text()
    try:
        config.write_text(text.replace("draws: 2", "draws: 1"))
        rules = would_run(finished)
        assert {"mask_voxels", "fig2_masking_specificity", "compare_with_paper"} <= rules
        assert not rules & {"prepare_cohort", "train_network", "compute_maps", "vote_slices", "fig1_final_layer_maps"}
    finally:
        config.write_text(text)


def test_a_profile_takes_nothing_from_another(finished):
    planned = snakemake(finished, "--dry-run", "--printshellcmds", "--quiet", "host", profile="paper")
    told = planned.stdout + planned.stderr
    assert "02_train_network.py runs/paper" in told and "he_normal" not in told, told


def test_the_control_of_the_labels_changes_the_labels_and_nothing_else():
    selection, clock = (
        yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())["parameters"] for name in ("selection", "clock")
    )
    assert clock["01_prepare_cohort"].pop("labelling") == "scan_time"
    assert clock == selection


def test_the_sixteen_networks_differ_by_their_seed(finished):
    planned = snakemake(finished, "--dry-run", "--printshellcmds", "--quiet", "host", profile="study").stdout
    trained = [line for line in planned.splitlines() if "run_notebook notebooks/02_" in line and "/seed" in line]
    without = {re.sub(r'_?seed\d\d|"seed": \d+', "", line) for line in trained}
    assert len(trained) == 16 and len(without) == 1
    assert {int(number) for number in re.findall(r'"seed": (\d+)', "".join(trained))} == set(range(1, 17))
    masked = [line for line in planned.splitlines() if "lib.run_notebook notebooks/06_mask_voxels.py" in line]
    assert len(masked) == 16 + 1, "and the network that was trained with noise patches"
    drawn = next(line for line in planned.splitlines() if "run_notebook notebooks/08_" in line)
    assert '"noise_network_masking": "runs/study/masking/noise_patches"' in drawn
    checked = next(line for line in planned.splitlines() if "run_notebook notebooks/15_" in line)
    assert '"random_label_network": "runs/study/networks/random_labels"' in checked


@pytest.mark.parametrize(
    ("base", "added", "sizes"), [("study", "grid", (64, 128, 256)), ("paper", "grid_full", (128, 256, 512))]
)
def test_the_grid_has_27_networks_of_which_the_profiles_own_is_one(finished, base, added, sizes):
    own, members = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in (base, added))
    grid = [*members["members"]["grid"].values(), {"image_size": own["parameters"]["02_train_network"]["image_size"]}]
    plans = {(member["image_size"], member.get("kernels", "16 16 32 32 64")) for member in grid}
    kernels = [
        " ".join(str(width * 2 ** (n // 2)) for n in range(blocks)) for width in (8, 16, 32) for blocks in (4, 5, 6)
    ]
    assert plans == set(product(sizes, kernels)) and len(grid) == 27
    assert all(size % 2 ** len(plan.split()) == 0 for size, plan in plans)
    arm = members["members"]["three_slices"].values()
    assert sorted(member["image_size"] for member in arm) == list(sizes) and {m["channels"] for m in arm} == {3}
    planned = snakemake(finished, "--dry-run", "--printshellcmds", "--quiet", "host", profile=f"{base} {added}").stdout
    trained = [line for line in planned.splitlines() if "lib.run_notebook notebooks/02_train_network.py" in line]
    assert len(trained) == own.get("seeds", 1) + len(own.get("control_networks", {})) + 26 + 3
    assert (
        len([line for line in planned.splitlines() if "lib.run_notebook notebooks/03_select_network.py" in line]) == 1
    )


def test_the_reference_networks_are_added_to_any_profile(finished):
    planned = snakemake(finished, "--dry-run", "--printshellcmds", "--quiet", "host", profile="study references").stdout
    architectures = re.findall(r'"architecture": "(\w+)"', planned)
    assert sorted(architectures) == sorted(REFERENCES)
    chosen = next(line for line in planned.splitlines() if "run_notebook notebooks/03_select_network.py" in line)
    assert '"grid": "seed01"' in chosen and '"references": "VGG16 ResNet50' in chosen and "phase_net_128" in chosen


def test_a_trained_network_is_taken_as_it_is_or_goes_on_at_another_size(finished):
    """As networks of 512 x 512 pixels go on from those of the study (config/study512.yaml)."""
    start = {"start_from": "runs/smoke/networks/top", "first_epochs": 0}
    taken = train(finished, "taken", image_size=128, max_epochs=0, **start)
    assert taken.returncode == 0, taken.stderr[-3000:]
    before, after, larger = (finished / "runs/smoke/networks" / name for name in ("top", "taken", "larger"))
    weights = [keras.models.load_model(n / "model.keras", compile=False).get_weights() for n in (before, after)]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    pd.testing.assert_frame_equal(*(pd.read_parquet(n / "predictions.parquet") for n in (before, after)), rtol=1e-4)
    refused = train(finished, "other", image_size=64, max_epochs=0, **start)
    assert "takes image_size=128" in refused.stdout + refused.stderr
    grown = train(finished, "larger", image_size=160, max_epochs=1, learning_rate=1e-4, **start)
    assert grown.returncode == 0, grown.stderr[-3000:]
    losses = [pd.read_csv(network / "history.csv").val_loss for network in (before, larger)]
    assert losses[1].iloc[0] < losses[0].iloc[0], "the weights were not taken over"


def test_run_all_works_from_the_notebooks_folder(finished, monkeypatch):
    """JupyterLab starts a kernel where the notebook lies. The defaults read runs/quick; here that is the smoke run."""
    monkeypatch.setenv("PYTHONPATH", str(finished))
    if not (finished / "runs/quick").exists():
        (finished / "runs/quick").symlink_to("smoke")
    for name in ("04_vote_slices", "10_fig4_sam_layers"):
        notebook = nbformat.read(finished / f"notebooks/{name}.ipynb", 4)
        NotebookClient(notebook, resources={"metadata": {"path": str(finished / "notebooks")}}).execute()


def test_run_all_does_what_make_figures_does():
    """The notebooks' defaults are the quick profile, so that neither replaces what the other has made."""
    config = yaml.safe_load((ROOT / "config/quick.yaml").read_text())
    for name, parameters in config["parameters"].items():
        declared = declared_parameters(read_notebook(ROOT / f"notebooks/{name}.py"))
        defaults = {key: ast.literal_eval(default) for key, (_, default, _) in declared.items()}
        assert parameters.items() <= defaults.items(), name
    for name in ("01_prepare_cohort", "02_train_network", "06_mask_voxels"):
        declared = declared_parameters(read_notebook(ROOT / f"notebooks/{name}.py"))
        written = [default for key, (_, default, _) in declared.items() if key in ("cohort", "network", "masking")]
        assert all(default.startswith('"runs/quick/') for default in written)


def test_own_ct_without_labels_gets_predictions_maps_and_masking(finished, tmp_path):
    """Pydicom's small CT, a file that is none, and the real slices where they are at hand."""
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path)
    (tmp_path / "notes.txt").write_text("not a CT")
    real = sorted(REAL_CT.glob("*.dcm"))
    for file in real:
        shutil.copy(file, tmp_path)
    own = ("--config", f"dicom={tmp_path}", "network=runs/smoke/networks/top")
    wanted = ("votes/volumes.parquet", "masking/top/done.json", "figures/fig1.png", "figures/fig2.png")
    done = snakemake(finished, *own, "--", *(f"runs/apply/{file}" for file in wanted), profile="apply")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    run = finished / "runs/apply"
    predictions = pd.read_parquet(run / "predictions.parquet")
    assert len(predictions) == 1 + len(real)
    assert set(pd.read_csv(run / "maps/slices.csv").series) == set(predictions.series)
    masking = pd.read_parquet(sorted((run / "masking/top").glob("*.parquet"))[0])
    assert masking.relative_probability.between(0, 600).all()
    assert pd.read_csv(run / "cohort/rejected.csv").reason.str.contains("DICOM").any()
    assert (run / "figures/fig1.png").exists()
    told = [
        file
        for kind in ("csv", "json", "ipynb", "md")
        for file in run.rglob(f"*.{kind}")
        if "private" not in file.parts
    ]
    picture = re.compile(r'"image/png": "[^"]*"')  # its letters may spell anything
    public = "".join(picture.sub("", file.read_text()) for file in told)
    header = dcmread(tmp_path / "CT_small.dcm", stop_before_pixels=True)
    secrets = (str(tmp_path), "CT_small", header.PatientID, header.SeriesInstanceUID, (run / "private/key").read_text())
    assert not [secret for secret in secrets if secret in public], "what names the source left the private folder"
