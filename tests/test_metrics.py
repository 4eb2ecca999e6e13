"""Metrics against the published tables, scikit-learn and hand counts."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lib.metrics import (
    adjacent_errors,
    auc_table,
    audit_published,
    confusion,
    consistent_counts,
    expand,
    headline,
    macro,
    phase_table,
    roc_curves,
)
from lib.paper import PHASES, published

SLICES, VOLUMES = published("table1_slices"), published("table1_volumes")


def random_pair(seed, n=300):
    rng = np.random.default_rng(seed)
    labels = rng.choice(PHASES, n, p=[0.1, 0.3, 0.2, 0.15, 0.25])
    return labels, np.where(rng.random(n) < 0.6, labels, rng.choice(PHASES, n))


def test_published_sizes():
    assert SLICES.to_numpy().sum() == 12165
    assert np.trace(SLICES) == 10746
    assert SLICES.sum().tolist() == [2885, 2499, 1736, 1962, 3083]
    assert VOLUMES.to_numpy().sum() == 526
    assert np.trace(VOLUMES) == 487
    assert VOLUMES.sum().tolist() == [141, 109, 80, 74, 122]


def test_confusion_is_the_transpose_of_scikit_learns():
    labels, predictions = random_pair(0)
    ours = confusion(labels, predictions)
    np.testing.assert_array_equal(ours, sk.confusion_matrix(labels, predictions, labels=PHASES).T)
    assert (ours.index.name, ours.columns.name) == ("predicted", "labelled")


def test_expand_undoes_confusion():
    pd.testing.assert_frame_equal(confusion(*expand(SLICES)), SLICES.rename_axis(columns="labelled"), check_dtype=False)


def test_phase_table_equals_scikit_learns():
    labels, predictions = random_pair(1)
    table = phase_table(confusion(labels, predictions))
    expected = sk.precision_recall_fscore_support(labels, predictions, labels=PHASES)
    np.testing.assert_allclose(table[["precision", "recall", "f1"]].to_numpy().T, expected[:3])


def test_within_one_phase_is_a_cycle():
    table = phase_table(SLICES)
    assert table.loc["noncon", "precision_within_one"] == pytest.approx((2876 + 12 + 36) / 2950)
    assert table.loc["pyelo", "recall_within_one"] == pytest.approx((2876 + 144 + 36) / 3083)
    linear = (2876 + 12) / 2950
    assert round(linear, 3) == 0.979
    assert round(table.loc["noncon", "precision_within_one"], 3) == 0.991


def test_table_2_agrees_with_table_1_in_39_of_50_cells():
    audit = audit_published()
    assert len(audit) == 50
    assert audit["agrees"].sum() == 39
    misfits = audit[~audit["agrees"]].set_index(["scheme", "phase", "column"])["recomputed"].round(3)
    assert misfits.to_dict() == {
        ("single", "cm-neph", "precision_within_one"): 0.992,
        ("single", "cm-neph", "f1"): 0.708,
        ("voting", "cm", "precision"): 0.936,
        ("voting", "cm", "f1"): 0.936,
        ("voting", "cm-neph", "precision"): 0.803,
        ("voting", "cm-neph", "precision_within_one"): 1.0,
        ("voting", "cm-neph", "f1"): 0.782,
        ("voting", "neph", "precision"): 0.842,
        ("voting", "neph", "f1"): 0.853,
        ("voting", "pyelo", "precision_within_one"): 0.976,
        ("voting", "pyelo", "f1"): 0.967,
    }
    assert (audit.loc[~audit["agrees"], "reading"] != "").all()


def test_second_run_explains_the_voting_columns():
    audit = audit_published().query("scheme == 'voting' and column in ('precision', 'f1')")
    assert (audit["second_run"] - audit["published"]).abs().max() <= 0.0005 + 1e-9
    assert audit["second_run"].notna().all()


def second_run():
    table = published("table2").query("scheme == 'voting'").set_index("phase")
    labelled = VOLUMES.sum()
    return {p: consistent_counts(labelled[p], table.loc[p, "precision"], table.loc[p, "f1"]) for p in PHASES}


def test_printed_voting_columns_admit_one_run():
    runs = second_run()
    assert runs == {
        "noncon": [(141, 141)],
        "cm": [(105, 112)],
        "cm-neph": [(63, 74)],
        "neph": [(65, 74)],
        "pyelo": [(120, 125)],
    }
    assert sum(pair[0][1] for pair in runs.values()) == 526
    assert sum(pair[0][0] for pair in runs.values()) == 494


def test_headline_is_decoded_from_table_1():
    found = headline(*expand(SLICES))
    assert found == pytest.approx({"precision": 0.776, "recall": 0.862, "f1": 0.860}, abs=0.0005)
    assert found["precision"] == pytest.approx(0.7757, abs=5e-5)


def test_headline_precision_is_closed_form():
    """Average precision of one-hot predictions is P R + (1 - R) prevalence, prevalence 1/5 by the weights."""
    balanced = SLICES / SLICES.sum()
    precision, recall = np.diag(balanced) / balanced.sum(axis=1), np.diag(balanced)
    assert headline(*expand(SLICES))["precision"] == pytest.approx(np.mean(precision * recall + (1 - recall) / 5))


def fillings():
    """Yield all voting matrices with the second run's margins: 4 x 4 off-diagonal blocks, row by row."""
    runs = second_run()
    phases = PHASES[1:]
    rows = [runs[p][0][1] - runs[p][0][0] for p in phases]
    columns = [VOLUMES.sum()[p] - runs[p][0][0] for p in phases]

    def fill(i, left):
        if i == 4:
            if not any(left):
                yield []
            return
        others = [j for j in range(4) if j != i]
        for a, b in itertools.product(range(left[others[0]] + 1), range(left[others[1]] + 1)):
            c = rows[i] - a - b
            if 0 <= c <= left[others[2]]:
                row = [0] * 4
                for j, value in zip(others, (a, b, c), strict=True):
                    row[j] = value
                for rest in fill(i + 1, [old - new for old, new in zip(left, row, strict=True)]):
                    yield [row, *rest]

    for block in fill(0, columns):
        matrix = np.zeros((5, 5), dtype=int)
        matrix[1:, 1:] = block
        matrix[np.arange(5), np.arange(5)] = [runs[p][0][0] for p in PHASES]
        yield pd.DataFrame(matrix, index=PHASES, columns=PHASES)


def test_voting_headline_belongs_to_the_second_run():
    matrices = list(fillings())
    assert len(matrices) == 105
    found = pd.DataFrame([headline(*expand(matrix)) for matrix in matrices]).round(3)
    assert found["precision"].eq(0.869).all()
    assert found["recall"].eq(0.923).all()
    assert found["f1"].eq(0.921).sum() == 102
    assert headline(*expand(VOLUMES))["recall"] == pytest.approx(0.908, abs=0.0005)


def test_macro_of_the_published_matrices():
    single, voting = macro(*expand(SLICES)), macro(*expand(VOLUMES))
    assert single == pytest.approx(
        {"accuracy": 0.8834, "kappa": 0.852, "precision": 0.863, "recall": 0.8617, "f1": 0.8622}, abs=5e-4
    )
    assert voting["accuracy"] == pytest.approx(487 / 526)
    assert voting["kappa"] == pytest.approx(0.906, abs=5e-4)
    assert voting["recall"] == pytest.approx(0.9077, abs=5e-5)


def test_errors_in_adjacent_phases():
    assert adjacent_errors(SLICES, cyclic=False) == pytest.approx(1226 / 1419)
    assert adjacent_errors(SLICES) == pytest.approx(1262 / 1419)
    assert adjacent_errors(VOLUMES) == pytest.approx(36 / 39)
    assert np.isnan(adjacent_errors(pd.DataFrame(np.eye(5, dtype=int), PHASES, PHASES)))


def test_missing_phases_are_nan_by_phase_and_left_out_of_averages():
    labels, predictions = ["cm", "cm", "neph"], ["cm", "pyelo", "cm"]
    table = phase_table(confusion(labels, predictions))
    assert np.isnan(table.loc["noncon"]).all()
    assert np.isnan(table.loc["neph", "precision"])
    assert table.loc["neph", "f1"] == 0
    assert np.isnan(table.loc["pyelo", "recall"])
    assert macro(labels, predictions)["recall"] == pytest.approx(0.25)
    assert headline(labels, predictions)["recall"] == pytest.approx(0.25)


def test_auc_is_the_rank_statistic():
    rng = np.random.default_rng(3)
    labels = rng.choice(PHASES, 80)
    scores = np.round(rng.dirichlet(np.ones(5), 80), 1)  # ties on purpose
    table = auc_table(labels, scores)
    for i, phase in enumerate(PHASES):
        positive, negative = scores[labels == phase, i], scores[labels != phase, i]
        wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
        assert table.loc[phase, "roc_auc"] == pytest.approx(wins)
    assert table.loc["mean", "roc_auc"] == pytest.approx(table["roc_auc"].iloc[:5].mean())
    curves = roc_curves(labels, scores)
    for phase, curve in curves.groupby("phase"):
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert area == pytest.approx(table.loc[phase, "roc_auc"])


def test_auc_of_an_absent_phase_is_nan():
    labels = ["cm", "cm", "neph"]
    scores = np.eye(5)[[1, 1, 3]]
    table = auc_table(labels, scores)
    assert table["roc_auc"].dropna().to_dict() == {"cm": 1.0, "neph": 1.0, "mean": 1.0}
    assert set(roc_curves(labels, scores)["phase"]) == {"cm", "neph"}


def test_bad_input():
    with pytest.raises(ValueError, match=r"labels holds \['arterial'\].*expected \['noncon'"):
        confusion(["arterial"], ["cm"])
    with pytest.raises(ValueError, match="labels has 1 values and predictions 2"):
        confusion(["cm"], ["cm", "neph"])
    with pytest.raises(ValueError, match="labels is empty"):
        confusion([], [])
    with pytest.raises(ValueError, match=r"scores has shape \(2, 4\); expected \(2, 5\)"):
        auc_table(["cm", "neph"], np.zeros((2, 4)))
    with pytest.raises(ValueError, match="NaN or infinite values in 1 rows"):
        auc_table(["cm", "neph"], np.array([[0.2] * 5, [np.nan] * 5]))
    with pytest.raises(ValueError, match="needs two phases"):
        roc_curves(["cm"], np.zeros((1, 5)))
    with pytest.raises(ValueError, match="matrix has rows"):
        phase_table(pd.DataFrame(np.eye(2)))
