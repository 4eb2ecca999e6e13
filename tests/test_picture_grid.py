"""A sheet of pictures: panels of one size at their places, none outside of the figure, none over another."""

import itertools

import numpy as np
import pytest

from lib.figures.picture_grid import name_row, picture_grid, title_columns


@pytest.mark.parametrize(("blocks", "names"), [(1, 0.0), (2, 25.0)])
def test_panels_have_their_shape_and_do_not_overlap(blocks, names):
    figure, axes = picture_grid(3, 4, 0.7, names_mm=names, titles_mm=5, blocks=blocks, width_mm=150)
    assert axes.shape == (3, 4 * blocks)
    width, height = figure.get_size_inches() * 25.4
    assert width == pytest.approx(150)
    boxes = [panel.get_position() for panel in axes.flat]
    for box in boxes:
        assert box.height * height == pytest.approx(0.7 * box.width * width)
        assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= -1e-9 and box.y1 * height <= height - 5 + 1e-9
    for one, other in itertools.combinations(boxes, 2):
        assert one.x1 < other.x0 or other.x1 < one.x0 or one.y1 < other.y0 or other.y1 < one.y0
    gaps = np.diff([box.x0 for box in boxes[: 4 * blocks]]) * width
    assert np.ptp(gaps) == pytest.approx(names, abs=1e-6), "each block has room for its names"


def test_names_of_rows_and_titles_stay_on_the_sheet():
    figure, axes = picture_grid(2, 3, 1.0, names_mm=25, titles_mm=5)
    name_row(axes[1, 0], "Integrated gradients", fontsize=6)
    title_columns(axes[0], ["one", "two", "three"])
    figure.draw_without_rendering()
    whole = figure.bbox
    for text in (axes[1, 0].yaxis.label, *(panel.title for panel in axes[0])):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1, text.get_text()
