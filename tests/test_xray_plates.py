"""Networks on spoiled plates: the pairs that they learn from, and what they answer."""

from types import SimpleNamespace

import numpy as np
import pytest

from lib.xray.plate_measures import answers_of
from lib.xray.plate_networks import Pairs, train_plates
from lib.xray.plate_study import MEAN, SD


def grey(signal, field):
    return signal * field


def darker(held, index, rng, strength):
    return held["signal"][index] - np.float32(strength)


@pytest.fixture
def held():
    rng = np.random.default_rng(0)
    return {"seed": np.arange(6), "signal": rng.random((6, 8, 12), np.float32), "field": np.ones((6, 8, 12), bool)}


def test_a_pair_differs_by_its_artifact_alone(held):
    images, labels = Pairs(held, darker, grey, pairs=3, epochs=5, seed=1)[0]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    change = (images[:3] - images[3:]) * SD
    assert np.ptp(change, axis=(1, 2)).max() < 1e-5  # mirrored together
    assert (change > 0.99).all()  # the first epoch has full strength


def test_artifacts_grow_fainter_from_epoch_to_epoch(held):
    pairs = Pairs(held, darker, grey, pairs=3, epochs=3, seed=1)
    least = []
    for _ in range(3):
        strengths = [float((images[:3] - images[3:]).min() * SD) for images, _ in (pairs[0], pairs[1])]
        least.append(min(strengths))
        pairs.on_epoch_end()
    assert least[0] > 0.99 and least[2] < 0.9 and min(least) > 0.49


def test_shuffled_labels_stay_with_their_image(held):
    pairs, seen = Pairs(held, darker, grey, pairs=3, epochs=2, seed=1, shuffled=True), [{}, {}]
    for epoch in seen:
        for number in range(len(pairs)):
            images, labels = pairs[number]
            for image, label in zip(images[:3], labels[:3], strict=True):
                epoch[round(float(np.sort(image.ravel())[0]), 5)] = int(label)
        pairs.on_epoch_end()
    assert seen[0] == seen[1] and len(seen[0]) == 6 and set(seen[0].values()) == {0, 1}


def test_too_few_images_for_a_step_are_refused(held):
    held |= {name: np.resize(held[name], (6, 64, 64)) for name in ("signal", "field")}
    with pytest.raises(ValueError, match="6 training images: at least 8"):
        train_plates(held, darker, grey, epochs=1)


def test_what_is_lost_is_against_the_same_plate(held):
    spoiled = {"signal": np.zeros((4, 8, 12), np.float32), "plate": np.array([0, 0, 1, 5])}
    brightness = SimpleNamespace(
        predict=lambda images, verbose: np.stack([1 - images.mean((1, 2, 3)), images.mean((1, 2, 3))], axis=1)
    )
    auc, balanced, lost = answers_of(brightness, held, held, spoiled, grey)
    clean = (held["signal"].mean((1, 2)) - MEAN) / SD
    np.testing.assert_allclose(lost, -MEAN / SD - clean[[0, 0, 1, 5]], rtol=1e-4)
    assert auc == 0 and balanced == pytest.approx(0.5 * (clean <= 0.5).mean())  # the dark ones count as clean
