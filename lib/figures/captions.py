"""The caption of a figure that a notebook draws, with its own numbers of slices and patients."""

import pandas as pd
from IPython.display import Markdown

from lib.figures.style import count
from lib.paper import PHASES
from lib.titles import PHASE_TITLES


def caption(title: str, table: pd.DataFrame, words: str = "") -> Markdown:
    """Return the caption of a figure drawn in this run, with the numbers of slices and patients.

    The numbers are given in all and by phase.

    Parameters
    ----------
    title : str
        The figure, such as "Figure 2".
    table : DataFrame
        One row per slice, with `phase`, `patient`, `series` and `slice`; a slice may occur more than once.
    words : str
        A further sentence that follows the numbers.
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
