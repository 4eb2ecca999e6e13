"""One series into the cohort's store: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from lib.body_mask import body_mask
from lib.dicom.headers import DicomError, Segmentation
from lib.dicom.segmentation import LAST_CODE, SegmentationError, kidney_extent, read_tissues
from lib.dicom.series import Series, read_slices
from lib.resampling import OUTSIDE

FORMAT = 2  # raise it when what is stored changes: everything is then prepared again
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
        The tissues' truth on the grid of the series; `codes` names them.
    output : Path
        The cohort's folder.
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

    def fingerprint(self) -> str:
        """Return 16 hex digits that change with the source files, the kidney extent and the store's format."""
        names = [item.path for item in (*self.series.slices, *self.kidneys, *filter(None, [self.tissues]))]
        stats = [(name, (stat := os.stat(name)).st_size, stat.st_mtime_ns) for name in dict.fromkeys(names)]
        facts = (FORMAT, stats, self.extent, self.split == "apply", self.codes if self.tissues else None)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def refuse(self, reason: str, detail: str = "") -> dict:
        """Return the record of a series that is not stored; only `detail` may name files."""
        return {"series": self.id, "job": self, "reason": reason, "detail": detail}

    def describe(self, facts: dict) -> dict:
        """Return the record of a stored series."""
        return {"series": self.id, "patient": self.patient, "phase": self.phase, "split": self.split, **facts}


def store_series(job: Job) -> dict:
    """Store one series, unless it is stored already; return its facts, or why it cannot be stored."""
    final = job.output / "slices.zarr" / job.id
    try:
        fingerprint = job.fingerprint()
        if final.exists():
            facts = dict(zarr.open_array(final, mode="r").attrs)
            if facts["fingerprint"] == fingerprint:
                return job.describe(facts)
        source, extent, faults = _find_extent(job)
        notes = [*job.series.notes, *(f"kidney segmentation not read: {error.fault}" for error in faults)]
        if source == "none" and job.split != "apply":
            if faults:
                reasons = "; ".join(dict.fromkeys(error.fault for error in faults))
                return job.refuse(f"kidney extent unknown: DICOM SEG not read: {reasons}", "; ".join(map(str, faults)))
            return job.refuse("no kidney in the DICOM SEG of the study")
        z = job.series.z_mm
        low, high = extent or (-np.inf, np.inf)
        indices = np.flatnonzero((z >= low - SAME_PLANE_MM) & (z <= high + SAME_PLANE_MM))
        if not len(indices):
            return job.refuse("no slice inside the kidney extent")
        partial = job.output / ".partial" / job.id
        shutil.rmtree(partial, ignore_errors=True)
        kept = _write_slices(job.series, indices, partial / "slices")
    except (DicomError, FileNotFoundError) as error:
        return job.refuse("pixels cannot be decoded", str(error))
    if not len(kept):
        return job.refuse("no body on any slice")
    truth = job.tissues is not None
    if truth:
        try:
            tissues = read_tissues(job.tissues, job.series, kept, job.codes)
            _write_tissues(tissues, partial)
            if dropped := set(job.tissues.segments.values()) - set(job.codes):
                notes.append(f"{len(dropped)} tissues left out: the cohort's have no more than {LAST_CODE} codes")
        except SegmentationError as error:
            truth = False
            notes.append(f"segmentation of tissues not read: {error.fault}")
    _, *spacing = job.series.spacing_mm
    gaps = np.diff(z)
    facts = {
        "fingerprint": fingerprint,
        "z_mm": z[kept].tolist(),
        "slice_spacing_mm": float(np.median(gaps)) if len(gaps) else None,
        "pixel_mm": spacing,
        "kidney_extent_mm": extent,
        "extent_source": source,
        "tissues": truth,
        "notes": "; ".join(dict.fromkeys(notes)),
    }
    zarr.open_array(partial / "slices", mode="r+").attrs.update(facts)
    _replace(partial / "tissues", job.output / "tissues.zarr" / job.id)
    _replace(partial / "slices", final)
    return job.describe(facts)


def _find_extent(job: Job) -> tuple[str, tuple[float, float] | None, list[SegmentationError]]:
    """Return where the kidneys' extent comes from, the extent, and what was wrong with segmentations on the way."""
    if job.extent:
        return "labels", job.extent, []
    faults = []
    for segmentation in job.kidneys:
        try:
            extent = kidney_extent(segmentation)
        except SegmentationError as error:
            faults.append(error)
            continue
        if extent:
            return "seg", extent, faults
    return "none", None, faults


def _write_slices(series: Series, indices: np.ndarray, path: Path) -> np.ndarray:
    """Write the slices on which there is a body, one in memory at a time; return their indices."""
    array = _new_array(path, (len(indices), *series.shape[1:]), np.int16, OUTSIDE)
    kept = []
    for index, hu in zip(indices, read_slices(series, indices), strict=True):
        body = body_mask(hu, series.spacing_mm[1])
        if body.any():
            array[len(kept)] = np.where(body, hu, np.int16(OUTSIDE))
            kept.append(index)
    array.resize((len(kept), *array.shape[1:]))
    return np.array(kept, dtype=int)


def _write_tissues(tissues: np.ndarray, partial: Path) -> None:
    """Write the tissues beside the slices; outside the body mask (separate arms) there is none."""
    array = _new_array(partial / "tissues", tissues.shape, np.uint8, 0)
    slices = zarr.open_array(partial / "slices", mode="r")
    for index, image in enumerate(tissues):
        array[index] = np.where(slices[index] == OUTSIDE, np.uint8(0), image)


def _new_array(path: Path, shape: tuple[int, ...], dtype: type, fill: int) -> zarr.Array:
    codec = ZstdCodec(level=3)
    return zarr.create_array(path, shape=shape, dtype=dtype, chunks=(1, *shape[1:]), compressors=codec, fill_value=fill)


def _replace(source: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    if source.exists():
        os.replace(source, target)
