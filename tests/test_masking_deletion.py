"""Deletion curves against a linear network, whose curve is known, and areas against closed forms."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl

from lib.attribution import Attributor
from lib.masking.deletion import (
    MAP,
    SLICE,
    curve_areas,
    matched_control,
    measure_curves,
    read_fractions,
    summarise_areas,
    summarise_curves,
)
from lib.masking.experiment import Reading
from lib.paper import PHASES

SIZE = 8
SHARES = [0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0]


@pytest.fixture(scope="module")
def linear():
    """A softmax of w x, and four logits of 0: the labelled phase is the first, and all weights differ."""
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1)), kl.Flatten(), kl.Dense(5, activation="softmax")])
    weights = np.random.default_rng(0).permutation(np.linspace(-0.05, 0.15, SIZE * SIZE)).astype("float32")
    kernel = np.zeros((SIZE * SIZE, 5), "float32")
    kernel[:, 0] = weights
    model.set_weights([kernel, np.zeros(5, "float32")])
    return model, weights


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    images = rng.uniform(0.5, 1.5, (2, SIZE, SIZE, 1)).astype("float32")
    rows = pd.DataFrame({"patient": ["a1", "b2"], "series": ["0a", "ff"], "slice": [0, 3], "phase": PHASES[0]})
    return rows, images, np.ones((2, SIZE, SIZE), bool)


def curve_of_a_linear_network(weights, image, row, order, reading):
    """Overwrite voxels one share after the other in plain NumPy, with the noise that the reading's seed gives."""
    noises = []
    for draw in range(reading.draws):
        rng = np.random.default_rng([reading.seed, int(row.series, 16), row.slice, draw])
        noises.append(rng.standard_normal((1, SIZE, SIZE, 1), dtype="float32").ravel())
    values = []
    for share in SHARES:
        chances = []
        for noise in noises:
            pixels = image.ravel().astype(float)
            for voxel in order[: round(share * len(order))]:
                pixels[voxel] = noise[voxel]
            logit = float(pixels @ weights)
            chances.append(np.exp(logit) / (np.exp(logit) + 4))
        values.append(np.mean(chances))
    return 100 * np.array(values) / values[0]


@pytest.mark.parametrize("within", ["image", "body"])
def test_curves_of_a_linear_network_are_those_of_a_loop(linear, batch, within):
    model, weights = linear
    rows, images, _ = batch
    reading = Reading(within=within, draws=2, seed=5)
    curves = measure_curves(model, [batch], Attributor(model), reading, SHARES, methods=("saliency",))
    order = np.argsort(-np.abs(weights))
    for region, sequence in (("top", order), ("bottom", order[::-1])):
        found = curves[(curves.method == "saliency") & (curves.region == region)]
        for row, image in zip(rows.itertuples(), images, strict=True):
            expected = curve_of_a_linear_network(weights, image, row, sequence, reading)
            mine = found[found.series == row.series].set_index("fraction").relative_probability
            np.testing.assert_allclose(mine.loc[SHARES], expected, rtol=1e-4)


def test_the_insertion_is_the_lowest_first_read_from_the_right(linear, batch):
    """Where the highest share f was brought back into noise, only the lowest share 1 - f is overwritten."""
    model, weights = linear
    _, images, _ = batch
    reading = Reading(draws=1, seed=5)
    curves = measure_curves(model, [batch], Attributor(model), reading, SHARES, methods=("saliency",))
    lowest = curves[(curves.method == "saliency") & (curves.region == "bottom") & (curves.series == "0a")]
    lowest = lowest.set_index("fraction").relative_probability
    noise = np.random.default_rng([5, 0x0A, 0, 0]).standard_normal((1, SIZE, SIZE, 1), dtype="float32").ravel()
    for share in (0.125, 0.25, 0.5):
        pixels = noise.copy()
        back = np.argsort(-np.abs(weights))[: round(share * SIZE**2)]
        pixels[back] = images[0].ravel()[back]
        odds, before = np.exp(pixels @ weights), np.exp(images[0].ravel() @ weights)
        expected = 100 * (odds / (odds + 4)) / (before / (before + 4))
        assert lowest.loc[1 - share] == pytest.approx(expected, rel=1e-4)


def test_all_orders_begin_and_end_alike(linear, batch):
    model, _ = linear
    curves = measure_curves(model, [batch], Attributor(model), Reading(draws=1), SHARES, methods=("saliency",))
    ends = curves[curves.fraction.isin([0.0, 1.0])].groupby(["series", "fraction"]).relative_probability
    assert (ends.max() - ends.min() < 1e-9).all()
    assert set(ends.max().xs(0.0, level="fraction")) == {100.0} and (ends.max().xs(1.0, level="fraction") != 100).all()
    sizes = curves.groupby([*SLICE, *MAP, "region"]).size()
    assert (sizes == len(SHARES)).all()


def test_maps_are_computed_once_and_in_batches(linear, batch):
    model, _ = linear
    rows, images, body = batch

    class Counting(Attributor):
        calls = 0

        def __call__(self, *arguments, **keywords):
            Counting.calls += 1
            return super().__call__(*arguments, **keywords)

    one_by_one = [(rows[n : n + 1], images[n : n + 1], body[n : n + 1]) for n in range(2)]
    arguments = (Reading(draws=1), SHARES)
    found = measure_curves(model, iter(one_by_one), Counting(model), *arguments, methods=("saliency",))
    assert Counting.calls == 2
    together = measure_curves(model, [batch], Attributor(model), *arguments, methods=("saliency",))
    pd.testing.assert_frame_equal(found, together, check_exact=False, rtol=1e-4)


def example_curves():
    """Curves with known areas: deletion 100 (1 - f)^+ ..., of a map at the input, one at a layer, and controls."""
    shapes = {
        ("saliency", "input", "top"): lambda f: 100 * (1 - f),
        ("saliency", "input", "bottom"): lambda f: 100 + 0 * f,
        ("sam", "conv6", "top"): lambda f: np.where(f > 0, 0.0, 100.0),
        ("sam", "conv6", "bottom"): lambda f: 100 * (1 - f),
        ("random", "-", "random"): lambda f: 100 - 40 * f,
        ("blocks", "conv6", "random"): lambda f: 100 - 20 * f,
        ("disc", "-", "top"): lambda f: 100 - 60 * f,
    }
    shares, rows = np.array([0, 0.1, 0.4, 1.0]), []
    for patient, series in (("a", "0a"), ("b", "0b")):
        for (method, layer, region), shape in shapes.items():
            values = shape(shares)
            facts = (patient, series, 0, "cm", method, layer, region)
            rows += [(*facts, share, value) for share, value in zip(shares, values, strict=True)]
    return pd.DataFrame(rows, columns=[*SLICE, *MAP, "region", "fraction", "relative_probability"])


def test_areas_have_their_closed_forms():
    areas = curve_areas(example_curves()).set_index(["method", "series"]).xs("0b", level="series")
    assert areas.loc["saliency", ["deletion", "insertion", "between"]].tolist() == pytest.approx([50, 100, 50])
    assert areas.loc["saliency", ["control", "below_control", "above_control"]].tolist() == pytest.approx([80, 30, 20])
    assert areas.loc["sam", ["deletion", "insertion", "control"]].tolist() == pytest.approx([5, 50, 90])
    assert areas.loc["disc", ["deletion", "control", "below_control"]].tolist() == pytest.approx([70, 80, 10])
    assert np.isnan(areas.loc["disc", "insertion"])


def test_summaries_keep_maps_regions_and_shares_apart():
    curves = example_curves()
    mean = summarise_curves(curves, rng=np.random.default_rng(0), resamples=50)
    found = mean[(mean.phase == "mean") & (mean.method == "saliency") & (mean.region == "top")]
    assert found.set_index("fraction").value.to_dict() == pytest.approx({0: 100, 0.1: 90, 0.4: 60, 1.0: 0})
    areas = summarise_areas(curve_areas(curves), rng=np.random.default_rng(0), resamples=50)
    assert set(areas.phase) == {"cm", "mean"} and (areas.n_patients == 2).all()
    assert set(areas[areas.method == "disc"].area) == {"deletion", "control", "below_control"}
    one = areas[(areas.method == "sam") & (areas.phase == "mean")].set_index("area")
    assert one.loc["below_control", ["value", "low", "high"]].tolist() == pytest.approx([85, 85, 85])


def test_the_control_has_the_shape_of_the_map():
    known = [("random", "-"), ("blocks", "conv6")]
    assert matched_control("sam", "conv6", known) == ("blocks", "conv6")
    assert matched_control("saliency", "input", known) == ("random", "-")
    assert matched_control("saliency", "input", [*known, ("random_body", "-")]) == ("random_body", "-")


def test_shares_rise_between_nothing_and_everything():
    assert read_fractions("0.1 0.5") == [0.0, 0.1, 0.5, 1.0]
    for wrong in ("", "0 0.1", "0.5 0.1", "0.1 0.1", "0.2 1.0", "-0.1 0.5"):
        with pytest.raises(ValueError, match="expected rising shares between 0 and 1"):
            read_fractions(wrong)
