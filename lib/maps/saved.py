"""Maps that 05_compute_maps saved: reads them, and measures what can be measured without the true tissues."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.files import resolve
from lib.paper import LAYERS, PHASES
from lib.voxels import centre_channel, rank_order, top_shares, upsample

ORDER = {"saliency": 0, "guided_backprop": 1, "cam": 2, "grad_cam": 3, "sam": 4, "hires_cam": 5, "layer_cam": 6}


class Maps(NamedTuple):
    """Saved maps: `images` (H, W) in HU by name, raw `maps` by (name, method, layer), `phases` by name.

    A name is a phase. For your own CT, of which every series has maps, it is a series. A phase without a correctly
    classified slice is in `phases`, but not in `images`.
    """

    images: dict[str, np.ndarray]
    maps: dict[tuple[str, str, str], np.ndarray]
    phases: dict[str, str]


def read_maps(folder: str | Path) -> Maps:
    """Read the maps of the representative slices from the folder in which 05_compute_maps saved them."""
    folder = resolve(folder)
    images, maps = {}, {}
    with np.load(folder / "maps.npz") as arrays:
        for key in arrays.files:
            name, *which = key.split("/")
            if which == ["image"]:
                images[name] = arrays[key]
            elif len(which) == 2:
                maps[name, which[0], which[1]] = arrays[key]
    if not images:
        raise ValueError(f"{folder / 'maps.npz'} holds no <phase>/image: run 05_compute_maps again.")
    if set(images) <= set(PHASES):
        return Maps(images, maps, {phase: phase for phase in PHASES})
    phases = pd.read_csv(folder / "slices.csv", dtype=str).set_index("name")["phase"]
    return Maps(images, maps, {name: phases[name] for name in images})


def half_mass(values: np.ndarray) -> float:
    r"""Return the smallest share of the voxels that together hold half of the map's absolute sum.

    It is 1/2 for a map with a single value, smaller the more concentrated a map is, and NaN for a map of zeros.

    Notes
    -----
    With the absolute values of the :math:`n` voxels in descending order, :math:`a_1 \ge \dots \ge a_n`,

    .. math:: \frac{1}{n} \min \Bigl\{ k : \sum_{i=1}^{k} a_i \ge \tfrac{1}{2} \sum_{i=1}^{n} a_i \Bigr\}.
    """
    values = np.sort(np.abs(values).ravel())[::-1]
    total = values.sum()
    return float((np.searchsorted(np.cumsum(values), total / 2) + 1) / values.size) if total > 0 else np.nan


def signed_extremes(values: np.ndarray) -> float:
    """Return which share of the tenth of highest absolute value is among the tenth of highest or of lowest values."""
    signed = rank_order(values)
    strong = rank_order(np.abs(values)) > 0.9
    return float(np.mean((signed > 0.9)[strong] | (signed < 0.1)[strong]))


def describe_maps(maps: Maps) -> pd.DataFrame:
    """Measure every saved map.

    Parameters
    ----------
    maps : Maps
        As from :func:`read_maps`.

    Returns
    -------
    DataFrame
        `name`, `method`, `layer`; `outside_body`, the share of the highest tenth that lies outside the body;
        `image_outside_body`, the share of all voxels that lies there; `half_mass`, see :func:`half_mass`; `zeros`, the
        share of voxels that are exactly 0.
    """
    rows = []
    for (name, method, layer), values in maps.maps.items():
        image = maps.images[name]
        values = centre_channel(values)
        outside = ~np.isfinite(image)
        top = top_shares(upsample(np.abs(values), image.shape), outside, 2)[1]
        rows.append((name, method, layer, top, outside.mean(), half_mass(values), np.mean(values == 0)))
    columns = ["name", "method", "layer", "outside_body", "image_outside_body", "half_mass", "zeros"]
    depth = {layer: i for i, layer in enumerate(["input", *LAYERS])}
    table = pd.DataFrame(rows, columns=columns)
    keys = table["method"].map(ORDER).rename("m"), table["layer"].map(depth).rename("l")
    order = pd.concat(keys, axis=1).sort_values(["m", "l"], kind="stable").index
    return table.loc[order].reset_index(drop=True)
