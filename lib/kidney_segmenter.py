"""The kidneys outlined by TotalSegmentator, where it is installed: a DICOM SEG for each series that has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import kidney_segments
from lib.dicom.series import Series, read_tree
from lib.files import resolve
from lib.labels import hashed_id, secret_key
from lib.private import private_folder

PROGRAM = "TotalSegmentator"
OPTIONS = ("--output_type", "dicom_seg", "--roi_subset", "kidney_left", "kidney_right", "--fast")
FEWEST_SLICES = 10  # it needs a volume; 10 slices of 5 mm hold half a kidney
HOURS = 2  # for one series; a processor without a graphics card takes minutes
HOW_TO_INSTALL = (
    f"{PROGRAM}, which outlines the kidneys, is not installed. Install it into an environment of its own, since it "
    f"needs PyTorch: python -m venv totalseg && totalseg/bin/pip install {PROGRAM} highdicom. Then put it on the PATH "
    'and try again: PATH="$PWD/totalseg/bin:$PATH" make apply DICOM=/path/to/folder SEGMENT=1. Its first run downloads '
    "its networks. Without SEGMENT=1 all slices of a series vote."
)


class NoSegmenter(Exception):
    """TotalSegmentator is not installed; the text says how to install it."""


def segment_kidneys(dicom_folder: str | Path, private: str | Path) -> Path:
    """Outline the kidneys of every series that has no segmentation of them.

    Parameters
    ----------
    dicom_folder : path
        Any tree of DICOM files; nothing is written into it.
    private : path
        Folder of mode 0700, with the key of the cohort's ids. What is outlined stays in `kidneys/`, and is not outlined
        again.

    Returns
    -------
    Path
        `<private>/with_kidneys`, which links to the DICOM folder, to its labels.csv, and to the segmentations: to be
        prepared in place of the folder.

    Raises
    ------
    NoSegmenter
        If the program is not installed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise NoSegmenter(HOW_TO_INSTALL)
    folder, private = resolve(dicom_folder).resolve(), private_folder(private)
    kidneys = private_folder(private / "kidneys")
    key, tree, failed = secret_key(private), read_tree(folder), 0
    waiting = [series for series in tree.series if not _has_kidneys(series, tree.segmentations)]
    for number, series in enumerate(waiting, 1):
        target = kidneys / f"{hashed_id(key, 'series', f'{series.patient} {series.study} {series.uid}')}.dcm"
        if target.exists():
            continue
        if len(series.slices) < FEWEST_SLICES:
            print(f"series {number} of {len(waiting)}: {len(series.slices)} slices are too few to outline kidneys in")
            continue
        print(f"series {number} of {len(waiting)}: {PROGRAM} outlines the kidneys in {len(series.slices)} slices")
        if (problem := _outline(program, series, target, private)) != "":
            failed += 1
            print(f"series {number} of {len(waiting)}: no kidneys from {PROGRAM}: {problem}")
    if failed:
        print(f"{failed} series stay without outlined kidneys: all their slices will vote.")
    return _beside(folder, kidneys, private / "with_kidneys")


def _has_kidneys(series: Series, segmentations: list[Segmentation]) -> bool:
    """Return whether a segmentation of kidneys lies in the study, or shares the frame of reference."""
    for item in segmentations:
        near = item.study == series.study or (
            item.frame_of_reference and item.frame_of_reference == series.frame_of_reference
        )
        if near and item.patient in ("", series.patient) and kidney_segments(item):
            return True
    return False


def _outline(program: str, series: Series, target: Path, private: Path) -> str:
    """Write the DICOM SEG of one series to `target`; return what went wrong, in words without names, or ""."""
    with tempfile.TemporaryDirectory(dir=private, prefix=".outline.") as temporary:
        images, written = Path(temporary) / "images", Path(temporary) / "written"
        images.mkdir()
        written.mkdir()
        for number, path in enumerate(dict.fromkeys(item.path for item in series.slices)):
            (images / f"{number:05d}.dcm").symlink_to(Path(path).absolute())
        command = [program, "-i", str(images), "-o", str(written), *OPTIONS]
        with open(private / "segmenter.log", "ab") as log:
            try:
                status = subprocess.run(command, stdout=log, stderr=log, timeout=HOURS * 3600).returncode
            except subprocess.TimeoutExpired:
                return f"it did not end within {HOURS} hours"
        if status:
            return f"it ended with status {status} (its messages are in private/segmenter.log)"
        found = next(_kidney_files(written), None)
        if found is None:
            return "it wrote no DICOM SEG with a kidney"
        os.replace(found, target)
    return ""


def _kidney_files(folder: Path) -> Iterator[Path]:
    for item in read_tree(folder).segmentations:
        if kidney_segments(item):
            yield Path(item.path)


def _beside(folder: Path, kidneys: Path, together: Path) -> Path:
    """Make a folder that links to the CT, to the segmentations, and to labels.csv where there is one."""
    shutil.rmtree(together, ignore_errors=True)
    private_folder(together)
    (together / "ct").symlink_to(folder, target_is_directory=True)
    (together / "kidneys").symlink_to(kidneys, target_is_directory=True)
    if (folder / "labels.csv").exists():
        (together / "labels.csv").symlink_to(folder / "labels.csv")
    return together
