import ast

import jupytext
import pytest
from jupytext.compare import compare_notebooks

from lib.files import ROOT
from lib.provenance import modules_used
from lib.run_notebook import declared_parameters

SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
COMPUTING = ("01", "02", "05", "06")


@pytest.fixture(params=SCRIPTS, ids=lambda path: path.stem)
def script(request):
    return request.param


def test_the_pair_is_equal_and_carries_no_output(script):
    pair = jupytext.read(script.with_suffix(".ipynb"))
    compare_notebooks(pair, jupytext.read(script), fmt="py:percent")
    assert all(not cell.outputs and cell.execution_count is None for cell in pair.cells if cell.cell_type == "code")
    assert pair.metadata.kernelspec.name == "python3"


def test_every_parameter_has_a_type_a_default_and_help(script):
    parameters = declared_parameters(jupytext.read(script))
    for name, (kind, default, text) in parameters.items():
        assert kind in ("str", "int", "float", "bool"), name
        assert default and text, name


def test_imports_come_once_and_before_the_parameters(script):
    cells = [cell for cell in jupytext.read(script).cells if cell.cell_type == "code"]
    tagged = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    assert tagged == 1, "the cells begin with the imports and the parameters"
    for cell in cells:
        imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(ast.parse(cell.source)))
        assert imports == (cell is cells[0]), cell.source
        assert "sys.path" not in cell.source and not cell.source.lstrip().startswith(("!", "%"))


def test_cells_are_short_and_hold_no_class_and_no_long_function(script):
    cells = jupytext.read(script).cells
    assert 8 <= len(cells) <= 40
    for cell in cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 30, cell.source
            for node in ast.walk(ast.parse(cell.source)):
                assert not isinstance(node, ast.ClassDef)
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 8, node.name


def test_the_first_cell_is_a_title_with_the_number(script):
    title = jupytext.read(script).cells[0].source
    assert title.startswith(f"# {script.stem[:2]} · ")


@pytest.mark.parametrize("number", COMPUTING)
def test_computing_notebooks_draw_nothing_with_the_figures_module(number):
    (script,) = (path for path in SCRIPTS if path.stem.startswith(number))
    assert "lib/figures/maps.py" not in {str(path) for path in modules_used(script)}
