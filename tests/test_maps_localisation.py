"""Measures of localisation: closed forms, identities, naive loops, and the counts of the public masks."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.maps.localisation import (
    decode_runs,
    effective_heat_ratio,
    encode_runs,
    enrichment,
    localisation,
    mean_measures,
    null_maps,
    on_grid,
    read_runs,
    top_pixels,
    union_of_runs,
)  # fmt: skip


@pytest.fixture
def mask():
    mask = np.zeros((40, 50), bool)
    mask[4:14, 30:42] = True
    return mask


def test_a_uniform_map_has_the_share_of_the_mask(mask):
    measured = localisation(np.full(mask.shape, 3.0), mask)
    assert measured["ehr"] == pytest.approx(mask.mean())
    assert measured["ehr_unweighted"] == pytest.approx(mask.mean())
    assert measured["mass"] == pytest.approx(1)
    assert measured["diff"] == pytest.approx(0)
    assert measured["auprc"] == pytest.approx(mask.mean())


def test_the_mask_itself_is_perfect(mask):
    measured = localisation(mask, mask)
    for name in ("ehr", "ehr_unweighted", "auprc", "pointing", "iou_mask", "diff"):
        assert measured[name] == pytest.approx(1)
    assert measured["mass"] == pytest.approx(1 / mask.mean())


def test_the_opposite_of_the_mask_is_worst(mask):
    measured = localisation(~mask, mask)
    assert measured["ehr"] == 0 and measured["pointing"] == 0 and measured["iou_mask"] == 0
    assert measured["diff"] == pytest.approx(-1)


def test_the_ratio_is_that_of_a_slow_loop(mask):
    heat = np.random.default_rng(0).random(mask.shape) ** 3 + 0.4 * mask
    h = (heat - heat.min()) / (heat.max() - heat.min())
    values = sorted(v for v in h.ravel() if v >= 0.1)
    ratios = []
    for q in range(11):
        threshold = min(np.quantile(values, q / 10), 0.99)
        total, count = 0.0, 0
        for i in range(mask.shape[0]):
            for j in range(mask.shape[1]):
                if h[i, j] >= 0.1 and h[i, j] >= threshold:
                    count += 1
                    total += h[i, j] * mask[i, j]
        ratios.append(total / count)
    area = sum((a + b) / 20 for a, b in itertools.pairwise(ratios))
    assert effective_heat_ratio(heat, mask) == pytest.approx(area)


@given(st.floats(0.1, 50), st.floats(-5, 5))
def test_scale_and_offset_change_nothing(scale, offset):
    rng = np.random.default_rng(1)
    heat, mask = rng.random((12, 12)), rng.random((12, 12)) > 0.8
    before, after = localisation(heat, mask), localisation(scale * heat + offset, mask)
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)


def test_a_dead_map_is_counted_and_not_averaged(mask):
    means = mean_measures([(np.zeros(mask.shape), mask), (mask, mask)])
    assert means["dead"] == 1 and means["n"] == 2 and means["ehr"] == pytest.approx(1)
    assert np.isnan(localisation(np.zeros(mask.shape), mask)["ehr"])


def test_enrichment_of_chance_is_one_and_of_the_mask_its_inverse(mask):
    assert enrichment(np.ones(mask.shape), mask) == pytest.approx(1, abs=0.35)
    many = [enrichment(np.random.default_rng(k).random(mask.shape), mask) for k in range(200)]
    assert np.mean(many) == pytest.approx(1, abs=0.05)
    assert enrichment(mask, mask, fraction=mask.mean()) == pytest.approx(1 / mask.mean())
    assert np.isnan(enrichment(mask, np.zeros_like(mask)))


def test_ties_are_broken_evenly():
    assert top_pixels(np.ones((30, 30)), 450)[:15].sum() == pytest.approx(225, abs=45)
    assert top_pixels(np.arange(9.0).reshape(3, 3), 2).ravel()[-2:].all()


def test_a_ceiling_falls_with_the_grid(mask):
    at = [localisation(on_grid(mask, cells), mask)["ehr"] for cells in (2, 5, 40)]
    assert at[0] < at[1] < at[2]
    assert on_grid(np.full((32, 32), 2.0), 8) == pytest.approx(2.0)


def test_null_maps_see_no_image(mask):
    maps = null_maps(mask.shape, np.stack([mask, np.zeros_like(mask)]))
    assert maps["mean mask"].max() == 0.5 and (maps["uniform"] == 1).all()
    assert np.unravel_index(maps["centre"].argmax(), mask.shape) in [(19, 24), (19, 25), (20, 24), (20, 25)]


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_runs_come_back(seed, density):
    mask = np.random.default_rng(seed).random((7, 9)) < density
    assert (decode_runs(encode_runs(mask), mask.shape) == mask).all()


def test_runs_are_counted_down_the_columns():
    mask = decode_runs("1 2 3 1", (4, 3))
    assert [tuple(p) for p in np.argwhere(mask.T)] == [(0, 1), (0, 2), (1, 2)]
    assert not decode_runs("-1", (4, 3)).any()


def test_faults_are_told(mask, tmp_path):
    with pytest.raises(ValueError, match="pairs of gap"):
        decode_runs("1 2 3", (4, 3))
    with pytest.raises(ValueError, match="end at pixel 30"):
        decode_runs("10 20", (4, 3))
    with pytest.raises(ValueError, match="empty"):
        localisation(np.ones(mask.shape), np.zeros_like(mask))
    with pytest.raises(ValueError, match="same two-dimensional"):
        localisation(np.ones((3, 3)), mask)
    with pytest.raises(ValueError, match="NaN"):
        localisation(np.where(mask, np.nan, 1.0), mask)
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="expected ImageId"):
        read_runs(tmp_path / "t.csv")


def test_a_table_of_runs_is_read(tmp_path):
    (tmp_path / "t.csv").write_text("ImageId, EncodedPixels\na, -1\nb, 0 2\nb, 4 1\n")
    images = read_runs(tmp_path / "t.csv")
    assert images == {"a": [], "b": ["0 2", "4 1"]}
    assert union_of_runs(images["b"], (3, 3)).sum() == 3


SIIM = Path(os.environ.get("SIIM_RLE", "siim-pneumothorax-train-rle.csv.gz"))


@pytest.mark.skipif(not SIIM.exists(), reason="needs the masks of torchxrayvision 1.5.7: SIIM_RLE=path")
def test_the_public_masks_have_their_counts():
    images = read_runs(SIIM)
    positive = [runs for runs in images.values() if runs]
    assert len(images) == 12047 and len(positive) == 2669
    shares = [union_of_runs(runs).mean() for runs in positive[:300]]
    assert 100 * np.mean(shares) == pytest.approx(1.37, abs=0.3)
