"""Figure of the claims under every reading of the paper, drawn from the tables of lib.claims.readings."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lib.figures.style import TWO_COLUMNS_MM, axes_mm, paper_style
from lib.titles import FILL_TITLES, VARIANT_TITLES

CLAIM_WORDS = {
    "C41": "SAM's two corrections help",
    "C50": "top tenth lowers the probability",
    "C51": "bottom tenth does not",
    "C52": "saliency is best of four",
    "C53": "both fine maps beat CAM, Grad-CAM",
    "C54": "CAM beats Grad-CAM",
    "C57": "SAM beats Grad-CAM at 2b, 3b, 4b",
    "C58": "no difference at 5b and 6",
    "C59": "SAM at 2b, 3b, 4b beats 5b, 6",
    "C60": "SAM at 2b, 3b, 4b beats all others",
    "C61": "every map beats random voxels of the body",
    "C62": "both signs of saliency count",
}
OUTCOME_STYLES = {  # colour, colour of the text, symbol
    "supported": ("#4477aa", "white", "+"),
    "inconclusive": ("#e4e4e4", "black", "?"),
    "contradicted": ("#ee7733", "black", "−"),
}
AXIS_TITLES = {"fill": "Fill", "score": "Score", "within": "Voxels", "fraction": "Share"}
SEVERAL, DEFAULT, VARIANT = "Several at once", "Default", "In place of SAM"
GAP = 0.35  # between groups, in columns
LIMIT = 60.0  # points, where the colours of the single network end


def draw_claims_by_reading(claims: pd.DataFrame, differences: Mapping[str, Mapping[str, object]]) -> Figure:
    """Draw claims (rows) by readings (columns): the outcome over networks, or the value in a single one.

    Parameters
    ----------
    claims : DataFrame
        As from `lib.claims.readings.weakest_parts`. Where no row has an outcome, since there is a single network, the
        mean of the weakest part is printed instead (points).
    differences : mapping
        Name of a reading -> the choices in which it differs from the default, by axis (see
        `lib.masking.readings.what_differs`); names of variants of SAM have none.
    """
    names = [name for name in CLAIM_WORDS if name in set(claims["claim"])]
    judged = (claims["outcome"] != "").any()
    places, groups, labels = _columns(list(dict.fromkeys(claims["reading"])), differences)
    with paper_style():
        figure, panel = axes_mm(TWO_COLUMNS_MM, 62 + 6.4 * len(names))
        for row in claims[claims["claim"].isin(names)].itertuples():
            (_draw_outcome if judged else _draw_value)(panel, places[row.reading], names.index(row.claim), row)
        panel.set_xlim(-0.6, max(places.values()) + 0.6)
        panel.set_ylim(len(names) - 0.45, -0.55)
        panel.set_yticks(range(len(names)), [f"{CLAIM_WORDS[name]}  {name}" for name in names])
        panel.set_xticks(list(places.values()), labels, rotation=90)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        for group, at in groups.items():
            middle, steep = np.mean(at), len(at) == 1
            panel.plot([min(at) - 0.45, max(at) + 0.45], [-0.62] * 2, color="0.4", linewidth=0.6, clip_on=False)
            turn = {"rotation": 40, "rotation_mode": "anchor", "ha": "left"} if steep else {"ha": "center"}
            panel.text(middle, -0.75, group, va="bottom", fontsize=6.5, **turn)
        if judged:
            key = [Patch(facecolor=colour, label=f"{symbol}  {name}")
                   for name, (colour, _, symbol) in OUTCOME_STYLES.items()]  # fmt: skip
            figure.legend(handles=key, loc="outside lower center", ncols=3, handlelength=1.2)
        else:
            scale = ScalarMappable(Normalize(-LIMIT, LIMIT), "PuOr_r")
            words = "Contrast of the weakest part, one network (points of relative probability)"
            figure.colorbar(scale, ax=panel, location="bottom", shrink=0.5, aspect=40, extend="both", label=words)
    return figure


def reading_label(differs: Mapping[str, object]) -> str:
    """Return a reading in words: the choices in which it differs from the default."""
    words = {"fill": FILL_TITLES.get, "score": str, "within": str, "fraction": "{:.0%}".format}
    said = [words[axis](choice).replace("%", " %") for axis, choice in differs.items()]
    return ", ".join(said) or "as in 06"


def _columns(names: list[str], differences: Mapping[str, Mapping[str, object]]) -> tuple[dict, dict, list[str]]:
    """Return the place of every reading, the places of each group by its title, and the labels."""
    places, groups, labels, x = {}, {}, [], 0.0
    for name in names:
        differs = differences.get(name)
        if differs is None:
            group, label = VARIANT, VARIANT_TITLES.get(name, name)
        else:
            group = SEVERAL if len(differs) > 1 else AXIS_TITLES[next(iter(differs))] if differs else DEFAULT
            label = reading_label(differs)
        x += GAP if groups and group not in groups else 0.0
        groups.setdefault(group, []).append(x)
        places[name] = x
        labels.append(label)
        x += 1.0
    return places, groups, labels


def _draw_outcome(panel: Axes, x: float, y: int, row) -> None:
    """Draw a cell with its outcome and how many parts of the claim are supported."""
    colour, text, symbol = OUTCOME_STYLES[row.outcome]
    panel.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, facecolor=colour, linewidth=0))
    panel.text(x, y - 0.17, symbol, ha="center", va="center", fontsize=8, color=text, fontweight="bold")
    if row.of_parts > 1:
        panel.text(x, y + 0.24, f"{row.supported}/{row.of_parts}", ha="center", va="center", fontsize=6, color=text)


def _draw_value(panel: Axes, x: float, y: int, row) -> None:
    """Draw a cell with the contrast of the weakest part."""
    share = 0.5 + 0.5 * float(np.clip(row.mean / LIMIT, -1, 1))
    panel.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, facecolor=colormaps["PuOr_r"](share), linewidth=0))
    colour = "white" if abs(row.mean) > 0.6 * LIMIT else "black"
    panel.text(x, y, f"{round(row.mean)}".replace("-", "−"), ha="center", va="center", fontsize=6, color=colour)
