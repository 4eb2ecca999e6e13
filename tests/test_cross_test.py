"""Networks tested across cohorts: counts by hand, and the notebook on tiny folders."""

import jupytext
import keras
import numpy as np
import pandas as pd
import pytest

from lib.cohort import Cohort, Standardisation
from lib.cross_test import cross_test, network_folders
from lib.figures.domain import draw_across
from lib.files import ROOT
from lib.networks import phase_net
from lib.paper import PHASES
from lib.preparation import prepare_cohort
from lib.run_notebook import run_notebook


@pytest.fixture
def kinds(tmp_path, write_series):
    """Two cohorts of five series, one per phase, and networks that always name the first phase, or the last."""
    cohorts = {}
    for kind in ("phantom", "public"):
        for patient in "ABCDE":
            write_series(f"{kind}{patient}", folder=f"{kind}/{patient}", z=(0, 5))
        path = tmp_path / kind / "cohort"
        prepare_cohort(tmp_path / "dicom" / kind, path, split="apply", key="k", processes=1)
        table = pd.read_parquet(path / "slices.parquet")
        known = dict(zip(sorted(table["series"].unique()), PHASES, strict=True))
        table.assign(split="test", phase=table["series"].map(known)).to_parquet(path / "slices.parquet")
        cohorts[kind] = path
    networks = {"phantom": tmp_path / "one", "public": tmp_path / "several"}
    for folder, phase in ((tmp_path / "one", 0), (tmp_path / "several" / "a", 0), (tmp_path / "several" / "b", 4)):
        folder.mkdir(parents=True)
        model = phase_net(32, kernels=(2,))
        weights, bias = model.layers[-1].get_weights()
        model.layers[-1].set_weights([0 * weights, np.eye(5)[phase] + 0 * bias])
        model.save(folder / "model.keras")
        Standardisation(0.0, 100.0, 32).save(folder / "standardisation.json")
    return networks, cohorts


def test_every_network_meets_every_cohort(kinds):
    tested = cross_test(*kinds)
    assert len(tested) == 3 * 2 and tested["network"].tolist() == ["one", "a", "b"] * 2
    assert (tested[["slices", "series", "patients"]] == (10, 5, 5)).all().all()
    assert tested.loc[tested["network"] != "b", "recall_noncon"].eq(1).all()
    assert tested.loc[tested["network"] == "b", "recall_noncon"].eq(0).all()
    # one phase of five is always named: its precision is 1/5 and its recall 1, and the other phases have an F1 of 0
    np.testing.assert_allclose(tested[["f1", "voting_f1"]], (2 * 0.2 / 1.2) / 5)
    panel = draw_across(tested).axes[0]
    assert [text.get_text() for text in panel.texts] == ["0.07", "0.07", "0.07", "0.07 to 0.07", "0.07", "0.07 to 0.07"]


def test_what_is_missing_is_named(kinds, tmp_path):
    networks, cohorts = kinds
    with pytest.raises(FileNotFoundError, match="holds no trained network"):
        network_folders(tmp_path / "public")
    with pytest.raises(FileNotFoundError, match="01_prepare_cohort"):
        cross_test(networks, {"none": tmp_path / "none"})
    table = Cohort.open(cohorts["public"]).slices
    table.assign(phase=None).to_parquet(cohorts["public"] / "slices.parquet")
    with pytest.raises(ValueError, match="no labelled slice in its test split"):
        cross_test(networks, {"public": cohorts["public"]})


def test_the_notebook_tests_each_on_the_other(kinds, tmp_path):
    networks, cohorts = kinds
    text = {name: ", ".join(f"{key}: {path}" for key, path in part.items())
            for name, part in (("networks", networks), ("cohorts", cohorts))}  # fmt: skip
    places = {"tables": str(tmp_path / "tables"), "figures": str(tmp_path / "figures")}
    notebook = jupytext.read(ROOT / "notebooks" / "96_test_across_cohorts.py")
    run_notebook(notebook, tmp_path / "96.ipynb", text | places)
    table = pd.read_csv(tmp_path / "tables" / "across_cohorts.csv")
    assert set(zip(table["trained_on"], table["tested_on"], strict=True)) == {
        (one, other) for one in networks for other in cohorts
    }
    assert (tmp_path / "figures" / "across_cohorts.png").stat().st_size > 5000
    keras.utils.clear_session()
