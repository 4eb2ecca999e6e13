"""Assemble the sources of a run's book in a temporary folder, and let Sphinx build the site from them."""

import json
import os
import re
import shutil
import tempfile
from datetime import date
from html import escape
from pathlib import Path
from string import Template

import nbformat
import yaml

from lib.files import ROOT, atomic_path, resolve
from lib.provenance import commit
from lib.report.api import Module, find_modules, write_api
from lib.report.links import Links
from lib.report.notebooks import PARTS, Page, clean, find_pages
from lib.report.tables import claims_table, csv_page, read_claims

TEXTS = {  # of the repository -> page of the book
    "README.md": "index.md",
    "docs/differences.md": "differences.md",
    "docs/own_ct.md": "own_ct.md",
    "docs/costs.md": "costs.md",
    "CONTRIBUTING.md": "contributing.md",
    "tables/claims.md": "tables/claims.md",
}
STATES = {"executed": "", "failed": " (stopped)", "private": " (private)", "not run": " (not run)"}


def build_book(run: str | Path, *, modules: dict[str, Module] | None = None) -> Path:
    """Build the book of a run into its folder `report/`, and return the first page.

    Parameters
    ----------
    run : path
        Folder of a run, such as runs/quick, with executed notebooks. A notebook that it lacks is named as not run.
    modules : dict of str to Module, optional
        The modules of lib that are described, as `lib.report.api.find_modules` returns them; all by default.

    Raises
    ------
    FileNotFoundError
        If the run holds no executed notebook.
    RuntimeError
        If Sphinx fails; what it says stands above.
    ValueError
        If the run's claims.csv lacks a column.
    """
    from sphinx.cmd.build import build_main  # here, so that only who builds needs it

    run = resolve(run)
    if not any((run / "notebooks").glob("*.ipynb")):
        raise FileNotFoundError(f"{run}/notebooks has no executed notebook: run `make figures` first.")
    with tempfile.TemporaryDirectory(prefix="book.") as folder:
        sources = Path(folder) / "sources"
        write_sources(run, sources, find_modules() if modules is None else modules)
        with atomic_path(run / "report") as site:
            quiet = ("-q", "-b", "html", "-d", f"{folder}/doctrees")
            if build_main([*quiet, str(sources), str(site)]):
                raise RuntimeError(f"The book of {run.name} could not be built; Sphinx says why above.")
            (site / ".buildinfo").unlink(missing_ok=True)
            shutil.rmtree(site / "_sources", ignore_errors=True)  # Sphinx makes it, empty
    return run / "report/index.html"


def write_sources(run: Path, folder: Path, modules: dict[str, Module]) -> list[Page]:
    """Write the sources of a run's book into a new folder, and return the pages of its notebooks.

    Nothing of the run is read but its executed notebooks and its claims.csv, and nothing below `private/`.
    """
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    pages = find_pages(run)
    named = str(run.relative_to(ROOT)) if run.is_relative_to(ROOT) else run.name
    texts = {source: page for source, page in TEXTS.items() if (ROOT / source).exists()}
    known = texts | {"lib": "api/index.md"}
    known |= {f"notebooks/{p.name}.{kind}": f"notebooks/{p.name}.ipynb" for p in pages for kind in ("ipynb", "py")}
    links = Links(known, set(modules))
    (folder / "notebooks").mkdir()
    for page in pages:
        nbformat.write(clean(page, links, named), folder / f"notebooks/{page.name}.ipynb")
    for source, page in texts.items():
        (folder / page).parent.mkdir(exist_ok=True)
        orphan = "---\norphan: true\n---\n\n" if "/" in page else ""  # linked to, and in no table of contents
        (folder / page).write_text(orphan + links.rewrite((ROOT / source).read_text(), page))
    write_api(folder, modules)
    _fill(folder / "claims.md", _claims(run))
    _fill(folder / "about.md", {"run": named, "pages": _states(pages)})
    with (folder / "index.md").open("a") as index:
        index.write(_contents(pages))
    _copy_linked(links, folder)
    (folder / "book.json").write_text(json.dumps(_settings(run)))
    strangers = {file.stem for file in (run / "notebooks").glob("*.ipynb")} - {page.name for page in pages}
    for name in sorted(strangers):
        print(f"{named}/notebooks/{name}.ipynb is left out: notebooks/ has no notebook of that name.")
    for target in dict.fromkeys(links.missing):
        print(f"A link to {target} leads nowhere and stays plain text.")
    return pages


def _copy_linked(links: Links, folder: Path) -> None:
    """Put beside the pages what they show and link to; a linked CSV file also becomes a page."""
    for table in links.tables:
        (folder / table).parent.mkdir(parents=True, exist_ok=True)
        (folder / table).with_suffix(".md").write_text(csv_page(ROOT / table, Path(table).stem.replace("_", " ")))
    wanted = [(path, folder / path) for path in links.pictures]
    wanted += [(path, folder / "_files" / path) for path in links.files | links.tables]
    (folder / "_files").mkdir()
    for path, copy in wanted:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, copy)


def repository_address() -> str:
    """Return where the repository is published: from the workflow that builds, else from CITATION.cff, else nothing."""
    name = os.environ.get("GITHUB_REPOSITORY")
    if name:
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    return str(yaml.safe_load((ROOT / "CITATION.cff").read_text()).get("repository-code", "")).rstrip("/")


def _settings(run: Path) -> dict[str, object]:
    """Return what docs/conf.py cannot know by itself."""
    made = commit()
    code = f", commit {made['commit'][:10]}" if made["commit"] else ""
    code += " with changes that are not committed" if made["dirty"] else ""
    today = date.today()
    footer = f"Run <code>{escape(run.name)}</code>{code}; built on {today.day} {today:%B %Y}. No medical device."
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    branch = os.environ.get("GITHUB_REF_NAME", "main")
    return {"footer": footer, "version": version, "repository": repository_address(), "branch": branch}


def _claims(run: Path) -> dict[str, str]:
    """Return what docs/claims.md leaves open: the run's claims, else the published ones."""
    own = (run / "claims.csv").exists()
    table = claims_table(read_claims(run / "claims.csv" if own else ROOT / "tables/claims.csv"))
    whose = f"This is what the run `{run.name}` measured." if own else (
        f"The run `{run.name}` has not come to its claims yet: these are the published ones."
    )  # fmt: skip
    return {"whose": whose, "table": table}


def _states(pages: list[Page]) -> str:
    """Return the notebooks as a table in Markdown: which part, which state."""
    lines = ["| notebook | part | in this run |", "|---|---|---|"]
    lines += [f"| [{p.title}](notebooks/{p.name}.ipynb) | {p.part} | {p.state} |" for p in pages]
    return "\n".join(lines)


def _contents(pages: list[Page]) -> str:
    """Return the table of contents that follows the front page: parts of the paper, then the reference."""
    chapters = {part: [_entry(page) for page in pages if page.part == part] for part in PARTS}
    chapters["Claims"].insert(0, "claims")
    chapters["Reference"] = ["differences", "own_ct", "costs", "api/index", "contributing", "about"]
    blocks = ["\n"]
    for caption, entries in chapters.items():
        if entries:
            blocks += ["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```", ""]
    return "\n".join(blocks)


def _entry(page: Page) -> str:
    mark = STATES[page.state]
    name = f"notebooks/{page.name}"
    return f"{re.sub(r'[<>`*]', '', page.title)}{mark} <{name}>" if mark else name


def _fill(file: Path, values: dict[str, str]) -> None:
    file.write_text(Template(file.read_text()).substitute(values))
