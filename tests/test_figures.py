"""Display transforms by hand counts; figures against small baseline images (pytest --mpl)."""

import io
from functools import cache

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from executed_notebooks import faults_of_figures
from IPython.core.formatters import DisplayFormatter
from matplotlib.text import Text
from PIL import Image
from scipy.ndimage import gaussian_filter

from lib.figures.bar_groups import draw_bars
from lib.figures.bars import draw_layer_comparison, draw_layers, draw_specificity
from lib.figures.captions import caption
from lib.figures.controls import CONTROL_MARKERS, is_control
from lib.figures.differences import draw_differences
from lib.figures.display import body_box, colour_key, highest, overlay, scaled, to_range, window
from lib.figures.maps import MapRow, draw_maps, map_row
from lib.figures.phantom import ORGAN_COLOURS, draw_curves, draw_geometry, draw_spectra
from lib.figures.prediction import draw_confusions, draw_f1_differences, draw_training_and_roc
from lib.figures.speed import draw_speed
from lib.figures.style import CONTROL_COLOUR, PHASE_COLOURS, STYLE, axes_mm, figure_mm, save_figure
from lib.figures.tissues import draw_anatomy, draw_signs
from lib.maps.saved import Maps, read_maps
from lib.masking.statistics import summarise
from lib.metrics import auc_table, roc_curves
from lib.paper import FINAL_MAPS, LAYERS, PHASES, published
from lib.voxels import rank_order, select_voxels

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


@cache
def example_slices():
    """Relative probabilities of 12 slices per bar, near 0 or near 100 %, with every kind of control."""
    rng, rows = np.random.default_rng(1), []
    maps = [*FINAL_MAPS, *(("sam", layer) for layer in LAYERS), *(("grad_cam", layer) for layer in LAYERS[:-1])]
    controls = [("random", "-", "random"), ("random_body", "-", "random"), ("disc", "-", "top")]
    controls += [("blocks", layer, "random") for layer in LAYERS]
    regions = ("top", "bottom", "other_patient", "untrained")
    for i, phase in enumerate(PHASES):
        for method, layer, region in [*((*name, region) for name in maps for region in regions), *controls]:
            share = 0.98 if region == "bottom" else 0.0 if phase == "noncon" and region == "top" else 0.2 + 0.15 * i
            values = np.where(rng.random(12) < share, rng.normal(98, 5, 12), rng.uniform(0, 3, 12))
            values = 1e-3 * rng.random(12) if share == 0 else np.clip(values, 0, 120)
            rows += [(method, layer, region, phase, f"p{n}", f"{n:x}", 0, value) for n, value in enumerate(values)]
    columns = "method layer region phase patient series slice relative_probability"
    return pd.DataFrame(rows, columns=columns.split()).assign(draws=1)


def example_levels():
    slices = example_slices()
    return summarise(slices).assign(p_bonferroni=lambda table: np.where(table["region"] == "top", 0.001, 0.4))


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
    assert picture[0, 2].tolist() == [0, 0, 0], "air is not coloured"
    assert overlay(np.array([[240.0]]), np.array([[1.0]]), opacity=0.5)[0, 0].tolist() == [255, 128, 128]


def test_figures_are_the_same_bytes_each_time(tmp_path):
    first = save_figure(draw_confusions({"Slices": published("table1_slices")}), tmp_path / "a.png")
    again = save_figure(draw_confusions({"Slices": published("table1_slices")}), tmp_path / "b.png")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert [path.suffix for path in first] == [".png", ".pdf"]


def test_large_pictures_lose_colours_before_resolution(tmp_path):
    figure, noise = figure_mm(60, 60), np.random.default_rng(0).random((200, 200, 3))
    figure.subplots().imshow(noise)
    full = save_figure(figure, tmp_path / "full.png", limit=10_000_000)[0]
    fewer = save_figure(figure, tmp_path / "fewer.png", limit=int(0.5 * full.stat().st_size))[0]
    small = save_figure(figure, tmp_path / "small.png", limit=100_000)[0]
    widths = [Image.open(path).width for path in (full, fewer, small)]
    assert widths[0] == widths[1] == int(60 / 25.4 * 300) and widths[2] < widths[1]
    assert [Image.open(path).mode for path in (full, fewer, small)] == ["RGB", "P", "P"]
    assert fewer.stat().st_size <= 0.5 * full.stat().st_size and small.stat().st_size <= 100_000
    assert Image.open(full).info["dpi"] == pytest.approx((300, 300), abs=0.1)
    with pytest.raises(ValueError, match=r"none\.png has more than 100 bytes even at 72 dpi"):
        save_figure(figure, tmp_path / "none.png", limit=100)


def test_a_notebook_shows_a_figure_as_a_sharp_picture():
    figure, _ = axes_mm(86, 40)
    data, metadata = DisplayFormatter().format(figure)
    picture = Image.open(io.BytesIO(data["image/png"]))
    size = metadata["image/png"]
    assert size == {"width": round(86 / 25.4 * 120), "height": round(40 / 25.4 * 120)}
    assert picture.size == pytest.approx((2 * size["width"], 2 * size["height"]), abs=2)
    assert not plt.get_fignums(), "pyplot would show it once more"


def executed(folder, source, outputs):
    cell = nbformat.v4.new_code_cell(source, outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "one.ipynb")
    return faults_of_figures(folder)


def test_figures_that_are_not_seen_are_found(tmp_path):
    picture = nbformat.v4.new_output("display_data", {"image/png": "aGk=", "text/plain": "<PaperFigure>"})
    text = nbformat.v4.new_output("execute_result", {"text/plain": "<Figure size 1488x1070 with 5 Axes>"})
    assert executed(tmp_path, "figure = draw_maps(saved)\nfigure", [picture]) == []
    found = executed(tmp_path, "figure = draw_maps(saved)\nfigure", [text])
    assert found == [
        f"one.ipynb, cell 0, {words}" for words in ("draws and shows no picture", "shows a figure as text")
    ]
    assert executed(tmp_path, "draw_bars(x)", [picture, picture]) == ["one.ipynb, cell 0, shows a picture twice"]
    assert executed(tmp_path, "axes_mm(1, 2)", []) == ["one.ipynb, cell 0, draws and shows no picture"]
    with pytest.raises(ValueError, match="no executed notebook with a cell that draws"):
        executed(tmp_path, "from lib.figures.maps import draw_maps", [])


def test_the_colour_bar_has_the_colours_of_the_panel():
    hu = np.linspace(-160, 240, 9)[None]
    for row, value in ((0, 0.0), (128, 128 / 255), (255, 1.0)):
        panel = overlay(hu, np.full(hu.shape, value), cmap="rainbow", opacity=0.6)
        np.testing.assert_array_equal(colour_key("rainbow", 0.6, greys=9)[row], panel[0])


def test_panels_are_cropped_to_the_body_at_one_scale():
    small, large = np.full((40, 60), np.nan), np.full((40, 60), np.nan)
    small[18:22, 4:10] = 0
    large[5:35, 10:50] = 0
    boxes = body_box({"small": small, "large": large}, margin=0.1)
    shapes = {small[boxes["small"]].shape, large[boxes["large"]].shape}
    assert shapes == {(36, 48)}
    for image, name in ((small, "small"), (large, "large")):
        assert np.isfinite(image[boxes[name]]).sum() == np.isfinite(image).sum()
    assert body_box({"": np.zeros((5, 7))})[""] == (slice(0, 5), slice(0, 7))


def test_the_line_surrounds_what_masking_overwrites():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(20, 30))
    chosen = select_voxels(values[None], 0.1, "top", rng=rng)[0]
    np.testing.assert_array_equal(highest(values, (20, 30)), chosen)
    rectified = np.zeros((20, 30))
    rectified[:2, :5] = 1.0
    np.testing.assert_array_equal(highest(rectified, (20, 30)), rectified > 0)  # zeros are not among the highest
    assert highest(np.eye(2), (4, 4), 0.5).sum() == 8


def test_colours_compare_the_voxels_of_the_body():
    values = np.array([[5.0, 1.0], [3.0, 900.0]])
    body = np.array([[True, True], [True, False]])
    np.testing.assert_allclose(scaled(values, "range", body), [[1, 0], [0.5, np.nan]])
    np.testing.assert_allclose(scaled(values, "rank", body), [[1, 0], [0.5, np.nan]])
    np.testing.assert_allclose(scaled(np.array([[0.0, 0.0, 0.0, 2.0]]), "rank"), [[0, 0, 0, 1]])  # zeros stay hidden


def test_share_in_air_is_printed():
    maps = example_maps(phases=("cm",))
    maps.maps["cm", "cam", "conv6"] = np.pad(np.ones((1, 4)), ((0, 3), (0, 0)))  # the uppermost quarter
    air = np.isnan(maps.images["cm"])[:16].mean()
    figure = draw_maps(maps, [map_row("cam", "conv6")])
    assert f"{100 * air:.0f} % in air" in [text.get_text() for panel in figure.axes for text in panel.texts]


@pytest.mark.parametrize("name", ["maps", "specificity", "comparison", "layers", "anatomy", "differences"])
def test_text_is_readable_at_journal_size(name):
    figure = {
        "maps": lambda: draw_maps(example_maps(), ROWS),
        "specificity": example_specificity,
        "comparison": example_comparison,
        "layers": example_layers,
        "anatomy": lambda: draw_anatomy(*example_anatomy()),
        "differences": lambda: draw_differences(example_differences()),
    }[name]()
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    assert len(texts) > 10
    assert min(text.get_fontsize() for text in texts) >= 6
    assert figure.get_figwidth() == pytest.approx(178 / 25.4)


def test_bars_stand_at_their_means():
    _, panel = plt.subplots()
    means = np.array([[10.0, 0.4], [30.0, np.nan]])
    names = {"labels": ["x", "y"], "colours": ["k", "w"], "groups": ["a", "b"]}
    places = draw_bars(panel, means, means / 10, marks=[["*", ""], ["b", "c"]], slots=1, **names)
    heights = [[bar.get_height() for bar in bars] for bars in panel.containers if hasattr(bars, "patches")]
    np.testing.assert_array_equal(heights, means)
    texts = {text.get_text(): text.get_position() for text in panel.texts}
    value = next(text for text in panel.texts if text.get_text() == "0.4")
    assert set(texts) == {"*", "b", "0.4"}, "marks of bars that are there, and the value of the one that hardly stands"
    assert texts["*"][0] == places[0, 0] and value.xy[0] == places[0, 1]
    centres = [[bar.get_x() + bar.get_width() / 2 for bar in bars] for bars in panel.containers]
    np.testing.assert_allclose(places[:2], centres)
    assert (places[2] > places[1]).all() and np.ptp(np.diff(places[:2], axis=0)) < 1e-12


def test_a_whisker_ends_where_nothing_was_measured():
    _, panel = plt.subplots()
    names = {"labels": ["x"], "colours": ["k"], "groups": ["a", "b"]}
    values = [[np.array([0.0, 0.0, 90.0]), np.array([40.0, 50.0, 60.0])]]
    draw_bars(panel, [[30.0, 50.0]], [[52.0, 5.0]], values=values, **names)
    spans = {
        tuple(line.get_ydata()) for line in panel.lines if len(line.get_xdata()) == 2 and line.get_marker() == "None"
    }
    assert (0.0, 82.0) in spans and (45.0, 55.0) in spans
    caps = sorted(line.get_ydata()[0] for line in panel.lines if line.get_marker() == "_")
    assert caps == [45.0, 55.0, 82.0], "no cap at the cut end"


def test_each_control_stands_where_it_belongs():
    figure = example_layers()
    panel = next(axes for axes in figure.axes if axes.containers)
    bars = [[bar.get_x() for bar in group] for group in panel.containers]
    step = panel.containers[0][0].get_width()
    levels = example_levels()
    for name, marker in CONTROL_MARKERS.items():
        marks = [line for line in panel.lines if line.get_marker() == marker and line.get_color() == CONTROL_COLOUR]
        drawn = sorted(round(float(line.get_ydata()[0]), 6) for line in marks)
        rows = levels[(levels["method"] == name) | ((levels["region"] == name) & (levels["method"] == "sam"))]
        assert drawn == sorted(rows["mean"].round(6)), name
        inside = [any(x <= line.get_xdata()[0] <= x + step for group in bars for x in group) for line in marks]
        assert all(inside) if name in ("blocks", "other_patient", "untrained") else not any(inside), name


def test_several_networks_need_their_mean():
    table = example_differences()
    with pytest.raises(ValueError, match="holds 6 networks and no rows of the network 'all'"):
        draw_differences(table[table["network"] != "all"])
    single = draw_differences(table[table["network"] == "n0"])
    words = [text.get_text() for legend in single.legends for text in legend.get_texts()]
    assert words == ["one network, 95 % interval by patient"]


def test_tied_cases_are_joined_by_dots():
    roc = pd.DataFrame({"scheme": "voting", "phase": "cm", "false_positive_rate": [0, 0.1, 1.0],
                        "true_positive_rate": [0, 0.9, 1.0], "threshold": [np.inf, 0.5, 0.0]})  # fmt: skip
    history = pd.DataFrame({"epoch": [1, 2], "stage": [1, 2], "loss": 1.0, "val_loss": 1.0})
    history = history.assign(accuracy=0.5, val_accuracy=0.5)
    areas = pd.DataFrame({"roc_auc": 0.9}, index=pd.MultiIndex.from_product([["single", "voting"], PHASES]))
    figure = draw_training_and_roc(history, roc, areas)
    panel = next(axes for axes in figure.axes if axes.get_title() == "Voting")
    solid, dotted = [line for line in panel.lines if line.get_color() == PHASE_COLOURS["cm"]]
    assert solid.get_xdata().tolist() == [0, 0.1] and dotted.get_xdata().tolist() == [0.1, 1.0]
    assert dotted.get_linestyle() != "-"


def test_caption_counts_what_was_drawn():
    text = caption("Figure 2", example_slices().query("phase != 'neph'"), "A word.").data
    assert text.startswith(
        "**Figure 2, as drawn by this run** from 12 slices of 12 patients (Noncon 12 slices, 12 patients;"
    )
    assert "Neph no slice" in text and text.endswith("A word.")


def test_phase_without_a_slice_leaves_an_empty_column():
    figure = draw_maps(example_maps(phases=("cm", "neph")), ROWS)
    shown = [panel for panel in figure.axes if panel.images and not len(panel.get_yticks())]
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


def example_specificity():
    levels, slices = example_levels(), example_slices()
    control = levels[is_control(levels)]
    return draw_specificity(levels, example_letters(FINAL_MAPS), FINAL_MAPS, control=control, slices=slices)


def example_comparison():
    levels, slices = example_levels(), example_slices()
    pairs = levels.query("method == 'sam' and region == 'top'").assign(p_bonferroni=[0.01, 0.01, 0.2, 0.01, 0.9] * 5)
    return draw_layer_comparison(levels, pairs, LAYERS, control=levels[is_control(levels)], slices=slices)


def example_layers():
    levels, letters = example_levels(), example_letters([("sam", layer) for layer in LAYERS])
    return draw_layers(levels, letters, LAYERS, control=levels[is_control(levels)], slices=example_slices())


def example_anatomy():
    """Shares of three tissues and densities of kidney and vessels, of two maps and a disc."""
    rng, rows, dense = np.random.default_rng(2), [], []
    for phase in PHASES:
        for method, layer in (("saliency", "input"), ("sam", "conv2b"), ("disc", "-")):
            for tissue, area in (("kidney cortex", 0.05), ("fat", 0.35), ("outside", 0.6)):
                share = area * rng.uniform(0.3, 4)
                facts = (phase, method, layer, tissue, share, 0.9 * share, 1.1 * share, area, share / area, 9, 7)
                rows.append(facts)
            times = rng.uniform(0.5, 5)
            dense.append(
                (phase, method, layer, "kidney and vessels", "rest of the body", times, times / 1.2, times * 1.2)
            )
    names = "phase method layer tissue share low high area enrichment n_slices n_patients"
    tissues = pd.DataFrame(dense, columns=["phase", "method", "layer", "tissue", "against", "times", "low", "high"])
    return pd.DataFrame(rows, columns=names.split()), tissues.assign(n_slices=9, n_patients=7)


def example_differences(networks=6):
    """Differences of three maps from their controls in every phase, by network and over all."""
    rng, rows = np.random.default_rng(3), []
    for phase in PHASES:
        for method, layer, middle in (("saliency", "input", -20), ("cam", "conv6", 5), ("sam", "conv3b", -8)):
            values = rng.normal(middle, 8, networks)
            rows += [(f"n{n}", phase, method, layer, value, value - 4, value + 4) for n, value in enumerate(values)]
            rows.append(("all", phase, method, layer, values.mean(), values.mean() - 5, values.mean() + 5))
    return pd.DataFrame(rows, columns=["network", "phase", "method", "layer", "value", "low", "high"])


@baseline
def test_specificity_figure():
    return example_specificity()


@baseline
def test_layer_comparison_figure():
    return example_comparison()


@baseline
def test_layer_figure():
    return example_layers()


@baseline
def test_anatomy_figure():
    return draw_anatomy(*example_anatomy())


@baseline
def test_signs_figure():
    rows = []
    for i, tissue in enumerate(("aorta", "vena cava", "kidney cortex", "kidney medulla")):
        for j, phase in enumerate(PHASES):
            score = (j - 2) * (i + 1) / 4
            rows.append((phase, tissue, score, score - 0.2, score + 0.2, (i + j == 0) - (i == 3 and j == 1)))
    names = ["phase", "tissue", "score_per_10_hu", "score_low", "score_high", "expected"]
    return draw_signs(pd.DataFrame(rows, columns=names))


@baseline
def test_differences_figure():
    return draw_differences(example_differences())


@baseline
def test_f1_figure():
    rows = []
    for n, name in enumerate(("network", "decision tree", "boosted trees")):
        for i, phase in enumerate((*PHASES, "mean")):
            f1, gain = 0.99 - 0.02 * i + 0.01 * n, 0.01 * n
            rows.append((name, phase, f1, gain, gain - 0.008 * n, gain + 0.012 * n, 40 + i, 9))
    columns = "classifier phase f1 f1_difference low high n_slices n_patients"
    return draw_f1_differences(pd.DataFrame(rows, columns=columns.split()))


@baseline
def test_speed_figure():
    table = pd.DataFrame(
        [
            (library, maps, size, 8, layers, cost * size / 10, cost)
            for library, maps, cost in (
                ("plain gradient", "saliency", 1.0),
                ("this repository", "saliency", 1.02),
                ("this repository", "saliency guided_backprop cam grad_cam sam", 1.8),
                ("captum", "saliency guided_backprop grad_cam", 40.0),
            )
            for size, layers in ((128, 5), (256, 5), (512, 5), (512, 1), (512, 3))
        ],
        columns=["library", "maps", "image_size", "batch", "layers", "ms_an_image", "ratio"],
    )
    return draw_speed(table)


@baseline
def test_enhancement_figure():
    times = np.arange(0, 240, 1.0)
    curves = {organ: 40.0 * n * (1 - np.exp(-times / 20)) for n, organ in enumerate(reversed(ORGAN_COLOURS), 1)}
    by_output = {output: 300 / output * np.exp(-(((times - 45) / 12) ** 2)) for output in (0.6, 1.0, 1.4)}
    return draw_curves(times, curves, 18.0, by_output)


@baseline
def test_noise_figure():
    frequency = np.arange(0.025, 0.7, 0.05)
    scans = [("GE MEDICAL SYSTEMS", "STANDARD", 1.25, 35.0), ("GE MEDICAL SYSTEMS", "STANDARD", 5.0, 13.0),
             ("SIEMENS", "Br38f", 3.0, 12.8)]  # fmt: skip
    columns = ("manufacturer", "kernel", "thickness_mm", "sd_hu")
    spectra = pd.concat(
        pd.DataFrame({"frequency": frequency, "power": np.exp(-(((frequency - 0.1) * scan[2]) ** 2))}).assign(
            **dict(zip(columns, scan, strict=True))
        )
        for scan in scans
    )
    matches = {"Br38f": ["Siemens mCT"], "STANDARD": ["GE LightSpeed VCT", "GE LightSpeed thin"]}
    return draw_spectra(spectra, published("renal_ct_noise"), matches)


@baseline
def test_kidney_figure():
    published_here = published("kidney_geometry")
    steps = np.linspace(-2, 2, 40)
    measured = pd.DataFrame({row.quantity: row.mean + row.sd * steps for row in published_here.itertuples()})
    return draw_geometry(measured, published_here)


@baseline
def test_training_figure():
    epochs = np.arange(1, 11)
    history = pd.DataFrame({"epoch": epochs, "loss": 1.6 / epochs, "val_loss": 1.8 / epochs})
    history = history.assign(stage=1, accuracy=1 - 0.8 / epochs, val_accuracy=0.9 - 0.7 / epochs)
    labels = np.repeat(PHASES, 20)
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 100) + np.repeat(np.eye(5), 20, axis=0) / 2
    schemes = ("single", "voting")
    roc = pd.concat([roc_curves(labels, scores).assign(scheme=scheme) for scheme in schemes])
    areas = pd.concat({scheme: auc_table(labels, scores) for scheme in schemes})
    return draw_training_and_roc(history, roc, areas)


@baseline
def test_confusion_figure():
    return draw_confusions({"Slices": published("table1_slices"), "Volumes": published("table1_volumes")})


def test_fewer_colours_keep_the_greys(tmp_path):
    """A rare white between the colours of maps stays white: a tooth must not take the tint of an outline."""
    figure, rng = figure_mm(120, 120, layout="none"), np.random.default_rng(0)
    for panel in figure.subplots(4, 4).flat:
        grey = np.clip(gaussian_filter(rng.random((96, 128)), 3) * 8 - 3.3, 0, 1)
        grey[20:24, 30:60] = 1
        panel.imshow(grey, cmap="gray", vmin=0, vmax=1)
        if not panel.get_subplotspec().is_first_col():
            panel.imshow(gaussian_filter(rng.random((96, 128)), 6), cmap="inferno", alpha=0.65)
            panel.contour(grey, [0.9], colors="#66ccee", linewidths=0.35)
        panel.set_axis_off()
    full = save_figure(figure, tmp_path / "full.png", limit=10_000_000)[0]
    fewer = save_figure(figure, tmp_path / "fewer.png", limit=full.stat().st_size - 1)[0]
    assert Image.open(fewer).mode == "P"
    true, shown = (np.asarray(Image.open(path).convert("RGB"), int) for path in (full, fewer))
    assert np.abs(true - shown).max() <= 20
