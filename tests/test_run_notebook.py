import json

import jupytext
import nbformat
import pytest

from lib.files import ROOT
from lib.run_notebook import (
    QUIET,
    check_parameters,
    declared_parameters,
    main,
    parse_values,
    read_notebook,
    run_notebook,
)

SCRIPT = """\
# %% tags=["parameters"]
epochs: int = 3  # how often
rate: float = 1.0e-3  # how fast
name: str = "top"  # of what
keep: bool = False

# %%
assert epochs < 5, "too many"
print(name, epochs, rate, keep)
"""


@pytest.fixture
def notebook():
    return jupytext.reads(SCRIPT, "py:percent")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "01_try.py"
    path.write_text(SCRIPT)
    return path


def test_declared_parameters_have_type_default_and_help(notebook):
    assert declared_parameters(notebook)["epochs"] == ("int", "3", "how often")
    assert list(declared_parameters(notebook)) == ["epochs", "rate", "name", "keep"]


def test_an_unknown_parameter_lists_the_declared_ones(notebook):
    with pytest.raises(ValueError, match=r"(?s)unknown parameter 'epoch'.*epochs: int = 3  # how often.*name: str"):
        check_parameters(notebook, {"epoch": 4})


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("epochs", 4, True), ("epochs", 4.5, False), ("epochs", "4", False), ("epochs", True, False),
        ("rate", 1, True), ("rate", "1e-3", False), ("name", "x", True), ("name", 3, False),
        ("keep", True, True), ("keep", 1, False),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(notebook, name, value, fits):
    if fits:
        check_parameters(notebook, {name: value})
    else:
        with pytest.raises(ValueError, match=f"{name} must be"):
            check_parameters(notebook, {name: value})


def test_text_from_the_command_line_takes_the_declared_type(notebook):
    values = parse_values(notebook, [("name", "007"), ("epochs", "007"), ("rate", "1.0e-4"), ("keep", "true")])
    assert values == {"name": "007", "epochs": 7, "rate": 1e-4, "keep": True}
    assert parse_values(notebook, [("rate", "1e-4")]) == {"rate": 1e-4}, "YAML wants a point in it"
    assert parse_values(notebook, [("rate", "fast")]) == {"rate": "fast"}, "told apart by the check of types"


def test_a_notebook_without_a_parameters_cell_is_refused():
    with pytest.raises(ValueError, match='no cell tagged "parameters"'):
        declared_parameters(jupytext.reads("# %%\nx = 1\n", "py:percent"))


def test_a_run_injects_parameters_and_leaves_the_source_alone(script, tmp_path, capsys):
    executed = tmp_path / "out" / "01_try.ipynb"
    assert main([str(script), str(executed), "-p", "epochs", "4", "--parameters", '{"name": "mine"}']) == 0
    outputs = [cell.outputs for cell in nbformat.read(executed, 4).cells if cell.cell_type == "code"]
    assert "mine 4 0.001 False" in json.dumps(outputs)
    assert script.read_text() == SCRIPT


@pytest.mark.parametrize("quiet", ["", "1"])
def test_what_cells_print_is_shown_unless_it_is_not_wanted(script, tmp_path, capsys, monkeypatch, quiet):
    monkeypatch.setenv(QUIET, quiet)
    executed = tmp_path / "01_try.ipynb"
    assert main([str(script), str(executed), "-p", "name", "mine"]) == 0
    told = capsys.readouterr().out
    assert "01_try: started" in told and "01_try: done" in told
    assert ("mine 3 0.001 False" in told) == (not quiet)
    assert "mine 3 0.001 False" in executed.read_text()


def test_a_failing_cell_keeps_the_executed_notebook_and_fails(script, tmp_path, capsys):
    executed = tmp_path / "01_try.ipynb"
    assert main([str(script), str(executed), "-p", "epochs", "9"]) == 1
    assert "AssertionError: too many" in capsys.readouterr().err
    assert "too many" in executed.read_text()


def test_what_cannot_be_run_is_said_before_anything_runs(script, tmp_path, capsys):
    assert main([str(script), str(tmp_path / "x.ipynb"), "-p", "epoch", "9"]) == 2
    assert "unknown parameter 'epoch'" in capsys.readouterr().err
    assert main(["notebooks/02_train_networks.py"]) == 2
    assert "02_train_network.py" in capsys.readouterr().err
    assert not (tmp_path / "x.ipynb").exists()


def test_list_shows_the_parameters(script, capsys):
    assert main([str(script), "--list"]) == 0
    assert "rate: float = 1.0e-3  # how fast" in capsys.readouterr().out


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_kernel_that_dies_at_its_start_is_started_again(monkeypatch, tmp_path, deaths):
    """Two kernels that start at once may choose the same port; a third death is told."""
    starts = []

    def execute(*arguments, **settings):
        starts.append(arguments)
        if len(starts) <= deaths:
            raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr("lib.run_notebook.pm.execute_notebook", execute)
    notebook = read_notebook(ROOT / "notebooks" / "04_vote_slices.py")
    if deaths == 3:
        with pytest.raises(RuntimeError, match="Kernel died"):
            run_notebook(notebook, tmp_path / "04.ipynb", {})
    else:
        assert run_notebook(notebook, tmp_path / "04.ipynb", {}) >= 0
    assert len(starts) == min(deaths + 1, 3)
