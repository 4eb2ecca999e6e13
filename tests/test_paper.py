"""The paper as data."""

import pytest

from lib.paper import FINAL_MAPS, LAYERS, PHASES, published
from lib.titles import LAYER_TITLES, METHOD_TITLES, PHASE_TITLES


def test_phases_are_in_the_order_of_enhancement():
    assert PHASES == ("noncon", "cm", "cm-neph", "neph", "pyelo")
    assert tuple(PHASE_TITLES) == PHASES


@pytest.mark.parametrize("name", ["table1_slices", "table1_volumes"])
def test_table_1_has_phases_in_rows_and_columns(name):
    table = published(name)
    assert tuple(table.index) == tuple(table.columns) == PHASES


def test_table_2_has_both_schemes():
    table = published("table2")
    assert table.groupby("scheme", sort=False)["phase"].apply(tuple).to_dict() == {"single": PHASES, "voting": PHASES}
    assert table.iloc[:, 2:].stack().between(0.6, 1).all()


def test_claims_are_numbered_through():
    claims = published("claims")
    assert claims["id"].tolist() == [f"C{i}" for i in range(1, 64)]
    assert claims[["claim", "where", "paper", "test"]].ne("").all().all()
    kinds = {"cohort", "method", "identity", "null", "superiority", "some", "order", "grid", "references", "anatomy"}
    assert set(claims["test"]) <= kinds | {"ablation", "readers", "conjecture"}


def test_titles_cover_layers_and_maps():
    assert tuple(LAYER_TITLES) == LAYERS
    assert {method for method, _ in FINAL_MAPS} <= set(METHOD_TITLES)
