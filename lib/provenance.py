"""What made a file: commit, parameters, inputs, and the code that it depends on."""

import ast
import hashlib
import json
import os
import platform
import subprocess
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lib.files import ROOT, atomic_path, file_hash, resolve

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pandas", "scikit-learn", "zarr", "pydicom", "matplotlib")


def modules_used(*paths: str | Path) -> list[Path]:
    """Return the modules of lib that Python files import, and those that these import, sorted.

    Parameters
    ----------
    *paths : path
        Modules, or notebooks as py:percent scripts; a relative one is taken against the repository's root. A module of
        lib is among what is returned, and so is the `__init__.py` of a folder, which Python runs first.
    """
    found, todo = set(), [resolve(path) for path in paths]
    while todo:
        file = todo.pop()
        if file in found or not file.exists():
            continue
        found.add(file)
        for name in _imports(file, file.stat().st_mtime_ns):
            if name.partition(".")[0] == "lib":
                base = ROOT.joinpath(*name.split("."))
                todo += [base.with_suffix(".py"), *(parent / "__init__.py" for parent in (base, base.parent))]
    inside = ROOT / "lib"
    return sorted(file.relative_to(ROOT) for file in found if file.is_relative_to(inside))


@cache
def _imports(file: Path, changed: int) -> set[str]:
    """Return the dotted names that a file imports: modules, and what it takes from them, which may be modules too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def code_hashes(*paths: str | Path) -> dict[str, str]:
    """Return 16 hex digits for every module of lib that these files use, by its name.

    They change with what a module does: comments, docstrings and the layout of its lines do not count.
    """
    return {str(module): _code_hash(ROOT / module) for module in modules_used(*paths)}


def _code_hash(module: Path) -> str:
    tree = ast.parse(module.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def begin(folder: str | Path, *, parameters: dict, inputs: tuple = (), code: tuple[str, ...] = ()) -> Path:
    """Return a folder for work that can be interrupted: as it was left, or empty if the work is not the same.

    Parameters
    ----------
    folder : path
        Its `.begun.json` says what the work depends on: the parameters, and hashes of inputs and code.
    parameters : dict
        What the work depends on, and nothing that only says where files are.
    inputs : tuple of path
        Files.
    code : tuple of str
        Modules, such as lib/training.py, that do the work: when one of them changes, or a module of lib that they use,
        the work is another.

    Raises
    ------
    FileExistsError
        If the folder holds something else: nothing is deleted that was not begun here.
    """
    folder = resolve(folder)
    facts = {
        "parameters": parameters,
        "inputs": {Path(p).name: file_hash(p) for p in map(resolve, inputs)},
        "code": code_hashes(*code),
    }
    begun = folder / ".begun.json"
    if begun.exists():
        before = json.loads(begun.read_text())
        if before == facts:
            return folder
        changed = [f"{kind}.{name}" for kind in facts for name in {**facts[kind], **before.get(kind, {})}
                   if facts[kind].get(name) != before.get(kind, {}).get(name)]  # fmt: skip
        print(f"{folder} is begun anew: {', '.join(changed)} changed.")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as old:
            os.replace(folder, Path(old) / folder.name)
    elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty and was not begun here: name another folder, or empty it.")
    with atomic_path(begun) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    return folder


def commit(*without: str) -> dict[str, object]:
    """Return the repository's commit, and whether tracked files differ from it (None outside a git checkout).

    Parameters
    ----------
    *without : str
        Folders, against the repository's root, in which differences do not count.
    """

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return answer.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{folder}" for folder in without))
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def write_sidecar(path: str | Path, *, notebook: str, parameters: dict, inputs: tuple = (), **facts) -> Path:
    """Write `<path>.json`: what made the file at `path`, and from what.

    Parameters
    ----------
    path : path
        The file or folder that is described.
    notebook : str
        Name of the notebook that made it.
    parameters : dict
        The notebook's parameters.
    inputs : tuple of path
        Input files; their hashes are recorded.
    **facts
        Anything else worth keeping: seed, device, seconds.
    """
    path = resolve(path)
    record = {
        "file": path.name,
        "notebook": notebook,
        "parameters": parameters,
        "inputs": {Path(p).name: file_hash(p) for p in map(resolve, inputs)},
        **commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        **facts,
    }
    sidecar = path.with_name(path.name + ".json")
    with atomic_path(sidecar) as temporary:
        temporary.write_text(json.dumps(record, indent=1, default=str) + "\n")
    return sidecar
