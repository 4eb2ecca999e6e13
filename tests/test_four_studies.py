"""The page of four studies: each claim once, with the verdict of the table that tells most; what is missing is said."""

import pandas as pd
import pytest

from lib.claims.four_studies import PAPER, TABLES, four_studies, read_tables
from lib.figures.four_studies import draw_against_nulls
from lib.paper import published


def test_every_claim_of_the_texts_answers_one_question():
    asked = " ".join(published("study_questions")["claims"]).split()
    assert len(asked) == len(set(asked))
    assert set(asked) >= set(published("text_claims")["id"])
    assert {name for name in asked if name[0] == "C"} <= set(published("claims")["id"])


def test_a_run_without_tables_leaves_all_claims_untested(tmp_path):
    tables, found = read_tables(tmp_path)
    assert tables == {} and not found["found"].any() and set(found.index) == set(TABLES)
    claims = four_studies(tables)
    assert set(claims["verdict"]) == {"not tested here"} and set(claims["study"]) >= {PAPER, "ours"}


def test_networks_go_before_one_network_and_texts_have_their_own(tmp_path):
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"id": ["C50", "C52"], "verdict": ["reproduced", "not reproduced"]}).to_csv(tmp_path / "claims.csv")
    over = pd.DataFrame({"claim": ["C52", "C52", "C60"], "outcome": ["supported", "inconclusive", None]})
    over.to_csv(tmp_path / "tables/claims_over_networks.csv")
    pd.DataFrame({"id": ["M3"], "verdict": ["contradicted"]}).to_csv(tmp_path / "tables/dental_verdicts.csv")
    tables, found = read_tables(tmp_path)
    assert found["found"].sum() == 3
    claims = four_studies(tables).set_index("id")
    assert claims.loc[["C50", "C52", "C60", "M3", "M4"], "verdict"].tolist() == [
        *("reproduced", "inconclusive", "not tested here", "contradicted", "not tested here"),
    ]
    assert claims.loc["C52", "unit"] == "networks" and claims.loc["C50", "unit"] == "patients, one network"
    assert claims.loc["M3", "study"] == "McAllister 2020" and claims.loc["M3", "unit"] == "plates"


def test_the_figure_shows_values_and_controls():
    values, own = pd.Series({"resnet18": 0.1, "vit_tiny": 0.05}), pd.Series({"resnet18": 0.08, "vit_tiny": 0.03})
    panels = {("A", "EHR"): (values, pd.Series({"uniform": 0.02}), {"mean mask": own})}
    figure = draw_against_nulls(panels)
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["vit tiny", "resnet18"]
    points, line, marks = panel.lines
    assert marks.get_xdata().tolist() == [0.03, 0.08] and marks.get_ydata().tolist() == points.get_ydata().tolist()
    assert points.get_xdata().tolist() == [0.05, 0.1] and line.get_xdata()[0] == pytest.approx(0.02)
