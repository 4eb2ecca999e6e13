"""Comparison of tissues under one map, and of maps on the same slices, with intervals by patient."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.maps.tissue_shares import MAP, NAMES, OUTSIDE, SLICE, groups_by_phase
from lib.paper import PHASES
from lib.patient_statistics import RESAMPLES, bootstrap_interval, cluster_interval, resample_clusters

BODY = tuple(name for name in NAMES if name != OUTSIDE)
KIDNEY = ("kidney cortex", "kidney medulla", "urine in the pelvis", "kidney sinus, cyst, tumour")
VESSELS = ("aorta", "arteries and renal veins", "vena cava")
SETS = {  # the tissues that the paper names, as groups of `lib.maps.tissue_shares.GROUPS`
    "kidney": KIDNEY,
    "vessels": VESSELS,
    "kidney and vessels": (*KIDNEY, *VESSELS),
    "muscle and liver": ("muscle", "liver"),
    "bone and muscle": ("bone", "muscle"),
    "bowel": ("bowel",),
}
SETS["rest of the body"] = tuple(name for name in BODY if name not in SETS["kidney and vessels"])
SETS["rest without bone and muscle"] = tuple(
    name for name in SETS["rest of the body"] if name not in SETS["bone and muscle"]
)
SETS["rest without bowel"] = tuple(name for name in SETS["rest of the body"] if name != "bowel")
AGAINST = (  # pairs of sets that are compared for every map
    ("kidney and vessels", "rest of the body"),
    ("kidney", "rest of the body"),
    ("vessels", "rest of the body"),
    ("kidney and vessels", "muscle and liver"),
    ("kidney and vessels", "rest without bone and muscle"),
    ("bone and muscle", "rest without bone and muscle"),
    ("bowel", "rest without bowel"),
)
SALIENCY, GUIDED = ("saliency", "input"), ("guided_backprop", "input")
DEEP, SHALLOW = ("grad_cam", "conv5b"), (("grad_cam", "conv2b"), ("grad_cam", "conv3b"))
MAP_PAIRS = (  # measure, map, other map
    ("half_mass", GUIDED, SALIENCY),
    ("kidney cortex", GUIDED, SALIENCY),
    *((measure, DEEP, other) for measure in ("kidney and vessels", OUTSIDE) for other in SHALLOW),
)


def contrast_tissues(
    shares: pd.DataFrame,
    *,
    rng: np.random.Generator,
    against: Sequence[tuple[str, str]] = AGAINST,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    r"""Measure how many times as densely each map marks some tissues as others (enrichment).

    Parameters
    ----------
    shares : DataFrame
        As from `lib.maps.tissue_shares.measure_anatomy`, including the rows of the method "image".
    rng : numpy.random.Generator
        For 95 % intervals, in which patients are resampled.
    against : sequence of (str, str)
        Pairs of names of SETS: tissues, and the tissues that they are compared with.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    DataFrame
        `phase`, `method`, `layer`, `tissue` and `against` (names of SETS), `share` of the map's highest voxels and
        `area` of the image that are `tissue`, `times`, `low`, `high`, `n_slices`, `n_patients`.

    Notes
    -----
    Let :math:`s_A` be the sum over the slices of the share of a map's highest voxels that lie in the tissues :math:`A`,
    and :math:`a_A` the sum of the share of the image that these tissues cover. The enrichment of :math:`A` over
    :math:`B` is

    .. math:: \text{times} = \frac{s_A / a_A}{s_B / a_B}.

    It is 1 if the map does not distinguish the tissues, whatever the size of the organs and the amount of air. It is
    NaN if the slices hold none of the tissues, and infinite if the other tissues are never marked; the bounds are then
    infinite or NaN.
    """
    image = shares[shares["method"] == "image"].set_index(SLICE)[list(NAMES)]
    rows = []
    for key, group in groups_by_phase(shares[shares["method"] != "image"], MAP):
        areas = image.loc[pd.MultiIndex.from_frame(group[SLICE])]
        codes, names = pd.factorize(group["patient"])
        weights = resample_clusters(len(names), rng=rng, resamples=resamples)
        for tissue, other in against:
            parts = [
                table[list(SETS[name])].sum(axis=1).to_numpy() for name in (tissue, other) for table in (group, areas)
            ]
            sums = np.stack([np.bincount(codes, part, len(names)) for part in parts])
            with np.errstate(invalid="ignore"):  # where a resample has infinite ratios
                bounds = bootstrap_interval(_ratio(weights @ sums.T), len(names))
            facts = parts[0].mean(), parts[1].mean(), float(_ratio(sums.sum(axis=1)))
            rows.append((*key, tissue, other, *facts, *bounds, len(group), len(names)))
    facts = ["share", "area", "times", "low", "high", "n_slices", "n_patients"]
    return pd.DataFrame(rows, columns=[*MAP, "tissue", "against", *facts])


def contrast_maps(
    shares: pd.DataFrame,
    *,
    rng: np.random.Generator,
    pairs: Sequence[tuple[str, tuple[str, str], tuple[str, str]]] = MAP_PAIRS,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compare maps on the same slices by the tissues that they mark and by how concentrated they are.

    Parameters
    ----------
    shares, rng, resamples
        As in :func:`contrast_tissues`.
    pairs : sequence of (measure, (method, layer), (method, layer))
        The measure is "half_mass", or the share of the highest voxels in one of `lib.maps.tissue_shares.NAMES` or SETS.
        Pairs with a map that was not measured are left out.

    Returns
    -------
    DataFrame
        `phase`, `measure`, `method`, `layer`, `other_method`, `other_layer`, `value` and `other` (means of the
        two maps), `mean` of the difference with its 95 % interval `low`, `high` by resampling patients, `n_slices`,
        `n_patients`. Slices on which one of the two is not defined (`half_mass` of a map of zeros) are left out.
    """
    maps = dict(iter(shares.set_index(SLICE).groupby(["method", "layer"])))
    rows = []
    for measure, first, second in pairs:
        if first not in maps or second not in maps:
            continue
        columns = list(SETS.get(measure, (measure,)))
        values = [maps[which][columns].sum(axis=1, skipna=False) for which in (first, second)]
        both = pd.concat(values, axis=1, keys=["value", "other"]).dropna().reset_index()
        for phase in (phase for phase in PHASES if phase in set(both["phase"])):
            group = both[both["phase"] == phase]
            difference = group["value"] - group["other"]
            bounds = cluster_interval(difference, group["patient"], rng=rng, resamples=resamples)
            facts = group["value"].mean(), group["other"].mean(), difference.mean(), *bounds
            rows.append((phase, measure, *first, *second, *facts, len(group), group["patient"].nunique()))
    facts = ["value", "other", "mean", "low", "high", "n_slices", "n_patients"]
    return pd.DataFrame(rows, columns=["phase", "measure", *MAP[1:], "other_method", "other_layer", *facts])


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Return share / area over share / area of sums (..., 4): share, area, share and area of the others."""
    share, area, other_share, other_area = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (share / area) / (other_share / other_area)
