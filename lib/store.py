"""One series into the cohort's store: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from lib.body_mask import body_mask
from lib.body_region import doubts
from lib.dicom.errors import DicomError
from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import LAST_CODE, SegmentationError, kidney_extent, read_tissues
from lib.dicom.series import Series, SliceReader
from lib.provenance import code_hashes
from lib.resampling import OUTSIDE

FORMAT = 3  # raise it when readers of the store have to change; what makes it is part of the fingerprint anyway
SAME_PLANE_MM = 0.05  # positions are rounded


@dataclass(frozen=True)
class Job:
    """One series to store.

    Attributes
    ----------
    series : Series
    id, patient : str
        Keyed hashes.
    split, phase : str, str or None
        "train", "val", "test" or "apply"; the label.
    extent : (float, float) or None
        Kidneys' lowest and highest z in mm, where labels.csv gives them.
    kidneys : tuple of Segmentation
        Where to look for the extent otherwise, in this order.
    tissues : Segmentation or None
        The tissues' truth on the grid of the series; `codes` gives each name its code.
    output : Path
        The cohort's folder.
    code : str
        From `code_fingerprint`.
    """

    series: Series
    id: str
    patient: str
    split: str
    phase: str | None
    extent: tuple[float, float] | None
    kidneys: tuple[Segmentation, ...]
    tissues: Segmentation | None
    codes: dict[str, int]
    output: Path
    code: str

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the source files, the kidney extent, the code and the format."""
        names = [item.path for item in (*self.series.slices, *self.kidneys, *filter(None, [self.tissues]))]
        stats = [(name, (stat := os.stat(name)).st_size, stat.st_mtime_ns) for name in dict.fromkeys(names)]
        codes = self.codes if self.tissues else None
        facts = (FORMAT, self.code, stats, self.extent, self.split == "apply", codes)
        return hashlib.sha256(repr(facts).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Stored:
    """A series that is in the store: what is known of it, and the files that could not be decoded (path, why)."""

    facts: dict
    lost: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Refused:
    """A series that is not in the store: why, in words without names, and (only for private/) in detail."""

    reason: str
    detail: str = ""
    lost: tuple[tuple[str, str], ...] = ()


@dataclass
class _Extent:
    """Where the kidneys lie, from which source ("labels", "seg", "none"), and what was wrong on the way."""

    source: str = "none"
    bounds: tuple[float, float] | None = None
    faults: list[SegmentationError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def code_fingerprint() -> str:
    """Return 16 hex digits that change with what this module and those that it uses do: then all is made anew."""
    return hashlib.sha256(repr(code_hashes("lib/store.py")).encode()).hexdigest()[:16]


def store_series(job: Job) -> Stored | Refused:
    """Store one series, unless it is stored already."""
    try:
        fingerprint = job.fingerprint()
    except OSError as error:
        return Refused("files vanished since their headers were read", str(error))
    final, partial = job.output / "slices.zarr" / job.id, job.output / ".partial" / job.id
    if facts := stored_facts(final, fingerprint):
        return Stored(facts)
    extent = _find_extent(job)
    if extent.source == "none" and job.split != "apply":
        return _without_extent(extent)
    z = job.series.z_mm
    low, high = extent.bounds or (-np.inf, np.inf)
    indices = np.flatnonzero((z >= low - SAME_PLANE_MM) & (z <= high + SAME_PLANE_MM))
    if not len(indices):
        return Refused("no slice inside the kidney extent")
    shutil.rmtree(partial, ignore_errors=True)
    kept, doubted, lost = _write_slices(job.series, indices, partial / "slices")
    if not kept:
        if lost:
            return Refused("pixels cannot be decoded", lost[0][1], lost)
        return Refused("no body on any slice")
    tissues, notes = _add_tissues(job, kept, partial)
    notes = [*job.series.notes, *extent.notes, *notes]
    if lost:
        notes.append(f"{len(lost)} slices cannot be decoded and are left out")
    facts = {
        "fingerprint": fingerprint,
        "z_mm": z[kept].tolist(),
        "sources": kept,
        "doubts": doubted,
        "slice_spacing_mm": float(np.median(np.diff(z))) if len(z) > 1 else None,
        "pixel_mm": job.series.spacing_mm[1:],
        "kidney_extent_mm": extent.bounds,
        "extent_source": extent.source,
        "tissues": tissues,
        "notes": "; ".join(dict.fromkeys(notes)),
    }
    _finish(partial, final, job.output / "tissues.zarr" / job.id, facts)
    return Stored(facts, lost)


def stored_facts(folder: Path, fingerprint: str | None = None) -> dict | None:
    """Return what is known of a stored series, or None where it is not whole or was made from something else.

    Parameters
    ----------
    folder : Path
        `slices.zarr/<id>`; that of the tissues lies beside it.
    fingerprint : str, optional
        Of what it should be made from.
    """
    try:
        facts = dict(zarr.open_array(folder, mode="r").attrs)
        sizes = facts.pop("sizes")
    except Exception:  # missing, truncated or damaged metadata raise anything, and all mean the same
        return None
    if fingerprint not in (None, facts.get("fingerprint")) or sizes != _sizes(folder):
        return None
    return facts


def damaged(folder: Path) -> str:
    """Return what is wrong with a stored series, bit by bit, or "": its chunks against their checksums."""
    if not folder.is_dir() or (facts := stored_facts(folder)) is None:
        return "metadata or chunks are missing or damaged"
    wrong = [name for name, digest in facts["checksums"].items() if _checksum(_beside(folder, name)) != digest]
    return f"{' and '.join(wrong)} differ from their checksum" if wrong else ""


def _beside(folder: Path, name: str) -> Path:
    return folder.parents[1] / f"{name}.zarr" / folder.name


def _without_extent(extent: _Extent) -> Refused:
    if extent.faults:
        reasons = "; ".join(dict.fromkeys(error.fault for error in extent.faults))
        detail = "; ".join(map(str, extent.faults))
        return Refused(f"kidney extent unknown: DICOM SEG not read: {reasons}", detail)
    return Refused("no kidney in the DICOM SEG of the study")


def _find_extent(job: Job) -> _Extent:
    if job.extent:
        return _Extent("labels", job.extent)
    found = _Extent()
    for segmentation in job.kidneys:
        try:
            found.bounds = kidney_extent(segmentation)
        except SegmentationError as error:
            found.faults.append(error)
            found.notes.append(f"kidney segmentation not read: {error.fault}")
            continue
        if found.bounds:
            found.source = "seg"
            here, there = job.series.frame_of_reference, segmentation.frame_of_reference
            if here and there and here != there:
                found.notes.append("kidney extent from another frame of reference of the study")
            break
    return found


def _write_slices(series: Series, indices: np.ndarray, path: Path) -> tuple[list[int], list[str], tuple]:
    """Write the slices on which there is a body, one in memory at a time.

    Returns
    -------
    kept : list of int
        Their indices in the series.
    doubted : list of str
        For each, why it cannot lie at the kidneys' height, or "".
    lost : tuple of (path, why)
        Slices that cannot be decoded.
    """
    array = _new_array(path, (len(indices), *series.shape[1:]), np.int16, OUTSIDE)
    kept, doubted, lost = [], [], []
    for index, hu in _readable(series, indices, lost):
        body = body_mask(hu, series.spacing_mm[1])
        if body.any():
            array[len(kept)] = np.where(body, hu, np.int16(OUTSIDE))
            kept.append(int(index))
            doubted.append(doubts(hu, body, series.spacing_mm[1:]))
    array.resize((len(kept), *array.shape[1:]))
    return kept, doubted, tuple(lost)


def _readable(series: Series, indices: np.ndarray, lost: list[tuple[str, str]]) -> Iterator[tuple[int, np.ndarray]]:
    reader = SliceReader()
    for index in indices:
        try:
            yield index, reader.read(series.slices[index])
        except DicomError as error:
            lost.append((series.slices[index].path, str(error)))


def _add_tissues(job: Job, kept: list[int], partial: Path) -> tuple[bool, list[str]]:
    """Write the tissues beside the slices, where there is a truth that can be read; return whether, and notes."""
    if job.tissues is None:
        return False, []
    try:
        tissues = read_tissues(job.tissues, job.series, kept, job.codes)
    except SegmentationError as error:
        return False, [f"segmentation of tissues not read: {error.fault}"]
    _write_tissues(tissues, partial)
    dropped = set(job.tissues.segments.values()) - set(job.codes)
    note = f"{len(dropped)} tissues left out: the cohort's have no more than {LAST_CODE} codes"
    return True, [note] if dropped else []


def _write_tissues(tissues: np.ndarray, partial: Path) -> None:
    """Write the tissues beside the slices; outside the body mask (separate arms) there is none."""
    array = _new_array(partial / "tissues", tissues.shape, np.uint8, 0)
    slices = zarr.open_array(partial / "slices", mode="r")
    for index, image in enumerate(tissues):
        array[index] = np.where(slices[index] == OUTSIDE, np.uint8(0), image)


def _new_array(path: Path, shape: tuple[int, ...], dtype: type, fill: int) -> zarr.Array:
    codec = ZstdCodec(level=3)
    return zarr.create_array(path, shape=shape, dtype=dtype, chunks=(1, *shape[1:]), compressors=codec, fill_value=fill)


def _finish(partial: Path, final: Path, tissues: Path, facts: dict) -> None:
    """Write the facts and the checksums, and give the series its final name, the slices last."""
    places = {"slices": partial / "slices", "tissues": partial / "tissues"}
    facts["checksums"] = {name: _checksum(path) for name, path in places.items() if path.exists()}
    array = zarr.open_array(partial / "slices", mode="r+")
    array.attrs.update({**facts, "sizes": _sizes(partial / "slices", partial / "tissues")})
    _replace(partial / "tissues", tissues)
    _replace(partial / "slices", final)


def _chunks(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")


def _checksum(folder: Path) -> str:
    """Return the SHA-256 of the chunks' names and contents, in order of their names."""
    digest = hashlib.sha256()
    for path in _chunks(folder):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _sizes(slices: Path, tissues: Path | None = None) -> list[int]:
    """Return the number of chunks and of their bytes, of slices and tissues: a quick look whether all are there."""
    tissues = tissues or _beside(slices, "tissues")
    sizes = [[path.stat().st_size for path in _chunks(folder)] for folder in (slices, tissues)]
    return [number for found in sizes for number in (len(found), sum(found))]


def _replace(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    if source.exists():
        os.replace(source, target)
