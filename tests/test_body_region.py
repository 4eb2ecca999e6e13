"""Slices at the kidneys' height pass; a head, a chest, a pelvis and a knee, drawn with their real sizes, do not."""

import numpy as np
import pytest
from conftest import REAL_CT

from lib.body_mask import body_mask
from lib.body_region import doubts
from lib.cohort_tables import region_warning
from lib.dicom import find_series, read_volume
from lib.phantom.cohort import plan_cohort, write_cohort

Y, X = (np.mgrid[:256, :256] - 127.5) * 1.6


def ellipse(x, y, a, b):
    return ((X - x) / a) ** 2 + ((Y - y) / b) ** 2 <= 1


def drawn(*parts):
    """HU of a section: (mask, HU) painted one over the other, and noise of a usual dose."""
    hu = np.full(X.shape, -1000.0)
    for mask, value in parts:
        hu[mask] = value
    return hu + np.random.default_rng(0).normal(0, 20, hu.shape)


VERTEBRA = (ellipse(0, 60, 22, 17), 250), (ellipse(0, 60, 19, 14), 160)
ABDOMEN = (ellipse(0, 0, 165, 115), -100), (ellipse(0, 0, 145, 95), 50)
SECTIONS = {
    "abdomen": ([*ABDOMEN, *VERTEBRA, (ellipse(-60, -40, 30, 15), -950)], ""),
    "abdomen with oral contrast and full calyces": (
        [*ABDOMEN, *VERTEBRA, (ellipse(60, -30, 25, 15), 350), (ellipse(-70, 40, 8, 8), 1500)],
        "",
    ),
    "slim abdomen with much bowel gas": (
        [(ellipse(0, 0, 125, 90), 50), *VERTEBRA, *((ellipse(x, -45, 22, 18), -960) for x in (-75, -25, 25, 75))],
        "",
    ),
    "head": (
        [(ellipse(0, 0, 78, 98), 40), (ellipse(0, 0, 74, 94), 1000), (ellipse(0, 0, 67, 87), 35)],
        "narrow and bone",
    ),
    "chest": ([*ABDOMEN, (ellipse(-75, -5, 60, 80), -820), (ellipse(75, -5, 60, 80), -820), *VERTEBRA], "lung"),
    "pelvis": (
        [*ABDOMEN, *((ellipse(s * 95, 20, 42, 46), 800) for s in (-1, 1)), (ellipse(0, 75, 45, 18), 400)],
        "bone",
    ),
    "knee": ([(ellipse(0, 0, 65, 65), 50), (ellipse(0, 0, 38, 36), 500)], "narrow and bone"),
}  # fmt: skip


@pytest.mark.parametrize("name", SECTIONS)
def test_sections(name):
    parts, expected = SECTIONS[name]
    hu = drawn(*parts)
    assert doubts(hu, body_mask(hu, 1.6), (1.6, 1.6)) == expected


def test_nothing_is_said_of_an_empty_slice():
    assert doubts(np.full((64, 64), -1000), np.zeros((64, 64), bool), (1, 1)) == ""


def test_the_warning_counts_slices_and_says_why_in_words():
    assert region_warning(["", ""]) == ""
    expected = "2 of 3 slices look like no abdomen at the kidneys' height (a narrow body, much bone)"
    assert region_warning(["", "narrow and bone", "bone"]) == expected


@pytest.mark.slow
def test_no_phantom_is_doubted(tmp_path):
    write_cohort(
        tmp_path, plan_cohort(6, slices=3, test_slices=3, seed=5, test_seed=6, key="k"), processes=1, matrix=128
    )
    found = [
        doubts(hu, body_mask(hu, volume.spacing_mm[1]), volume.spacing_mm[1:])
        for volume in map(read_volume, find_series(tmp_path)[0])
        for hu in volume.hu
    ]
    assert len(found) >= 18 and set(found) == {""}


@pytest.mark.skipif(not REAL_CT.exists(), reason=f"{REAL_CT} is absent: four real CT slices")
def test_no_real_slice_through_the_kidneys_is_doubted():
    for series in find_series(REAL_CT)[0]:
        volume = read_volume(series)
        pixel = volume.spacing_mm[1:]
        assert doubts(volume.hu[0], body_mask(volume.hu[0], pixel[0]), pixel) == ""
