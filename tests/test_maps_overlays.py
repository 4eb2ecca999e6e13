"""Overlays against what they must be pixel by pixel."""

import matplotlib
import numpy as np
import pytest

from lib.maps.overlays import overlay
from lib.voxels import upsample

IMAGES = np.arange(16.0).reshape(1, 4, 4)
MAPS = np.float32([[[0, -2], [1, 0]]])


def test_the_image_alone_where_the_map_is_zero_and_the_colour_where_it_is_greatest():
    picture = overlay(IMAGES, MAPS, strength=0.5, interpolation="nearest")[0]
    grey = IMAGES[0] / 15
    np.testing.assert_allclose(picture[:2, :2], np.repeat(grey[:2, :2, None], 3, axis=-1))
    top = matplotlib.colormaps["inferno"](1.0)[:3]
    np.testing.assert_allclose(picture[1, 3], 0.5 * grey[1, 3] + 0.5 * np.array(top))
    half = matplotlib.colormaps["inferno"](0.5)[:3]
    np.testing.assert_allclose(picture[2, 0], 0.75 * grey[2, 0] + 0.25 * np.array(half))


def test_the_positive_part_alone():
    picture = overlay(IMAGES, MAPS, magnitude=False, interpolation="nearest")[0]
    np.testing.assert_allclose(picture[:2, 2:], np.repeat(IMAGES[0, :2, 2:, None] / 15, 3, axis=-1))


def test_a_map_of_zeros_and_an_image_of_one_value():
    np.testing.assert_array_equal(overlay(np.full((1, 4, 4, 3), 7.0), np.zeros((1, 2, 2))), np.zeros((1, 4, 4, 3)))


@pytest.mark.parametrize(
    ("images", "maps", "strength"), [(IMAGES[0], MAPS, 0.5), (IMAGES, MAPS[[0, 0]], 0.5), (IMAGES, MAPS, 2)]
)
def test_what_does_not_fit_raises(images, maps, strength):
    with pytest.raises(ValueError, match=r"do not fit|expected 0 to 1"):
        overlay(images, maps, strength=strength)


def test_a_volume_is_brought_to_its_size_axis_by_axis():
    """Trilinear is bilinear in each slice, then linear between slices."""
    maps = np.random.default_rng(0).standard_normal((2, 3, 4, 2))
    found = upsample(maps, (6, 8, 6), "bilinear")
    flat = upsample(maps, (8, 6), "bilinear")
    between = upsample(np.moveaxis(flat, 1, -1).reshape(2, 1, 48, 3), (48, 6), "bilinear")
    np.testing.assert_allclose(found, np.moveaxis(between.reshape(2, 8, 6, 6), -1, 1))
    np.testing.assert_array_equal(upsample(maps, (6, 4, 2)), maps.repeat(2, axis=1))
