"""Streaks of metal in a CT image: what hard beams and missing photons do to the rays that cross it."""

import numpy as np
from scipy import fft

from lib.phantom.canvas import Grid
from lib.phantom.patient import Anatomy

# A tube spectrum in four energies (50, 60, 80 and 100 keV): share of the detected signal, and the attenuation of water
# and iron, 1/mm (Hubbell and Seltzer, NISTIR 5632).
_SHARE = np.array([0.2, 0.3, 0.3, 0.2])
_WATER = np.array([0.02269, 0.02059, 0.01837, 0.01707])
_IRON = np.array([1.540, 0.948, 0.469, 0.293])
_PHOTONS = 3e5  # per ray and view, without a patient
_MOST = 9.0  # attenuation beyond which a scanner replaces the counts
VIEWS = 360


class MetalStreaks:
    r"""Computes the streaks of one series; the body is an ellipse of water.

    Parameters
    ----------
    grid : Grid
    anatomy : Anatomy
        Place and size of the trunk.
    half_frequency : float
        Frequency at which the kernel halves the contrast, 1/mm.

    Notes
    -----
    A ray through a length :math:`b` of body and :math:`m` of metal is measured as

    .. math:: p(b, m) = -\ln \sum_j w_j \exp(-\mu_j b - \nu_j m),

    with the shares :math:`w_j` of the energies and the attenuation of water :math:`\mu_j` and of iron :math:`\nu_j`.
    Scanners correct what they expect of a body without metal, :math:`p(b, 0)`. What remains is not proportional to
    :math:`m`: less is measured where the ray was already hardened by the body. This difference from its best
    proportional fit, and the noise of the few photons that pass, are reconstructed by filtered backprojection. Both
    vanish without metal.
    """

    def __init__(self, grid: Grid, anatomy: Anatomy, half_frequency: float):
        self.grid = grid
        self.centre = np.array([grid.left_mm, grid.top_mm]) + grid.matrix * grid.pixel_mm / 2
        trunk = anatomy.trunk
        self.body = anatomy.pose.place((0.0, trunk.centre_y)) - self.centre
        self.semi_axes = np.array([trunk.half_width, trunk.depth / 2])
        angle = (np.arange(VIEWS) + 0.5) * np.pi / VIEWS
        self.ray = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # directions across the rays
        self.bins = 2 * int(np.ceil(0.75 * grid.matrix)) + 2
        self.place = (np.arange(self.bins) - (self.bins - 1) / 2) * grid.pixel_mm  # mm from the centre
        frequency = fft.rfftfreq(2 * self.bins, grid.pixel_mm)
        blur = np.exp(-np.log(2) * (frequency / half_frequency) ** 2)
        self.filter = frequency * blur * np.cos(np.pi * frequency * grid.pixel_mm)

    def __call__(self, metal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the streaks of a slice.

        Parameters
        ----------
        metal : float array (matrix, matrix)
            Share of each pixel that is metal.
        rng : numpy.random.Generator
            Of the photons.

        Returns
        -------
        float32 array (matrix, matrix)
            HU, to be added to the image; 0 if there is no metal.
        """
        if not metal.any():
            return np.zeros(metal.shape, np.float32)
        lengths = self.project(metal)
        return self._backproject(self._error(lengths, rng)) * np.float32(1000 / (_SHARE @ _WATER))

    def project(self, metal: np.ndarray) -> np.ndarray:
        """Return the length of metal on each ray, float (views, bins), mm."""
        rows, columns = np.nonzero(metal)
        at = (np.stack([columns, rows], axis=1) + 0.5 - self.grid.matrix / 2) * self.grid.pixel_mm
        where = at @ self.ray.T / self.grid.pixel_mm + (self.bins - 1) / 2  # (pixels, views), in bins
        first = np.floor(where).astype(int)
        upper = where - first
        views = np.broadcast_to(np.arange(VIEWS), where.shape)
        area = metal[rows, columns][:, None] * self.grid.pixel_mm  # of a pixel, over the width of a bin
        lengths = np.zeros((VIEWS, self.bins))
        np.add.at(lengths, (views, first), area * (1 - upper))
        np.add.at(lengths, (views, first + 1), area * upper)
        return lengths

    def _error(self, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        a, b = (self.ray * self.semi_axes).T
        size = np.hypot(a, b)[:, None]
        off = self.place - (self.ray @ self.body)[:, None]
        chord = 2 * self.semi_axes.prod() * np.sqrt(np.maximum(size**2 - off**2, 0)) / size**2
        hit = lengths > 0
        with_metal, without = _measured(chord[hit], lengths[hit]), _measured(chord[hit], np.zeros(hit.sum()))
        added = with_metal - without
        fit = (added @ lengths[hit]) / (lengths[hit] @ lengths[hit])
        few = np.sqrt(np.maximum(np.exp(np.minimum(with_metal, _MOST)) - np.exp(np.minimum(without, _MOST)), 0))
        error = np.zeros_like(lengths)
        error[hit] = added - fit * lengths[hit] + few / np.sqrt(_PHOTONS) * rng.standard_normal(len(few))
        return error

    def _backproject(self, error: np.ndarray) -> np.ndarray:
        n = self.grid.matrix
        filtered = fft.irfft(fft.rfft(error, 2 * self.bins, axis=1) * self.filter, 2 * self.bins, axis=1)
        filtered = filtered[:, : self.bins].astype(np.float32)
        step = np.arange(n, dtype=np.float32) + np.float32(0.5 - n / 2)
        image = np.zeros((n, n), np.float32)
        for view, (cosine, sine) in zip(filtered, self.ray.astype(np.float32), strict=True):
            where = (step * cosine)[None, :] + (step * sine)[:, None] + np.float32((self.bins - 1) / 2)
            first = where.astype(np.int32)
            upper = where - first
            low = view.take(first)
            image += low + upper * (view.take(first + 1) - low)
        return image * np.float32(np.pi / VIEWS)


def _measured(body: np.ndarray, metal: np.ndarray) -> np.ndarray:
    """Return what is measured behind lengths of body and metal in mm, natural logarithm."""
    passed = np.exp(-np.multiply.outer(body, _WATER) - np.multiply.outer(metal, _IRON))
    return -np.log(np.maximum(passed @ _SHARE, 1e-30))
