"""Claims on masking, judged over networks that differ only in their random seed.

A single network decides little: the mean probability after masking differs more between two networks of the same recipe
than between most maps. Each claim is therefore divided into parts, and each part compares two masks. Every network
gives one number per part, and the interval is computed over networks.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from lib.claims.findings import Finding
from lib.masking.controls import RANDOM_BODY, matched_control
from lib.masking.networks import t_interval
from lib.masking.statistics import ALPHA
from lib.paper import FINAL_MAPS, LAYERS, PHASES
from lib.titles import contrast_title

MARGIN = 1.0  # a difference has to exceed this (points of relative probability)
NULL_MARGIN = 5.0  # differences within this count as none (points)
OUTCOMES = ("contradicted", "inconclusive", "supported")  # weakest first

Mask = tuple[str, str, str]  # method, layer, region
SALIENCY, GUIDED, CAM, GRAD_CAM = ((*which, "top") for which in FINAL_MAPS)
ANY: Mask = (*RANDOM_BODY, "random")  # a tenth of the body, chosen by no map
SHALLOW, DEEP = LAYERS[:3], LAYERS[3:]


class Part(NamedTuple):
    """One comparison that a claim makes.

    Attributes
    ----------
    first, second : Mask
        The masks that are compared; without a second mask, the first is compared with 100 %.
    kind : {"lower", "same"}
        Whether the paper says that the first mask lowers the probability more, or that there is no difference.
    without : tuple of str
        Phases that the paper excepts.
    """

    first: Mask
    second: Mask | None = None
    kind: str = "lower"
    without: tuple[str, ...] = ()

    def __str__(self):
        return f"{_words(self.first)} - {_words(self.second) if self.second else '100 %'}"


def _words(mask: Mask) -> str:
    """Return the name of a mask; the highest voxels of a map, and the random ones of a control, go without saying."""
    method, layer, region = mask
    return " ".join([method, *(word for word in (layer, region) if word not in ("-", "top", "random"))])


def _sam(layer: str) -> Mask:
    return "sam", layer, "top"


def _grad_cam(layer: str) -> Mask:
    return "grad_cam", layer, "top"


CORRECTIONS = ("sam_mean_gradient", "sam_no_inversion")  # SAM without the one and without the other
SIGNS = ("saliency_positive", "saliency_negative")

CLAIMS: dict[str, tuple[tuple[Part, ...], int]] = {  # parts, and the number of tests in the paper's figure (Bonferroni)
    "C41": (tuple(Part(_sam(x), (without, x, "top")) for without, x in product(CORRECTIONS, SHALLOW)), 30),
    "C50": (tuple(Part(mask) for mask in (SALIENCY, GUIDED, CAM, GRAD_CAM)), 40),
    "C51": (tuple(Part((*which, "bottom"), kind="same") for which in FINAL_MAPS), 40),
    "C52": (tuple(Part(SALIENCY, other) for other in (GUIDED, CAM, GRAD_CAM)), 30),
    "C53": (tuple(Part(*pair) for pair in product((SALIENCY, GUIDED), (CAM, GRAD_CAM))), 30),
    "C54": ((Part(CAM, GRAD_CAM),), 30),
    "C57": (
        tuple(Part(_sam(x), _grad_cam(x), without=("noncon",) * (x == "conv4b")) for x in SHALLOW),
        25,
    ),
    "C58": (
        tuple(Part(_sam(x), _grad_cam(x), "same", ("noncon",) * (x == "conv5b")) for x in DEEP),
        25,
    ),
    "C59": (tuple(Part(_sam(x), _sam(y)) for x, y in product(SHALLOW, DEEP)), 50),
    "C60": (tuple(Part(_sam(x), other) for x, other in product(SHALLOW, (GUIDED, CAM, GRAD_CAM))), 45),
    "C61": (tuple(Part(mask, ANY) for mask in (SALIENCY, GUIDED, CAM, GRAD_CAM, *map(_sam, LAYERS))), 45),
    "C62": (tuple(Part((sign, "input", "top"), ANY) for sign in SIGNS), 10),
}


def contrasts(means: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Measure every part of every claim in every network.

    Parameters
    ----------
    means : mapping of str to DataFrame
        Tables as from `lib.masking.statistics.slice_means`, by the name of the network.

    Returns
    -------
    DataFrame
        One row per claim, part, network and phase: `claim`, `part`, `kind`, `network`, `phase`, `value` (points of
        relative probability: mean over the slices of each patient, then over the patients), `log_odds` (the same
        comparison for the change in log-odds, each mask minus its matched control), `passes` (whether the paper's own t
        test on slices, with Bonferroni correction over its figure, agrees with the paper). Parts with a mask that was
        not measured are left out.

    Notes
    -----
    The matched control of a mask at a layer is random blocks as large as the layer's cells. At the input it is random
    voxels of the body. That a map finds voxels that the network uses (C61, C62) means that masking them costs more than
    masking random voxels of the body. C41 and C62 need the masks of `lib.maps.variants`: SAM less SAM without one of
    its corrections, and saliency of one sign.
    """
    found = [_of_network(table).assign(network=network) for network, table in means.items()]
    columns = ["claim", "part", "kind", "network", "phase", "value", "log_odds", "passes"]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def _of_network(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one network, from a table with a row per slice and a column per part."""
    keys = ["phase", "patient", "series", "slice"]
    wide = {
        name: table.pivot_table(index=keys, columns=["method", "layer", "region"], values=name, observed=True)
        for name in ("relative_probability", "log_odds")
        if name in table
    }
    shares, odds = wide["relative_probability"], wide.get("log_odds")
    parts = [
        (claim, part, tests)
        for claim, (of_claim, tests) in CLAIMS.items()
        for part in of_claim
        if all(mask in shares for mask in (part.first, part.second) if mask)
    ]
    differences = _side_by_side(shares[part.first] - _second(shares, part) for _, part, _ in parts)
    values = _patient_means(differences)
    log_odds = _patient_means(_side_by_side(_against_controls(part, odds, shares.index) for _, part, _ in parts))
    means, p = differences.groupby(level="phase").mean(), differences.groupby(level="phase").apply(_t_tests)
    rows = []
    for k, (claim, part, tests) in enumerate(parts):
        for phase in (phase for phase in PHASES if phase in values.index and phase not in part.without):
            if not np.isnan(values.loc[phase, k]):
                significant = p.loc[phase, k] * tests < ALPHA
                passes = significant and means.loc[phase, k] < 0 if part.kind == "lower" else not significant
                facts = (values.loc[phase, k], log_odds.loc[phase, k], bool(passes))
                rows.append((claim, str(part), part.kind, phase, *facts))
    return pd.DataFrame(rows, columns=["claim", "part", "kind", "phase", "value", "log_odds", "passes"])


def _side_by_side(columns: Iterable[pd.Series]) -> pd.DataFrame:
    return pd.concat(columns, axis=1, ignore_index=True)


def _second(shares: pd.DataFrame, part: Part) -> pd.Series | float:
    return shares[part.second] if part.second else 100.0


def _t_tests(slices: pd.DataFrame) -> pd.Series:
    """Return the p value of a t test against 0 for each column; NaN where its values do not vary."""
    p = stats.ttest_1samp(slices, 0.0, nan_policy="omit").pvalue
    return pd.Series(np.ma.filled(p, np.nan), slices.columns).where(slices.std() > 0)


def _against_controls(part: Part, odds: pd.DataFrame | None, slices: pd.MultiIndex) -> pd.Series:
    """Return the difference in log-odds, each mask minus its matched control; NaN if one was not measured."""
    own = part.second == matched_control(part.first[1])  # the second mask is itself the control of the first
    masks = [part.first] if own or part.second is None else [part.first, part.second]
    control = {mask: matched_control(mask[1]) for mask in masks}
    if odds is None or any(mask not in odds for mask in (*masks, *control.values())):
        return pd.Series(np.nan, index=slices)
    first, *second = (odds[mask] - odds[control[mask]] for mask in masks)
    return first - second[0] if second else first


def _patient_means(values: pd.DataFrame) -> pd.DataFrame:
    """Return by phase the mean over patients of the means of their slices."""
    return values.groupby(level=["phase", "patient"]).mean().groupby(level="phase").mean()


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Judge every part over the networks.

    Parameters
    ----------
    table : DataFrame
        As from :func:`contrasts`.

    Returns
    -------
    DataFrame
        One row per claim and part: `claim`, `part`, `kind`, `networks`, `mean`, `low`, `high` (95 % t interval over
        networks of the mean over the phases, points), `cells` and `of` (in how many of all combinations of network and
        phase the sign, or the absence of a difference, is the paper's), `phases_passing` (number of phases that pass
        the paper's own test, median over networks), `log_odds` with `log_odds_low` and `log_odds_high`, `outcome` (one
        of OUTCOMES; empty if there is a single network).

    Notes
    -----
    The interval is that of `lib.masking.networks.t_interval`.

    That the first mask lowers the probability more is "supported" if the interval lies below -1 point and
    "contradicted" if it lies above 1 point. That there is no difference is "supported" if the interval lies between -5
    and 5 points, and "contradicted" if it lies wholly outside. All other parts are "inconclusive".
    """
    rows = []
    for (claim, part, kind), group in table.groupby(["claim", "part", "kind"], sort=False):
        by_network = group.groupby("network", sort=False)
        mean, low, high = t_interval(by_network["value"].mean())
        right = group["value"] < 0 if kind == "lower" else group["value"].abs() <= NULL_MARGIN
        facts = (int(right.sum()), len(group), float(by_network["passes"].sum().median()))
        odds = t_interval(by_network["log_odds"].mean())
        rows.append((claim, part, kind, by_network.ngroups, mean, low, high, *facts, *odds, outcome(low, high, kind)))
    columns = ["claim", "part", "kind", "networks", "mean", "low", "high", "cells", "of", "phases_passing"]
    return pd.DataFrame(rows, columns=[*columns, "log_odds", "log_odds_low", "log_odds_high", "outcome"])


def outcome(low: float, high: float, kind: str) -> str:
    """Return the outcome of a part from its interval; empty if there is no interval."""
    if not np.isfinite([low, high]).all():
        return ""
    if kind == "lower":
        return "supported" if high < -MARGIN else "contradicted" if low > MARGIN else "inconclusive"
    inside, outside = max(abs(low), abs(high)) <= NULL_MARGIN, low > NULL_MARGIN or high < -NULL_MARGIN
    return "supported" if inside else "contradicted" if outside else "inconclusive"


def claim_outcomes(parts: pd.DataFrame) -> pd.Series:
    """Return the outcome of each claim, which is that of its weakest part."""
    judged = parts[parts["outcome"] != ""]
    return judged.groupby("claim", sort=False)["outcome"].agg(lambda found: min(found, key=OUTCOMES.index))


def weakest_parts(parts: pd.DataFrame) -> pd.DataFrame:
    """Return the part of each claim that speaks least for the paper; the claim gets its outcome.

    Parameters
    ----------
    parts : DataFrame
        As from :func:`judge`, or from `lib.claims.readings.judge_readings`, where each reading counts by itself.

    Returns
    -------
    DataFrame
        One row per claim (and reading), in their order: the columns of `parts`, and `supported` and `of_parts`, how
        many parts of the claim are supported and how many it has. The part is the one with the weakest outcome; among
        equal ones the highest mean for a claimed difference, and the mean farthest from 0 for a claim of none.
    """
    rank = parts["outcome"].map({name: n for n, name in enumerate(OUTCOMES)}).fillna(0)
    doubt = np.where(parts["kind"] == "same", parts["mean"].abs(), parts["mean"])
    keys = [name for name in ("claim", "reading") if name in parts]
    counts = parts.assign(supported=parts["outcome"] == OUTCOMES[-1]).groupby(keys)["supported"].agg(["sum", "size"])
    ordered = parts.assign(_rank=rank, _doubt=-doubt).sort_values(["_rank", "_doubt"], kind="stable")
    first = ordered.groupby(keys, sort=False).head(1).sort_index().drop(columns=["_rank", "_doubt"])
    return first.join(counts.set_axis(["supported", "of_parts"], axis=1), on=keys).reset_index(drop=True)


def network_findings(parts: pd.DataFrame) -> list[Finding]:
    """Return a finding per claim over the networks; none if there is a single network.

    Parameters
    ----------
    parts : DataFrame
        As from :func:`judge`.

    Returns
    -------
    list of Finding
        The verdict is one of OUTCOMES; `value`, `low` and `high` are of the weakest part (points of relative
        probability).
    """
    found = []
    for row in weakest_parts(parts[parts["outcome"] != ""]).itertuples():
        several = f"{row.supported} of {row.of_parts} comparisons supported; the weakest, " if row.of_parts > 1 else ""
        words = f"over {row.networks} networks: {several}{contrast_words(row)}"
        found.append(Finding(row.claim, words, row.outcome, row.mean, row.low, row.high))
    return found


def contrast_words(row) -> str:
    """Return a row of :func:`judge` in words: its two masks, the mean and, over networks, the interval (points)."""
    interval = f" [{row.low:.1f}, {row.high:.1f}]" if np.isfinite(row.low) else ""
    return f"{contrast_title(row.part)}: {row.mean:.1f}{interval} points"
