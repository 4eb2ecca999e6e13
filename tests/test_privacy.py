"""Nothing that names a patient leaves private/: identifiers are planted everywhere, and every byte is searched."""

import stat
import subprocess
import sys
from itertools import count

import jupytext
import nbformat
import numpy as np
import pytest
from conftest import KIDNEY_HU, abdomen
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.tag import Tag

from lib.files import ROOT, atomic_path
from lib.private import link_source, private_folder
from lib.run_notebook import run_notebook

SECRET = "zq7"  # in every planted text; no output has it by chance
TEXTS = {"AE": 16, "CS": 16, "LO": 64, "LT": 999, "PN": 64, "SH": 16, "ST": 999, "UC": 999, "UT": 999, "DA": 8, "TM": 6}
NEEDED = {"Modality", "ImageType", "FrameType", "PhotometricInterpretation", "RescaleType", "SpecificCharacterSet"}


def plant(dataset, number):
    """Put a secret into every text attribute of the dictionary, into private ones, and break one length."""
    unique = count()
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        if not keyword or retired or keyword in NEEDED or vr not in TEXTS or Tag(tag).group in (0, 2, 4, 0x28, 0x7FE0):
            continue
        if keyword in dataset and keyword not in ("PatientID", "PatientName", "StudyID", "AccessionNumber"):
            continue
        assert dictionary_VR(tag) == vr and multiplicity
        text = {"DA": "19470313", "TM": "070713"}.get(vr, f"{SECRET}{next(unique)}")
        setattr(dataset, keyword, text.upper() if vr in ("CS", "AE") else text)
    dataset.PatientID, dataset.PatientName = f"{SECRET}id", f"{SECRET}^name"
    block = dataset.private_block(0x0009, f"{SECRET} creator", create=True)
    block.add_new(1, "LO", f"{SECRET} private")
    return f"{SECRET}-{number}.dcm"


def leaks(folder, words):
    """Return (file, word) for every secret in a name or in the bytes of a file outside private/."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if "private" in name.parts:
            continue
        content = str(name).encode().lower() + (path.read_bytes().lower() if path.is_file() else b"")
        found += [(str(name), word) for word in words if word.lower().encode() in content]
    return found


@pytest.fixture
def planted(write_series, write_segmentation, tmp_path):
    """A folder of three series with secrets in headers, segment labels and names, and files that are refused."""
    parent = f"{SECRET} Müller 'q'"
    for patient, refuse in (("a", False), ("b", True)):

        def change(dataset, number, refuse=refuse):
            name = plant(dataset, number)
            if refuse:
                dataset.Modality = f"{SECRET}".upper()
            return name

        write_series(f"{SECRET}{patient}", folder=f"{parent}/{patient}", change=change)
    uid = write_series(f"{SECRET}c", folder=f"{parent}/c")
    folder = tmp_path / "dicom" / parent / "c"
    codes = np.stack([np.where(abdomen() == KIDNEY_HU, 1, 2)] * 3)
    write_segmentation(folder, codes, [f"kidney {SECRET}", f"{SECRET} left lung"])
    (folder / f"{SECRET}.txt").write_text(SECRET)
    secrets = [SECRET, uid, "19470313", "070713", str(tmp_path / "dicom"), "Müller"]
    return tmp_path / "dicom", secrets


def test_a_prepared_cohort_its_notebook_and_its_logs_name_nobody(planted, tmp_path):
    folder, secrets = planted
    run = tmp_path / "run"
    private = private_folder(run / "private")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    link = link_source(private, folder)
    (private / "labels.csv").write_text("series_uid\n")
    notebook = jupytext.read(ROOT / "notebooks" / "01_prepare_cohort.py")
    parameters = {"source": "dicom", "split": "apply", "dicom_folder": str(link), "cohort": str(run / "cohort")}
    run_notebook(notebook, run / "notebooks" / "01.ipynb", parameters | {"private": str(private)})
    executed = nbformat.read(run / "notebooks" / "01.ipynb", 4)
    assert any("rejected" in str(cell.get("outputs")) for cell in executed.cells)
    assert leaks(run, secrets) == []
    with open(private / "sources.csv") as sources:
        assert SECRET in sources.read()  # the search finds what is there
    assert leaks(private, secrets)


def test_the_private_folder_is_closed_while_it_is_made(tmp_path):
    """The mode is that of the first moment: nothing is made open and closed afterwards."""
    made = subprocess.run(
        [sys.executable, "-c", f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
os.umask(0)
made = []
mkdir = os.mkdir
os.mkdir = lambda path, mode=0o777, **more: (made.append((str(path), mode)), mkdir(path, mode, **more))[1]
from lib.private import private_folder
private_folder({str(tmp_path / "run" / "private")!r})
print([oct(mode) for path, mode in made if path.endswith("private")])
"""],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout.strip() == "['0o700']"


def test_a_link_follows_the_folder_and_says_where_there_is_none(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link = link_source(tmp_path / "private", tmp_path / name)
        assert link.resolve() == tmp_path / name
    with pytest.raises(FileNotFoundError, match="is no folder: give the one that holds the DICOM files"):
        link_source(tmp_path / "private", tmp_path / "none")
    with atomic_path(tmp_path / "private" / "file") as path:
        path.write_text("")
