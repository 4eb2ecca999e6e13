"""A tree of DICOM files -> series -> volumes in Hounsfield units, with what was rejected and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from pydicom import dcmread
from pydicom.pixels import pixel_array
from tqdm import tqdm

from lib.dicom.headers import PARTS, CTSlice, DicomError, Segmentation, Unusable, lenient, read_header, with_syntax
from lib.dicom.pixels import hounsfield
from lib.parallel import in_parallel

SAME_Z = 0.01  # mm: slices closer than this are at the same place
MANY_FILES = 2000  # from here on processes pay


@dataclass(frozen=True)
class Series:
    """A stack of axial CT slices, ascending toward the head.

    Attributes
    ----------
    uid : str
        SeriesInstanceUID; "folder:..." where it is empty; ending in "#2", "#3" for further stacks under one UID.
    patient, study, description : str
        PatientID (the study stands in for an empty one), StudyInstanceUID, SeriesDescription.
    slices : tuple of CTSlice
    notes : tuple of str
        What was tolerated: missing slices, a tilt, a missing attribute.
    """

    uid: str
    patient: str
    study: str
    description: str
    slices: tuple[CTSlice, ...] = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def z_mm(self) -> np.ndarray:
        """Position of each slice's centre, mm, ascending toward the head."""
        return np.array([item.z for item in self.slices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns of the volume that `read_volume` returns."""
        first = self.slices[0]
        rows, columns = (first.columns, first.rows) if first.turn[0] else (first.rows, first.columns)
        return len(self.slices), rows, columns

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing in z (median; for a single slice its thickness, nan where that is missing), y and x."""
        first = self.slices[0]
        z = float(np.median(np.diff(self.z_mm))) if len(self.slices) > 1 else first.thickness_mm
        y, x = first.spacing_mm[::-1] if first.turn[0] else first.spacing_mm
        return z, y, x


@dataclass(frozen=True)
class CTVolume:
    """A CT volume: row 0 anterior, column 0 the patient's right, z ascending toward the head.

    Attributes
    ----------
    hu : int16 array (z, y, x)
        Hounsfield units, at least -1024.
    z_mm : float array (z,)
    spacing_mm : tuple of float (z, y, x)
    """

    hu: np.ndarray
    z_mm: np.ndarray
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Tree:
    """What a folder holds: CT series, segmentations, and files that are neither (path, reason, series_uid)."""

    series: list[Series]
    segmentations: list[Segmentation]
    rejected: pd.DataFrame


def find_series(folder: str | Path, processes: int = 1) -> tuple[list[Series], pd.DataFrame]:
    """Find the axial CT series in a tree of files.

    Parameters
    ----------
    folder : path
        Any tree: names, suffixes and subfolders of files don't matter. CSV files are passed over, and what is hidden:
        a file, or all in a subfolder, whose name starts with a dot.
    processes : int
        Processes that read headers, in a tree of more than 2000 files.

    Returns
    -------
    series : list of Series
        Sorted by patient, study and uid. What is listed here, `read_volume` reads.
    rejected : pandas.DataFrame
        One row a file that belongs to no series: path, reason, series_uid. Segmentations are not in it.

    Raises
    ------
    FileNotFoundError
        If `folder` is no folder.
    """
    tree = read_tree(folder, processes)
    return tree.series, tree.rejected


def find_segmentations(folder: str | Path, processes: int = 1) -> list[Segmentation]:
    """Find the DICOM SEG objects in a tree of files; see `find_series`."""
    return read_tree(folder, processes).segmentations


def read_tree(folder: str | Path, processes: int = 1) -> Tree:
    """Read every header below `folder` once; see `find_series`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the one that holds the DICOM files.")
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.suffix.lower() != ".csv")
    names = sorted(str(p) for p in files if not any(part.startswith(".") for part in p.parts))
    blocks = [(str(folder), names[i : i + 64]) for i in range(0, len(names), 64)]
    slices, segmentations, rejected = [], [], []
    with tqdm(total=len(names), desc="headers", unit="file") as bar:
        for (_, block), found in in_parallel(_read_headers, blocks, processes if len(names) > MANY_FILES else 1):
            slices += found[0]
            segmentations += found[1]
            rejected += found[2]
            bar.update(len(block))
    groups = defaultdict(list)
    for item in slices:
        groups[item.patient, item.study, item.series].append(item)
    series = []
    for key in sorted(groups):
        stacks, left_over = _stacks(sorted(groups[key], key=lambda item: (item.z, item.number, item.path)))
        series += stacks
        rejected += left_over
    table = pd.DataFrame(rejected, columns=["path", "reason", "series_uid"]).sort_values("path", ignore_index=True)
    return Tree(series, sorted(segmentations, key=lambda item: item.path), table)


def _read_headers(block: tuple[str, list[str]]) -> tuple[list[CTSlice], list[Segmentation], list[tuple]]:
    folder, names = block
    slices, segmentations, rejected = [], [], []
    for name in names:
        try:
            with lenient():
                found = read_header(Path(folder), name)
        except Unusable as problem:
            rejected.append((str(Path(folder, name)), problem.reason, problem.series))
        except OSError as error:
            rejected.append((str(Path(folder, name)), f"file cannot be read: {error.strerror}", ""))
        else:
            if isinstance(found, Segmentation):
                segmentations.append(found)
            else:
                slices += found
    return slices, segmentations, rejected


def _stacks(slices: list[CTSlice]) -> tuple[list[Series], list[tuple]]:
    """Turn the slices of one series UID (sorted by z) into stacks of one geometry, each position once."""
    rejected, seen, geometries = [], set(), defaultdict(list)
    for item in slices:
        name = (item.instance, item.frame)
        if item.instance and name in seen:
            rejected.append((item.path, "the same image (SOPInstanceUID) a second time", item.series))
            continue
        seen.add(name)
        spacing = tuple(np.round(item.spacing_mm, 3))
        geometries[item.rows, item.columns, spacing, item.turn].append(item)
    stacks = []
    for group in geometries.values():
        for stack in _unmix(group):
            kept = stack[:1]
            for item in stack[1:]:
                if item.z - kept[-1].z < SAME_Z:
                    reason = f"a second slice at the same position, z = {item.z:.1f} mm"
                    rejected.append((item.path, reason, item.series))
                else:
                    kept.append(item)
            stacks.append(kept)
    stacks.sort(key=lambda stack: (-len(stack), stack[0].number, stack[0].path))
    series = []
    for number, stack in enumerate(stacks, 1):
        first = stack[0]
        uid = first.series if number == 1 else f"{first.series}#{number}"
        series.append(Series(uid, first.patient, first.study, first.description, tuple(stack), _notes(stack)))
    return series, rejected


def _unmix(stack: list[CTSlice]) -> list[list[CTSlice]]:
    """Separate acquisitions, times, kernels or kinds of image that lie over each other under one series UID."""

    def overlap(group: list[CTSlice]) -> bool:
        return any(b.z - a.z < SAME_Z for a, b in pairwise(group))

    if not overlap(stack):
        return [stack]
    for part in range(len(PARTS)):
        groups = defaultdict(list)
        for item in stack:
            groups[item.parts[part]].append(item)
        if len(groups) > 1 and not any(map(overlap, groups.values())):
            return [groups[key] for key in sorted(groups)]
    return [stack]


def _notes(stack: list[CTSlice]) -> tuple[str, ...]:
    notes = {note: None for item in stack for note in item.notes}
    gaps = np.diff([item.z for item in stack])
    if len(gaps):
        usual = np.median(gaps)
        if missing := int(np.sum(np.maximum(np.rint(gaps / usual) - 1, 0))):
            notes[f"{missing} slices missing between others"] = None
        if np.any(np.abs(gaps / usual - np.rint(gaps / usual)) > 0.1):
            notes["spacing varies"] = None
    return tuple(notes)


def read_volume(series: Series) -> CTVolume:
    """Read a series in Hounsfield units.

    Parameters
    ----------
    series : Series
        From `find_series`.

    Returns
    -------
    CTVolume
        hu int16 (z, y, x), at least -1024; row 0 anterior, column 0 the patient's right, z ascending toward the head.

    Raises
    ------
    DicomError
        If a file's pixels cannot be decoded.
    """
    hu = np.empty(series.shape, np.int16)
    for target, image in zip(hu, read_slices(series), strict=True):
        target[:] = image
    return CTVolume(hu, series.z_mm, series.spacing_mm)


def read_slices(series: Series, indices: Iterable[int] | None = None) -> Iterator[np.ndarray]:
    """Yield slices of a series one after another: int16 HU (y, x), oriented as `read_volume` orients them."""
    path, dataset = None, None
    for index in range(len(series.slices)) if indices is None else indices:
        item = series.slices[index]
        try:
            with lenient():
                if path != item.path:
                    path, dataset = item.path, with_syntax(dcmread(item.path, force=True))
                raw, padding = pixel_array(dataset, index=item.frame), dataset.get("PixelPaddingValue")
                hu = hounsfield(raw, item.slope, item.intercept, padding, item.turn)
        except Exception as error:  # decoders raise anything
            raise DicomError(f"{item.path}: pixels cannot be decoded ({type(error).__name__}: {error})") from error
        yield hu
