"""A sheet of pictures: panels without axes at fixed places, with room for the names of rows and columns."""

from collections.abc import Sequence

import numpy as np

from lib.figures.style import TWO_COLUMNS_MM, PaperFigure, figure_mm


def picture_grid(
    rows: int,
    columns: int,
    aspect: float,
    *,
    names_mm: float = 0.0,
    titles_mm: float = 0.0,
    blocks: int = 1,
    width_mm: float = TWO_COLUMNS_MM,
    gap_mm: float = 0.5,
) -> tuple[PaperFigure, np.ndarray]:
    """Return a figure as wide as a page and its panels, which have neither ticks nor frames.

    Panels are placed by hand: a layout engine takes many seconds for a hundred of them.

    Parameters
    ----------
    rows, columns : int
        Of a block.
    aspect : float
        Height of a picture over its width.
    names_mm, titles_mm : float
        Room for the names of the rows, left of each block, and for the titles of the columns.
    blocks : int
        Blocks side by side, each with names of its own.
    width_mm, gap_mm : float
        Of the figure, and between pictures.

    Returns
    -------
    figure : PaperFigure
    axes : array of Axes (rows, blocks * columns)
    """
    across = (width_mm - blocks * names_mm - blocks * columns * gap_mm) / (blocks * columns)
    down = across * aspect
    height_mm = titles_mm + rows * (down + gap_mm)
    figure = figure_mm(width_mm, height_mm, layout="none")
    axes = np.empty((rows, blocks * columns), object)
    for (row, column), _ in np.ndenumerate(axes):
        left = (column // columns + 1) * names_mm + column * (across + gap_mm)
        bottom = height_mm - titles_mm - row * (down + gap_mm) - down
        place = (left / width_mm, bottom / height_mm, across / width_mm, down / height_mm)
        panel = axes[row, column] = figure.add_axes(place)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    return figure, axes


def name_row(panel, name: str, **style) -> None:
    """Print the name of a row to the left of its first panel."""
    panel.set_ylabel(name, rotation=0, ha="right", va="center", labelpad=3, **style)


def title_columns(panels: Sequence, titles: Sequence[str], **style) -> None:
    """Print titles over the panels of the first row."""
    for panel, title in zip(panels, titles, strict=False):
        panel.set_title(title, pad=2.5, **style)
