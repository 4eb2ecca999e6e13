"""A tree of DICOM files -> series -> volumes in Hounsfield units, with what was rejected and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from lib.dicom.attributes import lenient
from lib.dicom.decoder import OpenFile, shared_decoder
from lib.dicom.errors import DicomError, Rejected
from lib.dicom.folder import list_files
from lib.dicom.headers import CTSlice, Segmentation, read_header
from lib.dicom.pixels import hounsfield
from lib.dicom.stacks import split_stacks
from lib.parallel import in_parallel
from lib.private import printable

MANY_FILES = 2000  # from here on processes pay
SHARED = "@"  # after a SeriesInstanceUID that several patients or studies share, before the number of the study


@dataclass(frozen=True)
class Series:
    """A stack of axial CT slices, ascending toward the head.

    Attributes
    ----------
    uid : str
        A name that no other series of the tree has: the SeriesInstanceUID, or "folder:..." where it is empty; ending in
        "#2", "#3" for further stacks under one UID, and in "@" with patient and study where several share the UID.
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
    def instance_uid(self) -> str:
        """SeriesInstanceUID as in the files ("folder:..." where it is empty)."""
        return self.slices[0].series

    @property
    def shares_uid(self) -> bool:
        """Whether another patient or study has a series of the same UID."""
        return self.uid.startswith(self.instance_uid + SHARED)

    @property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID: positions of series that share it can be compared."""
        return self.slices[0].frame_of_reference

    @property
    def z_mm(self) -> np.ndarray:
        """Position of each slice's centre, mm, ascending toward the head."""
        return np.array([item.z for item in self.slices])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns of the volume that `read_volume` returns."""
        first = self.slices[0]
        return len(self.slices), *first.turn.pair(first.rows, first.columns)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing in z (median; for a single slice its thickness, nan where that is missing), y and x."""
        first = self.slices[0]
        z = float(np.median(np.diff(self.z_mm))) if len(self.slices) > 1 else first.thickness_mm
        return z, *first.turn.pair(*first.spacing_mm)


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
    """What a folder holds: CT series, segmentations, and files that are neither (the fields of Rejected)."""

    series: list[Series]
    segmentations: list[Segmentation]
    rejected: pd.DataFrame


def find_series(folder: str | Path, processes: int = 1) -> tuple[list[Series], pd.DataFrame]:
    """Find the axial CT series in a tree of files.

    Parameters
    ----------
    folder : path
        Any tree: names, suffixes and subfolders of files don't matter, links are followed. CSV files are passed over,
        and what is hidden (its name, or a folder's on the way, starts with a dot), unless it is DICOM.
    processes : int
        Processes that read headers, in a tree of more than 2000 files.

    Returns
    -------
    series : list of Series
        Sorted by patient, study and uid. What is listed here, `read_volume` reads.
    rejected : pandas.DataFrame
        One row per file that belongs to no series: path, reason, and the patient, study and series_uid that it names.
        Segmentations are not in it.

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
    names, rejected = list_files(folder)
    blocks = [(str(folder), names[i : i + 64]) for i in range(0, len(names), 64)]
    slices, segmentations = [], []
    with tqdm(total=len(names), desc="headers", unit="file") as bar:
        for (_, block), found in in_parallel(_read_headers, blocks, processes if len(names) > MANY_FILES else 1):
            slices += found[0]
            segmentations += found[1]
            rejected += found[2]
            bar.update(len(block))
    series, left_over = _group(slices)
    rows = [tuple(map(printable, item)) for item in rejected + left_over]
    table = pd.DataFrame(rows, columns=Rejected._fields).sort_values(["path", "reason"])
    return Tree(series, sorted(segmentations, key=lambda item: item.path), table.reset_index(drop=True))


def _read_headers(block: tuple[str, list[str]]) -> tuple[list[CTSlice], list[Segmentation], list[Rejected]]:
    folder, names = block
    slices, segmentations, rejected = [], [], []
    for name in names:
        with lenient():
            found = read_header(Path(folder), name)
        if isinstance(found, Segmentation):
            segmentations.append(found)
        elif isinstance(found, Rejected):
            rejected.append(found)
        else:
            slices += found
    return slices, segmentations, rejected


def _group(slices: list[CTSlice]) -> tuple[list[Series], list[Rejected]]:
    """Return the series of all slices, each under a name of its own, and the slices that are left over."""
    groups = defaultdict(list)
    for item in slices:
        groups[item.patient, item.study, item.series].append(item)
    owners = defaultdict(set)
    for patient, study, uid in groups:
        owners[uid].add((patient, study))
    series, rejected = [], []
    for patient, study, uid in sorted(groups):
        stacks, left_over = split_stacks(groups[patient, study, uid])
        rejected += left_over
        name = f"{uid}{SHARED}{patient}/{study}" if len(owners[uid]) > 1 else uid
        for number, (stack, notes) in enumerate(stacks, 1):
            own = name if number == 1 else f"{name}#{number}"
            series.append(Series(own, patient, study, stack[0].description, tuple(stack), notes))
    return series, rejected


class SliceReader:
    """Reads slices in Hounsfield units, frames of one file without opening it anew."""

    def __init__(self):
        self._plain = OpenFile()

    def read(self, item: CTSlice) -> np.ndarray:
        """Return a slice, int16 HU (y, x), oriented as `read_volume` orients it.

        Raises
        ------
        DicomError
            If the pixels cannot be decoded or brought to Hounsfield units.
        """
        try:
            raw = (shared_decoder() if item.compressed else self._plain).frame(item.path, item.frame)
            if raw.shape != (item.rows, item.columns):
                raise DicomError(f"{raw.shape} pixels, where the header says {(item.rows, item.columns)}")
            return hounsfield(raw, item.slope, item.intercept, item.padding, item.turn)
        except DicomError as error:
            raise DicomError(f"{item.path}: pixels cannot be decoded ({error})") from error
        except Exception as error:  # a file that was damaged or vanished since its header was read raises anything
            raise DicomError(f"{item.path}: pixels cannot be decoded ({type(error).__name__}: {error})") from error


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
    reader = SliceReader()
    for target, item in zip(hu, series.slices, strict=True):
        target[:] = reader.read(item)
    return CTVolume(hu, series.z_mm, series.spacing_mm)
