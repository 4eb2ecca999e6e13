"""Unlikely labels: the phase that a description names, held against the attenuation of the segmented kidneys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from tqdm import tqdm

from lib.dicom.errors import DicomError
from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import holds_tissues, kidney_extent, kidney_segments, read_tissues
from lib.dicom.series import Series, SliceReader, read_tree
from lib.paper import PHASES

# Depth below the kidney's convex outline: the renal cortex is 6.6 +- 1.9 mm wide (Glodny 2009). The outermost 2 mm are
# blurred with the fat around the kidney; from 9 mm on there is medulla with the columns of cortex between pyramids.
CORTEX_MM, INSIDE_MM, PELVIS_MM = (2.0, 5.0), 9.0, 5.0
SOLID_HU = 0.0  # below it lies fat of the renal sinus, or fat that the segmentation includes
LEAST_AREA_MM2 = 600.0  # a smaller section has no inside: 600 mm2 is a disc of 28 mm, whose centre is 14 mm deep
SLICES = 9  # of a series, spread over the kidneys: medians over thousands of voxels do not become better with more
SMOOTH_MM = 1.0  # SD of the blur before the brightest voxels are looked for, which are else the noisiest
PELVIS_SHARE = 0.99  # the pelvis and the calyces fill a few per cent of the kidney: this quantile lies in them

ENHANCED_HU = 75.0  # half way between unenhanced parenchyma (31 +- 4 HU) and the least enhanced (120 +- 20 HU)
# Arterial blood in the renal sinus is some 85 HU brighter than the cortex (300 against 215 in the corticomedullary
# phase), the least excretion 180 (300 against 120).
EXCRETED_HU = 130.0
# Cortex less medulla as published, by phase; a larger gap than usual speaks for no other phase than cm.
GAP_HU = {"cm": (100.0, np.inf), "cm-neph": (20.0, 80.0), "neph": (-10.0, 15.0), "pyelo": (-12.0, 5.0)}
TOLERANCE_HU = (
    30.0  # beyond these ranges: for noise, rough outlines, cysts and tumours, and patients unlike the average
)

COLUMNS = ["series_uid", "patient", "phase", "cortex_hu", "inside_hu", "gap_hu", "pelvis_hu", "slices"]
COLUMNS += ["doubt", "unmeasured"]


class Kidneys(NamedTuple):
    """Attenuation of the kidneys of a series, HU.

    Attributes
    ----------
    cortex_hu, inside_hu : float
        Medians of the outer and the inner parenchyma.
    pelvis_hu : float
        What the brightest hundredth of the inside reaches.
    slices : int
        Slices that were measured.
    """

    cortex_hu: float
    inside_hu: float
    pelvis_hu: float
    slices: int

    @property
    def gap_hu(self) -> float:
        """Difference of outer and inner parenchyma, which is nearly that of cortex and medulla."""
        return self.cortex_hu - self.inside_hu


def doubt(phase: str, kidneys: Kidneys) -> str:
    """Return why a label is unlikely, or "".

    Parameters
    ----------
    phase : str
        One of `lib.paper.PHASES`.
    kidneys : Kidneys
        As measured in the series.

    Notes
    -----
    In this order: contrast medium in the parenchyma where the label says that there is none, or the reverse; excreted
    contrast medium in any phase but the pyelographic, or none in it; a difference between outer and inner parenchyma
    that lies further than `TOLERANCE_HU` outside of the published range of the phase, `GAP_HU`.
    """
    enhanced = kidneys.cortex_hu >= ENHANCED_HU
    if phase == "noncon":
        return f"parenchyma of {kidneys.cortex_hu:.0f} HU is enhanced" if enhanced else ""
    if not enhanced:
        return f"parenchyma of {kidneys.cortex_hu:.0f} HU is not enhanced"
    excreted = kidneys.pelvis_hu - kidneys.cortex_hu >= EXCRETED_HU
    if excreted != (phase == "pyelo"):
        return f"{'' if excreted else 'no '}excreted contrast medium ({kidneys.pelvis_hu:.0f} HU inside)"
    low, high = gap_limits(phase)
    if not low <= kidneys.gap_hu <= high:
        return f"a gap of {kidneys.gap_hu:.0f} HU between outer and inner parenchyma"
    return ""


def gap_limits(phase: str) -> tuple[float, float]:
    """Return the lowest and highest likely difference of outer and inner parenchyma, HU; any before the injection."""
    if phase not in GAP_HU:
        return -np.inf, np.inf
    low, high = GAP_HU[phase]
    return low - TOLERANCE_HU, high + TOLERANCE_HU


def exchange(labels: pd.Series, share: float, rng: np.random.Generator) -> pd.Series:
    """Return labels of which a share, chosen at random, has been replaced by another phase that occurs among them.

    Parameters
    ----------
    labels : Series of str
        Phases.
    share : float
        Between 0 and 1.
    rng : numpy.random.Generator
    """
    wrong, present = labels.copy(), sorted(set(labels))
    for place in rng.choice(len(labels), round(share * len(labels)), replace=False):
        wrong.iloc[place] = rng.choice([phase for phase in present if phase != labels.iloc[place]])
    return wrong


def check_labels(folder: str | Path, labels: Mapping[str, str], *, slices: int = SLICES) -> pd.DataFrame:
    """Measure the kidneys of every labelled series of a DICOM tree and say which labels are unlikely.

    Parameters
    ----------
    folder : path
        Tree with CT and with DICOM SEG objects of the kidneys.
    labels : mapping of str to str
        Phase by SeriesInstanceUID.
    slices : int
        At most as many of a series are measured, spread evenly over the kidneys.

    Returns
    -------
    DataFrame
        One row per labelled series that is in the folder: series_uid, patient, phase, cortex_hu, inside_hu, gap_hu,
        pelvis_hu, slices, doubt ("" if the label is likely), and `unmeasured`, why nothing was measured, or "".

    Notes
    -----
    A segmentation counts only for the very series that it was drawn on: between two scans the kidneys move by
    centimetres with the breath.
    """
    tree, rows = read_tree(folder), []
    wanted = [item for item in tree.series if item.uid in labels]
    for series in tqdm(wanted, desc="labels", unit="series"):
        phase, found, why = labels[series.uid], None, "no kidney segmentation of this series"
        if segmentation := _own(tree.segmentations, series):
            try:
                found = measure_kidneys(series, segmentation, slices)
                why = "" if found else "no section of a kidney is large enough"
            except DicomError as error:
                why = getattr(error, "fault", "pixels cannot be decoded")
        row = {"series_uid": series.uid, "patient": series.patient, "phase": phase}
        if found:
            row |= found._asdict() | {"gap_hu": found.gap_hu, "doubt": doubt(phase, found)}
        rows.append(row | {"unmeasured": why})
    return pd.DataFrame(rows, columns=COLUMNS).fillna({"doubt": "", "slices": 0}).astype({"slices": int})


def count_doubts(found: pd.DataFrame) -> pd.DataFrame:
    """Return how many labels the check calls unlikely, of those that are right and of those that are wrong.

    Parameters
    ----------
    found : DataFrame
        As from `check_labels`, with `known`, the phase that the series is known to have.

    Returns
    -------
    DataFrame
        Rows "right", "wrong, by a neighbouring phase" (the next in time) and "wrong, otherwise"; columns measured,
        unlikely, share.
    """
    found = found[found["unmeasured"] == ""]
    order = {phase: place for place, phase in enumerate(PHASES)}
    steps = (found["phase"].map(order) - found["known"].map(order)).abs()
    kind = np.where(steps == 0, "right", np.where(steps == 1, "wrong, by a neighbouring phase", "wrong, otherwise"))
    groups = (found["doubt"] != "").groupby(kind)
    table = groups.agg(measured="size", unlikely="sum")
    return table.assign(share=table["unlikely"] / table["measured"]).rename_axis("label")


def measure_kidneys(series: Series, segmentation: Segmentation, slices: int = SLICES) -> Kidneys | None:
    """Measure the segmented kidneys of a series; None where no section of them is large enough.

    Raises
    ------
    DicomError
        If the segmentation or a slice cannot be read, or the segmentation is on another grid.
    """
    extent = kidney_extent(segmentation)
    if extent is None:
        return None
    inside = np.flatnonzero((series.z_mm >= extent[0]) & (series.z_mm <= extent[1]))
    if not len(inside):
        return None
    chosen = inside[np.unique(np.linspace(0, len(inside) - 1, slices + 2).round().astype(int)[1:-1])]
    codes = {segmentation.segments[number]: 1 for number in kidney_segments(segmentation)}
    masks, reader = read_tissues(segmentation, series, chosen, codes), SliceReader()
    found = [
        measured
        for index, mask in zip(chosen, masks, strict=True)
        if (measured := _section(reader.read(series.slices[index]), mask > 0, series.spacing_mm[1:])) is not None
    ]
    if not found:
        return None
    cortex, within, bright = (np.concatenate(values) for values in zip(*found, strict=True))
    if not len(cortex) or not len(within):
        return None
    outer = float(np.median(cortex))
    parenchyma = within[within < outer + EXCRETED_HU]
    inner = float(np.median(parenchyma)) if len(parenchyma) else outer
    return Kidneys(outer, inner, float(np.quantile(bright, PELVIS_SHARE)), len(found))


def _own(segmentations: list[Segmentation], series: Series) -> Segmentation | None:
    """Return the segmentation of the kidneys that was drawn on this series; one of kidneys alone comes first."""
    own = [item for item in segmentations if item.referenced_series == series.instance_uid and kidney_segments(item)]
    return min(own, key=lambda item: (holds_tissues(item), item.path), default=None)


def _section(
    hu: np.ndarray, mask: np.ndarray, spacing_mm: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the HU of the outer and of the inner parenchyma, and smoothed ones of the inside, of a slice's kidneys."""
    names, count = ndimage.label(mask)
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), SMOOTH_MM / np.asarray(spacing_mm))
    parts = []
    for name in range(1, count + 1):
        points = np.argwhere(names == name)
        if len(points) * np.prod(spacing_mm) < LEAST_AREA_MM2:
            continue
        depth, box = _depth(points, spacing_mm)
        values, solid = hu[box], mask[box] & (hu[box] > SOLID_HU)
        cortex = solid & (depth >= CORTEX_MM[0]) & (depth <= CORTEX_MM[1])
        parts.append((values[cortex], values[solid & (depth >= INSIDE_MM)], smooth[box][depth >= PELVIS_MM]))
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True)) if parts else None


def _depth(points: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, tuple[slice, slice]]:
    r"""Return how deep the voxels of a box lie below the convex hull of points, mm (negative outside), and the box.

    Notes
    -----
    With the outward unit normals :math:`n_k` of the hull's edges and their offsets :math:`b_k`, the depth of a voxel
    :math:`x` inside is :math:`-\max_k (n_k x + b_k)`, its distance from the nearest edge. The hull closes the hilum.
    """
    low, high = points.min(axis=0), points.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.mgrid[box], axis=-1) * np.asarray(spacing_mm)
    try:
        equations = ConvexHull(points * np.asarray(spacing_mm)).equations
    except QhullError:  # all in one line
        return np.full(grid.shape[:2], -1.0), box
    depth = np.full(grid.shape[:2], np.inf)
    for normal_y, normal_x, offset in equations:
        np.minimum(depth, -(grid[..., 0] * normal_y + grid[..., 1] * normal_x + offset), out=depth)
    return depth, box
