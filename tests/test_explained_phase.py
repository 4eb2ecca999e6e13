"""What the maps of one's own CT explain: labels where the network agrees, else what it predicts, and it says so."""

import pandas as pd
import pytest

from lib.explained_phase import phases_to_explain
from lib.paper import PHASES
from lib.slice_choice import eligible_slices, representative_slices


def predicted(phases, split="apply"):
    """Three slices of two series that the network calls cm, neph and neph."""
    table = pd.DataFrame({phase: [0.1, 0.1, 0.1] for phase in PHASES}).assign(cm=[0.6, 0.1, 0.1], neph=[0.1, 0.6, 0.7])
    facts = {"series": ["a", "b", "b"], "patient": ["a", "b", "b"], "slice": [0, 0, 1], "kidney_position": 0.5}
    return table.assign(**facts, predicted=["cm", "neph", "neph"], phase=phases, split=split)


@pytest.mark.parametrize(
    ("phases", "explained", "says"),
    [
        (["nan"] * 3, ["cm", "neph", "neph"], "There are no labels"),
        (["pyelo", "noncon", "noncon"], ["cm", "neph", "neph"], "None of the 3 slices is classified as labels.csv"),
        (["cm", "pyelo", "neph"], ["cm", "neph"], "2 of 3 labelled slices are classified as labels.csv says"),
        (["pyelo", "nan", "nan"], ["neph", "neph"], "0 of 1 labelled slices"),
    ],
)
def test_own_ct_is_explained_whatever_its_labels_say(phases, explained, says):
    table, sentence = phases_to_explain(predicted(phases))
    assert sentence.startswith(says) and sentence.count(".") - sentence.count(".csv") == 1
    assert eligible_slices(table)["phase"].tolist() == explained
    assert set(representative_slices(table, by="series")["phase"]) == set(explained)


def test_a_study_explains_what_is_classified_correctly_and_nothing_else():
    wrong = predicted(["pyelo", "noncon", "noncon"], split="test")
    table, sentence = phases_to_explain(wrong)
    assert table is wrong and sentence == ""
    with pytest.raises(ValueError, match="nothing to explain"):
        eligible_slices(table)
