"""The reader's thresholds lie at the times of practice, confusions are between neighbours, the ceiling is known."""

import numpy as np
import pandas as pd
import pytest

from lib.paper import PHASES
from lib.phantom.labelling_reader import (
    INDEX_AT_TURN,
    READER_ERROR,
    TURNS,
    draw_phases,
    draw_scan_time,
    label_ceiling,
    maturity,
    phase_by_time,
    read_phase,
    reader_agreement,
)
from lib.phantom.physiology import Physiology


@pytest.fixture(scope="module")
def patients():
    return [Physiology(np.random.default_rng([21, k])) for k in range(160)]


def cohort(patients, error, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for patient in patients:
        for phase in PHASES:
            time = draw_scan_time(rng, phase)
            label, second = (read_phase(patient, time, rng, error) for _ in range(2))
            rows.append((phase, read_phase(patient, time), label, second, phase_by_time(time)))
    return pd.DataFrame(rows, columns=["intended", "true_phase", "label", "second_reader", "timed"])


def test_thresholds_are_the_index_of_the_median_patient_at_the_published_times(patients):
    for phase, time in TURNS.items():
        index = np.median([maturity(p.enhancement(time)) for p in patients])
        assert index == pytest.approx(INDEX_AT_TURN[phase], abs=0.025)


def test_index_grows_with_time(patients):
    for patient in patients[:40]:
        values = [maturity(patient.enhancement(t)) for t in (30, 45, 60, 75, 90)]
        assert (np.diff(values) > 0).all()


def test_a_reader_without_error_mostly_says_what_was_meant(patients):
    truth = cohort(patients, 0.0)
    assert (truth["label"] == truth["true_phase"]).all()
    agree = (truth["true_phase"] == truth["intended"]).groupby(truth["intended"]).mean()
    assert agree["noncon"] == 1 and (agree > 0.85).all()
    assert agree.drop("noncon").max() < 1  # a continuum: some scans come early or late


def test_confusions_are_between_neighbours(patients):
    truth = cohort(patients, 0.035)
    rank = {phase: k for k, phase in enumerate(PHASES)}
    step = (truth["label"].map(rank) - truth["true_phase"].map(rank)).abs()
    wrong = step[step > 0]
    assert 0.002 < len(wrong) / len(truth) < 0.08
    assert (wrong == 1).mean() > 0.85


def test_the_ceiling_falls_with_the_readers_error(patients):
    scores = [label_ceiling(cohort(patients, error))["f1"] for error in (0.0, 0.035, 0.10)]
    assert (scores[0] == 1).all()
    assert scores[0].mean() > scores[1].mean() > scores[2].mean()
    assert scores[1].min() > 0.93 and scores[1]["noncon"] == 1


def test_labelling_by_time_alone_agrees_with_the_reader_on_most_scans(patients):
    truth = cohort(patients, 0.0)
    assert 0.85 < (truth["timed"] == truth["true_phase"]).mean() < 0.999
    assert [phase_by_time(t) for t in (None, 30.0, 60.0, 100.0, 300.0)] == list(PHASES)


def test_examinations_show_two_phases_on_average_in_scanning_order():
    rng = np.random.default_rng(0)
    drawn = [draw_phases(rng) for _ in range(3000)]
    assert np.mean([len(d) for d in drawn]) == pytest.approx(2.0, abs=0.08)
    assert {len(d) for d in drawn} == {1, 2, 3, 4, 5}
    assert all(d == sorted(d, key=PHASES.index) and len(set(d)) == len(d) for d in drawn)


def test_ceiling_of_a_small_table_by_hand():
    truth = pd.DataFrame({"label": ["cm", "cm", "neph", "pyelo"], "true_phase": ["cm", "cm-neph", "neph", "pyelo"]})
    table = label_ceiling(truth)
    assert table.loc["cm", "precision"] == 1.0 and table.loc["cm", "recall"] == 0.5
    assert table.loc["cm", "f1"] == pytest.approx(2 / 3)
    assert table.loc["neph", "f1"] == 1.0 and table.loc["cm", "n"] == 2


def test_two_readers_agree_as_radiologists_do(patients):
    agreement = {error: reader_agreement(cohort(patients, error)) for error in (0.0, 0.035, READER_ERROR, 0.15)}
    assert agreement[0.0] == 1 and 0.93 < agreement[0.035] < 0.98
    assert agreement[READER_ERROR] == pytest.approx(0.86, abs=0.025)
    assert agreement[0.15] < 0.8


def test_the_agreement_of_a_small_table_by_hand():
    truth = pd.DataFrame({"label": ["cm", "cm", "neph", "neph"], "second_reader": ["cm", "neph", "neph", "neph"]})
    assert reader_agreement(truth) == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
