"""Numbers on saved maps that need no truth: where the hottest tenth lies, and how concentrated a map is."""

import numpy as np
import pandas as pd

from lib.figures.display import rank_order
from lib.paper import LAYERS
from lib.voxels import upsample

ORDER = {"saliency": 0, "guided_backprop": 1, "cam": 2, "grad_cam": 3, "sam": 4, "hires_cam": 5, "layer_cam": 6}


def top_share(values: np.ndarray, region: np.ndarray, fraction: float = 0.1) -> float:
    """Return the share of a map's highest voxels that lies in a region.

    Parameters
    ----------
    values : array (H, W)
        Map; its absolute value is ranked.
    region : array (H, W) of bool
        Where to look.
    fraction : float
        How many voxels are highest; equal values at the boundary count in part, as random ties do on average.

    Returns
    -------
    float in [0, 1]
    """
    values = np.abs(values).ravel()
    count = round(fraction * values.size)
    boundary = np.partition(values, -count)[-count]
    above, ties = values > boundary, values == boundary
    part = (count - above.sum()) / ties.sum()
    inside = region.ravel()
    return float((inside[above].sum() + part * inside[ties].sum()) / count)


def half_mass(values: np.ndarray) -> float:
    """Return the smallest share of voxels that holds half of a map's absolute sum.

    1/2 for a flat map, the smaller the more it is concentrated; NaN for a map of zeros.
    """
    values = np.sort(np.abs(values).ravel())[::-1]
    total = values.sum()
    return float((np.searchsorted(np.cumsum(values), total / 2) + 1) / values.size) if total > 0 else np.nan


def signed_extremes(values: np.ndarray) -> float:
    """Return the share of the tenth of highest absolute value that is among the tenth of highest or lowest value."""
    signed = rank_order(values)
    strong = rank_order(np.abs(values)) > 0.9
    return float(np.mean((signed > 0.9)[strong] | (signed < 0.1)[strong]))


def describe_maps(maps) -> pd.DataFrame:
    """Measure every saved map.

    Parameters
    ----------
    maps : lib.figures.maps.Maps
        As read from `maps.npz`.

    Returns
    -------
    DataFrame
        `name`, `method`, `layer`; `outside_body`, share of the hottest tenth that lies outside the body, and
        `image_outside_body`, that of all voxels; `half_mass`, see :func:`half_mass`; `zeros`, share of exact zeros.
    """
    rows = []
    for (name, method, layer), values in maps.maps.items():
        image = maps.images[name]
        values = values[..., values.shape[-1] // 2] if values.ndim == 3 else values
        outside = ~np.isfinite(image)
        top = top_share(upsample(values, image.shape), outside)
        rows.append((name, method, layer, top, outside.mean(), half_mass(values), np.mean(values == 0)))
    columns = ["name", "method", "layer", "outside_body", "image_outside_body", "half_mass", "zeros"]
    depth = {layer: i for i, layer in enumerate(["input", *LAYERS])}
    table = pd.DataFrame(rows, columns=columns)
    keys = table["method"].map(ORDER).rename("m"), table["layer"].map(depth).rename("l")
    order = pd.concat(keys, axis=1).sort_values(["m", "l"], kind="stable").index
    return table.loc[order].reset_index(drop=True)
