"""Variation of training slices: known images, known changes, and a training that can be interrupted."""

import numpy as np
import pandas as pd
import pytest

from lib.augmentation import Variation, VariedSlices, vary
from lib.cohort import Standardisation
from lib.paper import PHASES

MEAN, SD = -20.0, 140.0


def disc(size=65, hu=100.0, n=60):
    """Standardised discs of one HU with 0 around them."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    image = np.where(np.hypot(x, y) < 20, (hu - MEAN) / SD, 0).astype(np.float32)
    return np.repeat(image[None, ..., None], n, axis=0)


def varied(images, seed=0, **changes):
    return vary(images, Variation(**changes), np.random.default_rng(seed), mean=MEAN, sd=SD)


def test_nothing_changes_without_a_variation():
    images = np.random.default_rng(1).normal(size=(3, 16, 20, 3)).astype(np.float32)
    np.testing.assert_array_equal(varied(images), images)


def test_gain_and_offset_act_on_hounsfield_units_and_not_on_what_lies_outside():
    images = disc(hu=200.0)
    for changes, low, high in (({"gain": 0.1}, 180, 220), ({"offset": 15.0}, 185, 215)):
        found = varied(images, **changes)
        assert (found[images == 0] == 0).all()
        hu = found[:, 32, 32, 0] * SD + MEAN
        assert low <= hu.min() < low + 4 and high - 4 < hu.max() <= high
        assert np.ptp(found[:, 20:44, 32], axis=1).max() < 1e-5, "one change for the whole image"


def test_a_gain_leaves_water_where_it_is():
    found = varied(disc(hu=0.0), gain=0.2)[:, 32, 32, 0] * SD + MEAN
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_noise_has_at_most_its_strength_and_every_grain():
    images = disc(n=80)
    inside = images[0, ..., 0] != 0
    rest = (varied(images, noise=20.0) - images)[..., 0] * SD
    strength = rest[:, inside].std(axis=1)
    assert 0 <= strength.min() < 2 and 17 < strength.max() < 22
    neighbours = [np.corrcoef(one[25:40, 25:39].ravel(), one[25:40, 26:40].ravel())[0, 1] for one in rest]
    assert min(neighbours) < 0.15 and max(neighbours) > 0.55
    assert (rest[:, ~inside] == 0).all()


def test_width_and_depth_change_each_for_itself_about_the_centre():
    body = varied(disc(), stretch=0.2)[..., 0] > 0.2
    deep, wide = body.any(axis=2).sum(axis=1), body.any(axis=1).sum(axis=1)
    for measured in (deep, wide):
        assert 31 <= measured.min() <= 34 and 45 <= measured.max() <= 48
    assert abs(np.corrcoef(deep, wide)[0, 1]) < 0.4
    y, x = np.mgrid[:65, :65] - 32
    assert abs((body * y).sum(axis=(1, 2)) / body.sum(axis=(1, 2))).max() < 0.2
    assert abs((body * x).sum(axis=(1, 2)) / body.sum(axis=(1, 2))).max() < 0.2


@pytest.mark.parametrize("wrong", [{"gain": -0.1}, {"stretch": 0.9}, {"noise": -1.0}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"no negative number, and gain and stretch of at most 0\.5"):
        Variation(**wrong)


class Memory:
    """A stand-in for a cohort."""

    slices = pd.DataFrame({"slice": range(10), "phase": [PHASES[i % 5] for i in range(10)]})

    def read(self, rows, standardisation):
        return disc(n=len(rows))


def test_batches_differ_from_epoch_to_epoch_and_are_the_same_when_an_epoch_is_begun_again():
    scale = Standardisation(MEAN, SD, 65)
    options = {"batch_size": 4, "seed": 3, "variation": Variation(gain=0.1, noise=5.0)}
    batches = VariedSlices(Memory(), Memory.slices, scale, np.ones(10), **options)
    first, labels, weights = batches[1]
    assert first.shape == (4, 65, 65, 1) and len(labels) == len(weights) == 4
    batches.start(1)
    assert not np.array_equal(first, batches[1][0])
    batches.start(0)
    np.testing.assert_array_equal(first, batches[1][0])
    assert not np.array_equal(batches[0][0], first)
    again = VariedSlices(Memory(), Memory.slices, scale, np.ones(10), keep=True, **options)
    np.testing.assert_allclose(again[1][0], first, atol=2e-2)  # float16 in memory
