"""Measures of images and masks against closed forms."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from lib.paper import PHASES, published
from lib.phantom.measures import (
    compare_hu,
    find_patches,
    kidney_geometry,
    kidney_masks,
    mean_frequency,
    measure_mask,
    measure_tissues,
    noise_power,
)
from lib.phantom.patient import Anatomy
from lib.phantom.physiology import draw_subject


def test_white_noise_has_a_flat_spectrum_that_integrates_to_its_variance():
    noise = np.random.default_rng(0).normal(0, 12.0, (200, 32, 32))
    spectrum = noise_power(noise, 0.8)
    assert (spectrum["power"] * spectrum["area"]).sum() == pytest.approx(144, rel=0.02)
    np.testing.assert_allclose(spectrum["power"].iloc[2:-2], 144 * 0.8**2, rtol=0.06)


def test_a_wave_has_its_power_at_its_frequency_and_half_its_squared_height_as_variance():
    x = np.arange(64) * 0.75
    frequency = 10 / (64 * 0.75)  # periods of the patch: no leakage
    wave = np.broadcast_to(7.0 * np.cos(2 * np.pi * frequency * x), (1, 64, 64))
    spectrum = noise_power(wave, 0.75, width=0.02)
    total = (spectrum["power"] * spectrum["area"]).sum()
    assert total == pytest.approx(7.0**2 / 2, rel=0.02)
    peak = spectrum.loc[spectrum["power"].idxmax()]
    assert peak["frequency"] == pytest.approx(frequency, abs=0.01)
    assert mean_frequency(spectrum) == pytest.approx(frequency, abs=0.02)


def test_a_slope_is_no_noise():
    y, x = np.mgrid[:24, :24]
    assert noise_power((3.0 * x - 2.0 * y + 100)[None], 1.0)["power"].max() < 1e-18


def test_patches_fit_do_not_overlap_and_leave_none_out():
    mask = np.zeros((40, 50), bool)
    mask[3:25, 4:29] = True  # 2 x 2 squares of 10, and no third row or column
    patches = find_patches(mask, 10)
    covered = np.zeros(mask.shape, int)
    for patch in patches:
        assert mask[patch].all() and mask[patch].shape == (10, 10)
        covered[patch] += 1
    assert len(patches) == 4 and covered.max() == 1
    assert len(find_patches(mask, 10, limit=3)) == 3 and find_patches(mask, 23) == []


def ellipsoid(axes, centre, tilt=0.0, spacing=(2.0, 1.0, 1.0), shape=(90, 120, 140)):
    """Semi-axes along z, y, x; tilted from z toward x."""
    z, y, x = (np.indices(shape).T * spacing - centre).T
    c, s = np.cos(tilt), np.sin(tilt)
    along, across = c * z + s * x, -s * z + c * x
    return (along / axes[0]) ** 2 + (y / axes[1]) ** 2 + (across / axes[2]) ** 2 <= 1


def test_an_ellipsoid_has_its_axes_volume_section_and_tilt():
    mask = ellipsoid((55, 25, 33), (90, 60, 70))
    found = measure_mask(mask, (2.0, 1.0, 1.0))
    axes = [found[name] for name in ("long axis", "middle axis", "short axis")]
    np.testing.assert_allclose(axes, (110, 66, 50), rtol=0.01)
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * 55 * 25 * 33 / 1000, rel=0.01)
    assert found["largest section"] == pytest.approx(np.pi * 25 * 33, rel=0.01)
    assert found["extent of one kidney"] == pytest.approx(110, abs=2)
    assert found["tilt of the long axis"] < 0.5
    np.testing.assert_allclose(found["centroid"], (90, 60, 70), atol=0.1)
    tilted = measure_mask(ellipsoid((55, 25, 33), (90, 60, 70), np.radians(25)), (2.0, 1.0, 1.0))
    assert tilted["tilt of the long axis"] == pytest.approx(25, abs=0.7)
    assert tilted["long axis"] == pytest.approx(110, rel=0.01)


def test_a_pair_of_ellipsoids_lies_where_it_was_put():
    right = ellipsoid((40, 20, 20), (80, 55, 35))
    left = ellipsoid((40, 20, 20), (92, 60, 105))
    pair = kidney_geometry(right, left, (2.0, 1.0, 1.0))
    assert pair["right below left"] == pytest.approx(12, abs=0.1)
    assert pair["distance of the centroids"] == pytest.approx(70, abs=0.1)
    assert pair["difference in depth"] == pytest.approx(5, abs=0.1)
    assert pair["extent of both kidneys"] == pytest.approx(92, abs=2)
    assert set(pair) == set(published("kidney_geometry")["quantity"])
    with pytest.raises(ValueError, match="mask is empty"):
        kidney_geometry(right, np.zeros_like(left), (2.0, 1.0, 1.0))


def test_painted_kidneys_have_the_extent_they_were_drawn_with():
    rng = np.random.default_rng(8)
    anatomy = Anatomy(rng, draw_subject(rng))
    pair = kidney_geometry(*kidney_masks(anatomy), (3.0, 1.5, 1.5))
    bottom, top = anatomy.kidney_extent
    assert pair["extent of both kidneys"] == pytest.approx(top - bottom, abs=6)
    assert pair["right below left"] == pytest.approx(anatomy.kidneys[1].z - anatomy.kidneys[0].z, abs=4)


class TwoSeries:
    """A cohort of two slices of known HU: a disc of liver in fat, blurred, with a hole in the body."""

    path, tissues = "memory", {"Liver": 1, "Spleen": 2}

    def __init__(self):
        y, x = np.mgrid[:40, :40] - 20
        self.codes = np.where(np.hypot(y, x) < 12, 1, 0).astype(np.uint8)
        self.slices = pd.DataFrame({"patient": "p", "series": ["a", "b"], "slice": 0, "phase": ["cm", "neph"]})

    def read_tissues(self, rows):
        return np.stack([self.codes] * len(rows))

    def read_hu(self, rows):
        level = {"a": 70.0, "b": 110.0}
        hu = np.stack([np.where(self.codes == 1, level[name], -100.0) for name in rows["series"]])
        hu = ndimage.uniform_filter(hu, (0, 3, 3))
        hu[:, 18, 18] = np.nan
        return hu


def distances(mask):
    """From each voxel of a mask to the nearest one outside it, one by one."""
    outside = np.argwhere(~mask)
    return {tuple(p): np.hypot(*(outside - p).T).min() for p in np.argwhere(mask)}


def test_tissues_are_measured_in_the_middle_of_their_largest_section():
    cohort = TwoSeries()
    found = measure_tissues(cohort, cohort.slices, ["Liver", "Spleen"])
    assert found["tissue"].tolist() == ["Liver", "Liver"] and found["hu"].tolist() == [70.0, 110.0]
    depth = np.array(list(distances(cohort.codes == 1).values()))
    core = (depth > depth.max() / 2).sum() - 1  # nan is left out
    assert found["voxels"].tolist() == [core, core]
    with pytest.raises(ValueError, match=r"tissues \['Kidney'\] are none of memory"):
        measure_tissues(cohort, cohort.slices, ["Kidney"])


class Vessels:
    """A series of two slices: a vein of 200 HU in fat that is 7 voxels wide in the first and 3 in the second."""

    path, tissues = "memory", {"Vein": 1}
    slices = pd.DataFrame({"patient": "p", "series": "a", "slice": [0, 1], "phase": "cm"})

    def __init__(self, blur):
        codes = np.zeros((2, 40, 40), np.uint8)
        codes[0, 16:23, 5:25], codes[1, 18:21, 5:35] = 1, 1
        self.codes, self.hu = codes, ndimage.gaussian_filter(np.where(codes == 1, 200.0, -100.0), (0, blur, blur))

    def read_tissues(self, rows):
        return self.codes

    def read_hu(self, rows):
        return self.hu


def test_of_a_thin_blurred_vessel_the_core_counts():
    cohort = Vessels(blur=1.2)
    eroded = ndimage.binary_erosion(cohort.codes == 1, np.ones((1, 3, 3)))
    assert np.median(cohort.hu[eroded]) < 185  # one voxel off the edge is not enough
    found = measure_tissues(cohort, cohort.slices, ["Vein"])
    depths = [distances(codes == 1) for codes in cohort.codes]
    largest = max(max(depth.values()) for depth in depths)
    core = [cohort.hu[k][p] for k, depth in enumerate(depths) for p, d in depth.items() if d >= 2 and d > largest / 2]
    assert found["hu"].tolist() == [np.median(core)] and found["voxels"].tolist() == [len(core)]
    assert found["hu"][0] == pytest.approx(200, abs=5)
    assert measure_tissues(cohort, cohort.slices, ["Vein"], margin=3)["hu"][0] == pytest.approx(200, abs=2)
    assert len(measure_tissues(cohort, cohort.slices, ["Vein"], margin=4)) == 0


def test_what_is_off_is_marked():
    target = pd.DataFrame({"tissue": ["Liver", "Spleen", "Aorta"], "phase": "cm", "mean": [70, 120, 300], "sd": 10.0})
    hu = {"Liver": [65.0, 70, 75, 80, 60], "Spleen": [135, 130, 140, 125, 145], "Aorta": [300, 301, 299, 300, 300]}
    rows = [("p", "s", "cm", name, value, 50) for name, values in hu.items() for value in values]
    measured = pd.DataFrame(rows, columns=["patient", "series", "phase", "tissue", "hu", "voxels"])
    table = compare_hu(measured, target).set_index("tissue")
    assert table["off"].to_dict() == {"Liver": "", "Spleen": "mean", "Aorta": "spread"}
    assert table.loc["Spleen", "difference"] == pytest.approx(15) and table.loc["Spleen", "in_sd"] == pytest.approx(1.5)
    assert set(published("renal_ct_hu")["phase"]) == set(PHASES)
