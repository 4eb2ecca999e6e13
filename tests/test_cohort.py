"""Reading a prepared cohort: against naive loops and by hand."""

import time

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.cohort import Cohort, Standardisation, _input, slice_weights
from lib.resampling import OUTSIDE, resample, resample_hu

SIZE = 64


def make_cohort(path, series=("a", "b"), slices=5, shape=(SIZE, SIZE), split="train", spacing=5.0, z=None, seed=0):
    """Write a cohort of random HU with a round body."""
    rng = np.random.default_rng(seed)
    zarr.open_group(path / "slices.zarr", mode="w")
    group = zarr.open_group(path / "tissues.zarr", mode="w")
    group.attrs["tissues"] = {"liver": 1, "kidney": 2}
    y, x = np.mgrid[: shape[0], : shape[1]]
    body = ((y - shape[0] / 2) / shape[0]) ** 2 + ((x - shape[1] / 2) / shape[1]) ** 2 < 0.16
    z = np.arange(slices) * spacing if z is None else z
    tables, stored = [], {}
    for number, name in enumerate(series):
        hu = np.where(body, rng.integers(-200, 300, (slices, *shape)), OUTSIDE).astype(np.int16)
        for store, values in (("slices", hu), ("tissues", rng.integers(0, 3, hu.shape).astype(np.uint8))):
            array = zarr.create_array(path / f"{store}.zarr" / name, data=values, chunks=(1, *shape))
            array.attrs.update({"z_mm": list(map(float, z)), "slice_spacing_mm": spacing})
            stored[store, name] = values
        facts = {"patient": f"p{number}", "series": name, "phase": "cm", "split": split, "reconstruction": 1}
        tables.append(pd.DataFrame({"slice": np.arange(slices), "z_mm": z, "kidney_position": 0.5, **facts}))
    pd.concat(tables, ignore_index=True).to_parquet(path / "slices.parquet")
    (path / "cohort.json").write_text('{"split": "train_val_test"}')
    return Cohort.open(path), stored


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path)


def naive_input(hu, mean, sd, size, outside=0.0):
    """Standardise voxel by voxel, then average block by block."""
    step = hu.shape[0] // size
    image = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            block = hu[i * step : (i + 1) * step, j * step : (j + 1) * step]
            values = [outside if value == OUTSIDE else (float(value) - mean) / sd for value in block.ravel()]
            image[i, j] = np.mean(values)
    return image


@pytest.mark.parametrize(("size", "outside"), [(64, 0.0), (32, 0.0), (16, -3.0)])
def test_read_against_a_naive_loop(cohort, size, outside):
    store, stored = cohort
    images = store.read([7, 0, 3, 9, 3], Standardisation(-23.3, 144.1, size, outside))
    assert images.shape == (5, size, size, 1)
    assert images.dtype == np.float32
    for image, (name, index) in zip(images, [("b", 2), ("a", 0), ("a", 3), ("b", 4), ("a", 3)], strict=True):
        expected = naive_input(stored["slices", name][index], -23.3, 144.1, size, outside)
        np.testing.assert_allclose(image[..., 0], expected, atol=2e-6)


def test_rows_are_a_table_or_positions(cohort):
    store, _ = cohort
    scale = Standardisation(0, 100, 32)
    rows = store.slices[store.slices["series"] == "b"].iloc[::-1]
    np.testing.assert_array_equal(store.read(rows, scale), store.read([9, 8, 7, 6, 5], scale))
    assert store.read([], scale).shape == (0, 32, 32, 1)
    np.testing.assert_array_equal(store.read(rows, scale, image_size=16), store.read(rows, Standardisation(0, 100, 16)))


def test_read_hu_body_and_tissues(cohort):
    store, stored = cohort
    hu = stored["slices", "b"].astype(float)
    np.testing.assert_array_equal(store.read_hu(range(5, 10)), np.where(hu == OUTSIDE, np.nan, hu))
    np.testing.assert_array_equal(store.read_body(range(5, 10)), hu != OUTSIDE)
    np.testing.assert_array_equal(store.read_tissues(range(5, 10)), stored["tissues", "b"])
    assert store.tissues == {"liver": 1, "kidney": 2}
    half = store.read_hu([5], 32)[0]
    blocks = hu[0].reshape(32, 2, 32, 2).swapaxes(1, 2).reshape(32, 32, 4)
    inside = (blocks != OUTSIDE).sum(axis=-1)
    expected = np.where(blocks == OUTSIDE, 0, blocks).sum(axis=-1) / np.maximum(inside, 1)
    np.testing.assert_allclose(half, np.where(inside >= 2, expected, np.nan), rtol=1e-6)
    np.testing.assert_array_equal(store.read_body([5], 32)[0], inside >= 2)
    np.testing.assert_array_equal(store.read_tissues([5], 32)[0], stored["tissues", "b"][0][1::2, 1::2])


def test_three_channels_are_the_neighbours(cohort):
    store, _ = cohort
    scale = Standardisation(0, 100, 32)
    one = store.read(store.slices, scale)[..., 0]
    three = store.read([0, 2, 4, 5], scale, channels=3)
    for image, neighbours in zip(three, [(0, 0, 1), (1, 2, 3), (3, 4, 4), (5, 5, 6)], strict=True):
        np.testing.assert_array_equal(image, np.stack([one[n] for n in neighbours], axis=-1))
    np.testing.assert_array_equal(three, store.read([0, 2, 4, 5], Standardisation(0, 100, 32, channels=3)))


def test_neighbours_stop_at_a_gap(tmp_path):
    store, _ = make_cohort(tmp_path, slices=6, z=[0, 5, 10, 60, 65, 70])
    scale = Standardisation(0, 100, 32)
    one = store.read(range(6), scale)[..., 0]
    three = store.read([2, 3], scale, channels=3)
    np.testing.assert_array_equal(three[0], np.stack([one[1], one[2], one[2]], axis=-1))
    np.testing.assert_array_equal(three[1], np.stack([one[3], one[3], one[4]], axis=-1))


@pytest.mark.parametrize("size", [64, 32])
def test_standardise_measures_the_body_of_the_training_split(tmp_path, size):
    store, stored = make_cohort(tmp_path, slices=3)
    store.slices.loc[store.slices["series"] == "b", "split"] = "test"
    found = store.standardise(size)
    values = np.concatenate([resample_hu(image, size).ravel() for image in stored["slices", "a"]])
    values = values[~np.isnan(values)].astype(float)
    assert found.mean == pytest.approx(values.mean(), rel=1e-9)
    assert found.sd == pytest.approx(values.std(), rel=1e-9)
    assert (found.image_size, found.outside, found.channels) == (size, 0.0, 1)
    rows = store.slices[store.slices["split"] == "train"]
    body = store.read_body(rows)
    inside = store.read(rows, Standardisation(found.mean, found.sd, 64))[..., 0][body]
    if size == 64:
        assert inside.mean() == pytest.approx(0, abs=1e-5)
        assert inside.std() == pytest.approx(1, abs=1e-5)


def test_standardise_without_training_split(tmp_path):
    store, _ = make_cohort(tmp_path, split="apply")
    with pytest.raises(ValueError, match=r"no training split: take the standardisation\.json of a trained network"):
        store.standardise(32)


def test_standardisation_round_trip_and_bad_values(tmp_path):
    scale = Standardisation(-23.3, 144.1, 256, -1.5, 3)
    scale.save(tmp_path / "standardisation.json")
    assert Standardisation.load(tmp_path / "standardisation.json") == scale
    for mean, sd in ((np.nan, 1), (0, 0), (0, np.inf), (0, -1)):
        with pytest.raises(ValueError, match="finite numbers and sd > 0"):
            Standardisation(mean, sd, 256)
    with pytest.raises(ValueError, match="channels=2: expected 1 or 3"):
        Standardisation(0, 1, 256, channels=2)


def test_batches_are_read(cohort):
    store, _ = cohort
    scale = Standardisation(0, 100, 32)
    batches = list(store.batches(store.slices, scale, batch_size=4))
    assert [len(rows) for rows, _, _ in batches] == [4, 4, 2]
    pd.testing.assert_frame_equal(pd.concat([rows for rows, _, _ in batches]), store.slices)
    np.testing.assert_array_equal(np.concatenate([images for _, images, _ in batches]), store.read(store.slices, scale))
    np.testing.assert_array_equal(np.concatenate([body for _, _, body in batches]), store.read_body(store.slices, 32))
    assert list(store.batches([], scale)) == []
    three = Standardisation(0, 100, 32, channels=3)
    np.testing.assert_array_equal(next(store.batches([1, 2], three))[1], store.read([1, 2], three))


def test_batches_read_one_ahead_only(cohort, monkeypatch):
    store, _ = cohort
    seen = []

    def counted(stored, *rest):
        seen.append(len(seen))
        return _input(stored, *rest)

    monkeypatch.setattr("lib.cohort._input", counted)
    batches = store.batches(store.slices, Standardisation(0, 100, 32), batch_size=2)
    next(batches)
    time.sleep(0.3)
    assert len(seen) == 4


def test_mixed_native_sizes(tmp_path):
    store, _ = make_cohort(tmp_path, series=("a",))
    other, stored = make_cohort(tmp_path / "other", series=("b",), shape=(48, 60))
    (tmp_path / "other" / "slices.zarr" / "b").rename(tmp_path / "slices.zarr" / "b")
    store.slices = pd.concat([store.slices, other.slices], ignore_index=True)
    with pytest.raises(ValueError, match=r"10 slices of sizes \[\(48, 60\), \(64, 64\)\]: choose slices of one size"):
        store.read_hu(store.slices)
    scale = Standardisation(0, 100, 60)
    image = store.read([5], scale)[0, ..., 0]
    expected = np.where(stored["slices", "b"][0] == OUTSIDE, 0, stored["slices", "b"][0] / 100)
    np.testing.assert_allclose(image[6:54], expected, atol=1e-6)  # padded above and below to a square
    assert (image[:6] == 0).all()
    assert (image[54:] == 0).all()


def test_missing_cohort_names_the_notebook(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"01_prepare_cohort"):
        Cohort.open(tmp_path / "nothing")


@given(arrays(np.float32, (12, 12), elements=st.floats(-100, 100, width=32)), st.integers(1, 12))
def test_area_means_keep_the_mean(image, size):
    small = resample(image, size)
    assert small.mean() == pytest.approx(image.mean(), abs=1e-4)
    assert small.min() >= image.min() - 1e-3
    assert small.max() <= image.max() + 1e-3


def test_resample_by_hand():
    image = np.array([[0, 3, 6]] * 3, np.float32)
    np.testing.assert_allclose(resample(image, 2), [[1, 5]] * 2, atol=1e-6)  # (0 + 3/2) / 1.5, (3/2 + 6) / 1.5
    np.testing.assert_allclose(resample(image, 6)[0], [0, 0.75, 2.25, 3.75, 5.25, 6], atol=1e-6)
    np.testing.assert_array_equal(resample(np.ones((2, 4), np.float32), 4, -1)[:, 0], [-1, 1, 1, -1])


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["noncon", "cm", "neph"])), min_size=1, max_size=60)
)
def test_weights_balance_phases_and_patients(pairs):
    slices = pd.DataFrame(pairs, columns=["patient", "phase"])
    weights = slice_weights(slices)
    present = slices["phase"].nunique()
    assert weights.sum() == pytest.approx(len(slices) * present / 5)
    for _, phase in slices.assign(w=weights).groupby("phase"):
        assert phase["w"].sum() == pytest.approx(len(slices) / 5)
        assert phase.groupby("patient")["w"].sum().to_numpy() == pytest.approx(
            len(slices) / 5 / phase["patient"].nunique()
        )


def test_weights_by_hand_and_without_phase():
    slices = pd.DataFrame({"patient": ["a", "a", "b", "a"], "phase": ["cm", "cm", "cm", "neph"]})
    # N = 4: cm has 2 patients, a with 2 slices: 4 / (5 2 2) = .2; b: 4 / (5 2 1) = .4; neph: 4 / (5 1 1) = .8.
    np.testing.assert_allclose(slice_weights(slices), [0.2, 0.2, 0.4, 0.8])
    with pytest.raises(ValueError, match="1 of 4 slices have no phase"):
        slice_weights(slices.assign(phase=["cm", "cm", "cm", None]))
