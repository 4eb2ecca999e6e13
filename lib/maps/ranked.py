"""A map that is ranked once and compared with others: rank correlation, structural similarity, highest voxels."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.voxels import Selection, rank_order, voxel_count

WINDOW_SD = 1.5  # cells, of the window of SSIM (Wang 2004)
STABLE = (0.01**2, 0.03**2)  # SSIM's constants for values between 0 and 1 (Wang 2004)


class Agreement(NamedTuple):
    """How alike two maps are. 1: the same order of the voxels in each of the three."""

    rank_correlation: float
    ssim: float
    overlap: float


MEASURES = Agreement._fields


class RankedMap:
    """A map that was ranked once, so that it can be compared with many others.

    Parameters
    ----------
    values : float array (H', W')
        The map at its own resolution, as it is to be ranked: pass its absolute value to rank by that.
    inside : bool array (H', W'), optional
        The cells that count, such as those of the body; None for all.
    fraction : float
        Share of these cells that counts as highest.

    Attributes
    ----------
    blank : bool
        Whether the map has one value only in the cells that count. It has no order then.
    """

    def __init__(self, values: np.ndarray, inside: np.ndarray | None = None, fraction: float = 0.1):
        self.inside = np.ones(values.shape, bool) if inside is None else inside
        if not self.inside.any():
            raise ValueError("No cell of the map counts: the body mask is empty at the map's resolution.")
        counted = values[self.inside]
        self.blank = bool(counted.min() == counted.max())
        order = rank_order(counted) - 0.5
        length = np.linalg.norm(order)
        self._order = (order / (length or 1.0)).astype("float32")
        self._highest = _highest(counted, fraction)
        self._ranks = rank_order(values)
        self._mean, self._variance = _moments(self._ranks)

    def agreement(self, other: "RankedMap") -> Agreement:
        r"""Compare with another map of the same grid.

        Returns
        -------
        Agreement
            `rank_correlation`: Spearman's, in [-1, 1]; 0 if one of the maps is blank, since it has no order.
            `ssim`: structural similarity of the ranks, in [-1, 1]. `overlap`: of the highest cells, in [0, 1]; 0 if one
            of the maps is blank.

        Notes
        -----
        Spearman's correlation and the overlap look at the cells inside only. SSIM (Wang et al., IEEE TIP 2004;13:600)
        is computed on the ranks of all cells, scaled from 0 (lowest) to 1 (highest), since one extreme value would make
        any two maps alike otherwise:

        .. math:: \text{SSIM} = \frac{(2 \mu_a \mu_b + c_1)(2 \sigma_{ab} + c_2)}
                  {(\mu_a^2 + \mu_b^2 + c_1)(\sigma_a^2 + \sigma_b^2 + c_2)},

        with means, variances and covariance in a Gaussian window with an SD of 1.5 cells, edges reflected,
        :math:`c_1 = 0.01^2` and :math:`c_2 = 0.03^2`; the mean of the cells inside is returned.

        Let :math:`a_v` be 1 where a cell belongs to the highest of a map, and a part of 1 where it is one of several
        equal values at the boundary, of which not all fit. The overlap is

        .. math:: \frac{2 \sum_v \min(a_v, b_v)}{\sum_v a_v + \sum_v b_v}.

        Cells with the lowest value of a map are never among its highest, so that a map which is zero nearly everywhere
        marks fewer cells, and not random ones. Two random orders have an overlap of about the fraction.
        """
        if self._ranks.shape != other._ranks.shape:
            raise ValueError(f"The maps have {self._ranks.shape} and {other._ranks.shape} cells: expected one grid.")
        marked = float(self._highest.sum() + other._highest.sum())
        shared = float(np.minimum(self._highest, other._highest).sum())
        return Agreement(
            float(np.dot(self._order, other._order)),
            float(self._ssim(other)[self.inside].mean()),
            0.0 if self.blank or other.blank else 2 * shared / marked,
        )

    def _ssim(self, other: "RankedMap") -> np.ndarray:
        covariance = _blur(self._ranks * other._ranks) - self._mean * other._mean
        return ((2 * self._mean * other._mean + STABLE[0]) * (2 * covariance + STABLE[1])) / (
            (self._mean**2 + other._mean**2 + STABLE[0]) * (self._variance + other._variance + STABLE[1])
        )


def _blur(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, WINDOW_SD, radius=5)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = _blur(values)
    return mean, np.maximum(_blur(values**2) - mean**2, 0.0)


def _highest(values: np.ndarray, fraction: float) -> np.ndarray:
    """Return for each value how far it belongs to the highest: 1, a part of 1 for ties at the boundary, or 0."""
    selection = Selection(values, max(voxel_count(fraction, values.size), 1), "top")
    member = selection.sure.astype("float32")
    if len(selection.ties) and values[selection.ties[0]] > values.min():
        member[selection.ties] += np.float32(selection.missing / len(selection.ties))
    return member
