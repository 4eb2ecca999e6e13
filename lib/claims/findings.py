"""Findings of a run on a claim, the rule for verdicts, and the wording of numbers by phase."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.paper import PHASES
from lib.titles import PHASE_TITLES

TOUCH = 1e-4  # an interval that ends within this distance of the reference touches it


class Finding(NamedTuple):
    """What a run found on a claim.

    `value` is the mean over the phases; `low` and `high` are the lowest and the highest bound of their 95 % intervals.
    The verdict is formed from the single phases (see :func:`verdict`).
    """

    id: str
    measured: str
    verdict: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n_slices: int = 0
    n_patients: int = 0


def verdict(
    phases: pd.DataFrame, kind: str, *, direction: int = -1, reference: float = 0.0, margin: float = 5.0
) -> str:
    r"""Judge a claim by its phases.

    Parameters
    ----------
    phases : DataFrame
        One row per phase, or a single row: `mean`, `low`, `high`.
    kind : {"superiority", "null"}
        Whether the paper says that there is a difference, or that there is none.
    direction : {-1, 1}
        Sign of the difference that the paper claims (for "superiority").
    reference : float
        Value of no difference.
    margin : float
        Largest difference that still counts as none (for "null"): 5 points of relative probability, .02 for metrics.

    Returns
    -------
    {"reproduced", "direction only", "not reproduced", "undecided"}

    Notes
    -----
    The condition has to hold in four of five phases, or in all if there are four or fewer. Let :math:`m` be the mean of
    a phase and :math:`[l, u]` its interval, all minus the reference, with the sign chosen so that the paper claims a
    positive difference.

    "superiority":

    - "reproduced" if :math:`l > 0`: the interval excludes the reference on the paper's side (by more than 0.0001),
    - "direction only" if :math:`m > 0`,
    - "undecided" if too few phases have a mean, and otherwise "not reproduced".

    "null", with the margin :math:`\delta`:

    - "reproduced" if :math:`-\delta \le l` and :math:`u \le \delta`,
    - "not reproduced" if so many intervals lie wholly outside the margin that four phases cannot hold,
    - otherwise "undecided", since few slices cannot show that there is no difference.
    """
    mean, low, high = (phases[name].to_numpy(dtype=float) - reference for name in ("mean", "low", "high"))
    need = 4 if len(mean) == 5 else max(len(mean), 1)
    if kind == "superiority":
        if np.count_nonzero((low > TOUCH) if direction > 0 else (high < -TOUCH)) >= need:
            return "reproduced"
        if np.count_nonzero(mean * direction > 0) >= need:
            return "direction only"
        return "not reproduced" if np.isfinite(mean).sum() >= need else "undecided"
    if kind != "null":
        raise ValueError(f"kind is {kind!r}; expected 'superiority' or 'null'.")
    if np.count_nonzero((low >= -margin) & (high <= margin)) >= need:
        return "reproduced"
    outside = np.count_nonzero((low > margin) | (high < -margin))
    return "not reproduced" if len(mean) - outside < need else "undecided"


def findings_table(findings: Iterable[Finding], *ids: str) -> pd.DataFrame:
    """Return findings as a table with one row per claim; if `ids` are given, only those claims that were found."""
    table = pd.DataFrame(findings, columns=Finding._fields).set_index("id")
    return table.loc[table.index.isin(ids)] if ids else table


def words_by_phase(rows: pd.DataFrame) -> str:
    """Write one row per phase (`phase`, `mean`, `low`, `high`) as text: "CM 3.1 [2.0, 4.2]; Neph ..."."""
    rows = rows.set_index("phase")
    return "; ".join(
        f"{PHASE_TITLES[phase]} {rows.loc[phase, 'mean']:.1f} {words_of_interval(rows.loc[phase])}"
        for phase in PHASES
        if phase in rows.index
    )


def words_of_interval(row: pd.Series) -> str:
    """Write an interval as text; with a single patient there is none."""
    return f"[{row['low']:.1f}, {row['high']:.1f}]" if np.isfinite(row["low"]) else "[one patient]"
