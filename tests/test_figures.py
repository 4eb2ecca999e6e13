"""Display transforms by hand counts; figures against small baseline images (pytest --mpl)."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from lib.figures.bars import draw_bars, draw_layer_comparison, draw_layers, draw_specificity
from lib.figures.display import overlay, scaled, to_range, window
from lib.figures.maps import MapRow, draw_maps, map_row
from lib.figures.prediction import draw_confusions, draw_training_and_roc
from lib.figures.style import STYLE, save_figure
from lib.metrics import auc_table, roc_curves
from lib.paper import FINAL_MAPS, LAYERS, PHASES, published
from lib.saved_maps import Maps, read_maps
from lib.voxels import rank_order

plt.switch_backend("agg")
baseline = pytest.mark.mpl_image_compare(style=STYLE, tolerance=5, savefig_kwargs={"dpi": 60})
ROWS = [*(map_row(*name) for name in FINAL_MAPS), MapRow("Signed", "saliency", "input", "rank")]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def example_maps(size=64, phases=PHASES):
    """A disc of soft tissue with two bright kidneys, and maps that follow them."""
    y, x = np.mgrid[:size, :size] / size * 2 - 1
    kidneys = ((np.abs(x) - 0.35) ** 2 + (y - 0.1) ** 2) < 0.03
    body = x**2 + y**2 < 0.8
    rng = np.random.default_rng(0)
    images, maps = {}, {}
    for phase in phases:
        images[phase] = np.where(body, np.where(kidneys, 180.0, 40.0), np.nan)
        noise = rng.normal(0, 1, (size, size)) * (0.1 + kidneys)
        coarse = kidneys.reshape(4, size // 4, 4, size // 4).mean((1, 3))
        maps |= {(phase, "saliency", "input"): noise, (phase, "guided_backprop", "input"): noise**2 * kidneys}
        maps |= {(phase, "cam", "conv6"): coarse - 0.2, (phase, "grad_cam", "conv6"): np.maximum(coarse - 0.2, 0)}
    return Maps(images, maps, {phase: phase for phase in PHASES})


def example_levels():
    rows = []
    for i, phase in enumerate(PHASES):
        for j, (method, layer) in enumerate([*FINAL_MAPS, *(("sam", layer) for layer in LAYERS)]):
            for region, mean in (("top", 20 + 8 * j + i), ("bottom", 99)):
                rows.append((method, layer, region, phase, mean, 12, 30 + i, 7, 0.001 if region == "top" else 0.4))
        rows += [("grad_cam", layer, "top", phase, 60 + i, 20, 30 + i, 7, 0.001) for layer in LAYERS[:-1]]
    columns = "method layer region phase mean sd n_slices n_patients p_bonferroni"
    return pd.DataFrame(rows, columns=columns.split())


def example_letters(maps):
    rows = [(phase, *name, "abcd"[:i]) for phase in PHASES for i, name in enumerate(maps)]
    return pd.DataFrame(rows, columns=["phase", "method", "layer", "letters"])


def test_window_is_the_radiologists():
    np.testing.assert_allclose(window(np.array([[-200, -160, 40, 240, 500, np.nan]])), [[0, 0, 0.5, 1, 1, 0]])


def test_rank_order_counts_smaller_values_and_half_of_equal_ones():
    values = np.array([[3.0, 1.0, 1.0], [7.0, -2.0, 3.0]])
    expected = [[(np.sum(values < v) + (np.sum(values == v) - 1) / 2) / 5 for v in row] for row in values]
    np.testing.assert_allclose(rank_order(values), expected)
    np.testing.assert_allclose(rank_order(np.exp(values)), rank_order(values))
    assert rank_order(np.full((2, 2), 4.0)).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_range_runs_from_minimum_to_maximum():
    np.testing.assert_allclose(to_range(np.array([-1.0, 0.0, 3.0])), [0, 0.25, 1])
    assert not to_range(np.full(3, 2.0)).any()


def test_display_of_each_kind():
    signed = np.array([[-3.0, 1.0], [2.0, -0.5]])
    np.testing.assert_allclose(scaled(signed, "magnitude rank"), [[1, 1 / 3], [2 / 3, 0]])
    np.testing.assert_allclose(scaled(signed, "rank"), [[0, 2 / 3], [1, 1 / 3]])
    np.testing.assert_allclose(scaled(signed, "range"), [[0, 0.8], [1, 0.5]])
    slices = np.stack([np.zeros((2, 2)), signed, np.ones((2, 2))], axis=-1)
    np.testing.assert_allclose(scaled(slices, "range"), scaled(signed, "range"))


def test_lowest_part_of_a_map_is_not_shown():
    hu, heat = np.array([[40.0, 40.0, np.nan]]), np.array([[0.024, 0.026, 1.0]])
    picture = overlay(hu, heat, opacity=1.0)
    assert picture[0, 0].tolist() == [128, 128, 128]
    np.testing.assert_array_equal(picture[0, 1], np.round(255 * np.array(plt.get_cmap("rainbow")(0.026)[:3])))
    assert picture[0, 2].tolist() == [255, 0, 0]
    assert overlay(hu, heat, opacity=0.5)[0, 2].tolist() == [128, 0, 0]


def test_figures_are_the_same_bytes_each_time(tmp_path):
    first = save_figure(draw_confusions({"Slices": published("table1_slices")}), tmp_path / "a.png")
    again = save_figure(draw_confusions({"Slices": published("table1_slices")}), tmp_path / "b.png")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert [path.suffix for path in first] == [".png", ".pdf"]


def test_large_pictures_lose_resolution_not_colour(tmp_path):
    figure = draw_confusions({"Slices": published("table1_slices")})
    width = plt.imread(save_figure(figure, tmp_path / "full.png")[0]).shape[1]
    small = save_figure(figure, tmp_path / "small.png", limit=70_000)[0]
    assert small.stat().st_size <= 70_000
    assert plt.imread(small).shape[1] < width == 2102


@pytest.mark.parametrize("name", ["maps", "specificity", "comparison", "layers"])
def test_text_is_readable_at_journal_size(name):
    levels, sams = example_levels(), [("sam", layer) for layer in LAYERS]
    pairs = levels.query("method == 'sam' and region == 'top'")
    figure = {
        "maps": lambda: draw_maps(example_maps(), ROWS),
        "specificity": lambda: draw_specificity(
            levels, example_letters(FINAL_MAPS), FINAL_MAPS, control=levels.query("method == 'none'")
        ),
        "comparison": lambda: draw_layer_comparison(levels, pairs, LAYERS),
        "layers": lambda: draw_layers(levels, example_letters(sams), LAYERS),
    }[name]()
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert len(texts) > 10
    assert min(text.get_fontsize() for text in texts) >= 6
    assert figure.get_figwidth() == pytest.approx(178 / 25.4)


def test_bars_stand_at_their_means():
    _, panel = plt.subplots()
    means = np.array([[10.0, 20.0], [30.0, np.nan]])
    draw_bars(
        panel,
        means,
        means / 10,
        labels=["x", "y"],
        colours=["k", "w"],
        groups=["a", "b"],
        marks=[["*", ""], ["b", "c"]],
    )
    heights = [[bar.get_height() for bar in bars] for bars in panel.containers if hasattr(bars, "patches")]
    np.testing.assert_array_equal(heights, means)
    assert {text.get_text() for text in panel.texts} == {"*", "b"}
    assert panel.texts[0].get_position()[1] == pytest.approx(12)


def test_phase_without_a_slice_leaves_an_empty_column():
    figure = draw_maps(example_maps(phases=("cm", "neph")), ROWS)
    shown = [panel for panel in figure.axes if panel.images]
    assert len(shown) == 2 * (1 + len(ROWS))
    texts = [text.get_text() for panel in figure.axes for text in panel.texts]
    assert texts.count("no slice\nclassified\ncorrectly") == 3


def test_saved_maps_are_read(tmp_path):
    example = example_maps(phases=("cm",))
    arrays = {"/".join(key): value for key, value in example.maps.items()}
    np.savez(tmp_path / "maps.npz", **arrays, **{"cm/image": example.images["cm"], "cm/input": np.zeros((2, 2))})
    found = read_maps(tmp_path)
    np.testing.assert_array_equal(found.images["cm"], example.images["cm"])
    assert set(found.maps) == set(example.maps)
    assert list(found.phases) == list(PHASES)


def test_maps_of_series_are_titled_by_series(tmp_path):
    image = np.zeros((2, 2))
    np.savez(tmp_path / "maps.npz", **{"5e21/image": image, "5e21/cam/conv6": image, "0077/image": image})
    pd.DataFrame({"name": ["5e21", "0077"], "phase": ["neph", "cm"]}).to_csv(tmp_path / "slices.csv", index=False)
    assert read_maps(tmp_path).phases == {"5e21": "neph", "0077": "cm"}


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"has no cm/sam/conv2b; it has \['cm/cam/conv6'"):
        draw_maps(example_maps(phases=("cm",)), [map_row("sam", "conv2b")])
    with pytest.raises(ValueError, match="holds 1 values that are NaN"):
        rank_order(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="expected 'magnitude rank'"):
        scaled(np.ones((2, 2)), "log")
    np.savez(tmp_path / "maps.npz", other=np.zeros(2))
    with pytest.raises(ValueError, match="run 05_compute_maps again"):
        read_maps(tmp_path)


@pytest.mark.mpl_image_compare(style=STYLE, tolerance=5, savefig_kwargs={"dpi": 45})
def test_map_figure():
    return draw_maps(example_maps(32), ROWS)


@baseline
def test_specificity_figure():
    control = pd.concat(
        pd.DataFrame({"phase": PHASES, "method": method, "mean": mean})
        for method, mean in (("random", 95.0), ("random_body", 70.0))
    )
    return draw_specificity(example_levels(), example_letters(FINAL_MAPS), FINAL_MAPS, control=control)


@baseline
def test_layer_comparison_figure():
    levels = example_levels()
    pairs = levels.query("method == 'sam' and region == 'top'").assign(p_bonferroni=[0.01, 0.01, 0.2, 0.01, 0.9] * 5)
    return draw_layer_comparison(levels, pairs, LAYERS)


@baseline
def test_layer_figure():
    return draw_layers(example_levels(), example_letters([("sam", layer) for layer in LAYERS]), LAYERS)


@baseline
def test_training_figure():
    epochs = np.arange(1, 11)
    history = pd.DataFrame({"epoch": epochs, "loss": 1.6 / epochs, "val_loss": 1.8 / epochs})
    history = history.assign(accuracy=1 - 0.8 / epochs, val_accuracy=0.9 - 0.7 / epochs)
    labels = np.repeat(PHASES, 20)
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 100) + np.repeat(np.eye(5), 20, axis=0) / 2
    schemes = ("single", "voting")
    roc = pd.concat([roc_curves(labels, scores).assign(scheme=scheme) for scheme in schemes])
    areas = pd.concat({scheme: auc_table(labels, scores) for scheme in schemes})
    return draw_training_and_roc(history, roc, areas)


@baseline
def test_confusion_figure():
    return draw_confusions({"Slices": published("table1_slices"), "Volumes": published("table1_volumes")})
