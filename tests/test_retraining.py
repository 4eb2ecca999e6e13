"""Remove and retrain: what is removed, what a training sees, and the comparison with controls."""

import numpy as np
import pandas as pd
import pytest

from lib.attribution import Attributor
from lib.cohort import Standardisation
from lib.figures.retraining import draw_retraining
from lib.masking.controls import BLOCKS, DISC, RANDOM
from lib.masking.retraining import (
    NOTHING,
    Recipe,
    SlicesInMemory,
    control_of,
    control_values,
    layers_of,
    names_of,
    predicted_class_maps,
    retrain,
    summarise_retrained,
    without_highest,
)
from lib.networks import phase_net
from lib.paper import PHASES

SIZE = 32


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def rows():
    """Three slices per phase and split, each of a patient of its own."""
    names = [(split, phase, n) for split in ("train", "val", "test") for phase in PHASES for n in range(3)]
    table = pd.DataFrame(names, columns=["split", "phase", "n"])
    table["patient"] = [f"{row.split}{row.n}" for row in table.itertuples()]
    return table.assign(series=[f"{n:08x}" for n in range(len(table))], slice=0)


@pytest.fixture
def images(rng, rows):
    return rng.normal(size=(len(rows), SIZE, SIZE, 1)).astype("float16")


@pytest.fixture
def bodies(rows):
    body = np.zeros((SIZE, SIZE), bool)
    body[4:28, 6:26] = True
    return np.repeat(body[None], len(rows), axis=0)


def test_the_highest_voxels_of_the_body_are_removed_and_no_others(rng, rows, images, bodies):
    values = rng.random((len(rows), SIZE, SIZE))
    changed = without_highest(rows, images, bodies, values, 0.3, "zero", 1)
    different = (changed != images)[..., 0]
    assert not (different & ~bodies).any()
    assert (different.sum(axis=(1, 2)) == round(0.3 * bodies[0].sum())).all()
    assert (changed[different] == 0).all()
    for removed, ranked, body in zip(different, values, bodies, strict=True):
        assert ranked[removed].min() > ranked[body & ~removed].max()


def test_coarse_values_remove_whole_cells_and_the_choice_among_ties_is_repeated(rows, images, bodies):
    values = np.zeros((len(rows), 8, 8))
    values[:, 2, 3] = 1
    changed = without_highest(rows, images, bodies, values, 0.1, "zero", 1)
    assert (changed[:, 8:12, 12:16] == 0).all(), "the cell with the value 1"
    np.testing.assert_array_equal(changed, without_highest(rows, images, bodies, values, 0.1, "zero", 1))
    assert (changed != without_highest(rows, images, bodies, values, 0.1, "zero", 2)).any()
    halves = without_highest(rows.iloc[30:], images[30:], bodies[30:], values[30:], 0.1, "zero", 1)
    np.testing.assert_array_equal(halves, changed[30:], "a slice does not depend on the others")


def test_every_control_ranks_the_body(rows, bodies):
    blocks = control_values((BLOCKS, "conv2b"), rows, bodies, (8, 8), 1)
    assert blocks.shape == (len(rows), 8, 8) and len({row.tobytes() for row in blocks}) == len(rows)
    assert control_values(RANDOM, rows, bodies, (), 1).shape[0] == len(rows)
    assert control_values(DISC, rows, bodies, (), 1).shape == bodies.shape


def test_maps_are_of_the_predicted_class(images):
    network = phase_net(SIZE, initializer="he_normal")
    attributor = Attributor(network, ["conv5b"])
    batch = images[:5].astype("float32")
    found = predicted_class_maps(attributor, ("grad_cam", "conv5b"), images[:5], batch_size=2)
    expected = attributor(batch, network.predict_on_batch(batch).argmax(axis=1), ["grad_cam"])["grad_cam", "conv5b"]
    np.testing.assert_allclose(found, np.abs(expected), rtol=1e-4, atol=1e-7)


def test_names_bring_their_controls():
    names = names_of("saliency/input sam/conv2b grad_cam/conv2b")
    assert names[3:] == [RANDOM, (BLOCKS, "conv2b"), DISC] and layers_of(names) == ["conv2b"]
    assert control_of(("saliency", "input")) == RANDOM
    for bad in ("", "saliency"):
        with pytest.raises(ValueError, match=r"expected methods with layers, such as 'saliency/input"):
            names_of(bad)


def test_a_slice_that_is_not_in_memory_is_an_error(rows, images):
    held = SlicesInMemory(rows.iloc[:4], images[:4])
    np.testing.assert_array_equal(held.read(rows.iloc[[2, 0]], None), images[[2, 0]].astype("float32"))
    with pytest.raises(KeyError, match="1 of 2 slices are not held in memory"):
        held.read(rows.iloc[3:5], None)


def test_a_network_learns_from_what_it_is_shown_and_is_trained_once(tmp_path, rows, images):
    """The label is written into the images; a network that is shown them finds it, and is not trained again."""
    images = np.zeros_like(images) + rows["phase"].map(PHASES.index).to_numpy()[:, None, None, None].astype("float16")
    standardisation = Standardisation(mean=0.0, sd=1.0, image_size=SIZE)
    shown = []

    def train(**changes):
        given = {"depends_on": {"fraction": 0.0} | changes}
        recipe = Recipe(epochs=1, batch_size=5)
        return retrain(tmp_path / "network", lambda: shown.append(1) or SlicesInMemory(rows, images), rows,
                       standardisation, recipe, **given)  # fmt: skip

    first = train()
    assert set(first["split"]) == {"test"} and set(PHASES) < set(first.columns)
    pd.testing.assert_frame_equal(train(), first)
    assert len(shown) == 1
    train(fraction=0.5)
    assert len(shown) == 2, "what it depends on has changed"


def predicted(rows, name, fraction, repeat, right):
    """Predictions of which the given share of patients is right."""
    test = rows[rows["split"] == "test"]
    wrong = test["phase"].map(dict(zip(PHASES, PHASES[1:] + PHASES[:1], strict=True)))
    known = test["n"] < right
    facts = {"method": name[0], "layer": name[1], "fraction": fraction, "repeat": repeat}
    return test.assign(predicted=test["phase"].where(known, wrong), **facts)


def test_the_difference_is_that_from_the_control_of_the_same_shape(rng, rows):
    parts = []
    for repeat in range(2):
        parts.append(predicted(rows, NOTHING, 0.0, repeat, 3))
        rights = {("saliency", "input"): 1, ("sam", "conv2b"): 3 - repeat, RANDOM: 2, (BLOCKS, "conv2b"): 3, DISC: 0}
        parts += [predicted(rows, name, 0.5, repeat, right) for name, right in rights.items()]
    found = summarise_retrained(pd.concat(parts), rng=rng, resamples=50).set_index(["method", "layer"])
    assert found.loc[NOTHING, "accuracy"] == 100 and found.loc[DISC, "accuracy"] == 0
    saliency, sam = found.loc["saliency", "input"], found.loc["sam", "conv2b"]
    np.testing.assert_allclose(saliency[["accuracy", "difference", "lower"]].astype(float), [100 / 3, -100 / 3, 2])
    np.testing.assert_allclose(sam[["accuracy", "difference", "lower"]].astype(float), [250 / 3, -50 / 3, 1])
    np.testing.assert_allclose(sam[["lowest", "highest"]].astype(float), [200 / 3, 100])
    controls = found.loc[[NOTHING, RANDOM, DISC, (BLOCKS, "conv2b")]]
    assert controls["difference"].isna().all() and (found["repeats"] == 2).all()


def test_the_figure_has_a_panel_per_map_that_begins_with_nothing_removed(rng, rows):
    parts = [predicted(rows, NOTHING, 0.0, 0, 3)]
    for name, right in ((("saliency", "input"), 1), (RANDOM, 2), (DISC, 0)):
        parts += [predicted(rows, name, fraction, 0, right) for fraction in (0.1, 0.5)]
    summary = summarise_retrained(pd.concat(parts), rng=rng, resamples=50)
    figure = draw_retraining(summary, [("saliency", "input")])
    (panel,) = figure.axes
    curves = {line.get_color(): line.get_xydata().tolist() for line in panel.lines[:3]}
    assert curves["black"] == [[0, 100], [10, pytest.approx(100 / 3)], [50, pytest.approx(100 / 3)]]
    assert panel.get_title() == "Saliency"
