"""Tests of the masking experiment, on slices as in the paper and by patient, since slices are not independent."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.paper import PHASES
from lib.patient_statistics import compare, named_generator

KEYS = ["method", "layer", "region", "phase"]
SLICE = ["patient", "series", "slice"]
ALPHA = 0.05
Map = tuple[str, str]


def read_masking(folder: str | Path) -> pd.DataFrame:
    """Read what 06_mask_voxels measured with one network.

    Parameters
    ----------
    folder : path
        Holds Parquet files, and `done.json`, which records the reading of the paper (`lib.masking.experiment.Reading`).

    Returns
    -------
    DataFrame
        One row per slice, map, region and draw; the columns are described at `lib.masking.experiment.mask_cohort`.

    Raises
    ------
    FileNotFoundError
        If masking is not finished.
    ValueError
        If the files do not have the reading of `done.json`, or come from several networks.
    """
    folder, reading = Path(folder), read_reading(folder)
    masking = pd.concat(map(pd.read_parquet, sorted(folder.glob("*.parquet"))), ignore_index=True)
    for name in ("within", "score", "fill", "fraction"):
        if set(masking[name].unique()) != {reading[name]}:
            found = sorted(masking[name].unique())
            raise ValueError(f"{folder}: done.json says {name}={reading[name]!r}, the shards {found}; run it again.")
    if len(set(masking["network"])) != 1:
        raise ValueError(f"{folder} mixes the networks {sorted(masking['network'].unique())}; expected one.")
    return masking


def read_reading(folder: str | Path) -> dict[str, object]:
    """Return the reading of a masking run: the attributes of `lib.masking.experiment.Reading` by name.

    Raises
    ------
    FileNotFoundError
        If masking is not finished.
    """
    done = Path(folder) / "done.json"
    if not done.exists():
        raise FileNotFoundError(f"{done} is missing: run 06_mask_voxels first, or let it finish.")
    return json.loads(done.read_text())["parameters"]


def slice_means(masking: pd.DataFrame) -> pd.DataFrame:
    """Average over the draws, so that each slice, map and region has one relative probability (percent).

    Returns
    -------
    DataFrame
        `method`, `layer`, `region`, `phase`, `patient`, `series`, `slice`, `relative_probability` (percent), `log_odds`
        (see :func:`log_odds_change`), `draws`; sorted.

    Raises
    ------
    ValueError
        If there is no row, or if a relative probability is NaN or infinite.
    """
    if masking.empty:
        raise ValueError("masking is empty: no slice was masked.")
    bad = ~np.isfinite(masking["relative_probability"].to_numpy(dtype=float))
    if bad.any():
        first = masking.loc[bad, [*KEYS, *SLICE]].iloc[0].to_dict()
        raise ValueError(
            f"relative_probability is not finite in {bad.sum()} rows, first in {first}; run 06_mask_voxels again."
        )
    table = masking.astype({"relative_probability": float}).assign(log_odds=log_odds_change(masking))
    grouped = table.groupby([*KEYS, *SLICE], observed=True, sort=True)
    means = grouped[["relative_probability", "log_odds"]].mean()
    return means.assign(draws=grouped.size()).reset_index()


def log_odds_change(masking: pd.DataFrame) -> np.ndarray:
    r"""Return how much masking changes the log-odds of the labelled phase, for each row.

    Parameters
    ----------
    masking : DataFrame
        As from `lib.masking.experiment.mask_cohort`.

    Returns
    -------
    float array (rows,)
        Log-odds after masking minus log-odds before. Unlike the relative probability this change has no lower and no
        upper limit, so that a phase with a probability near 1 can lose as much as any other.

    Notes
    -----
    With the probability :math:`p` of the labelled phase before and :math:`p'` after masking,

    .. math:: \Delta = \log \frac{p'}{1 - p'} - \log \frac{p}{1 - p}.

    :math:`1 - p` is computed as the sum of the other four probabilities. float32 still holds these where
    :math:`p` itself is rounded to 1.
    """
    odds = {}
    for when in ("original", "masked"):
        chances = masking[[f"{when}_{phase}" for phase in PHASES]].to_numpy(dtype=float)
        own = masking["phase"].map(PHASES.index).to_numpy()[:, None] == np.arange(len(PHASES))
        tiny = np.finfo("float32").tiny
        odds[when] = np.log(np.maximum(chances[own], tiny) / np.maximum((chances * ~own).sum(axis=1), tiny))
    return odds["masked"] - odds["original"]


def summarise(means: pd.DataFrame) -> pd.DataFrame:
    """Return `mean`, `sd` (percent), `n_slices` and `n_patients` of each map, region and phase, with phases in order.

    The standard deviation is that of a sample (divided by n - 1); it is NaN for a single slice.
    """
    grouped = means.groupby(KEYS, observed=True)
    table = grouped["relative_probability"].agg(mean="mean", sd="std", n_slices="size")
    return _in_order(table.join(grouped["patient"].nunique().rename("n_patients")).reset_index())


def level_tests(means: pd.DataFrame, reference: float = 100.0, *, comparisons: int | None = None) -> pd.DataFrame:
    """Test every map, region and phase against a given relative probability.

    Parameters
    ----------
    means : DataFrame
        As from :func:`slice_means`, with only the rows of one figure.
    reference : float
        Relative probability under the null hypothesis, percent.
    comparisons : int, optional
        Number of tests in the figure, for the Bonferroni correction; by default the number of rows.

    Returns
    -------
    DataFrame
        `method`, `layer`, `region`, `phase`, the values of :func:`lib.patient_statistics.compare`, and `p_bonferroni`
        (p times the number of tests, at most 1).
    """
    rows = []
    for group, bar in means.groupby(KEYS, observed=True, sort=True):
        key = dict(zip(KEYS, group, strict=True))
        values = bar["relative_probability"].to_numpy()
        rng = named_generator(*group)
        rows.append(key | compare(values, bar["patient"].to_numpy(), reference, rng=rng))
    return _bonferroni(_in_order(pd.DataFrame(rows)), comparisons)


def paired_tests(
    means: pd.DataFrame,
    pairs: Sequence[tuple[Map, Map]],
    *,
    region: str = "top",
    comparisons: int | None = None,
) -> pd.DataFrame:
    """Test maps against each other on the same slices.

    Parameters
    ----------
    means : DataFrame
        As from :func:`slice_means`.
    pairs : sequence of ((method, layer), (method, layer))
        Maps to compare. The difference is the first minus the second; if it is negative, the first is more specific.
    region : str
        Region that was masked.
    comparisons
        As in :func:`level_tests`.

    Returns
    -------
    DataFrame
        One row per pair and phase: `phase`, `method`, `layer`, `other_method`, `other_layer`, the values of
        :func:`lib.patient_statistics.compare` for the difference (percentage points), and `p_bonferroni`. Slices that
        were masked by only one of the two maps are left out.

    Raises
    ------
    ValueError
        If a map is not in the table, or if no slice was masked by both maps.
    """
    chosen = means[means["region"] == region]
    wide = chosen.pivot_table(
        index=["phase", *SLICE], columns=["method", "layer"], values="relative_probability", observed=True
    )
    rows = []
    for first, second in pairs:
        for name in (first, second):
            if tuple(name) not in wide:
                raise ValueError(f"masking holds no map {tuple(name)} with region {region!r}; it holds {list(wide)}.")
        difference = (wide[tuple(first)] - wide[tuple(second)]).dropna()
        if difference.empty:
            raise ValueError(f"no slice was masked with both {tuple(first)} and {tuple(second)}.")
        for phase in (phase for phase in PHASES if phase in difference.index.get_level_values("phase")):
            values = difference.xs(phase, level="phase")
            key = dict(
                zip(("phase", "method", "layer", "other_method", "other_layer"), (phase, *first, *second), strict=True)
            )
            patients = values.index.get_level_values("patient").to_numpy()
            rng = named_generator(*key.values(), region)
            rows.append(key | compare(values.to_numpy(), patients, 0.0, rng=rng))
    return _bonferroni(pd.DataFrame(rows), comparisons)


def letters(pairs: pd.DataFrame, maps: Sequence[Map], *, alpha: float = ALPHA) -> pd.DataFrame:
    """Assign letters to the bars of a figure, as the paper does.

    Parameters
    ----------
    pairs : DataFrame
        As from :func:`paired_tests`.
    maps : sequence of (method, layer)
        The bars in order; the letter of the first is "a", that of the second "b", and so on.
    alpha : float
        Level of significance of `p_bonferroni`.

    Returns
    -------
    DataFrame
        `phase`, `method`, `layer`, `letters`: the letters of the earlier bars from which this bar differs.
    """
    order = {tuple(name): i for i, name in enumerate(maps)}
    found = {(phase, name): set() for phase in pairs["phase"].unique() for name in order}
    for row in pairs.itertuples():
        ends = sorted((order[row.method, row.layer], order[row.other_method, row.other_layer]))
        if row.p_bonferroni < alpha:
            found[row.phase, tuple(maps[ends[1]])].add("abcdefghijklmnopqrstuvwxyz"[ends[0]])
    rows = [(phase, *name, "".join(sorted(value))) for (phase, name), value in found.items()]
    return pd.DataFrame(rows, columns=["phase", "method", "layer", "letters"])


def _bonferroni(table: pd.DataFrame, comparisons: int | None) -> pd.DataFrame:
    """Add the column `p_bonferroni`."""
    return table.assign(p_bonferroni=np.minimum(1.0, table["p"] * (comparisons or len(table))))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by map and region, then by phase in the order of enhancement."""
    rank = table["phase"].map({phase: i for i, phase in enumerate(PHASES)})
    return (
        table.assign(_rank=rank)
        .sort_values(["method", "layer", "region", "_rank"])
        .drop(columns="_rank")
        .reset_index(drop=True)
    )
