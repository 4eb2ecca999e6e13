"""The modules of lib as pages, family by family, from their docstrings."""

import ast
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from lib.files import ROOT

FAMILIES = {  # page -> title, what is in it, modules by name or pattern
    "data": ("The paper as data", "Phases, published tables and claims.", ("paper", "titles")),
    "phantom": ("Phantom", "A synthetic renal CT cohort, written as DICOM.", ("phantom*",)),
    "dicom": ("DICOM", "From files to volumes in Hounsfield units.", ("dicom*",)),
    "cohort": (
        "Cohort",
        "From volumes to the slices that a network is given.",
        ("labels", "body_mask", "resampling", "preparation", "store", "cohort", "cohort_tables", "verify"),
    ),
    "network": (
        "Network",
        "The paper's network, its training, and the choice among several.",
        ("networks", "training", "augmentation", "network_stages", "model_selection", "model_card", "backbones"),
    ),
    "voting": ("Voting and metrics", "From slices to volumes, and how often both are right.", ("voting", "metrics")),
    "attribution": (
        "Attribution",
        "The maps, computed: three files that work alone, and what streams, chooses and overlays around them.",
        ("attribution", "gradients", "network_steps", "streaming", "slice_choice", "explained_phase"),
    ),
    "maps": (
        "Maps",
        "Maps once they are computed: kept, ranked, compared, and where in the body they lie.",
        ("maps*",),
    ),
    "masking": (
        "Masking",
        "Whether the network uses what a map shows.",
        ("voxels", "masking*", "patient_statistics", "organ_baseline"),
    ),
    "atlas": ("Atlas", "Nineteen methods of interpretation, measured on one network.", ("atlas*",)),
    "claims": ("Claims", "Each claim of the paper, tested by rule.", ("claims*",)),
    "figures": ("Figures", "Drawing, and nothing else.", ("figures*",)),
    "own_ct": (
        "Your own CT, and public CT",
        "Real archives: kept private, checked, and set beside the phantom.",
        (
            "apply",
            "private",
            "prepare_part",
            "public_cohort",
            "label_check",
            "body_region",
            "kidney_segmenter",
            "domain_gap",
            "cross_test",
        ),
    ),
    "xray": ("Radiographs", "Simulated chest and dental radiographs for the related texts.", ("xray*",)),
    "workflow": (
        "Workflow",
        "Files, provenance, the runner of the notebooks, publishing and this book.",
        ("files", "provenance", "run_notebook", "publish", "results", "parallel", "speed", "report*"),
    ),
    "more": ("More modules", "What belongs to no family.", ("*",)),
}


class Module(NamedTuple):
    """A module of lib, as its file shows it."""

    summary: str
    """First line of its docstring."""
    members: tuple[str, ...]
    """Its own public functions and classes that have a docstring, in their order."""


def find_modules(lib: Path = ROOT / "lib") -> dict[str, Module]:
    """Return every module of lib by its name, without importing any."""
    found = {}
    for file in sorted(lib.rglob("*.py")):
        parts = ("lib", *file.relative_to(lib).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        if name == "lib" or parts[-1] == "__main__":
            continue
        tree = ast.parse(file.read_text())
        own = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        members = (node.name for node in own if not node.name.startswith("_") and ast.get_docstring(node))
        found[name] = Module((ast.get_docstring(tree) or "").partition("\n")[0], tuple(members))
    return found


def families(modules: Iterable[str]) -> dict[str, list[str]]:
    """Return page -> its modules: each module on one page, in the order of the patterns that name it."""
    chosen: dict[str, list[str]] = {page: [] for page in FAMILIES}
    left = list(modules)
    for page, (_, _, patterns) in FAMILIES.items():
        for pattern in patterns:
            taken = [name for name in left if fnmatch(name.removeprefix("lib."), pattern)]
            chosen[page] += taken
            left = [name for name in left if name not in taken]
    return {page: names for page, names in chosen.items() if names}


def write_api(folder: Path, modules: dict[str, Module]) -> None:
    """Write api/index.md and a page per family into the book's sources.

    Parameters
    ----------
    folder : Path
        The sources of the book.
    modules : dict of str to Module
        As :func:`find_modules` returns it.
    """
    (folder / "api").mkdir(parents=True, exist_ok=True)
    grouped = families(modules)
    lines = ["# The modules of lib", "", "What the notebooks import, family by family.", ""]
    for page, names in grouped.items():
        title, said, _ = FAMILIES[page]
        text = [f"# {title}", "", said, ""]
        lines += [f"## [{title}]({page}.md)", "", said, "", "| | |", "|---|---|"]
        for name in names:
            text += [f"## {name.removeprefix('lib.')}", "", "```{eval-rst}", f".. automodule:: {name}"]
            text += [f"   :members: {', '.join(modules[name].members)}"] if modules[name].members else []
            text += ["```", ""]
            summary = modules[name].summary.replace("|", "\\|")
            lines.append(f"| {{py:mod}}`{name}` | {summary} |")
        lines.append("")
        (folder / f"api/{page}.md").write_text("\n".join(text))
    toctree = ["```{toctree}", ":hidden:", "", *grouped, "```", ""]
    (folder / "api/index.md").write_text("\n".join(lines + toctree))
