"""Measurements of the phantom that can be compared with patients: HU, noise power and geometry of the kidneys."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import fft, ndimage

from lib.cohort import Cohort
from lib.paper import PHASES
from lib.phantom.canvas import Canvas, Grid
from lib.phantom.patient import Anatomy
from lib.phantom.scanner import Scanner
from lib.phantom.study import Examination
from lib.phantom.texture import Texture
from lib.phantom.tissues import KIDNEY_TISSUES, Tissue


def measure_tissues(
    cohort: Cohort, rows: pd.DataFrame, tissues: Sequence[str], margin: int = 1, min_voxels: int = 12
) -> pd.DataFrame:
    """Measure the HU of tissues in the middle of their largest sections, where the true tissues are known.

    Parameters
    ----------
    cohort : Cohort
        Cohort whose true tissues are known.
    rows : DataFrame
        `patient`, `series`, `slice` and `phase`.
    tissues : sequence of str
        Tissues, named as in the cohort.
    margin : int
        Smallest number of voxels that are left out along the edge, where blur mixes tissues.
    min_voxels : int
        Smallest number of voxels of a tissue in all slices of a series.

    Returns
    -------
    DataFrame
        `patient`, `series`, `phase`, `tissue`, `hu` (median of the voxels), `voxels` (their number).

    Raises
    ------
    ValueError
        If a tissue is not a tissue of the cohort.

    Notes
    -----
    A radiologist places a region of interest in the middle of a large section. Here the voxels of a tissue in a series
    are used that lie more than half as deep as the deepest of them. The depth of a voxel is the distance of its centre
    from that of the nearest voxel of another tissue in the same slice.
    """
    unknown = sorted(set(tissues) - set(cohort.tissues))
    if unknown:
        raise ValueError(f"tissues {unknown} are none of {cohort.path}: it knows {sorted(cohort.tissues)}.")
    found = []
    for (patient, series, phase), stack in rows.groupby(["patient", "series", "phase"], sort=False):
        hu, codes = cohort.read_hu(stack), cohort.read_tissues(stack)
        for name in tissues:
            values, depth = _voxels_by_depth(hu, codes, cohort.tissues[name])
            values = values[(depth >= margin + 1) & (depth > depth.max(initial=0) / 2)]
            if len(values) >= min_voxels:
                found.append((patient, series, phase, name, float(np.median(values)), len(values)))
    return pd.DataFrame(found, columns=["patient", "series", "phase", "tissue", "hu", "voxels"])


def _voxels_by_depth(hu: np.ndarray, codes: np.ndarray, code: int) -> tuple[np.ndarray, np.ndarray]:
    """Return HU and depth (in voxels) of the voxels of a tissue in a stack (n, H, W), without those that lack HU."""
    values, depths = [np.empty(0)], [np.empty(0)]
    for image, labels in zip(hu, codes, strict=True):
        tissue = labels == code
        if not tissue.any():
            continue
        box = ndimage.find_objects(tissue.view(np.uint8))[0]
        inside = np.pad(tissue[box], 1)
        depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        known = tissue[box] & ~np.isnan(image[box])
        values.append(image[box][known])
        depths.append(depth[known])
    return np.concatenate(values), np.concatenate(depths)


def compare_hu(measured: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Compare the HU of tissues between patients with published ones.

    Parameters
    ----------
    measured : DataFrame
        As from `measure_tissues`.
    published : DataFrame
        `tissue`, `phase`, `mean`, `sd`.

    Returns
    -------
    DataFrame
        The published rows with `n`, `phantom_mean`, `phantom_sd`, `difference` (phantom minus published mean), `in_sd`
        (difference divided by the published SD) and `off`. `off` holds "mean" if the difference exceeds one published
        SD, and "spread" if there are at least five series and the SD of the phantom is less than half or more than
        twice the published one.
    """
    groups = measured.groupby(["tissue", "phase"])["hu"].agg(n="size", phantom_mean="mean", phantom_sd="std")
    table = published.merge(groups.reset_index(), how="left", on=["tissue", "phase"])
    table["difference"] = table["phantom_mean"] - table["mean"]
    table["in_sd"] = table["difference"] / table["sd"]
    ratio = table["phantom_sd"] / table["sd"]
    mean_off = (table["in_sd"].abs() > 1).map({True: "mean", False: ""})
    spread_off = ((ratio < 0.5) | (ratio > 2)) & (table["n"] >= 5)
    table["off"] = (mean_off + " " + spread_off.map({True: "spread", False: ""})).str.strip()
    order = table["phase"].map(PHASES.index)
    return table.assign(order=order).sort_values(["tissue", "order"], kind="stable").drop(columns="order")


def find_patches(mask: np.ndarray, side: int, limit: int = 8) -> list[tuple[slice, slice]]:
    """Find squares that lie inside a mask and do not overlap.

    Parameters
    ----------
    mask : bool array (H, W)
    side : int
        Side of the squares in pixels.
    limit : int
        Largest number of squares; they are searched from the top left.

    Returns
    -------
    list of (slice, slice)
        Rows and columns of each square.
    """
    free, found = mask.copy(), []
    while len(found) < limit:
        counts = np.pad(free.astype(np.int32), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        sums = counts[side:, side:] - counts[:-side, side:] - counts[side:, :-side] + counts[:-side, :-side]
        full = np.argwhere(sums == side * side)
        if len(full) == 0:
            break
        row, column = full[0]
        found.append((slice(row, row + side), slice(column, column + side)))
        free[found[-1]] = False
    return found


def scan_liver(examination: Examination, time: float = 100.0, side: int = 32) -> tuple[np.ndarray, float]:
    """Scan slices through the liver and return squares inside it, for a measurement of the noise.

    Parameters
    ----------
    examination : Examination
    time : float
        Time after the start of the injection, s.
    side : int
        Side of the squares in pixels.

    Returns
    -------
    patches : float32 array (n, side, side), HU
    pixel_mm : float
    """
    protocol, top = examination.protocol, examination.anatomy.kidney_extent[1]
    scanner = Scanner(protocol, examination.anatomy, examination.matrix)
    texture, base = Texture(np.random.default_rng(0), time), examination.physiology.hounsfield(time, protocol.kvp)
    found, seed = [np.empty((0, side, side), np.float32)], examination.seed
    for height in (top - 35, top - 20, top - 5):
        step = round(height / protocol.spacing_mm)
        hu, tissues = scanner.image(step, lambda z: base, lambda k: np.random.default_rng([seed, abs(k)]), 0.0, texture)
        liver = ndimage.binary_erosion(tissues == Tissue.LIVER, iterations=3)
        found += [hu[patch][None].astype(np.float32) for patch in find_patches(liver, side)]
    return np.concatenate(found), scanner.grid.pixel_mm


def noise_power(patches: np.ndarray, pixel_mm: float, width: float = 0.05) -> pd.DataFrame:
    r"""Measure the noise power spectrum by radial frequency.

    Parameters
    ----------
    patches : float array (n, m, m)
        Squares of uniform tissue, HU. A plane is fitted to each and subtracted.
    pixel_mm : float
        Pixel spacing, mm.
    width : float
        Width of the bins, 1/mm.

    Returns
    -------
    DataFrame
        `frequency` (middle of the bin, 1/mm), `power` (HU² mm²), `area` (of the bin, 1/mm²).

    Notes
    -----
    With squares of :math:`m \times m` pixels of size :math:`\Delta` and the mean over the squares (ICRU 87),

    .. math:: \mathrm{NPS}(f) = \frac{\Delta^2}{m^2}\, \langle \lvert \mathrm{DFT}(\text{noise}) \rvert^2 \rangle.

    The frequency 0 is left out. The sum of power times area is the variance.
    """
    patches = np.asarray(patches, float)
    count, side = patches.shape[0], patches.shape[-1]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    plane = np.stack([np.ones(side * side), x.ravel(), y.ravel()], axis=1)
    flat = patches.reshape(count, -1).T
    noise = (flat - plane @ np.linalg.lstsq(plane, flat, rcond=None)[0]).T.reshape(patches.shape)
    power = (np.abs(fft.fft2(noise)) ** 2).mean(axis=0) * pixel_mm**2 / side**2
    f = np.hypot(fft.fftfreq(side, pixel_mm)[:, None], fft.fftfreq(side, pixel_mm)[None, :])
    which = (f / width).astype(int).ravel()
    which[0] = which.max() + 1  # zero frequency
    cells = np.bincount(which)[:-1]
    sums = np.bincount(which, power.ravel())[:-1]
    table = pd.DataFrame({
        "frequency": (np.arange(len(cells)) + 0.5) * width,
        "power": sums / np.maximum(cells, 1),
        "area": cells / (side * pixel_mm) ** 2,
    })  # fmt: skip
    return table[cells > 0].reset_index(drop=True)


def mean_frequency(spectrum: pd.DataFrame) -> float:
    """Return the mean frequency of a spectrum, 1/mm, weighted by the radial power, as in published measurements."""
    return float((spectrum["frequency"] * spectrum["power"]).sum() / spectrum["power"].sum())


def kidney_masks(anatomy: Anatomy, pixel_mm: float = 1.5, step_mm: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Paint each kidney of a patient alone, in the position of the patient, with its sinus, without cysts and tumours.

    Parameters
    ----------
    anatomy : Anatomy
    pixel_mm, step_mm : float
        Pixel spacing and distance between the planes, mm.

    Returns
    -------
    right, left : bool array (z, y, x)
        Masks on the same grid.
    """
    bottom, top = anatomy.kidney_extent
    grid = Grid(int(400 / pixel_mm), pixel_mm, -200.0, -200.0, oversample=3)  # of which the middle samples count
    planes = np.arange(bottom - step_mm, top + 2 * step_mm, step_mm)
    wanted = [tissue for tissue in KIDNEY_TISSUES if tissue not in (Tissue.RENAL_CYST, Tissue.RENAL_TUMOUR)]
    stacks = []
    for kidney in anatomy.kidneys:
        masks = []
        for z in planes:
            canvas = Canvas(grid, pose=anatomy.pose)
            kidney.paint(canvas, z)
            masks.append(ndimage.binary_fill_holes(np.isin(canvas.samples()[1::3, 1::3], wanted)))
        stacks.append(np.stack(masks))
    return stacks[0], stacks[1]


def kidney_geometry(right: np.ndarray, left: np.ndarray, spacing_mm: tuple[float, float, float]) -> dict[str, float]:
    """Measure a pair of kidneys.

    Parameters
    ----------
    right, left : bool array (z, y, x)
        z toward the head, y to the back, x to the patient's left.
    spacing_mm : tuple of float
        z, y, x.

    Returns
    -------
    dict of float
        The quantities of lib/published/kidney_geometry.csv in its units; those of single kidneys are the mean of both.

    Raises
    ------
    ValueError
        If a mask is empty.
    """
    if not (right.any() and left.any()):
        raise ValueError("a kidney's mask is empty: right and left need at least one voxel each.")
    each = [measure_mask(mask, spacing_mm) for mask in (right, left)]
    table = {name: float(np.mean([one[name] for one in each])) for name in each[0] if name != "centroid"}
    z = np.flatnonzero((right | left).any(axis=(1, 2)))
    apart = each[1]["centroid"] - each[0]["centroid"]
    return table | {
        "extent of both kidneys": float((np.ptp(z) + 1) * spacing_mm[0]),
        "distance of the centroids": float(abs(apart[2])),
        "right below left": float(apart[0]),
        "difference in depth": float(apart[1]),
    }


def measure_mask(mask: np.ndarray, spacing_mm: tuple[float, float, float]) -> dict:
    r"""Measure the mask of an organ, bool (z, y, x): extent, axes, largest section, volume, tilt, centroid (mm).

    Notes
    -----
    The axes are those of the ellipsoid with the same second moments, :math:`2 \sqrt{5 \lambda}` for each eigenvalue
    :math:`\lambda` of the covariance.
    """
    points = np.argwhere(mask) * np.asarray(spacing_mm)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    axes = 2 * np.sqrt(5 * values)
    return {
        "extent of one kidney": float((np.ptp(np.flatnonzero(mask.any(axis=(1, 2)))) + 1) * spacing_mm[0]),
        "long axis": float(axes[2]),
        "middle axis": float(axes[1]),
        "short axis": float(axes[0]),
        "largest section": float(mask.sum(axis=(1, 2)).max() * spacing_mm[1] * spacing_mm[2]),
        "volume": float(mask.sum() * np.prod(spacing_mm) / 1000),
        "tilt of the long axis": float(np.degrees(np.arccos(min(abs(vectors[0, 2]), 1.0)))),
        "centroid": points.mean(axis=0),
    }
