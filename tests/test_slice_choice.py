import numpy as np
import pandas as pd
import pytest

from lib.paper import PHASES
from lib.slice_choice import eligible_slices, other_patients, representative_slices, slices_to_mask


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    n = 3000
    patient = np.minimum(rng.geometric(0.1, n), 30)
    table = pd.DataFrame(rng.dirichlet(np.full(5, 0.3), n), columns=list(PHASES))
    return table.assign(
        predicted=table.idxmax(axis=1),
        phase=rng.choice(PHASES, n),
        patient=[f"p{p:02d}" for p in patient],
        series=[f"s{p:02d}" for p in patient],
        slice=np.arange(n),
        kidney_position=rng.uniform(0, 1, n),
        split=rng.choice(["val", "test"], n),
    )


def test_only_correct_test_slices_are_eligible(predictions):
    chosen = eligible_slices(predictions)
    assert set(chosen.split) == {"test"} and (chosen.phase == chosen.predicted).all()
    assert len(chosen) == ((predictions.split == "test") & (predictions.phase == predictions.predicted)).sum()
    np.testing.assert_array_equal(chosen.probability, chosen[list(PHASES)].max(axis=1))


def test_an_unlabelled_cohort_is_explained_by_its_predictions(predictions):
    chosen = eligible_slices(predictions.assign(phase="", split="apply"))
    assert len(chosen) == len(predictions) and (chosen.phase == predictions.predicted).all()


def test_the_representative_slice_has_the_median_confidence_of_the_mid_kidney(predictions):
    shown = representative_slices(predictions)
    assert tuple(shown.phase) == PHASES
    central = eligible_slices(predictions).query("abs(kidney_position - 0.5) <= 0.15")
    for row in shown.itertuples():
        probability = central[central.phase == row.phase].probability
        assert (probability < row.probability).sum() == (len(probability) - 1) // 2
    shuffled = representative_slices(predictions.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shown, shuffled)


def test_masked_slices_are_balanced_over_phases_and_spread_over_patients(predictions):
    taken = slices_to_mask(predictions, per_phase=15, seed=0)
    assert (taken.phase.value_counts() == 15).all()
    eligible = eligible_slices(predictions)
    for phase, group in taken.groupby("phase"):
        assert group.patient.nunique() == min(15, eligible[eligible.phase == phase].patient.nunique())
    assert not slices_to_mask(predictions, 15, seed=1).equals(taken)
    assert len(slices_to_mask(predictions, 0, seed=0)) == len(eligible)


def test_no_correct_slice_is_an_error(predictions):
    with pytest.raises(ValueError, match="None of the 3000 predicted slices"):
        eligible_slices(predictions.assign(predicted="none"))


def test_every_slice_is_paired_with_another_patients_of_its_phase(predictions):
    rows = predictions[:400]
    paired = rows.join(other_patients(rows, 1).add_prefix("other_"))
    known = rows.set_index(["series", "slice"])
    others = known.loc[pd.MultiIndex.from_frame(paired[["other_series", "other_slice"]])]
    assert (others["phase"].to_numpy() == rows["phase"].to_numpy()).all()
    assert (others["patient"].to_numpy() != rows["patient"].to_numpy()).all()
    shuffled = rows.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(other_patients(shuffled, 1).sort_index(), other_patients(rows, 1))
    assert not other_patients(rows, 2).equals(other_patients(rows, 1))


def test_a_phase_of_one_patient_has_no_other():
    rows = pd.DataFrame({"patient": "a", "series": ["1", "2"], "slice": 0, "phase": "cm"})
    assert other_patients(rows, 1).isna().all(axis=None)
