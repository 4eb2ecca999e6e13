"""From phantom to patient: input as the cohort gives it, measures of known images, pairs that differ by metal alone."""

import keras
import numpy as np
import pandas as pd
import pytest

from lib.cohort import Cohort, Standardisation
from lib.domain_gap import (
    HU_EDGES,
    as_input,
    distances,
    fit_plane,
    hu_histogram,
    input_measures,
    last_features,
    metal_near_skin,
    ranks,
    texture_spectrum,
    without,
)
from lib.networks import phase_net
from lib.phantom.metal_pairs import metal_pair
from lib.preparation import prepare_cohort


def disc(size=200, radius=60.0, hu=40.0):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.where(np.hypot(x, y) < radius, hu, np.nan).astype(np.float32)


@pytest.mark.parametrize("size", [24, 48, 96])
def test_the_input_is_that_of_the_cohort(tmp_path, write_series, size):
    write_series("P1")
    prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", split="apply", key="k", processes=1)
    prepared = Cohort.open(tmp_path / "cohort")
    scale = Standardisation(-20.0, 140.0, size, outside=-1.5)
    expected = prepared.read(prepared.slices, scale)
    found = [as_input(hu, scale) for hu in prepared.read_hu(prepared.slices)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="takes 3 slices at once"):
        as_input(disc(), Standardisation(0.0, 1.0, 32, channels=3))


def test_measures_of_a_disc():
    image = disc()
    image[80:84, 100:110], image[100:110, 100] = 2000.0, -900.0
    found, body = input_measures(image, 1.5), np.isfinite(image).sum()
    assert found["width_mm"] == found["depth_mm"] == pytest.approx(180, abs=2)
    assert found["filled"] == pytest.approx(np.pi * 60**2 / 200**2, rel=0.01)
    assert found["metal"] == pytest.approx(40 / body) and found["metal_near_skin"] == 0
    assert found["gas"] == pytest.approx(10 / body) and found["fat"] == 0
    assert found["mean_hu"] == pytest.approx(np.nanmean(image), rel=1e-5)


def test_grain_is_the_sd_of_white_noise_and_no_edge():
    rng = np.random.default_rng(0)
    image = disc(hu=60.0)
    noisy = image + rng.normal(0, 12, image.shape).astype(np.float32)
    assert input_measures(noisy, 1.0)["grain_hu"] == pytest.approx(12, rel=0.05)
    assert input_measures(image, 1.0)["grain_hu"] == pytest.approx(0, abs=1e-3)


def test_metal_near_skin_is_an_electrode_and_no_pelvis():
    image = disc()
    image[98:102, 98:102] = 2800.0  # in the middle: excreted contrast
    image[42:46, 98:102] = 2800.0  # 2 to 6 voxels below the skin
    near = metal_near_skin(image, 1.0)
    assert near[42:46, 98:102].all() and near.sum() == 16
    assert not metal_near_skin(image, 10.0).any() or metal_near_skin(image, 0.5).sum() == 16


def test_a_slice_without_metal_has_the_tissue_beside_it():
    image = disc(hu=-100.0)
    image[60:140, 60:140] = 50.0
    expected = image.copy()
    image[42:46, 98:102] = 2800.0
    found = without(image, metal_near_skin(image, 1.0), margin=3)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(without(expected, np.zeros(image.shape, bool)), expected)


def test_ranks_are_shares_of_the_reference():
    reference = pd.DataFrame({"a": np.arange(10.0), "b": [1.0, *[np.nan] * 8, 3.0]})
    found = ranks(pd.DataFrame({"a": [-1.0, 4.5, 5.0, 99.0], "b": [2.0, 0.0, 3.0, 4.0]}), reference)
    assert found["a"].tolist() == [0.0, 0.5, 0.55, 1.0]
    assert found["b"].tolist() == [0.5, 0.0, 0.75, 1.0]


def test_a_histogram_holds_the_whole_body():
    shares = hu_histogram(disc(hu=47.0))
    assert shares.sum() == pytest.approx(1) and shares[np.searchsorted(HU_EDGES, 47) - 1] == pytest.approx(1)


def test_the_spectrum_of_a_wave_peaks_at_its_frequency_and_that_of_noise_is_flat():
    x = np.arange(128)
    frequency, power = texture_spectrum(np.sin(2 * np.pi * 0.2 * x)[None, :] * np.ones((128, 1)))
    assert frequency[power.argmax()] == pytest.approx(0.2, abs=0.02)
    noise = np.mean([texture_spectrum(np.random.default_rng(k).normal(0, 2, (64, 64)))[1] for k in range(40)], axis=0)
    np.testing.assert_allclose(noise[2:], 4 * (np.hanning(64) ** 2).mean() ** 2, rtol=0.15)


def test_features_are_what_the_last_layer_gets():
    network = phase_net(32)
    images = np.random.default_rng(0).normal(size=(5, 32, 32, 1)).astype(np.float32)
    features = last_features(network, images)
    weights, bias = network.layers[-1].get_weights()
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(features @ weights + bias))
    np.testing.assert_allclose(network.predict(images, verbose=0), expected, atol=1e-5)


def test_distances_are_one_within_the_reference_and_grow_outside():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(3, 12))
    reference = rng.normal(size=(4000, 3)) @ mixing + 5.0
    assert np.sqrt((distances(reference, reference) ** 2).mean()) == pytest.approx(1, abs=0.01)
    shifted = reference[:50] + 4 * mixing[0]
    assert distances(shifted, reference).mean() > 2
    plane = fit_plane(reference).transform(reference)
    assert plane.shape == (4000, 2) and abs(np.corrcoef(plane.T)[0, 1]) < 0.01


def test_a_pair_differs_by_metal_and_its_streaks_alone():
    pairs = [pair for seed in range(12) if (pair := metal_pair(f"P{seed}", seed, 128)) is not None]
    assert 2 <= len(pairs) < 12
    for pair in pairs:
        both = np.isfinite(pair.plain) & np.isfinite(pair.worn)
        assert both.mean() > 0.9 * np.isfinite(pair.plain).mean()
        assert np.median(np.abs(pair.worn - pair.plain)[both]) < 5, "noise and anatomy are the same"
        assert not (pair.plain[both] > 1500).any() or pair.plain[both].max() <= 3071
    seen = [pair for pair in pairs if pair.metal.any()]
    assert seen and all(np.nanmax(pair.worn[pair.metal]) > 800 for pair in seen)
