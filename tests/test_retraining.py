"""Remove and retrain: what is removed, what a training sees, and the comparison with controls."""

import numpy as np
import pandas as pd
import pytest

from lib.attribution import Attributor
from lib.cohort import Standardisation
from lib.figures.retraining import draw_retraining
from lib.masking.controls import BLOCKS, BRIGHTNESS, DISC, RANDOM, image_maps
from lib.masking.retraining import (
    Recipe,
    SlicesInMemory,
    control_values,
    maps_of_all_classes,
    retrain,
    without_highest,
)
from lib.masking.retraining_summary import (
    NOTHING,
    ORDERS,
    REPEATS,
    control_of,
    layers_of,
    names_of,
    summarise_retrained,
)
from lib.networks import phase_net
from lib.paper import PHASES
from lib.voxels import FILLS

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


def test_among_equal_values_whole_cells_are_removed(rows, images):
    """As Grad-CAM is 0 in many cells; the body is the image here, so that every cell is whole."""
    bodies, values = np.ones(images.shape[:3], bool), np.zeros((len(rows), 8, 8))
    removed = (without_highest(rows, images, bodies, values, 10.5 / 64, "zero", 1) != images)[..., 0]
    cells = removed.reshape(len(rows), 8, 4, 8, 4).sum(axis=(2, 4))
    assert (np.sort(cells.reshape(len(rows), -1))[:, -11:] == [8, *[16] * 10]).all(), "ten cells and half of one"
    assert len({cell.tobytes() for cell in cells}) == len(rows), "other cells in every slice"


def test_every_fill_is_written(rows, images, bodies):
    values = np.zeros((len(rows), 1, 1))
    for fill in FILLS:
        changed = without_highest(rows, images, bodies, values, 0.5, fill, 1)
        assert np.isfinite(changed).all() and (changed != images).any(axis=(1, 2, 3)).all(), fill


def test_every_control_ranks_the_body(rows, images, bodies):
    given = rows, images, bodies
    blocks = control_values((BLOCKS, "conv2b"), *given, (8, 8), 1)
    assert blocks.shape == (len(rows), 8, 8) and len({row.tobytes() for row in blocks}) == len(rows)
    assert control_values(RANDOM, *given, (), 1).shape[0] == len(rows)
    assert control_values(DISC, *given, (), 1).shape == bodies.shape
    brightness = control_values(BRIGHTNESS, *given, (), 1)
    np.testing.assert_array_equal(brightness, image_maps(images, bodies)[BRIGHTNESS])
    assert BRIGHTNESS in ORDERS


def test_maps_are_the_mean_over_the_classes(images):
    network = phase_net(SIZE, initializer="he_normal")
    attributor = Attributor(network, ["conv3b"])
    names = [("saliency", "input"), ("grad_cam", "conv3b")]
    found = maps_of_all_classes(attributor, names, images[:5], batch_size=2)
    batch = images[:5].astype("float32")
    each = [attributor(batch, np.full(5, number), ["saliency", "grad_cam"]) for number in range(5)]
    for name in names:
        expected = np.mean([np.abs(maps[name]) for maps in each], axis=0)
        expected = expected.max(axis=-1) if expected.ndim == 4 else expected
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-7)


def test_names_bring_their_controls():
    names = names_of("saliency/input sam/conv2b grad_cam/conv2b")
    assert names[3:] == [RANDOM, (BLOCKS, "conv2b"), *ORDERS] and layers_of(names) == ["conv2b"]
    assert control_of(("saliency", "input")) == RANDOM
    for bad in ("", "saliency", "saliency/input saliency/input", "random/-", "blocks/conv2b"):
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
    assert (found["shown"] == "").all(), "two repeats show nothing"


@pytest.mark.parametrize(
    ("rights", "control", "expected"),
    [((1, 1, 1), 3, "worse"), ((1, 1, 3), 3, ""), ((3, 3, 3), 1, "better"), ((3, 3, 1), 1, ""), ((2, 2, 2), 2, "")],
)
def test_a_difference_is_shown_if_patients_and_all_repeats_agree(rng, rows, rights, control, expected):
    """Of 90 patients a third, two thirds or all are right."""
    many = pd.concat([rows.assign(patient=rows["patient"] + f"_{n}", series=rows["series"] + f"{n:02x}")
                      for n in range(30)])  # fmt: skip
    parts = [predicted(many, NOTHING, 0.0, repeat, 3) for repeat in range(REPEATS)]
    for repeat, right in enumerate(rights):
        parts.append(predicted(many, ("saliency", "input"), 0.5, repeat, right))
        parts.append(predicted(many, RANDOM, 0.5, repeat, control))
    found = summarise_retrained(pd.concat(parts), rng=rng, resamples=200).set_index(["method", "layer"])
    assert found.loc[("saliency", "input"), "shown"] == expected


def test_the_figure_has_a_panel_per_map_that_begins_with_nothing_removed(rng, rows):
    parts = [predicted(rows, NOTHING, 0.0, 0, 3)]
    for name, right in ((("saliency", "input"), 1), (RANDOM, 2), (DISC, 0), (BRIGHTNESS, 1)):
        parts += [predicted(rows, name, fraction, 0, right) for fraction in (0.1, 0.5)]
    summary = summarise_retrained(pd.concat(parts), rng=rng, resamples=50)
    figure = draw_retraining(summary, [("saliency", "input")])
    (panel,) = figure.axes
    curves = {line.get_color(): line.get_xydata().tolist() for line in panel.lines[:4]}
    assert curves["black"] == [[0, 100], [10, pytest.approx(100 / 3)], [50, pytest.approx(100 / 3)]]
    assert panel.get_title() == "Saliency"
