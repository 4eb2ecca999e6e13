"""What the engine may import, and the engine on the other backends."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from lib.gradients import compiled, gradients
from lib.network_steps import INPUT

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
        ("attribution", {"keras", "numpy", ".", ".network_steps", "gradients", "network_steps"}),
        ("gradients", {"keras", "numpy", "tensorflow", "jax", "torch", ".network_steps", "network_steps"}),
        ("network_steps", {"keras", "numpy"}),
    ],
)
def test_the_engine_can_be_lifted_out(module, allowed):
    """Three files that need Keras and NumPy; only gradients.py knows a backend."""
    others = {
        name for name in imported(ROOT / "lib" / f"{module}.py") if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert others <= allowed


ENGINE = (
    "attribution",
    "attribution_models",
    "attribution_users",
    "attribution_traps",
    "gradients",
    "streaming",
    "masking",
)


@pytest.mark.backends
@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_test_of_the_engine_passes_on(backend, name):
    """The whole file on the other backend, what is marked `oracles` too, but for the longest two."""
    pytest.importorskip(backend)
    chosen = ["-m", "not backends", "-k", "not many_random and not ten_thousand"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, f"tests/test_{name}.py"]
    environment = os.environ | {"KERAS_BACKEND": backend}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_examples_in_the_docstrings_run_on(backend):
    pytest.importorskip(backend)
    modules = [f"lib/{name}.py" for name in ("attribution", "gradients", "network_steps", "streaming", "maps/overlays")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", *modules]
    environment = os.environ | {"KERAS_BACKEND": backend}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.parametrize("module", ["attribution", "gradients", "network_steps", "streaming", "maps.overlays"])
def test_the_examples_in_the_docstrings(module):
    found = doctest.testmod(importlib.import_module(f"lib.{module}"))
    assert found.attempted >= 2 and found.failed == 0


def test_sizes_left_open_are_compiled_once():
    function = compiled(lambda x: [ops.sum(x, axis=(1, 2))], [], [((None, None, None), "float32")])
    for shape in ((2, 3, 4), (5, 1, 7)):
        assert function(np.ones(shape, "float32"))[0].tolist() == [shape[1] * shape[2]] * shape[0]


def test_a_score_that_does_not_depend_on_the_input_raises():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX gives zeros: the Attributor looks for the cut in the graph")
    images = ops.convert_to_tensor(np.ones((2, 3), "float32"))
    with pytest.raises(ValueError, match="does not depend on the input: no gradient reaches it"):
        gradients(lambda x, relu, tap: ops.zeros((2,)), images, (INPUT,), False)


def test_guided_gradients_pass_no_negative_ones():
    """y = relu(a) - relu(b) + relu(2 a): guided keeps the first and the third."""
    images = ops.convert_to_tensor(np.float32([[1, 2], [-1, 3]]))
    score, _, plain, guided = gradients(
        lambda x, relu, tap: relu(x[:, 0]) - relu(tap(1, x[:, 1])) + relu(2 * x[:, 0]), images, (INPUT, 1), True
    )
    assert ops.convert_to_numpy(score).tolist() == [1, -3]
    assert ops.convert_to_numpy(plain[INPUT]).tolist() == [[3, -1], [0, -1]]
    assert ops.convert_to_numpy(plain[1]).tolist() == [-1, -1]
    assert ops.convert_to_numpy(guided).tolist() == [[3, 0], [0, 0]]
