"""Which tissues maps mark, where the true tissues are known: shares by tissue, concentration, sign of the saliency."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from lib.cohort import Cohort, Standardisation
from lib.maps.saved import half_mass
from lib.paper import PHASES
from lib.patient_statistics import RESAMPLES, cluster_interval, compare
from lib.voxels import centre_channel, top_shares, upsample, voxel_magnitude

OUTSIDE, OTHER = "outside", "other"
GROUPS = {  # groups that are distinguished, and the tissues (named as in the cohort) that belong to each
    "kidney cortex": ("renal cortex",),
    "kidney medulla": ("renal medulla",),
    "urine in the pelvis": ("urine",),
    "kidney sinus, cyst, tumour": ("sinus fat", "renal cyst", "renal tumour"),
    "aorta": ("aorta", "calcification"),
    "arteries and renal veins": ("artery", "renal vein"),
    "vena cava": ("vena cava",),
    "portal and hepatic veins": ("portal vein", "hepatic vein"),
    "liver": ("liver",),
    "spleen": ("spleen",),
    "bowel": ("bowel wall", "bowel fluid", "bowel gas", "oral contrast", "stool"),
    "muscle": ("muscle",),
    "bone": ("cortical bone", "trabecular bone", "disc"),
    "fat": ("subcutaneous fat", "visceral fat"),
    OTHER: ("skin", "spinal canal", "gallbladder", "pancreas", "adrenal", "metal"),
    OUTSIDE: ("outside", "background"),
}
NAMES = tuple(GROUPS)
SIGNED = ("aorta", "vena cava", "kidney cortex", "kidney medulla")
EXPECTED_SIGN = {  # sign of the saliency by the paper's text on Figure S7
    ("noncon", "aorta"): -1,
    ("noncon", "vena cava"): -1,
    ("cm", "kidney cortex"): 1,
    ("cm", "kidney medulla"): -1,
}
SLICE = ["phase", "patient", "series", "slice"]
MAP = ["phase", "method", "layer"]


def group_codes(tissues: Mapping[str, int]) -> np.ndarray:
    """Return the group of each tissue code.

    Parameters
    ----------
    tissues : dict of str to int
        Codes by name, as `Cohort.tissues` gives them; case and underscores do not matter.

    Returns
    -------
    uint8 array (256,)
        Positions in NAMES; that of "outside" for 0 and for codes that no tissue has.

    Raises
    ------
    ValueError
        If there is no tissue, or if a tissue belongs to no group.
    """
    if not tissues:
        raise ValueError(
            "The cohort has no truth of the tissues, so that maps cannot be compared with it. 01_prepare_cohort reads "
            "it from DICOM SEG objects beside the CT; the phantom writes them."
        )
    group_of = {tissue: group for group, members in GROUPS.items() for tissue in members}
    plain = {name: name.lower().replace("_", " ").strip() for name in tissues}
    unknown = [name for name in tissues if plain[name] not in group_of]
    if unknown:
        raise ValueError(
            f"tissues {unknown} belong to no group: add each to one of {list(GROUPS)} in lib/maps/tissue_shares.py."
        )
    table = np.full(256, NAMES.index(OUTSIDE), np.uint8)
    for name, code in tissues.items():
        table[code] = NAMES.index(group_of[plain[name]])
    return table


def with_truth(cohort: Cohort, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of series whose true tissues are known.

    Raises
    ------
    ValueError
        If there is no such series.
    """
    known = {series for series in rows["series"].unique() if (cohort.path / "tissues.zarr" / series).exists()}
    chosen = rows[rows["series"].isin(known)]
    if chosen.empty:
        raise ValueError(
            f"None of {rows['series'].nunique()} series in {cohort.path} has a truth of the tissues. "
            "01_prepare_cohort reads it from a DICOM SEG on the grid of the CT; the phantom has one."
        )
    return chosen


def measure_anatomy(
    attributor: Callable,
    cohort: Cohort,
    rows: pd.DataFrame,
    standardisation: Standardisation,
    *,
    methods: Sequence[str] | None = None,
    controls: Callable[[np.ndarray, np.ndarray, np.ndarray], Mapping] | None = None,
    fraction: float = 0.1,
    batch_size: int = 8,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    r"""Measure which tissues the maps of a cohort's slices mark, batch by batch.

    Parameters
    ----------
    attributor : lib.attribution.Attributor
        Computes the maps.
    cohort : Cohort
        Cohort whose true tissues are known.
    rows : DataFrame
        `patient`, `series`, `slice`, and `phase`, the phase whose score the maps explain.
    standardisation : Standardisation
        That of the network.
    methods : sequence of str, optional
        Methods whose maps are measured; saliency has to be one of them. By default all that the network allows.
    controls : callable, optional
        `(images, body, classes)` -> further maps by (method, layer), which are measured like those of the network.
    fraction : float
        Share of the image's voxels that counts as the highest of a map, by absolute value and after nearest-neighbour
        upsampling.
    batch_size : int
        Number of slices that are computed at once.

    Yields
    ------
    shares : DataFrame
        One row per slice and map: SLICE, `method`, `layer`, `half_mass` (see `lib.maps.saved.half_mass`), and one
        column per group of NAMES with its share of the map's highest voxels. In rows of the method "image" the columns
        hold the group's share of the image.
    signs : DataFrame
        One row per slice and tissue of SIGNED that is in it: SLICE, `tissue`, `mean_signed`, the mean of the signed
        saliency over the voxels of the tissue, in score per voxel and SD of the input; `score_per_10_hu`, the change of
        the score, to first order, if the whole tissue were 10 HU brighter.

    Notes
    -----
    With the saliency :math:`g_v = \partial y / \partial x_v` of the score :math:`y` at each voxel :math:`v` of a tissue
    :math:`T`, and the SD :math:`\sigma` (HU) of the standardisation, `score_per_10_hu` is

    .. math:: \frac{10}{\sigma} \sum_{v \in T} g_v.

    Voxels of the body that belong to no tissue count as "other".
    """
    table, size = group_codes(cohort.tissues), standardisation.image_size
    for batch, images, body in cohort.batches(rows, standardisation, batch_size=batch_size):
        groups = table[cohort.read_tissues(batch, size)]
        groups[body & (groups == NAMES.index(OUTSIDE))] = NAMES.index(OTHER)
        classes = batch["phase"].map(PHASES.index).to_numpy()
        maps = attributor(images, classes, methods)
        further = controls(images, body, classes) if controls else {}
        shares, signs = [], []
        for n, key in enumerate(batch[SLICE].itertuples(index=False, name=None)):
            area = np.bincount(groups[n].ravel(), minlength=len(NAMES)) / groups[n].size
            shares.append((*key, "image", "-", np.nan, *area))
            for which, stack in {**maps, **further}.items():
                values = voxel_magnitude(stack[n, None])
                highest = top_shares(upsample(values, groups[n].shape)[0], groups[n], len(NAMES), fraction)
                shares.append((*key, *which, half_mass(values), *highest))
            saliency = centre_channel(maps["saliency", "input"][n])
            for tissue in SIGNED:
                inside = saliency[groups[n] == NAMES.index(tissue)].astype(float)
                if inside.size:
                    signs.append((*key, tissue, inside.mean(), inside.sum() * 10 / standardisation.sd))
        yield (
            pd.DataFrame(shares, columns=[*SLICE, "method", "layer", "half_mass", *NAMES]),
            pd.DataFrame(signs, columns=[*SLICE, "tissue", "mean_signed", "score_per_10_hu"]),
        )


def summarise_shares(
    shares: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average shares and concentration over the slices of a phase.

    Parameters
    ----------
    shares : DataFrame
        As from :func:`measure_anatomy`.
    rng : numpy.random.Generator
        For 95 % intervals, in which patients are resampled.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    anatomy : DataFrame
        `phase`, `method`, `layer`, `tissue`, `share` of the map's highest voxels, `low`, `high`, `area` (share of the
        image), `enrichment` (share / area; 1 if the map does not distinguish the tissue, NaN if there is none of it),
        `n_slices`, `n_patients`.
    focus : DataFrame
        `phase`, `method`, `layer`, `half_mass`, `half_mass_low`, `half_mass_high`, `outside`, `outside_low`,
        `outside_high` (share outside the body), `outside_area`, `n_slices`, `n_patients`.
    """
    areas = shares[shares["method"] == "image"].groupby("phase")[list(NAMES)].mean()
    anatomy, focus = [], []
    for key, group in groups_by_phase(shares[shares["method"] != "image"], MAP):
        n = (len(group), group["patient"].nunique())
        for tissue in NAMES:
            bounds = cluster_interval(group[tissue], group["patient"], rng=rng, resamples=resamples)
            share, area = group[tissue].mean(), areas.loc[key[0], tissue]
            anatomy.append((*key, tissue, share, *bounds, area, share / area if area > 0 else np.nan, *n))
        held = group.dropna(subset="half_mass")
        bounds = cluster_interval(held["half_mass"], held["patient"], rng=rng, resamples=resamples)
        focus.append((*key, held["half_mass"].mean(), *bounds, *anatomy[-1][4:8], *n))
    names = ["half_mass", "half_mass_low", "half_mass_high", "outside", "outside_low", "outside_high", "outside_area"]
    counts = ["n_slices", "n_patients"]
    return (
        pd.DataFrame(anatomy, columns=[*MAP, "tissue", "share", "low", "high", "area", "enrichment", *counts]),
        pd.DataFrame(focus, columns=[*MAP, *names, *counts]),
    )


def summarise_signs(signs: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Average the signed saliency of each tissue and phase, and test its sign.

    Parameters
    ----------
    signs : DataFrame
        As from :func:`measure_anatomy`.
    rng, resamples
        As in :func:`summarise_shares`.

    Returns
    -------
    DataFrame
        `phase`, `tissue`, `mean_signed`, `low`, `high` (95 % interval by resampling patients), `score_per_10_hu`,
        `score_low`, `score_high` (its interval), `positive` (share of the patients whose mean is positive), `sign_p`
        (two-sided sign test over patients), `expected` (the paper's sign, 0 where it names none), `n_slices`,
        `n_patients`. A positive mean says that the score rises if the tissue is brighter.
    """
    rows = []
    for key, group in groups_by_phase(signs, ["phase", "tissue"]):
        values = group["mean_signed"].to_numpy()
        found = compare(values, group["patient"].to_numpy(), 0.0, rng=rng, resamples=resamples)
        patients = group.groupby("patient")["mean_signed"].mean()
        positive, decided = int((patients > 0).sum()), int((patients != 0).sum())
        p = binomtest(positive, decided).pvalue if decided else 1.0
        score = group["score_per_10_hu"]
        bounds = cluster_interval(score, group["patient"], rng=rng.spawn(1)[0], resamples=resamples)
        effect, of_patients = (score.mean(), *bounds), positive / len(patients)
        facts = (found["mean"], found["low"], found["high"], *effect, of_patients, p, EXPECTED_SIGN.get(key, 0))
        rows.append((*key, *facts, len(group), len(patients)))
    columns = ["mean_signed", "low", "high", "score_per_10_hu", "score_low", "score_high"]
    columns += ["positive", "sign_p", "expected"]
    return pd.DataFrame(rows, columns=["phase", "tissue", *columns, "n_slices", "n_patients"])


def groups_by_phase(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yield the groups, with phases in the paper's order and all else in the order of appearance."""
    groups = dict(iter(table.groupby(keys, sort=False)))
    yield from ((key, groups[key]) for key in sorted(groups, key=lambda key: PHASES.index(key[0])))
