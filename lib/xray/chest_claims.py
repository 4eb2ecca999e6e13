"""The claims on depth, architecture and Grad-CAM, and how they are judged."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from lib.claims.texts import judge, statements
from lib.patient_statistics import bootstrap_interval, resample_clusters

LADDERS = {
    "ResNet": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "VGG": ("vgg11", "vgg16", "vgg19"),
    "ViT": ("vit_tiny", "vit_small", "vit_base"),
}
CLAIMS = statements("Q")
WEAK = "network too weak"


def difference(one: pd.Series, other: pd.Series, *, seed: int = 0, resamples: int = 2000) -> tuple[float, ...]:
    """Return the mean difference of two series over the same patients, its 95 % interval, and p of a paired t test."""
    both = pd.concat([one, other], axis=1).dropna()
    d = (both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(float)
    if len(d) < 2:
        return (float(d.mean()) if len(d) else float("nan")), float("nan"), float("nan"), float("nan")
    means = resample_clusters(len(d), rng=np.random.default_rng(seed), resamples=resamples) @ d / len(d)
    low, high = bootstrap_interval(means, len(d))
    p = float(stats.ttest_1samp(d, 0).pvalue) if np.ptp(d) > 1e-12 else float(abs(d[0]) < 1e-12)
    return float(d.mean()), low, high, p


def holm(p: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Return which of p values (n,) are rejected at a familywise level by Holm's steps."""
    order = np.argsort(p)
    passed = p[order] <= level / (len(p) - np.arange(len(p)))
    rejected = np.zeros(len(p), bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected


def permutation_f(groups: list[np.ndarray], *, seed: int = 0, permutations: int = 2000) -> float:
    """Return the p of one-way analysis of variance by permutation of values among groups; NaN without replicates."""
    values, sizes = np.concatenate(groups), [len(group) for group in groups]
    if len(groups) < 2 or len(values) <= len(groups):
        return float("nan")
    edges = np.cumsum(sizes)[:-1]

    def between(v: np.ndarray) -> float:
        return float(sum(len(part) * part.mean() ** 2 for part in np.split(v, edges)))

    rng, seen = np.random.default_rng(seed), between(values)
    draws = [between(rng.permutation(values)) for _ in range(permutations)]
    return (1 + sum(draw >= seen - 1e-12 for draw in draws)) / (permutations + 1)


def chest_claims(
    answers: pd.DataFrame, maps: pd.DataFrame, nulls: pd.DataFrame, auc: Mapping[str, float], *, gate: float = 0.85
) -> pd.DataFrame:
    """Return the five claims with what was measured, and the verdicts.

    Parameters
    ----------
    answers : DataFrame
        network, seed, patient, right (bool): a row for each test patient.
    maps : DataFrame
        network, seed, patient, ehr: a row for each map of a positive patient; ehr NaN where the map is zero throughout.
    nulls : DataFrame
        network, patient, mean_mask, untrained: the same measure of the mean of other patients' masks, on cells as
        coarse as the network's, and of its map before training.
    auc : mapping of str to float
        Area under the ROC curve of each network, the mean over its seeds.
    gate : float
        A network whose area is smaller has not learnt its task: its maps are not judged.

    Returns
    -------
    DataFrame
        id, claim, measured, value, low, high, verdict.

    Notes
    -----
    Q1: the interval of the difference in accuracy, deepest less shallowest of each ladder, lies below 5 points.
    Q2: networks differ against seeds (permutation F, p < .05) and their means span more than 2 SD between seeds.
    Q3: the difference of convolutional networks and transformers in EHR lies above 0.
    Q2, Q3 and Q5 are about networks above the gate; without any, or without one of a kind, they are "network too weak".
    Q4: a pair of networks differs in accuracy and in EHR, with opposite signs (Holm over all tests, p < .05).
    Q5: the EHR of a network less that of the mean mask on its cells, and less that of its untrained self, lies above
    0: for each network; the claim gets the weakest. Intervals resample patients; seeds of a network are averaged.
    """
    accuracy = answers.pivot_table(index="patient", columns="network", values="right", aggfunc="mean")
    heat = maps.pivot_table(index="patient", columns="network", values="ehr", aggfunc="mean")
    rows = []

    def add(claim: str, measured: str, value: float, low: float, high: float, verdict: str) -> None:
        rows.append((claim, CLAIMS[claim], measured, value, low, high, verdict))

    for ladder, steps in LADDERS.items():
        held = [name for name in steps if name in accuracy]
        if len(held) > 1:
            value, low, high, _ = difference(accuracy[held[-1]].astype(float), accuracy[held[0]].astype(float))
            add(
                "Q1", f"{ladder}: accuracy of {held[-1]} less {held[0]}", value, low, high, judge(low, high, below=0.05)
            )
    able = [name for name in heat if auc[name] >= gate]
    by_seed = maps[maps["network"].isin(able)].groupby(["network", "seed"])["ehr"].mean()
    groups = [group.to_numpy() for _, group in by_seed.groupby("network")]
    p = permutation_f(groups) if groups else np.nan
    spread = float(np.sqrt(np.mean([group.var(ddof=1) for group in groups if len(group) > 1] or [np.nan])))
    means = by_seed.groupby("network").mean()
    apart = float(means.max() - means.min())
    verdict = "supported" if p < 0.05 and apart > 2 * spread else "inconclusive"  # few seeds cannot have a small p
    verdict = verdict if len(able) > 1 else WEAK
    add(
        "Q2",
        f"span of EHR between networks (SD between seeds {spread:.4f}, permutation p {p:.3f})",
        apart,
        np.nan,
        np.nan,
        verdict,
    )
    transformers = [name for name in heat if name.startswith("vit")]
    others = [name for name in heat if not name.startswith("vit")]
    if transformers and others:
        kinds = [[name for name in kind if name in able] for kind in (others, transformers)]
        convolutional, attention = (held or kind for held, kind in zip(kinds, (others, transformers), strict=True))
        value, low, high, _ = difference(heat[convolutional].mean(axis=1), heat[attention].mean(axis=1))
        verdict = judge(low, high, above=0) if all(kinds) else WEAK
        add("Q3", "EHR of convolutional networks less that of transformers", value, low, high, verdict)
    add("Q4", *_opposite(accuracy, heat))
    for name in able or heat:
        own = nulls[nulls["network"] == name].set_index("patient")
        for what, blind in (("the mean mask on its cells", "mean_mask"), ("its untrained self", "untrained")):
            value, low, high, _ = difference(heat[name], own[blind])
            verdict = judge(low, high, above=0) if able else WEAK
            add("Q5", f"EHR of {name} less that of {what}", value, low, high, verdict)
    return pd.DataFrame(rows, columns=["id", "claim", "measured", "value", "low", "high", "verdict"])


def _opposite(accuracy: pd.DataFrame, heat: pd.DataFrame) -> tuple[str, float, float, float, str]:
    """Return what Q4 needs: discordant pairs of networks, and Spearman's correlation of the two qualities."""
    pairs = list(itertools.combinations(sorted(set(accuracy) & set(heat)), 2))
    tests = []
    for one, other in pairs:
        tests.append(
            (difference(accuracy[one].astype(float), accuracy[other].astype(float)), difference(heat[one], heat[other]))
        )
    p = np.array([[test[3] for test in pair] for pair in tests]).ravel()
    discordant = 0
    if p.size and np.isfinite(p).all():
        rejected = holm(p).reshape(-1, 2)
        discordant = sum(bool(both.all()) and a[0] * h[0] < 0 for both, (a, h) in zip(rejected, tests, strict=True))
    rank = float("nan")
    if len(heat.columns) > 2 and np.ptp(accuracy[list(heat)].mean()) > 0:
        rank = float(stats.spearmanr(accuracy[list(heat)].mean(), heat.mean())[0])
    measured = f"pairs of networks of {len(pairs)} that differ in both, oppositely (Spearman of the means {rank:.2f})"
    return measured, float(discordant), np.nan, np.nan, "supported" if discordant else "inconclusive"
