"""The paper's style: sizes in millimetres of a column, one colour a phase, and files of the same bytes each time."""

from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from lib.files import atomic_path, resolve
from lib.paper import PHASES

STYLE = str(Path(__file__).parents[1] / "paper.mplstyle")
ONE_COLUMN_MM, TWO_COLUMNS_MM = 86.0, 178.0
PHASE_COLOURS = dict(zip(PHASES, ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"), strict=True))


@contextmanager
def paper_style():
    """Draw in the paper's style, whatever is set outside."""
    with mpl.rc_context(), plt.style.context(STYLE, after_reset=True):
        yield


def save_figure(figure: Figure, path: str | Path, *, limit: int = 1_000_000) -> list[Path]:
    """Write a figure as PNG and PDF, the same bytes each time.

    Parameters
    ----------
    figure : Figure
    path : path
        Of the PNG; the PDF goes beside it.
    limit : int
        Bytes that the PNG may have. It has 300 dpi, and fewer where it would be larger (noisy maps). The PDF keeps
        every voxel.

    Returns
    -------
    list of Path
        The two files.
    """
    png, pdf = (resolve(path).with_suffix(suffix) for suffix in (".png", ".pdf"))
    with paper_style():
        with atomic_path(png) as temporary:
            dpi, size = 300.0, 0
            while not size or (size > limit and dpi > 72):
                dpi *= min(1.0, 0.95 * np.sqrt(limit / size)) if size else 1.0
                figure.savefig(temporary, dpi=int(dpi), metadata={"Software": None})
                size = temporary.stat().st_size
        with atomic_path(pdf) as temporary:
            figure.savefig(temporary, metadata={"CreationDate": None, "Producer": None})
    return [png, pdf]


def axes_mm(width: float, height: float, rows: int = 1, columns: int = 1, *, layout: str | None = None, **keywords):
    """Return a figure of a size in millimetres, and its panels; unknown to pyplot, so that nothing shows it twice."""
    figure = Figure(figsize=inches(width, height), layout=layout)
    return figure, figure.subplots(rows, columns, **keywords)


def inches(*millimetres: float) -> tuple[float, ...]:
    """Return lengths in inches."""
    return tuple(length / 25.4 for length in millimetres)
