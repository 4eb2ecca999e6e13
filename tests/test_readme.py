import re
import shutil

import pandas as pd
import pytest

from lib.files import ROOT
from lib.results import TEXTS_BEGIN, TEXTS_END, results, shown, texts, update

PAGES = ("README.md", "CONTRIBUTING.md", "docs/own_ct.md", "docs/differences.md", "docs/costs.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text())
    assert page != "README.md" or len(targets) > 15
    assert [target for target in targets if not ((ROOT / page).parent / target).exists()] == []


def test_every_notebook_is_named_and_every_make_target_exists():
    readme = (ROOT / "README.md").read_text()
    notebooks = [path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")]
    assert [name for name in notebooks if f"notebooks/{name}" not in readme] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE)) <= targets


def test_the_results_are_those_of_the_published_tables():
    assert shown(ROOT / "README.md") == results(ROOT / "tables").strip()


def test_what_four_studies_say_is_made_from_the_published_tables():
    assert shown(ROOT / "README.md", TEXTS_BEGIN, TEXTS_END) == texts(ROOT / "tables").strip()


def test_no_other_measured_number_stands_in_the_readme():
    """Results are made from tables; beside them stand numbers of the paper and of the setup, never a metric of ours."""
    rest = (ROOT / "README.md").read_text().replace(shown(ROOT / "README.md"), "")
    rest = rest.replace(shown(ROOT / "README.md", TEXTS_BEGIN, TEXTS_END), "")
    rest = re.sub(r"10\.2214\S*", "", rest).replace("95 %", "")  # the paper's DOI, and what an interval is
    assert re.findall(r"(?<!\d)0?\.\d{2,3}\b", rest) == []
    assert re.findall(r"\d+(?:\.\d+)? %", rest) == []


def test_a_readme_without_marks_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="where are the results to go"):
        update(tmp_path / "README.md", ROOT / "tables")
    assert (tmp_path / "README.md").read_text() == "no marks"


def test_several_networks_come_first_with_their_range_and_the_outcomes_over_them(tmp_path):
    for file in (ROOT / "tables").glob("*.csv"):
        shutil.copyfile(file, tmp_path / file.name)
    networks = {"network": ["seed01", "seed02"], "f1_slices": [0.811, 0.842], "f1_voting": [0.9, 0.88]}
    pd.DataFrame(networks).to_csv(tmp_path / "seeds.csv", index=False)
    outcomes = [("C52", "supported"), ("C52", "inconclusive"), ("C52", "supported"), ("C54", "contradicted")]
    pd.DataFrame(outcomes, columns=["claim", "outcome"]).to_csv(tmp_path / "claims_over_networks.csv", index=False)
    levels = {"network": ["seed01", "seed02"], "method": "saliency", "layer": "input", "region": "top", "phase": "mean"}
    pd.DataFrame(levels | {"value": [30.0, 40.0], "less_control": 0.0}).to_csv(tmp_path / "masking_networks.csv")
    lines = results(tmp_path).splitlines()
    assert "| the highest of saliency | 35\N{NO-BREAK SPACE}% (30 to 40) |" in lines
    assert "F1 0.811 to 0.842 on slices, 0.880 to 0.900 by voting" in lines[0]
    rows = {line.split("|")[1].strip(): line.split("|")[-2].strip() for line in lines if line.startswith("| C5")}
    assert rows == {"C52": "of 3: 1 inconclusive, 2 supported", "C54": "1 contradicted"}
    pd.DataFrame(networks).head(1).to_csv(tmp_path / "seeds.csv", index=False)
    assert "differ by their seed" not in results(tmp_path)
