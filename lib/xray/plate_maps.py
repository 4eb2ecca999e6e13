"""What maps of an image show, by layer: edges, detail, artifacts, the surroundings of organs; and the verdicts."""

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from lib.claims.texts import judge, statements
from lib.maps.localisation import edges, enrichment, scaled
from lib.voxels import upsample

CLAIMS = statements("M")


def at_plate(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return maps (n, h, w) at the plate's size, bilinear."""
    return np.asarray(upsample(np.asarray(maps, np.float32), shape, "bilinear"))


def frequency(heat: np.ndarray, pixel_mm: float) -> float:
    """Return the mean spatial frequency of a map (H, W), weighted by its power without the mean, 1/mm."""
    power = np.abs(np.fft.rfft2(heat - heat.mean())) ** 2
    fy, fx = np.fft.fftfreq(heat.shape[0], pixel_mm), np.fft.rfftfreq(heat.shape[1], pixel_mm)
    return float((np.hypot(fy[:, None], fx[None]) * power).sum() / power.sum()) if power.sum() > 0 else float("nan")


def half_mass(heat: np.ndarray) -> float:
    """Return the share of the image that holds half of a map's heat; small: concentrated."""
    ranked = np.sort(heat.ravel())[::-1].cumsum()
    return float(np.searchsorted(ranked, ranked[-1] / 2) + 1) / heat.size if ranked[-1] > 0 else float("nan")


def centroid(heat: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return the centre of mass of a map or mask, (x, y) in mm."""
    y, x = ndimage.center_of_mass(np.asarray(heat, float))
    return (np.array([x, y]) + 0.5) * pixel_mm


def on_clean(
    heat: np.ndarray, grey: np.ndarray, distance_mm: np.ndarray, field: np.ndarray, pixel_mm: float,
    outline_mm: float = 0.5, band_mm: float = 2.0,
) -> dict:  # fmt: skip
    """Return what the map of a clean image shows.

    Parameters
    ----------
    heat : float array (H, W)
        At the image's size.
    grey : float array (H, W)
        The image.
    distance_mm : float array (H, W)
        From the teeth, negative inside; of CT, from the kidneys.
    field : bool array (H, W)
        What belongs to the image.
    pixel_mm, outline_mm, band_mm : float

    Returns
    -------
    dict
        edge_rank (Spearman's correlation with the Sobel edges of the image), edge_band, band, inside (enrichment of
        pixels within `outline_mm` of the teeth's outline, of the `band_mm` outside of it, and of the teeth),
        half_mass, frequency.
    """
    inner = ndimage.binary_erosion(field, iterations=3)  # the border of a plate is no tooth
    unit = scaled(heat)
    if unit is None:
        return dict.fromkeys(("edge_rank", "edge_band", "band", "inside", "half_mass", "frequency"), float("nan"))
    sobel = edges(ndimage.gaussian_filter(grey, 1.0))
    return {
        "edge_rank": _rank_correlation(unit, sobel, inner),
        "edge_band": enrichment(unit, np.abs(distance_mm) < outline_mm, within=inner),
        "band": enrichment(unit, (distance_mm > 0) & (distance_mm < band_mm), within=inner),
        "inside": enrichment(unit, distance_mm < 0, within=inner),
        "half_mass": half_mass(unit),
        "frequency": frequency(unit, pixel_mm),
    }


def _rank_correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Return Spearman's correlation of two maps on every third pixel of a region, NaN where one is constant."""
    a, b, inside = a[::3, ::3], b[::3, ::3], inside[::3, ::3]
    if np.ptp(a[inside]) == 0 or np.ptp(b[inside]) == 0:
        return float("nan")
    return float(stats.spearmanr(a[inside], b[inside])[0])


def on_artifact(heat: np.ndarray, mask: np.ndarray, reference: np.ndarray, field: np.ndarray, pixel_mm: float) -> dict:
    """Return what the map of a spoiled image shows.

    Parameters
    ----------
    heat, reference : float array (H, W)
        The map, and that of the clean image.
    mask : bool array (H, W)
        The artifact's.
    field : bool array (H, W)
        What belongs to the image.
    pixel_mm : float

    Returns
    -------
    dict
        enrichment of the artifact in the hottest 10 % of the field, same (Spearman's correlation with the reference),
        distance_mm (between the centres of this tenth and of the artifact), x_mm, y_mm, mask_x_mm, mask_y_mm (the two
        centres; the centre of all heat would be drawn to the middle by an even background),
        heat (mean of the map, unscaled), area (share of the image), dead (whether the map is zero throughout).
    """
    unit, area = scaled(heat), float(mask.mean())
    if unit is None or not mask.any():
        names = ("enrichment", "same", "distance_mm", "x_mm", "y_mm", "mask_x_mm", "mask_y_mm", "heat")
        return dict.fromkeys(names, float("nan")) | {"area": area, "dead": unit is None}
    hottest = field & (unit >= max(np.quantile(unit[field], 0.9), 1e-9))  # without heat is no hottest
    here, there = centroid(hottest, pixel_mm), centroid(mask, pixel_mm)
    same = _rank_correlation(heat, reference, field)
    return {
        "enrichment": enrichment(unit, mask, within=field),
        "same": same,
        "distance_mm": float(np.hypot(*(here - there))),
        "x_mm": here[0],
        "y_mm": here[1],
        "mask_x_mm": there[0],
        "mask_y_mm": there[1],
        "heat": float(np.mean(heat)),
        "area": area,
        "dead": False,
    }


def mean_interval(values: pd.Series, plates: pd.Series) -> tuple[float, float, float, int]:
    """Return mean, 95 % interval and number of plates: plates are the unit, their means count (Student's t)."""
    means = values.groupby(plates).mean().dropna()
    n = len(means)
    if n < 2:
        return (float(means.mean()) if n else float("nan"), float("nan"), float("nan"), n)
    half = float(stats.t.ppf(0.975, n - 1) * means.std(ddof=1) / np.sqrt(n))
    return float(means.mean()), float(means.mean()) - half, float(means.mean()) + half, n


def place_slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Return how the heat follows the artifact, with 95 % intervals: plates are the unit.

    Parameters
    ----------
    table : DataFrame
        Rows of one layer: plate, kind, place, size, and columns of :func:`on_artifact`.

    Returns
    -------
    DataFrame
        Index: what was measured; value, low, high, plates. Slopes over the images of a plate (1: the heat follows, 0:
        it does not move), and the mean heat of the largest artifact over that of the smallest of the same kind and
        place.
    """
    rows = []
    for axis in "xy":
        slopes = {}
        for plate, part in table.groupby("plate"):
            both = part[[f"mask_{axis}_mm", f"{axis}_mm"]].dropna()
            if len(both) > 2 and np.ptp(both.iloc[:, 0]) > 0:
                slopes[plate] = float(stats.linregress(both.iloc[:, 0], both.iloc[:, 1]).slope)
        held = pd.Series(slopes, dtype=float)
        measured = f"centre of the hottest tenth on the artifact's, {axis} (mm/mm)"
        rows.append((measured, *mean_interval(held, pd.Series(held.index, index=held.index))))
    heat = table[table["heat"] > 0].pivot_table(index=["plate", "kind", "place"], columns="size", values="heat")
    if len(heat):
        ratio = np.log(heat[heat.columns.max()] / heat[heat.columns.min()]).dropna()
        mean, low, high, n = mean_interval(ratio, pd.Series(ratio.index.get_level_values(0), index=ratio.index))
        rows.append(("mean heat, largest over smallest", *np.exp([mean, low, high]), n))
    return pd.DataFrame(rows, columns=["measured", "value", "low", "high", "plates"]).set_index("measured")


def _slope(row: pd.Series) -> float:
    """Return the slope of a row over its columns' names, NaN with fewer than two values."""
    held = row.dropna()
    return float(np.polyfit(held.index.astype(float), held, 1)[0]) if len(held) > 1 else float("nan")


def plate_claims(
    clean: pd.DataFrame, spoiled: pd.DataFrame, auc: float, *, gate: float = 0.85, organs: str = "teeth", band: int = 2
) -> pd.DataFrame:
    """Return the text's five claims with what was measured of one network and one method, and the verdicts.

    Parameters
    ----------
    clean : DataFrame
        A row for each plate and layer (0, 1, ... in depth): columns of :func:`on_clean`, plate, layer.
    spoiled : DataFrame
        A row for each image and layer: columns of :func:`on_artifact`, plate, layer, kind, repeat (the correlation of
        the clean plate's map with that of another exposure).
    auc : float
        Of the network; below `gate` M3 to M5 are not judged.
    organs, band : str, int
        What distances are measured from, and the band around it in mm, for the words of the table.

    Returns
    -------
    DataFrame
        id, claim, measured, value, low, high, plates, verdict.

    Notes
    -----
    M1: the slope over the layers, plate by plate, of the correlation with edges and of the enrichment of the outline of
    the teeth lies below 0. M2: the slopes of the half mass (below 0) and of the mean frequency (above 0). M3: the
    enrichment of the artifact at the last layer lies below 1.2. M4: that of the band around the teeth lies above 1 and
    above that of the teeth. M5: the correlation of a spoiled plate's map with the clean one's is within .1 of that with
    a repeated exposure's. A claim of several parts gets the weakest verdict.
    """
    last = int(clean["layer"].max())

    def slopes(column: str) -> pd.Series:
        wide = clean.pivot_table(index="plate", columns="layer", values=column)
        return wide.apply(_slope, axis=1)

    def part(name: str, values: pd.Series, **rule) -> tuple:
        mean, low, high, n = mean_interval(values, pd.Series(values.index, index=values.index))
        return name, mean, low, high, n, judge(low, high, **rule)

    end, hit = clean[clean["layer"] == last].set_index("plate"), spoiled[spoiled["layer"] == last]
    by_plate = hit.groupby("plate")
    found = {
        "M1": [part("slope of the correlation with edges, per layer", slopes("edge_rank"), below=0),
               part(f"slope of the enrichment of the outline of the {organs}", slopes("edge_band"), below=0)],
        "M2": [part("slope of the half mass", slopes("half_mass"), below=0),
               part("slope of the mean frequency (1/mm)", slopes("frequency"), above=0)],
        "M3": [part("enrichment of the artifact, last layer", by_plate["enrichment"].mean(), below=1.2)],
        "M4": [part(f"enrichment of the {band} mm around the {organs}", end["band"], above=1),
               part(f"less that of the {organs}", end["band"] - end["inside"], above=0)],
        "M5": [part("correlation with the clean map, less that of a repeat",
                    by_plate["same"].mean() - by_plate["repeat"].mean(), within=(-0.1, 0.1))],
    }  # fmt: skip
    rows = []
    for claim, parts in found.items():
        for name, mean, low, high, n, verdict in parts:
            weak = claim in ("M3", "M4", "M5") and not auc >= gate
            rows.append((claim, CLAIMS[claim], name, mean, low, high, n, "network too weak" if weak else verdict))
    return pd.DataFrame(rows, columns=["id", "claim", "measured", "value", "low", "high", "plates", "verdict"])
