"""Run a notebook with papermill, strictly.

Papermill warns about a parameter that the notebook does not declare and runs on; here it is an error, and so is a value
of another type. The executed notebook is kept when a cell fails.

    python -m lib.run_notebook notebooks/02_train_network.py runs/mine/notebooks/02_train_network.ipynb -p epochs 3
"""

import argparse
import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
import papermill as pm
import yaml
from papermill.exceptions import PapermillExecutionError
from papermill.translators import PythonTranslator

from lib.files import ROOT, resolve

STARTUP_NOISE = re.compile(r"^([IE]0000 .*(oneDNN|cuda)|WARNING: All log messages before absl).*\n?", re.MULTILINE)
QUIET = "NOTEBOOKS_QUIET"  # environment: what cells print is only in the executed notebook; progress bars are shown
STARTS = 3  # of a kernel that dies before it has answered
TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}


def declared_parameters(notebook: nbformat.NotebookNode) -> dict[str, tuple[str, str, str]]:
    """Return name -> (type, default, help) of the cell tagged "parameters".

    Raises
    ------
    ValueError
        If the notebook has no such cell.
    """
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise ValueError('The notebook has no cell tagged "parameters".')
    return {p.name: (p.inferred_type_name, p.default, p.help) for p in PythonTranslator.inspect(tagged[0])}


def check_parameters(notebook: nbformat.NotebookNode, given: dict[str, object]) -> None:
    """Raise unless every given parameter is declared by the notebook and has the declared type.

    Raises
    ------
    ValueError
        Naming each unknown or ill-typed parameter, and the declared ones.
    """
    declared = declared_parameters(notebook)
    faults = [f"unknown parameter {name!r}" for name in given if name not in declared]
    for name in given.keys() & declared.keys():
        kind, value = declared[name][0], given[name]
        wanted = TYPES.get(kind.partition("[")[0], object)
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted in (int, float)):
            faults.append(f"{name} must be {kind}, got {value!r}, a {type(value).__name__}")
    if faults:
        known = "\n".join(f"  {n}: {kind} = {default}  # {text}" for n, (kind, default, text) in declared.items())
        raise ValueError("; ".join(faults) + f". The notebook declares:\n{known}")


def parse_values(notebook: nbformat.NotebookNode, pairs: list[tuple[str, str]]) -> dict[str, object]:
    """Return name -> value of command-line pairs: text stays text for a parameter declared as str, else it is YAML.

    A float may be written as 1e-3, which YAML takes for text.
    """
    kinds = {name: kind for name, (kind, _, _) in declared_parameters(notebook).items()}
    return {name: _parse(text, kinds.get(name, "")) for name, text in pairs}


def _parse(text: str, kind: str) -> object:
    if kind == "str":
        return text
    value = yaml.safe_load(text)
    if kind == "float" and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)
    return value


class Console(io.TextIOBase):
    """Standard output without what TensorFlow says at every start, whatever its log level."""

    def write(self, text: str) -> int:
        """Write what is left of the text."""
        sys.stdout.write(STARTUP_NOISE.sub("", text))
        sys.stdout.flush()
        return len(text)


@contextlib.contextmanager
def kernel_log(path: Path) -> Iterator[None]:
    """Send what processes started here write to their standard error to a file; cell output is not touched."""
    before = os.dup(2)
    try:
        with path.open("w") as log:
            os.dup2(log.fileno(), 2)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook, .ipynb or its paired script.

    Raises
    ------
    FileNotFoundError
        If there is none, with the names of those there are.
    """
    if not path.exists():
        known = ", ".join(p.name for p in sorted((ROOT / "notebooks").glob("*.py")))
        raise FileNotFoundError(f"There is no notebook {path}. Known: {known}.")
    return jupytext.read(path)


def run_notebook(notebook: nbformat.NotebookNode, executed: Path, parameters: dict[str, object]) -> float:
    """Execute a notebook from the repository's root and return the seconds it took.

    Parameters
    ----------
    notebook : NotebookNode
        As `read_notebook` returns it.
    executed : Path
        Where the executed notebook goes, after a failure too, with its traceback. What the kernel itself has to say,
        TensorFlow's start-up messages among it, lies beside it with the suffix .log.
    parameters : dict
        Values for names of the parameters cell.

    Raises
    ------
    ValueError
        If a parameter is unknown or ill-typed.
    PapermillExecutionError
        If a cell fails.
    """
    check_parameters(notebook, parameters)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    executed.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds between two states of a progress bar
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors of TensorFlow that matter come as exceptions
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # twice as fast where TensorFlow leaves it off: AVX2 alone
    start = time.monotonic()
    with kernel_log(executed.with_suffix(".log")):
        for attempt in range(STARTS):
            try:
                pm.execute_notebook(
                    notebook,
                    str(executed),
                    parameters,
                    cwd=str(ROOT),
                    kernel_name="python3",
                    progress_bar=False,
                    stdout_file=None if os.environ.get(QUIET) else Console(),
                    stderr_file=Console(),
                    extra_arguments=["--IPKernelApp.log_level=50"],
                )
                break
            except RuntimeError as error:  # before any cell: two kernels that start at once may choose the same port
                if "Kernel died before replying" not in str(error) or attempt == STARTS - 1:
                    raise
    return time.monotonic() - start


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.run_notebook", description=__doc__.partition("\n")[0])
    parser.add_argument("notebook", help="notebooks/NN_verb_object.py or .ipynb")
    parser.add_argument("executed", nargs="?", help="where the executed notebook goes (runs/mine/notebooks/ otherwise)")
    parser.add_argument("-p", dest="pairs", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--parameters", type=json.loads, default={}, metavar="JSON", help="many parameters at once")
    parser.add_argument("--list", action="store_true", help="list the notebook's parameters and stop")
    options = parser.parse_args(arguments)
    source, stem = resolve(options.notebook), Path(options.notebook).stem
    executed = resolve(options.executed or f"runs/mine/notebooks/{stem}.ipynb")
    try:
        notebook = read_notebook(source)
        if options.list:
            for name, (kind, default, text) in declared_parameters(notebook).items():
                print(f"{name}: {kind} = {default}  # {text}")
            return 0
        print(f"{stem}: started", flush=True)
        seconds = run_notebook(notebook, executed, options.parameters | parse_values(notebook, options.pairs))
    except PapermillExecutionError as error:
        print(f"{stem} failed: {error.ename}: {error.evalue}\nThe executed notebook is {executed}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"{stem}: {error}", file=sys.stderr)
        return 2
    print(f"{stem}: done in {seconds:.0f} s, executed notebook in {executed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
