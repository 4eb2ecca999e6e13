"""What masking leaves in several networks: one value per network, mask and phase, and intervals over the networks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from lib.masking.controls import matched_control
from lib.paper import FINAL_MAPS, PHASES

ALL = "all"  # in place of a network: the mean over them
MASK = ["method", "layer", "region"]
ORDER = (*(method for method, _ in FINAL_MAPS), "sam")  # then the controls


def network_levels(means: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what each mask leaves of the probability of the right phase, network by network.

    Parameters
    ----------
    means : mapping of str to DataFrame
        Tables as from `lib.masking.statistics.slice_means`, by the name of the network.

    Returns
    -------
    DataFrame
        One row per network, mask and phase (or "mean", that of the phases): `network`, `method`, `layer`, `region`,
        `phase`, `value` (relative probability in percent: mean over the slices of each patient, then over the
        patients), `less_control` (the same for the difference from the control of the map's shape, slice by slice, in
        points; NaN for controls).
    """
    found = []
    for network, table in means.items():
        keys = ["phase", "patient", "series", "slice"]
        wide = table.pivot_table(index=keys, columns=MASK, values="relative_probability", observed=True)
        wide = wide[sorted(wide, key=lambda mask: (ORDER.index(mask[0]) if mask[0] in ORDER else len(ORDER), mask))]
        control = {mask: matched_control(mask[1]) for mask in wide if mask[2] == "top"}
        less = {mask: wide[mask] - wide[other] for mask, other in control.items() if other in wide and mask != other}
        levels = _by_phase(wide, "value")
        if less:
            columns = pd.MultiIndex.from_tuples(less, names=MASK)
            beside = pd.concat(less.values(), axis=1).set_axis(columns, axis=1)
            levels = levels.merge(_by_phase(beside, "less_control"), how="left")
        found.append(levels.assign(network=network))
    table = pd.concat(found, ignore_index=True).reindex(columns=["network", *MASK, "phase", "value", "less_control"])
    return table.dropna(subset="value").reset_index(drop=True)


def _by_phase(slices: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the means over patients of each mask, phase by phase and last their mean, one below the other."""
    phases = slices.groupby(level=["phase", "patient"]).mean().groupby(level="phase").mean()
    phases = phases.reindex([phase for phase in PHASES if phase in phases.index])
    table = pd.concat([phases, phases.mean(skipna=False).to_frame("mean").T]).rename_axis("phase")
    return table.melt(ignore_index=False, value_name=name).reset_index()


def over_networks(levels: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Return the mean over the networks with its interval.

    Parameters
    ----------
    levels : DataFrame
        As from :func:`network_levels`.
    column : {"value", "less_control"}

    Returns
    -------
    DataFrame
        One row per mask and phase: `network` ("all"), `method`, `layer`, `region`, `phase`, `networks` (their number),
        `value`, `low`, `high` (see :func:`t_interval`), `lowest`, `highest` (of the networks).
    """
    rows = []
    for key, values in levels.dropna(subset=column).groupby([*MASK, "phase"], sort=False)[column]:
        rows.append((ALL, *key, len(values), *t_interval(values), values.min(), values.max()))
    names = ["network", *MASK, "phase", "networks", "value", "low", "high", "lowest", "highest"]
    return pd.DataFrame(rows, columns=names)


def among(levels: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Set one network among published ones: the mean over the phases of what each mask leaves.

    Parameters
    ----------
    levels : DataFrame
        As from :func:`network_levels`, of one network.
    published : DataFrame
        The same of several networks, such as `tables/masking_networks.csv`.

    Returns
    -------
    DataFrame
        One row per mask that both have, highest voxels of the maps and random ones: `method`, `layer`, `region`,
        `value` (of the network, percent), `lowest`, `highest` (of the published networks), `lower` and `networks` (how
        many of the published networks lie below the network, and their number).

    Raises
    ------
    ValueError
        If `levels` is of several networks.
    """
    if (count := len(set(levels["network"]))) != 1:
        raise ValueError(f"levels is of {count} networks; expected one.")
    chosen = levels[(levels["phase"] == "mean") & levels["region"].isin(["top", "random"])]
    table = chosen.merge(published, on=[*MASK, "phase"], suffixes=("", "_published")).dropna(subset="value")
    table = table.assign(below=table["value_published"] < table["value"])
    groups = table.groupby(MASK, sort=False)
    columns = {"lowest": ("value_published", "min"), "highest": ("value_published", "max")}
    columns |= {"lower": ("below", "sum"), "networks": ("below", "size")}
    return groups.agg(value=("value", "first"), **columns).reset_index()


def t_interval(values: pd.Series) -> tuple[float, float, float]:
    r"""Return the mean of one value per network and its 95 % interval; a single network has none.

    Notes
    -----
    With mean :math:`\bar x` and standard deviation :math:`s` over :math:`K` networks the interval is

    .. math:: \bar x \pm t_{K-1,\,0.975}\, \frac{s}{\sqrt K}.
    """
    values = values.dropna()
    if len(values) < 2:
        return (float(values.mean()), np.nan, np.nan) if len(values) else (np.nan,) * 3
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
