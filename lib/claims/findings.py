"""What a run says about a claim, the rule of the verdicts, and how numbers by phase are put into words."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.paper import PHASES
from lib.titles import PHASE_TITLES

TOUCH = 1e-4  # an interval that ends this near to the reference touches it


class Finding(NamedTuple):
    """What a run says about a claim.

    `value` is the mean over the phases, `low` and `high` the lowest and highest bound of their 95 % intervals; the
    verdict goes by phase (see :func:`verdict`).
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
    """Judge a claim from its phases.

    Parameters
    ----------
    phases : DataFrame
        One row per phase (or one row in all): `mean`, `low`, `high`.
    kind : {"superiority", "null"}
        Whether the paper says that something differs, or that nothing does.
    direction : {-1, 1}
        Sign of the difference that the paper claims (superiority only).
    reference : float
        Value of no difference.
    margin : float
        Largest difference that still counts as none: 5 points of relative probability, .02 for metrics (null only).

    Returns
    -------
    {"reproduced", "direction only", "not reproduced", "undecided"}

    Notes
    -----
    Four phases of five have to hold (all of four or fewer). Superiority: "reproduced" where the interval excludes the
    reference on the paper's side, "direction only" where the mean lies there; "undecided" with too few phases that
    have a mean. No difference: "reproduced" where the interval lies inside the margin; "not reproduced" where so many
    lie outside it altogether that four cannot hold; "undecided" otherwise, for few slices cannot show a null.
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
    """Return findings as a table by claim; of certain claims where `ids` names them, as far as they were found."""
    table = pd.DataFrame(findings, columns=Finding._fields).set_index("id")
    return table.loc[table.index.isin(ids)] if ids else table


def words_by_phase(rows: pd.DataFrame) -> str:
    """Put one row per phase (`phase`, `mean`, `low`, `high`) into words: "CM 3.1 [2.0, 4.2]; Neph ..."."""
    rows = rows.set_index("phase")
    return "; ".join(
        f"{PHASE_TITLES[phase]} {rows.loc[phase, 'mean']:.1f} {words_of_interval(rows.loc[phase])}"
        for phase in PHASES
        if phase in rows.index
    )


def words_of_interval(row: pd.Series) -> str:
    """Put an interval into words; with one patient there is none."""
    return f"[{row['low']:.1f}, {row['high']:.1f}]" if np.isfinite(row["low"]) else "[one patient]"
