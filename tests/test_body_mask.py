"""The body on slices whose truth is known."""

import numpy as np
import pytest
from conftest import BODY_HU, GAS_HU, KIDNEY_HU, REAL_CT, abdomen
from scipy import ndimage

from lib.body_mask import body_mask
from lib.dicom import find_series, read_volume


def test_keeps_gas_and_drops_table_arm_and_sheet():
    hu = abdomen(256, 1.5)
    expected = np.isin(hu, [BODY_HU, KIDNEY_HU, GAS_HU])
    y, x = (np.mgrid[:256, :256] - 127.5) * 1.5
    hu[(x + 180) ** 2 + (y - 20) ** 2 <= 15**2] = BODY_HU  # an arm that doesn't touch
    hu[(np.abs(y + 20 - 0.2 * x) < 2) & (x > 120)] = 20  # a sheet that does
    mask = body_mask(hu, 1.5)
    assert (mask ^ expected).sum() <= 0.002 * expected.sum()
    assert not mask[(x + 180) ** 2 + (y - 20) ** 2 <= 15**2].any()
    np.testing.assert_array_equal(body_mask(np.stack([hu, hu]), 1.5), np.stack([mask, mask]))
    assert not body_mask(np.full((64, 64), -1000)).any()


@pytest.mark.parametrize("sd", [0, 30, 90])
def test_noise_in_fat_does_not_tear_the_body(sd):
    hu = abdomen(512, 0.8).astype(float)
    expected = hu > -950
    expected[400:] = False  # the table
    hu[hu == BODY_HU] = -105  # all fat, and noise as of a thin slice with a sharp kernel
    noisy = np.clip(hu + np.random.default_rng(0).normal(0, sd, hu.shape), -1024, 3071)
    mask = body_mask(noisy, 0.8)
    border = expected ^ ndimage.binary_erosion(expected, iterations=4)
    assert not (mask ^ expected)[~border].any()
    assert (mask ^ expected).sum() <= 0.005 * expected.sum()


def test_border_is_found_to_the_pixel():
    hu = abdomen(512, 0.8)
    expected = np.isin(hu, [BODY_HU, KIDNEY_HU, GAS_HU])
    np.testing.assert_array_equal(body_mask(hu, 0.8), expected)


def test_a_body_that_fills_the_field_of_view():
    hu = np.full((128, 128), BODY_HU)
    hu[50:70, 40:80] = GAS_HU
    assert body_mask(hu, 0.7).all()


@pytest.mark.skipif(not REAL_CT.exists(), reason=f"{REAL_CT} is absent: four real CT slices")
def test_the_same_body_at_half_the_resolution():
    """On real slices with tables, sheets and electrodes; areas differ by the border at most."""
    for series in find_series(REAL_CT)[0]:
        volume = read_volume(series)
        pixel = volume.spacing_mm[1]
        fine = body_mask(volume.hu[0], pixel)
        half = volume.hu[0].reshape(256, 2, 256, 2).mean(axis=(1, 3))
        coarse = body_mask(half, 2 * pixel).repeat(2, 0).repeat(2, 1)
        assert (fine & coarse).sum() / (fine | coarse).sum() > 0.98
