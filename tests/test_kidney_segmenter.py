"""TotalSegmentator as an option: what it is given, what is taken from it, and what is said where it is missing."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import apply as door
from lib.apply import CannotApply, apply
from lib.kidney_segmenter import HOW_TO_INSTALL, OPTIONS, NoSegmenter, segment_kidneys
from lib.preparation import prepare_cohort

# A stand-in that reads its input as the program does, and marks the slices of the middle third as kidney.
FAKE = """#!{python}
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
import numpy as np
import pydicom, highdicom as hd
from pydicom.sr.codedict import codes
given = sys.argv[1:]
folder, out = Path(given[1]), Path(given[3])
with open({calls!r}, "a") as file:
    file.write(" ".join(given[4:]) + " " + str(len(list(folder.iterdir()))) + "\\n")
if {status}:
    print("patient Doe^Jane is broken")
    sys.exit({status})
images = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))
mask = np.zeros((len(images), images[0].Rows, images[0].Columns), np.uint8)
third = len(images) // 3
mask[third : 2 * third, 10:20, 10:20] = 1
what = hd.seg.SegmentDescription(1, {label!r}, codes.SCT.Organ, {concept},
    hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
    hd.AlgorithmIdentificationSequence("fake", codes.DCM.ArtificialIntelligence, "1"))
seg = hd.seg.Segmentation(images, mask, "BINARY", [what], hd.UID(), 100, hd.UID(), 1, "x", "y", "1", "1")
seg.save_as(out / "segmentations.dcm")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a program named TotalSegmentator on the PATH; it returns the file of its calls."""

    def put(status=0, label="kidney_left", concept="codes.SCT.Kidney") -> Path:
        calls, folder = tmp_path / "calls.txt", tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "TotalSegmentator"
        root = str(Path(__file__).parents[1])
        program.write_text(
            FAKE.format(python=sys.executable, root=root, calls=str(calls), status=status, label=label, concept=concept)
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return calls

    return put


def prepared(tmp_path, source):
    return prepare_cohort(
        source, tmp_path / "cohort", split="apply", key="k", private=tmp_path / "private", processes=1
    )


def test_kidneys_are_outlined_once_and_bound_the_series(tmp_path, write_series, install):
    calls = install()
    write_series("P1", z=np.arange(12) * 5.0, size=48, pixel_mm=8.0)
    together = segment_kidneys(tmp_path / "dicom", tmp_path / "private")
    prepared(tmp_path, together)
    series = pd.read_csv(tmp_path / "cohort" / "series.csv")
    assert series["extent_source"].tolist() == ["seg"] and series["slices"].tolist() == [4]
    assert calls.read_text() == " ".join(OPTIONS) + " 12\n", "it is given the series alone"
    segment_kidneys(tmp_path / "dicom", tmp_path / "private")
    assert len(calls.read_text().splitlines()) == 1, "what is outlined is not outlined again"
    assert not list((tmp_path / "dicom").rglob("seg*")), "nothing is written into the user's folder"
    assert stat.S_IMODE((tmp_path / "private" / "kidneys").stat().st_mode) == 0o700
    assert not list((tmp_path / "private").glob(".outline*"))


def test_a_series_with_a_segmentation_or_few_slices_is_left_alone(tmp_path, write_series, write_segmentation, install):
    calls = install()
    series = write_series("P1", z=np.arange(12) * 5.0, size=48, pixel_mm=8.0)
    masks = np.zeros((12, 48, 48), np.uint8)
    masks[5:7, 10:20, 10:20] = 1
    write_segmentation(tmp_path / "dicom" / "P1" / series, masks, ["kidney"])
    write_series("P2", z=(0, 5, 10), size=48, pixel_mm=8.0)
    segment_kidneys(tmp_path / "dicom", tmp_path / "private")
    assert not calls.exists()


def test_labels_are_found_beside_the_segmentations(tmp_path, write_series, install):
    install()
    uid = write_series("P1", z=np.arange(12) * 5.0, size=48, pixel_mm=8.0)
    (tmp_path / "dicom" / "labels.csv").write_text(f"series_uid,phase\n{uid},neph\n")
    prepared(tmp_path, segment_kidneys(tmp_path / "dicom", tmp_path / "private"))
    assert pd.read_csv(tmp_path / "cohort" / "series.csv")["phase"].tolist() == ["neph"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"status": 3}, "ended with status 3"), ({"label": "liver", "concept": "codes.SCT.Liver"}, "no DICOM SEG with a")],
)
def test_a_failure_costs_one_series_and_tells_no_name(tmp_path, write_series, install, capsys, change, said):
    install(**change)
    write_series("P1", z=np.arange(12) * 5.0, size=48, pixel_mm=8.0)
    prepared(tmp_path, segment_kidneys(tmp_path / "dicom", tmp_path / "private"))
    told = capsys.readouterr().out
    assert said in told and "1 series stay without" in told and "Doe" not in told and str(tmp_path) not in told
    assert pd.read_csv(tmp_path / "cohort" / "series.csv")["extent_source"].tolist() == ["none"]
    assert not list((tmp_path / "private" / "kidneys").iterdir())


def shipped(folder):
    """Make what `apply` looks for at the root: its configuration and the network that this names."""
    (folder / "config").mkdir()
    (folder / "config/apply.yaml").write_text("network: weights/one\n")
    (folder / "weights/one").mkdir(parents=True)
    for file in door.NETWORK_FILES:
        (folder / "weights/one" / file).touch()


def test_where_it_is_missing_the_command_says_how_to_install_it(tmp_path, write_series, monkeypatch, capsys):
    write_series("P1")
    monkeypatch.setattr(door, "ROOT", tmp_path)
    monkeypatch.setattr("lib.files.ROOT", tmp_path)
    shipped(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoSegmenter, match="pip install TotalSegmentator"):
        apply(str(tmp_path / "dicom"), segment=True)
    monkeypatch.setenv("CT_FOLDER", str(tmp_path / "dicom"))
    monkeypatch.setenv("CT_SEGMENT", "1")
    monkeypatch.setattr(sys, "argv", ["apply"])
    assert door.main() == 2
    assert HOW_TO_INSTALL in capsys.readouterr().err
    monkeypatch.setenv("CT_SEGMENT", "yes")
    assert door.main() == 2
    assert "SEGMENT='yes': 1 lets" in capsys.readouterr().err
    assert issubclass(CannotApply, Exception)


def test_the_command_prepares_the_folder_with_the_kidneys(tmp_path, write_series, install, monkeypatch):
    install()
    write_series("P1", z=np.arange(12) * 5.0, size=48, pixel_mm=8.0)
    monkeypatch.setattr(door, "ROOT", tmp_path)
    monkeypatch.setattr("lib.files.ROOT", tmp_path)
    monkeypatch.setattr(door, "SNAKEMAKE", [sys.executable, "-c", "import sys; sys.exit(1)"])
    shipped(tmp_path)
    apply(str(tmp_path / "dicom"), "one", segment=True)
    source = tmp_path / "runs" / "one" / "private" / "source"
    assert sorted(path.name for path in source.iterdir()) == ["ct", "kidneys"]
    assert len(list((source / "kidneys").iterdir())) == 1
    apply(str(tmp_path / "dicom"), "one")
    assert source.resolve() == (tmp_path / "dicom").resolve()
