"""Projection from a point source onto a flat detector: chord lengths of bodies, ellipsoids and tubes.

Patient axes in mm: x to the patient's left (right in the image), y from back to front, z from feet to head. In a
posterior-anterior radiograph the source stands behind the patient and the detector in front of the chest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class View:
    """A detector of square pixels and the source in front of it.

    Attributes
    ----------
    pixels : int
        Rows and columns.
    side_mm : float
        Side of the detector.
    source_mm, detector_mm : float
        y of source and detector.
    """

    pixels: int
    side_mm: float = 400.0
    source_mm: float = -1650.0
    detector_mm: float = 150.0

    @property
    def pixel_mm(self) -> float:
        """Side of a pixel on the detector."""
        return self.side_mm / self.pixels

    @cached_property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions on the detector: u of the columns, v (upward) of the rows, float32."""
        centre = ((np.arange(self.pixels) + 0.5) * self.pixel_mm - self.side_mm / 2).astype(np.float32)
        return centre, -centre

    def magnification(self, y):
        """Return how much larger than life a thing at depth y is on the detector."""
        return (self.detector_mm - self.source_mm) / (np.asarray(y) - self.source_mm)

    def plane(self, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Return x (1, n) and z (n, 1) at which the rays of the pixels meet the plane at depth y."""
        u, v = self.axes
        scale = np.float32(1 / self.magnification(y))
        return u[None] * scale, v[:, None] * scale

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions on the detector (n, 2) and magnifications (n,) of points (n, 3)."""
        magnification = self.magnification(points[:, 1])
        return points[:, [0, 2]] * magnification[:, None], magnification

    def window(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice]:
        """Return the rows and columns whose pixels may lie within (u, v) from `low` to `high`."""
        half, n = self.side_mm / 2, self.pixels
        columns = np.clip([int((low[0] + half) / self.pixel_mm) - 1, int((high[0] + half) / self.pixel_mm) + 2], 0, n)
        rows = np.clip([int((half - high[1]) / self.pixel_mm) - 1, int((half - low[1]) / self.pixel_mm) + 2], 0, n)
        return slice(*rows), slice(*columns)

    def inside(self, u0: float, v0: float, u1: float, v1: float, window: tuple[slice, slice]):
        """Return the part of a window that (u0, v0) to (u1, v1) covers, counted from its corner; None if none."""
        half, pixel = self.side_mm / 2, self.pixel_mm
        rows, columns = window
        top = max(int((half - v1) / pixel), rows.start) - rows.start
        bottom = min(int((half - v0) / pixel) + 1, rows.stop) - rows.start
        left = max(int((u0 + half) / pixel), columns.start) - columns.start
        right = min(int((u1 + half) / pixel) + 1, columns.stop) - columns.start
        return None if bottom <= top or right <= left else (slice(top, bottom), slice(left, right))


def ellipsoid(
    view: View, centre: Sequence[float], axes: Sequence[float], tilt: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the depths (n, n) at which rays enter and leave an ellipsoid; both the same where a ray misses it.

    Parameters
    ----------
    view : View
    centre, axes : sequence of float (3,)
        Centre and semi-axes, mm.
    tilt : float
        Turn about the y axis, radians, from z toward x.

    Notes
    -----
    Exact: a ray is (x, y, z) = (u s, y, v s) with s = (y - source) / (detector - source), which put into the equation
    of the ellipsoid gives a quadratic in y.
    """
    u, v = view.axes
    length = view.detector_mm - view.source_mm
    # a point on the ray, relative to the centre: p + q * (y - centre_y)
    qx, qz = u[None] / length, v[:, None] / length
    shift = centre[1] - view.source_mm
    px, pz = qx * shift - centre[0], qz * shift - centre[2]
    cos, sin = np.cos(tilt), np.sin(tilt)

    def turned(x, z):
        return (cos * x - sin * z) / axes[0], (sin * x + cos * z) / axes[2]

    (pa, pc), (qa, qc) = turned(px, pz), turned(qx, qz)
    a = qa**2 + qc**2 + np.float32(1 / axes[1] ** 2)
    b = pa * qa + pc * qc
    c = pa**2 + pc**2 - 1
    root = np.sqrt(np.maximum(b**2 - a * c, 0))
    middle = centre[1] - b / a
    half = root / a
    return (middle - half).astype(np.float32), (middle + half).astype(np.float32)


def covered(inside: tuple[np.ndarray, np.ndarray], bodies: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return which length of an interval along each ray is covered by bodies that may overlap.

    Parameters
    ----------
    inside : tuple of array (n, m)
        Start and end of the interval; none where the end is not behind the start.
    bodies : sequence of tuple of array (n, m)
        Start and end of each body.

    Returns
    -------
    float32 array (n, m)
        Length of the union, mm.
    """
    low, high = inside
    if not bodies:
        return np.zeros(np.broadcast_shapes(low.shape, high.shape), np.float32)
    starts = np.stack([np.clip(start, low, np.maximum(low, high)) for start, _ in bodies])
    ends = np.stack([np.clip(end, low, np.maximum(low, high)) for _, end in bodies])
    order = np.argsort(starts, axis=0)
    starts, ends = np.take_along_axis(starts, order, 0), np.take_along_axis(ends, order, 0)
    total, reached = np.zeros(starts.shape[1:], np.float32), starts[0].copy()
    for start, end in zip(starts, ends, strict=True):
        total += np.maximum(end - np.maximum(start, reached), 0)
        np.maximum(reached, end, out=reached)
    return total


def smooth_curve(points: np.ndarray, count: int) -> np.ndarray:
    """Return `count` points on a smooth curve through points (n, d), evenly by the chords' length.

    Notes
    -----
    Cubic Hermite pieces whose slopes are second-order finite differences (a Catmull-Rom curve with uneven knots).
    """
    points = np.asarray(points, float)
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    slope = np.gradient(points, at, axis=0)
    t = np.linspace(0, at[-1], count)
    k = np.clip(np.searchsorted(at, t, side="right") - 1, 0, len(at) - 2)
    step = (at[k + 1] - at[k])[:, None]
    u = (t[:, None] - at[k][:, None]) / step
    hermite = (1 + 2 * u) * (1 - u) ** 2 * points[k] + u * (1 - u) ** 2 * step * slope[k]
    return hermite + u**2 * (3 - 2 * u) * points[k + 1] + u**2 * (u - 1) * step * slope[k + 1]


@dataclass(frozen=True)
class Band:
    """A tube as it is projected: a polyline on the detector, half its width and its longest chord at each vertex."""

    line: np.ndarray
    half: np.ndarray
    chord: np.ndarray


def tube(view: View, points: np.ndarray, radii: np.ndarray | float, flat: np.ndarray | None = None) -> Band:
    """Project a tube of elliptical section.

    Parameters
    ----------
    view : View
    points : array (n, 3)
        Centre line, mm.
    radii : float or array (n,) or (n, 2)
        Radius; or semi-axes of the section, the first along `flat`, the second across.
    flat : array (n, 3), optional
        Direction of the first semi-axis; needed for two.

    Notes
    -----
    A ray and the direction e in the image across the tube span a plane; its section through the tube has the area
    pi a b / |t|, t the part of the tangent that lies in the image, and the width 2 h, h^2 = (a n.e)^2 + (b m.e)^2. So
    the longest chord is 2 a b / (h |t|). |t| is kept above .4: a tube seen from its end has an end.
    """
    radii = np.broadcast_to(np.asarray(radii, float), (len(points),) if np.ndim(radii) < 2 else (len(points), 2))
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    seen = np.maximum(np.hypot(tangent[:, 0], tangent[:, 2]), 1e-9)
    line, magnification = view.project(points)
    if radii.ndim == 1:
        half, product = radii, radii**2
    else:
        normal = flat - (flat * tangent).sum(1, keepdims=True) * tangent
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        other = np.cross(tangent, normal)
        across = np.stack([-tangent[:, 2], np.zeros(len(points)), tangent[:, 0]], axis=1) / seen[:, None]
        half = np.hypot(radii[:, 0] * (normal * across).sum(1), radii[:, 1] * (other * across).sum(1))
        product = radii[:, 0] * radii[:, 1]
    return Band(line, half * magnification, 2 * product / (half * np.maximum(seen, 0.4)))


def draw_band(
    view: View, band: Band, wall: float | None = None, ends: bool = False
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return where a tube is seen, the chords of the whole tube there, and those of what lies inside its wall.

    Parameters
    ----------
    view : View
    band : Band
    wall : float, optional
        Thickness of the wall, mm; None: no inside.
    ends : bool
        Whether the ends are rounded; otherwise the tube is cut where its line ends.

    Returns
    -------
    window : tuple of slice
        Rows and columns.
    outer, inner : float32 array
        Chords in mm over the window.
    """
    reach = band.half.max()
    window = view.window(band.line.min(0) - reach, band.line.max(0) + reach)
    u, v = view.axes
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    distance, half, chord = np.full(shape, np.inf, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.float32)
    if not distance.size:
        return window, chord, chord
    last = len(band.line) - 2
    for k in range(last + 1):
        (ax, ay), (bx, by) = band.line[k].tolist(), band.line[k + 1].tolist()
        ha, hb, ca, cb = float(band.half[k]), float(band.half[k + 1]), float(band.chord[k]), float(band.chord[k + 1])
        wide = max(ha, hb) + view.pixel_mm
        here = view.inside(min(ax, bx) - wide, min(ay, by) - wide, max(ax, bx) + wide, max(ay, by) + wide, window)
        if here is None:
            continue
        rows, columns = here
        du = u[window[1].start + columns.start : window[1].start + columns.stop][None] - np.float32(ax)
        dv = v[window[0].start + rows.start : window[0].start + rows.stop][:, None] - np.float32(ay)
        eu, ev = np.float32(bx - ax), np.float32(by - ay)
        raw = (du * eu + dv * ev) * np.float32(1 / (eu * eu + ev * ev + 1e-12))
        t = np.minimum(np.maximum(raw, 0), 1)
        squared = (du - t * eu) ** 2 + (dv - t * ev) ** 2
        nearer = squared < distance[here]
        np.copyto(distance[here], squared, where=nearer)
        np.copyto(half[here], np.float32(ha) + t * np.float32(hb - ha), where=nearer)
        np.copyto(chord[here], np.float32(ca) + t * np.float32(cb - ca), where=nearer)
    if not ends:  # cut across the line at both ends
        for at, toward in ((band.line[0], band.line[1]), (band.line[-1], band.line[-2])):
            along = toward - at
            du, dv = u[None, window[1]] - np.float32(at[0]), v[window[0], None] - np.float32(at[1])
            distance[(du * along[0] + dv * along[1] < 0) & (du**2 + dv**2 < (1.5 * reach) ** 2)] = np.inf
    outer = chord * np.sqrt(np.maximum(1 - distance / half**2, 0))
    if wall is None:
        return window, outer, np.zeros_like(outer)
    core = np.maximum(half - wall, 0.05)
    inner = np.maximum(chord - 2 * wall, 0) * np.sqrt(np.maximum(1 - distance / core**2, 0))
    return window, outer, np.minimum(inner, outer)


def add_tubes(view: View, bands: Sequence[Band], out: np.ndarray, weight: float = 1.0, ends: bool = True) -> None:
    """Add the chords of tubes to an image in place."""
    for band in bands:
        window, outer, _ = draw_band(view, band, ends=ends)
        out[window] += np.float32(weight) * outer


def superellipse(u: np.ndarray, power: float) -> np.ndarray:
    """Return (1 - |u|^power)^(1/power), 0 outside: half the height of a superellipse of half-width 1."""
    return np.maximum(1 - np.abs(u) ** power, 0) ** (1 / power)
