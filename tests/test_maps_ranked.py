"""Agreement of two maps against SciPy's Spearman, TensorFlow's SSIM, and sets."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from lib.maps.ranked import RankedMap
from lib.voxels import rank_order


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def lower_half(size):
    inside = np.zeros((size, size), bool)
    inside[size // 2 :] = True
    return inside


@pytest.mark.parametrize("size", [4, 8, 40])
def test_a_map_agrees_with_itself_and_with_every_rising_function_of_it(rng, size):
    values = rng.integers(-20, 20, (size, size)).astype("float32")  # with ties
    for inside in (None, lower_half(size)):
        found = RankedMap(values, inside).agreement(RankedMap(values**3 + 7, inside))
        np.testing.assert_allclose(found, (1, 1, 1), atol=1e-5)


def test_the_reverse_of_a_map_has_a_rank_correlation_of_minus_one_and_no_overlap(rng):
    values = rng.standard_normal((16, 16))
    found = RankedMap(values).agreement(RankedMap(-values))
    np.testing.assert_allclose(found.rank_correlation, -1, atol=1e-6)
    assert found.overlap == 0 and found.ssim < 0


def test_rank_correlation_is_spearmans_inside(rng):
    one, other = rng.integers(0, 9, (2, 12, 12))
    inside = lower_half(12)
    expected = stats.spearmanr(one[inside], other[inside]).statistic
    found = RankedMap(one, inside).agreement(RankedMap(other, inside)).rank_correlation
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(expected - stats.spearmanr(one.ravel(), other.ravel()).statistic) > 0.01, "the mask makes no difference"


def test_ssim_is_tensorflows_where_the_window_fits(rng):
    one = rng.standard_normal((30, 30))
    other = one + rng.standard_normal((30, 30))
    fits = np.zeros((30, 30), bool)
    fits[5:-5, 5:-5] = True
    pictures = [tf.constant(rank_order(values)[..., None], tf.float32) for values in (one, other)]
    expected = float(tf.image.ssim(*pictures, max_val=1.0, filter_size=11, filter_sigma=1.5))
    found = RankedMap(one, fits).agreement(RankedMap(other, fits)).ssim
    assert 0.2 < expected < 0.9
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_overlap_is_that_of_the_sets_of_highest_voxels(rng):
    one, other = rng.standard_normal((2, 20, 20))
    sets = [set(np.argsort(values.ravel())[-40:]) for values in (one, other)]
    assert RankedMap(one).agreement(RankedMap(other)).overlap == pytest.approx(len(sets[0] & sets[1]) / 40)


def test_two_random_orders_overlap_by_the_fraction():
    rng = np.random.default_rng(5)
    found = [RankedMap(a, fraction=0.2).agreement(RankedMap(b, fraction=0.2)) for a, b in rng.random((300, 2, 10, 10))]
    np.testing.assert_allclose(np.mean(found, axis=0)[[0, 2]], (0, 0.2), atol=0.015)


def test_ties_at_the_boundary_count_in_part():
    one = np.r_[9.0, 5, 5, 5, 5, np.arange(5) / 9].reshape(2, 5)  # two of ten: 9, and a quarter of each 5
    other = np.r_[0, 9.0, 8, 1, 1, np.arange(5) / 9].reshape(2, 5)
    found = RankedMap(one, fraction=0.2).agreement(RankedMap(other, fraction=0.2))
    assert found.overlap == pytest.approx((0.25 + 0.25) / 2)


def test_a_map_that_is_zero_nearly_everywhere_marks_what_is_not_zero():
    one, same, elsewhere = np.zeros((3, 10, 10))
    one[2, 3] = same[2, 3] = elsewhere[7, 7] = 1
    assert RankedMap(one).agreement(RankedMap(same)).overlap == 1
    assert RankedMap(one).agreement(RankedMap(elsewhere)).overlap == 0


def test_a_blank_map_has_no_order(rng):
    blank, values = RankedMap(np.zeros((6, 6))), RankedMap(rng.random((6, 6)))
    assert blank.blank and not values.blank
    for found in (blank.agreement(values), values.agreement(blank), blank.agreement(blank)):
        assert found.rank_correlation == 0 and found.overlap == 0


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(4, 4\) and \(8, 8\) cells"):
        RankedMap(np.eye(4)).agreement(RankedMap(np.eye(8)))
    with pytest.raises(ValueError, match="the body mask is empty"):
        RankedMap(np.eye(4), np.zeros((4, 4), bool))
