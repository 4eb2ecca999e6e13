"""What made a file: commit, parameters, inputs, and the code that it depends on."""

import ast
import json
import os
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

from lib.files import ROOT, atomic_path, file_hash, resolve

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "pandas", "scikit-learn", "zarr", "pydicom", "matplotlib")


def modules_used(path: Path) -> list[Path]:
    """Return the modules of lib that a Python file imports, and those that these import, sorted.

    Parameters
    ----------
    path : Path
        A module or a notebook as a py:percent script.
    """
    found, todo = set(), [path]
    while todo:
        tree = ast.parse(todo.pop().read_text())
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        for name in names:
            if name.partition(".")[0] != "lib":
                continue
            base = ROOT.joinpath(*name.split("."))
            for file in (base.with_suffix(".py"), base / "__init__.py"):
                if file.exists() and file not in found:
                    found.add(file)
                    todo.append(file)
    return sorted(file.relative_to(ROOT) for file in found)


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
        Files whose change makes the work another, as patterns against the repository's root.

    Raises
    ------
    FileExistsError
        If the folder holds something else: nothing is deleted that was not begun here.
    """
    folder = resolve(folder)
    files = sorted(file for pattern in code for file in ROOT.glob(pattern))
    facts = {
        "parameters": parameters,
        "inputs": {Path(p).name: file_hash(p) for p in map(resolve, inputs)},
        "code": {str(file.relative_to(ROOT)): file_hash(file) for file in files},
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


def commit() -> dict[str, object]:
    """Return the repository's commit and whether tracked files differ from it (None outside a git checkout)."""

    def git(*arguments: str) -> str | None:
        try:
            answer = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return answer.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
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
