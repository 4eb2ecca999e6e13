"""What the engine may import, and the engine on the other backends."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("attribution", {"keras", "numpy", "lib.gradients"}),
        ("gradients", {"keras", "numpy", "tensorflow", "jax", "torch"}),
    ],
)
def test_the_engine_can_be_lifted_out(module, allowed):
    """Two files that need Keras and NumPy; only gradients.py knows a backend."""
    others = {
        name for name in imported(ROOT / "lib" / f"{module}.py") if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert others <= allowed


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_test_of_the_engine_passes_on(backend):
    pytest.importorskip(backend)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_attribution.py",
        "tests/test_masking.py",
    ]
    environment = os.environ | {"KERAS_BACKEND": backend}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]
