"""What is wrong with the figures of executed notebooks; nothing where a reader sees each figure once."""

import re
from pathlib import Path

import nbformat

DRAWS = re.compile(r"\bdraw_\w+\(|\baxes_mm\(|\bplt\.subplots\(")
BARE = re.compile(r"^<(\w*Figure|Axes)\b")


def faults_of_figures(folder: Path) -> list[str]:
    """Walk the executed notebooks of a folder and say which cells leave no picture, a bare figure, or one twice.

    Parameters
    ----------
    folder : Path
        Of executed .ipynb files, such as runs/smoke/notebooks.

    Returns
    -------
    list of str
        Notebook, cell number and what is wrong with it.

    Raises
    ------
    ValueError
        If no cell of any notebook draws: then nothing was looked at.
    """
    faults, drawing = [], 0
    for path in sorted(folder.glob("*.ipynb")):
        for number, cell in enumerate(nbformat.read(path, 4).cells):
            if cell.cell_type != "code":
                continue
            shown = [output.data for output in cell.outputs if output.output_type in ("display_data", "execute_result")]
            pictures = [data["image/png"] for data in shown if "image/png" in data]
            bare = [data for data in shown if "image/png" not in data and BARE.match(data.get("text/plain", ""))]
            said = any(output.output_type == "stream" for output in cell.outputs)  # why there is nothing to draw
            drawing += bool(DRAWS.search(cell.source))
            what = {
                "draws and shows no picture": DRAWS.search(cell.source) and not pictures and not said,
                "shows a figure as text": bare,
                "shows a picture twice": len(pictures) != len(set(pictures)),
            }
            faults += [f"{path.name}, cell {number}, {words}" for words, found in what.items() if found]
    if not drawing:
        raise ValueError(f"{folder} holds no executed notebook with a cell that draws.")
    return faults
