import math

import keras
import numpy as np
import pandas as pd
import pytest

from lib.networks import phase_net
from lib.paper import PHASES
from lib.training import (
    PLATEAU,
    Schedule,
    Slices,
    add_noise_patches,
    augment,
    in_precision,
    native_precision,
    predict,
    replay,
    train,
)  # fmt: skip


class Memory:
    """A stand-in for a cohort: five phases that differ in brightness, one patient a slice."""

    def __init__(self, n=40, size=32, seed=0):
        rng = np.random.default_rng(seed)
        self.slices = pd.DataFrame({"slice": range(n), "phase": [PHASES[i % 5] for i in range(n)]})
        level = np.arange(n)[:, None, None, None] % 5
        self.images = (level - 2 + rng.normal(0, 0.2, (n, size, size, 1))).astype("float32")

    def read(self, rows, standardisation):
        return self.images[rows["slice"]]

    def batches(self, rows, standardisation, batch_size):
        for start in range(0, len(rows), batch_size):
            part = rows.iloc[start : start + batch_size]
            yield part, self.read(part, standardisation), None


def slices(cohort, seed=None, keep=False):
    return Slices(cohort, cohort.slices, None, np.ones(len(cohort.slices)), batch_size=8, seed=seed, keep=keep)


def test_the_rate_falls_after_four_stagnant_epochs_and_training_stops_after_twelve():
    schedule = Schedule()
    losses = [1.5, 1.2] + [1.3] * 12
    rates = [replay(schedule, losses[:n]).learning_rate for n in range(len(losses) + 1)]
    expected = [1e-4] * 6 + [1e-4 * 0.316] * 4 + [1e-4 * 0.316**2] * 4 + [1e-4 * 0.316**3]
    np.testing.assert_allclose(rates, expected)
    assert [replay(schedule, losses[:n]).stop for n in (13, 14)] == [False, True]
    assert replay(schedule, losses).best_epoch == 1


def test_patience_does_not_count_on_the_plateau_of_equal_probabilities():
    assert math.isclose(PLATEAU, 1.6094, abs_tol=1e-4)
    assert not replay(Schedule(), [PLATEAU + 1e-3] * 30).stop
    assert replay(Schedule(), [PLATEAU + 1e-3] * 30).learning_rate == 1e-4
    assert replay(Schedule(max_epochs=30), [PLATEAU] * 30).stop


def test_the_cosine_warms_up_and_ends_near_zero():
    schedule = Schedule(1e-3, max_epochs=10, decay="cosine")
    rates = [replay(schedule, [1.0] * n).learning_rate for n in range(10)]
    assert rates[0] == pytest.approx(5e-4)
    assert max(rates) == rates[1] <= 1e-3
    assert rates[-1] < 2e-5
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_a_diverged_training_says_so():
    with pytest.raises(ValueError, match="epoch 2 is nan: lower learning_rate"):
        replay(Schedule(), [1.0, float("nan")])
    with pytest.raises(ValueError, match="decay"):
        Schedule(decay="linear")


def test_augmentation_without_amplitude_is_the_identity_and_a_shift_is_a_shift():
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype("float32")
    generator = keras.random.SeedGenerator(1)
    np.testing.assert_allclose(augment(images, generator, rotation=0, translation=0), images, atol=1e-5)
    point = np.zeros((200, 33, 33, 1), "float32")
    point[:, 16, 16] = 1
    shifted = np.asarray(augment(point, generator, rotation=0, translation=5))[..., 0]
    rows, columns = (np.einsum(f"nij,{axis}->n", shifted, np.arange(33) - 16.0) for axis in "ij")
    for shift in (rows, columns):
        assert np.abs(shift).max() <= 5 and shift.max() > 4.5 and shift.min() < -4.5
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2


def test_augmentation_rotates_about_the_centre_by_at_most_five_degrees():
    image = np.zeros((100, 65, 65, 1), "float32")
    image[:, 32, 60] = 1
    rotated = np.asarray(augment(image, keras.random.SeedGenerator(1), rotation=5, translation=0))[..., 0]
    y = np.einsum("nij,i->n", rotated, np.arange(65.0)) / rotated.sum((1, 2)) - 32
    x = np.einsum("nij,j->n", rotated, np.arange(65.0)) / rotated.sum((1, 2)) - 32
    angles = np.degrees(np.arctan2(y, x))
    np.testing.assert_allclose(np.hypot(x, y), 28, atol=0.3)
    assert 4 < np.abs(angles).max() < 5.3 and angles.min() < -3 < 3 < angles.max()


def test_noise_patches_cover_their_share_of_half_of_the_images_in_blocks_of_one_size():
    images = np.full((400, 64, 64, 1), 7.0, "float32")
    changed = np.asarray(add_noise_patches(images, keras.random.SeedGenerator(3), 0.2))[..., 0]
    noisy = changed != 7
    touched = noisy.any((1, 2))
    assert 0.4 < touched.mean() < 0.6
    assert 0.17 < noisy[touched].mean() < 0.23
    assert abs(changed[noisy].mean()) < 0.02 and abs(changed[noisy].std() - 1) < 0.02
    blocks = noisy[touched].reshape(-1, 2, 32, 2, 32).mean((2, 4))
    whole = ((blocks == 0) | (blocks == 1)).all((1, 2)).mean()  # images whose blocks are 32 wide
    assert 0.1 < whole < 0.5


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path):
    keras.utils.set_random_seed(0)
    start = phase_net(32, initializer="he_normal")
    weights, cohort = start.get_weights(), Memory()

    def run(path, *epochs):
        for last in epochs:
            network = phase_net(32)
            network.set_weights(weights)
            schedule = Schedule(1e-3, max_epochs=last)
            history = train(network, slices(cohort, 7, True), slices(cohort), schedule, path, seed=3)
        return network, history

    whole, history = run(tmp_path / "whole.npz", 4)
    parts, resumed = run(tmp_path / "parts.npz", 2, 4)
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), resumed.drop(columns="seconds"), rtol=1e-3)
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_network_learns_and_keeps_its_best_weights(tmp_path):
    keras.utils.set_random_seed(0)
    network, cohort = phase_net(32, initializer="he_normal"), Memory()
    history = train(network, slices(cohort, 1), slices(cohort), Schedule(1e-3, max_epochs=25), tmp_path / "state.npz")
    table = predict(network, cohort, cohort.slices, None, batch_size=16)
    labels = cohort.slices.phase.map(PHASES.index)
    loss = -np.log(table[list(PHASES)].to_numpy()[range(len(table)), labels]).mean()
    assert loss == pytest.approx(history.val_loss.min(), rel=1e-3)
    assert loss < PLATEAU / 2


def test_a_training_in_bfloat16_learns_and_leaves_a_float32_network(tmp_path):
    keras.utils.set_random_seed(0)
    network, cohort = phase_net(32, initializer="he_normal"), Memory()
    with pytest.raises(ValueError, match="float16"):
        in_precision(network, "mixed_float16")
    twin = in_precision(network, "mixed_bfloat16")
    assert {layer.compute_dtype for layer in twin.layers[1:-1]} == {"bfloat16"}
    assert twin.layers[-1].compute_dtype == "float32" and {w.dtype for w in twin.weights} == {"float32"}
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 1)).astype("float32")
    exact, rounded = (keras.ops.convert_to_numpy(model(images)) for model in (network, twin))
    assert 0 < np.abs(exact - rounded).max() < 0.02
    history = train(
        network, slices(cohort, 1), slices(cohort), Schedule(1e-3, max_epochs=25), tmp_path / "state.npz",
        precision="mixed_bfloat16",
    )  # fmt: skip
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    table = predict(network, cohort, cohort.slices, None, batch_size=16)
    labels = cohort.slices.phase.map(PHASES.index)
    loss = -np.log(table[list(PHASES)].to_numpy()[range(len(table)), labels]).mean()
    assert loss == pytest.approx(history.val_loss.min(), rel=0.1), "its best weights, in float32"
    assert loss < PLATEAU / 2


def test_bfloat16_is_taken_where_the_processor_says_that_it_has_it(tmp_path):
    (tmp_path / "new").write_text("flags : fpu avx512f avx512_bf16 avx2")
    (tmp_path / "old").write_text("flags : fpu avx512f avx2")
    found = [native_precision(tmp_path / name) for name in ("new", "old", "missing")]
    assert found == ["mixed_bfloat16", "float32", "float32"]


def test_every_epoch_has_an_order_of_its_own_that_depends_on_the_seed_only():
    one, two = slices(Memory(), 5), slices(Memory(), 5)
    first = one.order.copy()
    one.on_epoch_end()
    two.start(1)
    assert (one.order == two.order).all() and (one.order != first).any()
    assert sorted(one.order) == list(range(40))
