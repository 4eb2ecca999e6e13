"""Claims of the related texts: what each says, the rule for one part, and the verdict over all parts.

A claim is divided into parts, as the paper's own claims on masking are (`lib.claims.networks`), and gets the verdict of
its weakest part. The words of the claims and their rules stand in `lib/published/text_claims.csv`.
"""

import numpy as np
import pandas as pd

from lib.claims.networks import OUTCOMES
from lib.paper import published


def statements(letter: str) -> dict[str, str]:
    """Return the claims whose ids begin with a letter, by id: A (methods), Q (architectures) or M (dental plates)."""
    table = published("text_claims").set_index("id")["claim"]
    return table[table.index.str.startswith(letter)].to_dict()


def judge(
    low: float,
    high: float,
    *,
    below: float | None = None,
    above: float | None = None,
    within: tuple[float, float] | None = None,
) -> str:
    """Return "supported", "contradicted" or "inconclusive" of an interval; exactly one limit is given.

    Parameters
    ----------
    low, high : float
        The 95 % interval; NaN is inconclusive.
    below, above : float
        The claim is that the value lies below, or above, it.
    within : (float, float)
        The claim is that the value lies between two limits.
    """
    if np.isnan(low) or np.isnan(high):
        return "inconclusive"
    if within is not None:
        if within[0] <= low and high <= within[1]:
            return "supported"
        return "contradicted" if high < within[0] or low > within[1] else "inconclusive"
    if below is not None:
        return "supported" if high < below else "contradicted" if low > below else "inconclusive"
    return "supported" if low > above else "contradicted" if high < above else "inconclusive"


def weakest(parts: pd.DataFrame) -> pd.Series:
    """Return the verdict of each claim, by `id`: that of its weakest part; a reason not to judge is weakest of all."""

    def rank(verdict: str) -> int:
        return OUTCOMES.index(verdict) if verdict in OUTCOMES else -1

    return parts.groupby("id", sort=False)["verdict"].agg(lambda found: min(found, key=rank))


def verdicts(parts: pd.DataFrame) -> pd.DataFrame:
    """Return the claims of a text with their verdicts, one row a claim.

    Parameters
    ----------
    parts : DataFrame
        `id` and `verdict`; further columns are not looked at.

    Returns
    -------
    DataFrame
        `id`, `text`, `source`, `claim`, `supported_if`, `parts` (how many were judged), `supported` and `contradicted`
        (how many of these), `verdict` ("not tested here" for a claim without parts).

    Raises
    ------
    ValueError
        If an id is not among the published claims.
    """
    table = published("text_claims").set_index("id")
    unknown = sorted(set(parts["id"]) - set(table.index))
    if unknown:
        raise ValueError(f"claims {unknown}; lib/published/text_claims.csv has {', '.join(table.index)}.")
    letters = tuple({name[0] for name in parts["id"]})
    counts = pd.crosstab(parts["id"], parts["verdict"])
    table = table[table.index.str.startswith(letters)].assign(parts=parts["id"].value_counts())
    for word in ("supported", "contradicted"):
        table[word] = counts.get(word, 0)
    numbers = ["parts", "supported", "contradicted"]
    table[numbers] = table[numbers].fillna(0).astype(int)
    table["verdict"] = weakest(parts).reindex(table.index).fillna("not tested here")
    return table.reset_index()
