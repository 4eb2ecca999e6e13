"""What the caption of a live figure says about its own numbers."""

import pandas as pd
from IPython.display import Markdown

from lib.figures.style import count
from lib.paper import PHASES
from lib.titles import PHASE_TITLES


def caption(title: str, table: pd.DataFrame, words: str = "") -> Markdown:
    """Return the caption of a figure drawn in this run: what it is, and from how many slices of how many patients.

    Parameters
    ----------
    title : str
        The figure, such as "Figure 2".
    table : DataFrame
        One row per slice, with `phase`, `patient`, `series` and `slice`; a slice may come more than once.
    words : str
        A sentence of its own, after the numbers.
    """
    slices = table.drop_duplicates(["series", "slice"])
    parts = []
    for phase in PHASES:
        mine = slices[slices["phase"] == phase]
        parts.append(
            f"{PHASE_TITLES[phase]} {count(len(mine), mine['patient'].nunique()) if len(mine) else 'no slice'}"
        )
    total = count(len(slices), slices["patient"].nunique(), " of ")
    return Markdown(f"**{title}, as drawn by this run** from {total} ({'; '.join(parts)}). {words}".strip())
