"""The atlas: its methods on the paper's network, its measures against naive loops, its verdicts on made-up tables."""

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from lib.atlas.claims import CLAIMS, interval_of, map_claims, structure_claims
from lib.atlas.measures import (
    against_interventions,
    agreement,
    another_patient,
    at_image,
    content_free,
    faithfulness,
    on_cells,
    rank_correlation,
    replacement_curve,
    structural_similarity,
)
from lib.atlas.methods import METHODS, TOOLKITS, Atlas, Effort
from lib.attribution import Attributor
from lib.claims.texts import weakest
from lib.figures.atlas import (
    draw_agreement,
    draw_atlas,
    draw_effects,
    draw_embeddings,
    draw_pictures,
    draw_ranking,
)
from lib.networks import phase_net
from lib.phantom.tissues import Tissue

SIZE = 32
EFFORT = Effort(path=16, noise=3, samples=40, patches=6, squares=4)


@pytest.fixture(scope="module")
def atlas():
    keras.utils.set_random_seed(2)
    return Atlas(phase_net(SIZE, initializer="he_normal"), "conv3b", EFFORT)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((2, SIZE, SIZE, 1)).astype("float32")


@pytest.fixture(scope="module")
def maps(atlas, images):
    bodies = np.ones((2, SIZE, SIZE), bool)
    bodies[:, :4] = False
    return atlas(images, bodies, np.array([[1, 3], [0, 2]]), [7, 8], seconds={})


def test_every_method_gives_finite_maps_of_both_classes(atlas, images, maps):
    assert set(maps) == set(METHODS)
    for method, found in maps.items():
        assert found.shape[:2] == (2, 2) and np.isfinite(found).all(), method
        assert atlas.passes(method)
    for method in ("saliency", "sam", "grad_cam"):
        expected = Attributor(atlas.walk.model, ["conv3b"])(images, [3, 2], [method])
        np.testing.assert_allclose(maps[method][:, 1], next(iter(expected.values())), rtol=1e-4, atol=1e-7)


def test_libraries_are_those_that_were_looked_up():
    named = {library for method in METHODS.values() for library in method.toolkits.split(", ")}
    assert named == {*TOOLKITS, "none of them"} and METHODS["sam"].toolkits == "none of them"


def test_methods_that_explain_a_difference_sum_to_it(atlas, images, maps):
    falls = atlas.walk.scores(images) - atlas.walk.scores(np.zeros_like(images))
    for method, share in (("deep_lift", 1e-3), ("integrated_gradients", 0.1)):
        found = maps[method][:, 0].sum(axis=(1, 2))
        np.testing.assert_allclose(found, [falls[0, 1], falls[1, 0]], atol=share * np.abs(falls).max())
    inside = np.ones((SIZE, SIZE), bool)
    inside[:4] = False  # KernelSHAP removes the body and leaves the rest
    removed = atlas.walk.scores(np.where(inside[..., None], 0, images).astype("float32"))
    expected = (atlas.walk.scores(images) - removed)[[0, 1], [1, 0]]
    np.testing.assert_allclose(maps["kernel_shap"][:, 0].sum(axis=(1, 2)), expected, atol=1e-4)


def test_maps_do_not_depend_on_the_batch(atlas, images, maps):
    bodies = np.ones((1, SIZE, SIZE), bool)
    bodies[:, :4] = False
    alone = atlas(images[1:], bodies, np.array([[0, 2]]), [8])
    for method, found in alone.items():
        scale = np.abs(maps[method][1]).max() + 1e-12
        np.testing.assert_allclose(found[0] / scale, maps[method][1] / scale, atol=1e-3, err_msg=method)


def test_baselines(atlas, images):
    assert not atlas.baseline(images).any()
    blurred = Atlas(atlas.walk.model, "conv3b", EFFORT, "blurred").baseline(images)
    assert blurred.std() < 0.3 * images.std()
    with pytest.raises(ValueError, match="choose mean or blurred"):
        Atlas(atlas.walk.model, "conv3b", EFFORT, "black")


def test_cells_are_means_of_absolute_values_in_the_body():
    heat, body = np.arange(64.0).reshape(8, 8) - 20, np.ones((8, 8), bool)
    body[:, :3] = False
    expected = [np.abs(heat[y : y + 4, 4:]).mean() for y in (0, 4)]
    np.testing.assert_allclose(on_cells(heat, body, 2), expected)
    assert len(on_cells(heat, ~body, 2)) == 2


def test_similarity_is_its_equation():
    rng = np.random.default_rng(0)
    a, b = rng.random((12, 10)), rng.random((12, 10))
    a, b = ((x - x.min()) / np.ptp(x) for x in (a, b))
    values = []
    for y in range(6):
        for x in range(4):
            p, q = a[y : y + 7, x : x + 7].ravel(), b[y : y + 7, x : x + 7].ravel()
            both = ((p - p.mean()) * (q - q.mean())).mean()
            top = (2 * p.mean() * q.mean() + 0.01**2) * (2 * both + 0.03**2)
            values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + 0.01**2) * (p.var() + q.var() + 0.03**2)))
    assert structural_similarity(a, b) == pytest.approx(np.mean(values))
    assert structural_similarity(a, 3 * a + 7) == pytest.approx(1)
    assert structural_similarity(a, 1 - a) < 0


def test_replacement_goes_by_the_size_of_the_map():
    """The answer is the sum of the image: deleting the largest values first loses them first."""
    rng = np.random.default_rng(0)
    image, body = rng.random((8, 8, 1)), np.ones((8, 8), bool)
    body[0] = False

    def answer(images):
        return images.sum(axis=(1, 2, 3))

    curve = replacement_curve(answer, image, np.zeros_like(image), -image[..., 0], body, 7)
    inside = np.sort(image[1:].ravel())[::-1]
    outside = image[0].sum()
    expected = [outside + inside[round(k * 56 / 7) :].sum() for k in range(8)]
    np.testing.assert_allclose(curve, expected)
    best = faithfulness(answer, image, np.zeros_like(image), image[..., 0], body, 7)
    worst = faithfulness(answer, image, np.zeros_like(image), 1 / image[..., 0], body, 7)
    assert best[0] < worst[0] and best[1] > worst[1]
    assert best[0] == pytest.approx(np.trapezoid(expected, dx=1 / 7))


def test_controls_are_of_another_patient():
    assert another_patient(["a", "a", "b", "c"]) == [2, 2, 3, 0]
    with pytest.raises(ValueError, match="two or more"):
        another_patient(["a", "a"])


def test_agreement_of_a_map_with_itself_is_one():
    rng = np.random.default_rng(0)
    one = [rng.random(20) for _ in range(3)]
    table = agreement({"x": one, "y": [2 * v + 1 for v in one], "z": [-v for v in one], "flat": [np.ones(20)] * 3})
    found = table.set_index(["one", "other"])["correlation"].groupby(level=[0, 1]).mean()
    assert found["x", "y"] == pytest.approx(1) and found["x", "z"] == pytest.approx(-1) and np.isnan(found["x", "flat"])
    assert np.isnan(rank_correlation(np.ones(4), np.arange(4)))
    assert at_image(np.eye(2), (4, 4)).sum() == 8


def test_interventions_rank_a_map_that_knows_them_first():
    organs = {"liver": Tissue.LIVER, "spleen": Tissue.SPLEEN, "aorta": Tissue.AORTA, "muscle": Tissue.MUSCLE}
    codes = np.zeros((1, 16, 16), int)
    for k, code in enumerate(organs.values()):
        codes[0, 4 * k : 4 * k + 4, : 4 * (k + 1)] = code
    falls = {"liver": 4.0, "spleen": 3.0, "aorta": -2.0, "muscle": 0.1}
    effects = pd.DataFrame([(0, o, "cm", 40, f) for o, f in falls.items()],
                           columns=["image", "organ", "moved_to", "voxels", "fall"])  # fmt: skip
    knows = np.zeros((1, 16, 16))
    for organ, code in organs.items():
        knows[codes == code] = falls[organ] / (codes == code).sum()
    uniform = content_free(np.ones((1, 16, 16, 1)), codes > 0)["uniform"]
    table = against_interventions({"knows": knows, "uniform": uniform, "turned": -knows}, codes, effects)
    table = table.set_index("method")
    assert table.loc["knows", ["rank", "signed"]].tolist() == [1, 1] and table.loc["knows", "first"]
    assert table.loc["uniform", "rank"] == -1 and not table.loc["uniform", "first"]
    assert table.loc["turned", "signed"] == -1 and table.loc["knows", "organs"] == 4


def made_up(good: bool):
    rng, sign = np.random.default_rng(0), 1 if good else -1
    rows, pairs = [], []
    for n in range(20):
        row = {"method": "saliency", "image": n, "patient": f"p{n}", "enrichment": 1 + sign * 0.8}
        for one, other, side in (("runner_up", "across", -1), ("random", "pairs", -1), ("rank", "rank_uniform", 1),
                                 ("deletion", "deletion_control", -1), ("repeat", "repeat_random", 1)):  # fmt: skip
            row[other] = 0.5 + rng.normal(0, 0.02)
            row[one] = row[other] + sign * side * 0.2 + rng.normal(0, 0.02)
        rows.append(row)
        for other in ("lime", "sam", "cam"):
            pairs.append(("saliency", other, n, 0.2 if good else 0.9, f"p{n}"))
    columns = ["one", "other", "image", "correlation", "patient"]
    return pd.DataFrame(rows), pd.DataFrame(pairs, columns=columns)


@pytest.mark.parametrize(("good", "verdict"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_on_maps_follow_their_rules(good, verdict):
    found = weakest(map_claims(*made_up(good)))
    assert found.to_dict() == dict.fromkeys(["A3", "A4", "A5", "A6", "A7", "A8", "A9"], verdict)


def test_what_was_not_measured_has_no_verdict():
    quality, pairs = made_up(True)
    found = map_claims(quality.assign(repeat=np.nan), pairs)
    assert set(found["id"]) == set(CLAIMS) - {"A1", "A2", "A8"}


@pytest.mark.parametrize(("good", "verdict"), [(True, "supported"), (False, "contradicted")])
def test_verdicts_on_structure_follow_their_rules(good, verdict):
    rng, n = np.random.default_rng(1), 100
    order = np.arange(n) % 5
    strong, weak = rng.random(n) < 0.9, rng.random(n) < 0.12
    yes, no = (strong, weak) if good else (weak, strong)
    pc1 = order + rng.normal(0, 0.3, n) if good else rng.normal(0, 1, n)
    who = [f"p{k}" for k in range(n)]
    embeddings = pd.DataFrame({"patient": who, "order": order, "pc1": pc1, "pixels": no, "features": yes, "tsne": yes})
    probes = pd.DataFrame({"patient": who, "latents": yes, "pca": no})
    found = structure_claims(embeddings, probes)
    assert (found["verdict"] == verdict).all() and set(found["id"]) == {"A1", "A2"}


def test_the_interval_of_a_mean_resamples_patients():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 4)
    values = rng.normal(0, 1, 30)[patients]
    value, low, high = interval_of(lambda n: values[n].mean(), patients, "test")
    assert low < value < high and high - low > 2 * 1.96 * values.std() / np.sqrt(30) * 0.8


def texts(figure):
    figure.canvas.draw()
    return {text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()}


def test_the_figure_of_maps_shows_every_method_and_phase():
    """The panel of a map that is high at one place is brightest there; the image's panel is grey."""
    hu = np.full((24, 32), 40.0)
    hu[:4] = np.nan
    images = dict.fromkeys(("noncon", "cm"), hu)
    heat = np.zeros((24, 32))
    heat[12:16, 8:12] = 1
    maps = {"Saliency": dict.fromkeys(images, heat), "LIME": dict.fromkeys(images, heat)}
    figure = draw_atlas(images, maps, {"Saliency": "gradient", "LIME": "perturbation"})
    assert {"CT image", "Saliency", "LIME", "Noncon", "CM"} <= texts(figure)
    panels = [panel for panel in figure.axes if panel.images]
    assert len(panels) == 6
    shown = np.asarray(panels[-1].images[0].get_array(), int)
    brightest = np.argwhere((shown == shown.reshape(-1, 3)[shown.sum(axis=2).argmax()]).all(axis=2))
    assert len(brightest) == 16


def test_other_figures_name_what_they_draw():
    rng = np.random.default_rng(0)
    phases = ["noncon", "cm", "cm-neph", "neph", "pyelo"]
    points = {"Pixels": rng.normal(size=(20, 2)), "Features": rng.normal(size=(20, 2))}
    wrong = np.arange(20) < 3
    figure = draw_embeddings(points, phases * 4, wrong)
    assert {"Pixels", "Features", "Pyelo", "network wrong"} <= texts(figure)
    rings = [line for line in figure.axes[0].lines if line.get_label() == "network wrong"]
    np.testing.assert_array_equal(rings[0].get_xydata(), points["Pixels"][wrong])
    titles = [METHODS[m].title for m in ("saliency", "sam")]
    matrix = pd.DataFrame([[np.nan, -0.25], [-0.25, np.nan]], index=titles, columns=titles)
    assert {"Saliency", "SAM", "-.2"} <= texts(draw_agreement(matrix))
    weights = pd.DataFrame(rng.random((2, 5)), index=["liver", "spleen"], columns=phases)
    assert {"liver", "CM-neph", f"{weights.iloc[0, 0]:.2f}"} <= texts(draw_effects(weights))
    assert {"row", "one"} <= texts(draw_pictures({"row": rng.normal(size=(2, 8, 8))}, ["one", "two"]))
    table = pd.DataFrame({"family": ["gradient", "activation"], "rank": [0.2, 0.5], "seconds": [0.1, 1.0]}, titles)
    table = table.assign(rank_low=0.1, rank_high=0.6, seconds_low=np.nan, seconds_high=np.nan)
    figure = draw_ranking(table, {"rank": ("Rank", 0.0), "seconds": ("Seconds", None)}, {"rank": {"uniform": 0.3}})
    assert {"Saliency", "SAM", "Rank", "Seconds", "uniform", "A", "B"} <= texts(figure)
    assert figure.axes[1].get_xscale() == "log"
