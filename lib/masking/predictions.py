"""Where masked images go: which phase a network names after masking, and what the masks cost beside their controls."""

from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from lib.masking.controls import RANDOM, RANDOM_BODY, matched_control
from lib.masking.statistics import KEYS, SLICE
from lib.paper import PHASES
from lib.patient_statistics import compare, named_generator

MEASURES = ("relative_probability", "log_odds")
MAP = ["method", "layer"]


def predicted_after(masking: pd.DataFrame) -> pd.DataFrame:
    """Return which phases the network names after masking.

    Parameters
    ----------
    masking : DataFrame
        As from `lib.masking.experiment.mask_cohort`: one row per slice, map, region and draw.

    Returns
    -------
    DataFrame
        `method`, `layer`, `region`, `phase` (labelled), `predicted` (after masking), `share` (of the masked slices and
        draws of this phase; the five shares sum to 1), `n_slices`, `n_patients`.
    """
    after = masking[[f"masked_{phase}" for phase in PHASES]].to_numpy(float)
    named = {phase: after.argmax(axis=1) == k for k, phase in enumerate(PHASES)}
    table = masking[[*KEYS, *SLICE]].assign(**named)
    shares = table.groupby(KEYS, observed=True)[list(PHASES)].mean()
    slices = table.drop_duplicates([*KEYS, *SLICE]).groupby(KEYS, observed=True)
    counts = slices["patient"].agg(n_slices="size", n_patients="nunique")
    long = shares.melt(var_name="predicted", value_name="share", ignore_index=False)
    return long.reset_index().join(counts, on=KEYS)


def less_controls(means: pd.DataFrame, maps: list[tuple[str, str]]) -> pd.DataFrame:
    """Return what masking by each map costs, alone and less its matched control.

    Parameters
    ----------
    means : DataFrame
        As from `lib.masking.statistics.slice_means`.
    maps : list of (method, layer)

    Returns
    -------
    DataFrame
        One row per map, phase, measure and comparison: `method`, `layer`, `phase` (or "mean", that of the phases),
        `measure` ("relative_probability" in percent, "log_odds" as its change), `less_control` (whether that of the
        control is subtracted, slice by slice), `value` (mean over the slices), `low`, `high` (95 % interval that
        resamples patients), `n_slices`, `n_patients`. Where the control was not measured, these rows are left out.

    Notes
    -----
    The matched control is `lib.masking.controls.matched_control`; at the input, random voxels of the image stand in
    where those of the body were not masked.
    """
    rows = []
    for measure in MEASURES:
        wide = means.pivot_table(
            index=["phase", *SLICE], columns=["method", "layer", "region"], values=measure, observed=True
        )
        for (method, layer), less in product(maps, (False, True)):
            values, control = wide[method, layer, "top"], matched_control(layer)
            if less:
                control = (*RANDOM, "random") if control[:2] == RANDOM_BODY and control not in wide else control
                if control not in wide:
                    continue
                values = values - wide[control]
            key = (method, layer, measure, less)
            found = [(*key, phase, *_interval(values, phase, key)) for phase in PHASES if phase in wide.index]
            rows += [*found, (*key, "mean", np.mean([row[5] for row in found]), np.nan, np.nan, *_sums(found))]
    columns = [*MAP, "measure", "less_control", "phase", "value", "low", "high", "n_slices", "n_patients"]
    return pd.DataFrame(rows, columns=columns)


def _interval(values: pd.Series, phase: str, key: tuple) -> tuple:
    """Return mean, interval by patient, and the numbers of slices and patients, of a phase."""
    values = values.xs(phase, level="phase").dropna()
    patients = values.index.get_level_values("patient").to_numpy()
    found = compare(values.to_numpy(), patients, 0.0, rng=named_generator(*key, phase))
    return tuple(found[name] for name in ("mean", "low", "high", "n_slices", "n_patients"))


def _sums(found: list[tuple]) -> tuple[int, int]:
    return sum(row[-2] for row in found), max(row[-1] for row in found)


def compare_orders(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Compare the order of the maps in two networks.

    Parameters
    ----------
    first, second : DataFrame
        As from :func:`less_controls`, each of one network.

    Returns
    -------
    orders : DataFrame
        Rows are maps. `first` and `second` are their relative probabilities (percent, mean of the phases), `first_rank`
        and `second_rank` their ranks, from 1 for the map that costs most.
    agreement : DataFrame
        `measure`, `less_control`, `phase` (or "mean"), `maps` (their number) and Spearman's rank correlation `rho`
        between the networks: 1 if the order is the same, about 0 if nothing of it survives.

    Notes
    -----
    Without ties, with the difference :math:`d_i` of the ranks of map :math:`i` of :math:`n`,

    .. math:: \rho = 1 - \frac{6 \sum_i d_i^2}{n (n^2 - 1)}.
    """
    both = first.merge(second, on=[*MAP, "measure", "less_control", "phase"], suffixes=("_first", "_second"))
    rows = []
    for key, group in both.groupby(["measure", "less_control", "phase"], sort=False):
        rows.append((*key, len(group), stats.spearmanr(group["value_first"], group["value_second"]).statistic))
    plain = both[(both["measure"] == MEASURES[0]) & ~both["less_control"] & (both["phase"] == "mean")]
    orders = plain.set_index(MAP)[["value_first", "value_second"]].set_axis(["first", "second"], axis=1)
    for name in ("first", "second"):
        orders[f"{name}_rank"] = orders[name].rank().round().astype(int)
    return orders, pd.DataFrame(rows, columns=["measure", "less_control", "phase", "maps", "rho"])
