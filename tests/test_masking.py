"""Voxel selection, overwriting and the cohort loop against full sorts, exact counts and bare predictions."""

import keras
import naive
import numpy as np
import pandas as pd
import pytest
from keras import layers as kl
from scipy import ndimage

from lib import voxels
from lib.attribution import Attributor
from lib.masking import experiment, overwrite_voxels, select_voxels
from lib.masking.controls import CONTROLS, image_maps
from lib.masking.experiment import Reading, mask_cohort
from lib.paper import PHASES
from lib.voxels import upsample


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("region", ["top", "bottom"])
def test_selection_is_that_of_a_full_sort(rng, region):
    maps = rng.standard_normal((2, 9, 11))
    chosen = select_voxels(maps, 0.3, region, rng=rng)
    for values, mask in zip(maps.reshape(2, -1), chosen.reshape(2, -1), strict=True):
        assert set(np.flatnonzero(mask)) == naive.masked(values, 0.3, region)[0]


@pytest.mark.parametrize("region", ["top", "bottom", "random"])
def test_counts_are_exact_among_ties(rng, region):
    maps = rng.integers(0, 3, (4, 10, 10)).astype("float32")
    assert (select_voxels(maps, 0.1, region, rng=rng).sum(axis=(1, 2)) == 10).all()
    within = rng.random((4, 10, 10)) < 0.6
    chosen = select_voxels(maps, 0.25, region, rng=rng, within=within)
    assert not (chosen & ~within).any()
    np.testing.assert_array_equal(chosen.sum(axis=(1, 2)), [round(0.25 * w.sum()) for w in within])


def test_only_ties_at_the_boundary_are_drawn(rng):
    values = np.r_[np.full(5, 3.0), np.full(20, 2.0), np.full(75, 1.0)].reshape(1, 10, 10)
    hits = np.mean([select_voxels(values, 0.1, rng=rng).ravel() for _ in range(2000)], axis=0)
    np.testing.assert_array_equal(hits[:5], 1)
    np.testing.assert_array_equal(hits[25:], 0)
    np.testing.assert_allclose(hits[5:25], 0.25, atol=0.05)


def test_magnitude_or_sign(rng):
    values = np.array([[[-3.0, 0.0], [1.0, 2.0]]])
    assert select_voxels(values, 0.25, rng=rng)[0, 0, 0]
    assert select_voxels(values, 0.25, rng=rng, magnitude=False)[0, 1, 1]


def test_nearest_upsampling_makes_blocks(rng):
    maps = rng.standard_normal((2, 4, 3)).astype("float32")
    np.testing.assert_array_equal(upsample(maps, (8, 9)), np.kron(maps, np.ones((1, 2, 3), "float32")))


def test_bilinear_upsampling_is_half_pixel_centred():
    ramp = np.arange(4.0)[None, None].repeat(4, axis=1)
    found = upsample(ramp, (8, 8), "bilinear")
    np.testing.assert_allclose(found[0, 0], [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    np.testing.assert_allclose(upsample(np.ones((1, 1, 1)), (5, 5), "bilinear"), 1)


def test_one_map_is_upsampled_as_each_of_several(rng):
    coarse = np.array([[0, 1], [2, 3]])
    np.testing.assert_array_equal(upsample(coarse, (4, 4)), np.repeat(np.repeat(coarse, 2, 0), 2, 1))
    fine = upsample(coarse, (4, 4), "bilinear")
    np.testing.assert_allclose(fine[0], [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(fine[:, 0], [0, 0.5, 1.5, 2])
    maps = rng.standard_normal((2, 3, 4, 3)).astype("float32")
    for how in ("nearest", "bilinear"):
        several = upsample(maps, (8, 9), how)
        assert several.dtype == "float32"
        np.testing.assert_array_equal(several[1, 2], upsample(maps[1, 2], (8, 9), how))
    oracle = ndimage.zoom(maps[0, 0], (2, 3), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(upsample(maps[0, 0], (8, 9), "bilinear"), oracle, atol=1e-6)


def test_overwriting_changes_the_chosen_voxels_only(rng):
    images = rng.standard_normal((2, 6, 6, 3)).astype("float32")
    voxels = rng.random((2, 6, 6)) < 0.5
    masked = overwrite_voxels(images, voxels, rng=rng)
    np.testing.assert_array_equal(masked[~voxels], images[~voxels])
    assert (masked[voxels] != images[voxels]).all()
    np.testing.assert_array_equal(overwrite_voxels(images, voxels, fill=np.float32(7))[voxels], 7)


def test_fills_have_their_distributions(rng):
    images = rng.uniform(-5, 3, (1, 200, 200, 1)).astype("float32")
    everywhere = np.ones((1, 200, 200), bool)
    fills = {fill: overwrite_voxels(images, everywhere, rng=rng, fill=fill) for fill in voxels.FILLS}
    np.testing.assert_allclose([fills["normal"].mean(), fills["normal"].std()], [0, 1], atol=0.03)
    assert fills["uniform"].min() >= 0 and fills["uniform"].max() < 1
    np.testing.assert_allclose([fills["range"].min(), fills["range"].max()], [-5, 3], atol=0.01)
    np.testing.assert_array_equal(np.sort(fills["shuffle"].ravel()), np.sort(images.ravel()))
    np.testing.assert_array_equal(fills["zero"], 0)


def test_the_blurred_fill_is_the_naive_gaussian_of_a_32nd_of_the_image(rng):
    images = rng.standard_normal((2, 32, 48, 2))
    found = overwrite_voxels(images, np.ones((2, 32, 48), bool), fill="blurred")
    for image, channel in ((0, 0), (1, 1)):
        np.testing.assert_allclose(found[image, ..., channel], naive.blurred(images[image, ..., channel], (1.0, 1.5)))
    flat = np.full((1, 32, 32), 3.0)
    np.testing.assert_allclose(overwrite_voxels(flat, np.ones(flat.shape, bool), fill="blurred"), 3)


def test_fills_of_volumes(rng):
    ramp = np.broadcast_to(rng.standard_normal((1, 64, 1, 1, 1)), (1, 64, 4, 4, 1))
    blurred = voxels.fill_values(ramp, "blurred", None)
    column = naive.blurred(ramp[0, :, 0, :1, 0], (2.0, 0.1))[:, 0]
    np.testing.assert_allclose(blurred[0, :, 2, 3, 0], column)
    volume, body = rng.standard_normal((1, 6, 5, 4, 1)).astype("float32"), rng.random((1, 6, 5, 4)) < 0.5
    shuffled = voxels.fill_values(volume, "shuffle", rng, body)
    assert set(shuffled.ravel()) == set(volume[body].ravel())
    assert voxels.fill_values(volume, "range", rng).shape == volume.shape
    assert not voxels.fill_values(volume, "zero", None).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: select_voxels(np.zeros((1, 2, 2)), 0.0, rng=rng), "fraction is 0.0"),
        (lambda rng: select_voxels(np.zeros((1, 2, 2)), region="upper", rng=rng), "region='upper'"),
        (lambda rng: select_voxels(np.full((1, 2, 2), np.nan), rng=rng), "holds NaN"),
        (lambda rng: select_voxels(np.zeros((2, 2)), rng=rng), "expected \\(n, H, W\\)"),
        (lambda rng: select_voxels(np.zeros((1, 2, 2)), rng=rng, within=np.ones((2, 2))), "within has shape"),
        (lambda rng: overwrite_voxels(np.zeros((1, 2, 2)), np.ones((1, 3, 3), bool), rng=rng), "voxels has shape"),
        (lambda rng: overwrite_voxels(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool)), "give rng"),
        (
            lambda rng: overwrite_voxels(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool), rng=rng, fill="air"),
            "fill='air'",
        ),
        (lambda rng: upsample(np.zeros((1, 2, 2)), (4, 4), "cubic"), "interpolation='cubic'"),
    ],
)
def test_bad_input_says_what_is_wrong(rng, call, message):
    with pytest.raises(ValueError, match=message):
        call(rng)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((16, 16, 1))
    x = kl.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = kl.Conv2D(8, 3, padding="same", activation="relu", name="conv2")(kl.MaxPooling2D()(x))
    return keras.Model(inputs, kl.Dense(5, activation="softmax")(kl.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def cohort(network):
    images = np.random.default_rng(1).standard_normal((6, 16, 16, 1)).astype("float32")
    labels = network.predict(images, verbose=0).argmax(axis=1)
    rows = pd.DataFrame(
        {
            "patient": "a1",
            "series": ["0abc", "0abc", "0abd", "0abd", "ff", "ff"],
            "slice": range(6),
            "phase": [PHASES[i] for i in labels],
        }
    )
    body = np.zeros((6, 16, 16), bool)
    body[:, 3:13, 2:14] = True  # 120 voxels
    return rows, images, body


def batches(cohort, size=6):
    rows, images, body = cohort
    return [(rows[i : i + size], images[i : i + size], body[i : i + size]) for i in range(0, len(rows), size)]


def run(network, cohort, size=6, batch_size=16, untrained=None, others=None, **reading):
    attributor = Attributor(network, ["conv1", "conv2"], score=reading.get("score", "logit"))
    choices = {"untrained": untrained, "others": others, "batch_size": batch_size}
    tables = mask_cohort(network, batches(cohort, size), attributor, Reading(**reading), **choices)
    return pd.concat(tables, ignore_index=True)


def one_row(table, slice_, method, region, draw):
    chosen = (table.slice == slice_) & (table.method == method) & (table.region == region) & (table.draw == draw)
    return table[chosen].iloc[0]


def test_cohort_rows_agree_with_masking_one_by_one(network, cohort):
    rows, images, _ = cohort
    table = run(network, cohort, draws=2, seed=5)
    attributor = Attributor(network, ["conv1", "conv2"])
    controls = {"random": 1, "random_body": 1, "disc": 1, "blocks": 1}  # the maps of conv2 are smaller than the image
    assert len(table) == 6 * 2 * (2 * 7 + sum(controls.values()))
    labels = [PHASES.index(phase) for phase in rows["phase"]]
    row = one_row(table, 3, "saliency", "top", 1)
    rng = np.random.default_rng([5, int("0abd", 16), 3, 1])
    noise = rng.standard_normal((16, 16, 1), dtype="float32")
    saliency = attributor(images[3:4], labels[3], "saliency")["saliency", "input"]
    voxels = select_voxels(saliency, 0.1, rng=rng)
    masked = np.where(voxels[..., None], noise, images[3:4])
    before, after = network.predict(np.concatenate([images[3:4], masked]), verbose=0)
    np.testing.assert_allclose([row.p_original, row.p_masked], [before[labels[3]], after[labels[3]]], rtol=1e-5)
    np.testing.assert_allclose(row.relative_probability, 100 * after[labels[3]] / before[labels[3]], rtol=1e-5)
    np.testing.assert_allclose([row[f"original_{phase}"] for phase in PHASES], before, rtol=1e-5)
    np.testing.assert_allclose([row[f"masked_{phase}"] for phase in PHASES], after, rtol=1e-5)


def test_results_do_not_depend_on_how_the_work_is_cut(network, cohort):
    whole, cut = run(network, cohort), run(network, cohort, size=2, batch_size=5)
    pd.testing.assert_frame_equal(whole, cut, rtol=1e-5)


def test_every_control_has_a_row_per_slice_and_draw(network, cohort):
    for within, methods in (
        ("image", {"random", "random_body", "disc", "blocks"}),
        ("body", {"random", "disc", "blocks"}),
    ):
        control = run(network, cohort, within=within)
        control = control[control.method.isin(CONTROLS)]
        assert set(control.method) == methods
        assert set(control.loc[control.method == "blocks", "layer"]) == {"conv2"}
        assert control.groupby(["method", "series", "slice"]).size().eq(3).all()


def chosen_by(body, method, draws=200):
    """How often each voxel (16, 16) is masked by a control, by slice."""
    reading = Reading(draws=draws)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"series": "ff", "slice": range(len(body))})
    keys = np.stack([[rng.permutation(256) for _ in range(draws)] for _ in body])
    maps = {"": {("sam", "deep"): np.zeros((len(body), 4, 4), "float32")}}
    ranked = (which for which in experiment._ranked(maps, rows, body, (16, 16), reading) if which[1] == method)
    found = np.zeros((len(body), draws, 16, 16), bool)
    for version in experiment._versions(ranked, keys, (16, 16), None, reading):
        found[version.image, version.draw] = version.voxels
    assert (found.sum(axis=(2, 3)) == 26).all()
    return found


def test_random_voxels_lie_anywhere_or_in_the_body(cohort):
    body = cohort[2]
    anywhere, inside = (chosen_by(body, method).mean(axis=(0, 1)) for method in ("random", "random_body"))
    np.testing.assert_allclose(anywhere, 0.1, atol=0.05)
    assert inside[~body[0]].sum() == 0
    np.testing.assert_allclose(inside[body[0]], 26 / 120, atol=0.06)


def test_blocks_are_whole_cells_of_the_layer_in_the_body_and_differ_from_draw_to_draw(cohort):
    body = cohort[2]
    found = chosen_by(body, "blocks")
    cells = found.reshape(6, 200, 4, 4, 4, 4).sum(axis=(3, 5))  # voxels per cell of 4 x 4
    assert ((cells == 16).sum(axis=(2, 3)) == 1).all() and ((cells > 0).sum(axis=(2, 3)) == 2).all()  # 26 = 16 + 10
    mostly = body[0].reshape(4, 4, 4, 4).mean(axis=(1, 3)) > 0.5
    often = (cells == 16).mean(axis=(0, 1))
    assert often[~mostly].sum() == 0
    np.testing.assert_allclose(often[mostly], 1 / mostly.sum(), atol=0.05)


def test_the_disc_lies_about_the_bodys_centroid(cohort):
    body = np.zeros((1, 16, 16), bool)
    body[0, 2:11, 4:13] = True  # centroid at 6, 8
    found = chosen_by(body, "disc", draws=20).mean(axis=(0, 1))
    rows, columns = np.indices((16, 16))
    distance = np.hypot(rows - 6, columns - 8)
    assert (found[distance < 2.8] == 1).all() and (found[distance > 3.1] == 0).all()


def test_another_patients_map_and_the_untrained_networks_map_are_masked_here(network, cohort):
    rows, images, _ = cohort
    labels = np.array([PHASES.index(phase) for phase in rows["phase"]])
    keras.utils.set_random_seed(9)
    fresh = Attributor(keras.models.clone_model(network), ["conv1", "conv2"])
    swapped = images[::-1]
    table = run(network, cohort, untrained=fresh, others=lambda rows: swapped[rows["slice"].to_numpy()], seed=5)
    maps = {
        "other_patient": Attributor(network, ["conv1", "conv2"])(swapped, labels, "saliency"),
        "untrained": fresh(images, labels, "saliency"),
    }
    for region, computed in maps.items():
        rng = np.random.default_rng([5, int("0abd", 16), 3, 1])
        noise = rng.standard_normal((16, 16, 1), dtype="float32")
        voxels = select_voxels(computed["saliency", "input"][3:4], 0.1, rng=rng)
        masked = np.where(voxels[..., None], noise, images[3:4])
        after = network.predict(masked, verbose=0)[0, labels[3]]
        np.testing.assert_allclose(one_row(table, 3, "saliency", region, 1).p_masked, after, rtol=1e-5)
    assert set(table.loc[~table.method.isin(CONTROLS), "region"]) == {"top", "bottom", "other_patient", "untrained"}


def test_overwriting_everything_makes_all_maps_equal(network, cohort):
    """One noise field for all maps of a slice and draw: with every voxel overwritten only the noise is left."""
    table = run(network, cohort, fraction=1.0)
    spread = table.groupby(["slice", "draw"]).p_masked.agg(lambda p: p.max() - p.min())
    assert spread.max() < 1e-6 and table.p_masked.nunique() > 6


def test_masking_the_body_leaves_the_rest(network, cohort, monkeypatch):
    seen = []
    predictor = experiment.masked_predictor

    def spy(*arguments, **choices):
        predict = predictor(*arguments, **choices)
        return lambda voxels, *rest: seen.append(voxels) or predict(voxels, *rest)

    monkeypatch.setattr(experiment, "masked_predictor", spy)
    run(network, cohort, within="body", fraction=0.2)
    masks = np.concatenate(seen[1:])
    assert (masks.sum(axis=(1, 2)) == round(0.2 * 120)).all()
    assert not masks[:, ~cohort[2][0]].any()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"within": "lung"}, "within='lung' is not known: choose among image, body"),
        ({"fill": "air"}, "fill='air' is not known"),
        ({"score": "loss"}, "score='loss' is not known"),
        ({"interpolation": "cubic"}, "interpolation='cubic' is not known"),
        ({"fraction": 0.0}, "fraction is 0.0, expected more than 0"),
        ({"draws": 0}, "draws is 0: at least one"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        Reading(**choice)


def test_maps_of_another_score_than_the_readings_are_refused(network, cohort):
    with pytest.raises(ValueError, match="differentiates the logit, the reading says 'probability'"):
        list(mask_cohort(network, batches(cohort), Attributor(network, ["conv1"]), Reading(score="probability")))


def test_wrong_predictions_raise(network, cohort):
    rows, images, body = cohort
    wrong = rows.assign(phase=[PHASES[(PHASES.index(phase) + 1) % 5] for phase in rows["phase"]])
    with pytest.raises(ValueError, match=r"Slice 0 of series 0abc is labelled .* predicted"):
        list(mask_cohort(network, [(wrong, images, body)], Attributor(network)))


def test_body_masking_without_a_mask_raises(network, cohort):
    with pytest.raises(ValueError, match="needs a body mask"):
        list(mask_cohort(network, [(*cohort[:2], None)], Attributor(network), Reading(within="body")))


def test_maps_of_the_image_are_zero_in_the_air_and_highest_at_edges_bright_spots_and_the_centre():
    images, body = np.zeros((1, 41, 41, 1), "float32"), np.zeros((1, 41, 41), bool)
    body[:, 8:33, 8:33] = True
    images[:, 8:33, 8:33] = -2.0
    images[0, 8:33, 20:33] = 1.0  # one edge, at column 20
    images[0, 28, 28] = 9.0
    maps = image_maps(images, body)
    assert set(maps) == {("disc", "-"), ("edges", "-"), ("brightness", "-")}
    for values in maps.values():
        assert values.dtype == np.float32 and (values[~body] == 0).all() and (values >= 0).all()
    peak = {name: np.unravel_index(values[0].argmax(), (41, 41)) for name, values in maps.items()}
    assert peak["disc", "-"] == (20, 20) and peak["brightness", "-"] == (28, 28)
    assert maps["brightness", "-"][0, 15, 15] == 0 and maps["brightness", "-"][0, 15, 25] == 3
    row = maps["edges", "-"][0, 15]
    assert row[9:32].argmax() + 9 in (19, 20) and row[14] < 1e-3 * row[19]
