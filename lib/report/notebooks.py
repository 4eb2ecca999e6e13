"""The notebooks of a run as pages: as they were executed, without the noise, each under its part of the paper."""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat

from lib.files import ROOT
from lib.report.links import Links
from lib.run_notebook import STARTUP_NOISE

PARTS = {  # of the paper -> notebooks, by what follows their number; what is named nowhere goes beyond the paper
    "Data": ("fetch_public_cohort", "prepare_cohort", "look_at_phantom"),
    "Network": ("train_network", "select_network", "vote_slices"),
    "Maps": ("compute_maps", "fig1_final_layer_maps", "fig3_grad_cam_layers", "fig4_sam_layers"),
    "Masking": ("mask_voxels", "fig2_masking_specificity", "fig5_sam_against_grad_cam", "fig6_sam_layer_specificity"),
    "Anatomy": ("anatomy_of_maps", "measure_organs"),
    "Claims": ("compare_with_paper",),
    "Beyond the paper": (),
}
PROGRESS = re.compile(r"\d+%\|.*\| *\d+/\d+ \[|^\S*: *\d+\S* \[\d\d:\d\d")  # a progress bar of tqdm
PROMPTS = {"imports": "imports", "parameters": "parameters and their defaults", "injected": "parameters of this run"}


class Page(NamedTuple):
    """A notebook of the repository in a run's book."""

    name: str
    """The file's stem, such as "04_vote_slices"."""
    source: Path
    """The executed notebook, or the repository's own where the run has none."""
    state: str
    """"executed", "failed", "private" (executed, and kept private) or "not run"."""
    title: str

    @property
    def part(self) -> str:
        """The part of the paper that it belongs to."""
        subject = self.name.partition("_")[2]
        return next((part for part, names in PARTS.items() if subject in names), list(PARTS)[-1])


def find_pages(run: Path, notebooks: Path = ROOT / "notebooks") -> list[Page]:
    """Return a page for every notebook of the repository, in their order.

    Nothing below the run's `private/` is read; a link that leads there is not followed.
    """
    pages = []
    for own in sorted(notebooks.glob("[0-9]*.ipynb")):
        executed = run / "notebooks" / own.name
        hidden = (run / "private").resolve()
        if executed.exists() and hidden not in executed.resolve().parents:
            notebook = nbformat.read(executed, 4)
            state = "failed" if _stopped(notebook) else "executed"
        else:
            notebook = nbformat.read(own, 4)
            state = "private" if (hidden / "notebooks" / own.name).exists() else "not run"
        source = executed if state in ("executed", "failed") else own
        pages.append(Page(own.stem, source, state, _title(notebook) or own.stem))
    return pages


def clean(page: Page, links: Links, run: str) -> nbformat.NotebookNode:
    """Return a page's notebook as the book shows it.

    Imports and parameters are folded, progress bars and start-up messages are gone, paths of this machine are
    relative to the repository, links lead to pages of the book, and a picture's text is the heading above it.
    """
    notebook = nbformat.read(page.source, 4)
    heading, folded = page.title, False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            heading = headings[-1] if headings else heading
            cell.source = links.rewrite(cell.source, f"notebooks/{page.name}.ipynb")
        elif cell.cell_type == "code":
            folded = _fold(cell, first=not folded) or folded
            cell.setdefault("outputs", [])
            cell.outputs = _once([kept for output in cell.outputs if (kept := _without_noise(output)) is not None])
            settings = cell.metadata.setdefault("mystnb", {})
            settings["image"] = {"alt": re.sub(r"[*`$\\]", "", heading), **settings.get("image", {})}
    notice = _notice(page, run)
    if notice:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(notice))
    return notebook


def _title(notebook: nbformat.NotebookNode) -> str:
    for cell in notebook.cells:
        found = re.search(r"^# (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else None
        if found and "papermill" not in cell.metadata.get("tags", [""])[0:1]:
            return found[1]
    return ""


def _stopped(notebook: nbformat.NotebookNode) -> bool:
    return any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))


def _fold(cell: nbformat.NotebookNode, *, first: bool) -> bool:
    """Fold what is no step of the study: the parameters, and the imports, which are the first code cell."""
    tags = set(cell.metadata.get("tags", []))
    kind = "parameters" if "parameters" in tags else "injected" if "injected-parameters" in tags else ""
    kind = kind or ("imports" if first else "")
    if kind:
        cell.metadata["tags"] = sorted(tags | {"hide-input"})
        cell.metadata["mystnb"] = {
            "code_prompt_show": f"Show the {PROMPTS[kind]}",
            "code_prompt_hide": f"Hide the {PROMPTS[kind]}",
        }
    return bool(kind)


def _without_noise(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return an output without progress bars, start-up messages and this machine's paths; None if nothing is left."""
    here = f"{ROOT}/"
    if output.output_type == "stream":
        lines = STARTUP_NOISE.sub("", output.text).split("\n")
        lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]  # what a terminal would show
        lines = [line for line in lines if not PROGRESS.search(line)]
        output.text = "\n".join(lines).replace(here, "")
        return output if output.text.strip() else None
    data = output.get("data", {})
    for kind in ("text/plain", "text/html", "text/markdown"):
        if kind in data:
            data[kind] = data[kind].replace(here, "")
    return output


def _once(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return the outputs of a cell without messages that repeat an earlier one."""
    told = [output.get("text") for output in outputs]  # None for what is no message
    return [output for n, output in enumerate(outputs) if told[n] is None or told[n] not in told[:n]]


def _notice(page: Page, run: str) -> str:
    again = f"```sh\npython -m lib.run_notebook notebooks/{page.name}.py {run}/notebooks/{page.name}.ipynb\n```"
    if page.state == "not run":
        return (
            f":::{{note}}\n**Not run.** This run holds no executed copy of the notebook, so it is shown without "
            f"results. To have them here, run it and build the book again with `make report`:\n\n{again}\n:::"
        )
    if page.state == "private":
        return (
            ":::{note}\n**Private.** The executed copy names where the CT came from. It stays in the run's folder "
            "`private/`, and the notebook is shown without results.\n:::"
        )
    if page.state == "failed":
        return ":::{warning}\nThis notebook stopped with an error in this run; the results below end there.\n:::"
    return ""
