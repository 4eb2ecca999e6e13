"""Means over patients and phases against a naive loop and closed forms."""

import numpy as np
import pytest

from lib.patient_statistics import balanced_mean, cluster_interval


def test_the_mean_is_of_patients_and_then_of_phases():
    values = np.array([[0.0], [0.0], [0.0], [6.0], [10.0]])
    patients, phases = list("aaaba"), ["cm"] * 4 + ["neph"]
    ((mean, low, high),) = balanced_mean(values, patients, phases, rng=np.random.default_rng(0), resamples=200)
    assert mean == pytest.approx((np.mean([0, 6]) + 10) / 2)
    assert (low, high) == pytest.approx((5, mean))  # a twice: 0 and 10; b twice: 6, and nobody has the other phase


def test_in_one_phase_with_one_slice_each_it_is_the_interval_by_cluster():
    values = np.random.default_rng(1).normal(size=12)
    mean, *bounds = balanced_mean(values[:, None], range(12), ["cm"] * 12, rng=np.random.default_rng(2))[0]
    np.testing.assert_allclose(mean, values.mean())
    np.testing.assert_allclose(bounds, cluster_interval(values, np.arange(12), rng=np.random.default_rng(2)))


def test_resamples_are_those_of_a_loop():
    rng = np.random.default_rng(3)
    patients, phases, values = rng.integers(0, 4, 30), rng.integers(0, 2, 30), rng.normal(size=30)
    patients[:8], phases[:8] = np.tile(np.arange(4), 2), np.repeat([0, 1], 4)  # every patient has every phase

    def mean(drawn):
        by_phase = [
            np.mean([values[(patients == patient) & (phases == phase)].mean() for patient in drawn]) for phase in (0, 1)
        ]
        return np.mean(by_phase)

    counts = np.random.default_rng(9).multinomial(4, [0.25] * 4, size=1000)
    loop = [mean(np.repeat(np.arange(4), count)) for count in counts]
    found = balanced_mean(values[:, None], patients, phases, rng=np.random.default_rng(9), resamples=1000)[0]
    assert found[0] == pytest.approx(mean(range(4)))
    assert min(loop) <= found[1] <= np.quantile(loop, 0.025) and np.quantile(loop, 0.975) <= found[2] <= max(loop)


def test_one_patient_has_no_interval():
    mean, low, high = balanced_mean(np.ones((2, 1)), ["a", "a"], ["cm", "neph"], rng=np.random.default_rng(0))[0]
    assert mean == 1 and np.isnan([low, high]).all()
