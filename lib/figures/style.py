"""The style of the figures: sizes in millimetres, fixed colours, and files that are the same bytes each time."""

import io
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lib.files import atomic_path, resolve
from lib.paper import LAYERS, PHASES

STYLE = str(Path(__file__).parents[1] / "paper.mplstyle")
ONE_COLUMN_MM, TWO_COLUMNS_MM = 86.0, 178.0
PRINT_DPI = 300
FEWER_COLOURS = (256, 128)
SCREEN_DPI = 120  # pixels of a page per inch of the figure: two columns are 841 wide, 7 points are 12 pixels high
SHARPNESS = 2  # pixels of the picture per pixel of the page, so that it is sharp on a fine display

NOTEBOOK_LIMIT = 500_000  # bytes of a picture in a notebook; a larger one is brought down to 256 colours

PHASE_COLOURS = dict(zip(PHASES, ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377"), strict=True))
METHOD_COLOURS = {
    "saliency": "#000000",
    "guided_backprop": "#5e5e5e",
    "cam": "#bdbdbd",
    "grad_cam": "#ffffff",
    "sam": "#009988",
}
SAM_COLOURS = dict(zip(LAYERS, ("#00423b", "#00756a", "#26a899", "#8ed3ca", "#e3f5f2"), strict=True))  # shallow to deep
CONTROL_COLOUR = "#cc3311"
PAPER_COLOUR, CHANCE_COLOUR = "#7a7a7a", "#9a9a9a"


class PaperFigure(Figure):
    """A figure that a notebook shows as a sharp picture; this needs neither pyplot nor a certain notebook server."""

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Return the picture as PNG and its size on the page, in the form that IPython needs."""
        with paper_style():
            dpi = SHARPNESS * SCREEN_DPI
            drawn = _draw(self, dpi)
            picture = _pack(drawn, dpi)
            if len(picture) > NOTEBOOK_LIMIT:
                picture = _pack(drawn, dpi, colours=256)
        width, height = (round(float(inch) * SCREEN_DPI) for inch in self.get_size_inches())
        return {"image/png": picture}, {"image/png": {"width": width, "height": height}}


@contextmanager
def paper_style():
    """Draw in the paper's style, whatever other settings matplotlib has."""
    with mpl.rc_context(), plt.style.context(STYLE, after_reset=True):
        yield


def save_figure(figure: Figure, path: str | Path, *, limit: int = 1_000_000) -> list[Path]:
    """Write a figure as PNG and PDF, with the same bytes each time.

    Parameters
    ----------
    figure : Figure
    path : path
        Path of the PNG; the PDF is written beside it.
    limit : int
        Largest size of the PNG in bytes, at 300 dpi. A larger file is reduced to 256 colours, then to 128, and only
        then to fewer dots per inch. The PDF keeps every voxel and every colour.

    Returns
    -------
    list of Path
        The two files.
    """
    png, pdf = (resolve(path).with_suffix(suffix) for suffix in (".png", ".pdf"))
    with paper_style():
        dpi, drawn = PRINT_DPI, _draw(figure, PRINT_DPI)
        picture = _pack(drawn, dpi)
        for colours in FEWER_COLOURS:
            if len(picture) > limit:
                picture = _pack(drawn, dpi, colours=colours)
        while len(picture) > limit:
            dpi = int(dpi * min(0.97, np.sqrt(limit / len(picture))))
            if dpi < 72:
                raise ValueError(f"{png.name} has more than {limit} bytes even at 72 dpi: draw fewer panels.")
            picture = _pack(_draw(figure, dpi), dpi, colours=FEWER_COLOURS[-1])
        with atomic_path(png) as temporary:
            temporary.write_bytes(picture)
        with atomic_path(pdf) as temporary:
            figure.savefig(temporary, metadata={"CreationDate": None, "Producer": None})
    return [png, pdf]


def axes_mm(width: float, height: float, rows: int = 1, columns: int = 1, *, layout: str | None = None, **keywords):
    """Return a figure of a size in millimetres and its panels; pyplot does not know it, so nothing is shown twice."""
    figure = figure_mm(width, height, layout=layout)
    return figure, figure.subplots(rows, columns, **keywords)


def figure_mm(width: float, height: float, *, layout: str | None = None) -> PaperFigure:
    """Return an empty figure of a size in millimetres; with layout "none", panels stay where they are placed."""
    figure = PaperFigure(figsize=(width / 25.4, height / 25.4), layout="constrained" if layout == "none" else layout)
    if layout == "none":  # a figure that never had a layout takes that of the style when it is saved
        figure.set_layout_engine("none")
    return figure


def letter(part, text: str) -> None:
    """Print the bold letter of a part of a figure in its upper left corner."""
    part.text(0.005, 0.99, text, va="top", fontsize=9, fontweight="bold")


def count(slices: float, patients: float, separator: str = ", ") -> str:
    """Return the numbers of slices and patients as text."""
    if not (np.isfinite(slices) and np.isfinite(patients)):
        return "no slice"
    slices, patients = int(slices), int(patients)
    return f"{slices} slice{'s' * (slices != 1)}{separator}{patients} patient{'s' * (patients != 1)}"


def _draw(figure: Figure, dpi: int) -> Image.Image:
    """Draw a figure as opaque pixels."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return Image.open(file).convert("RGB")


def _pack(picture: Image.Image, dpi: int, *, colours: int = 0) -> bytes:
    """Return pixels as a PNG with at most the given number of colours (0: no limit)."""
    packed = io.BytesIO()
    if colours:
        picture = picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(packed, "png", optimize=True, dpi=(dpi, dpi))
    return packed.getvalue()
