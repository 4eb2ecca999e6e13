"""Painting of closed contours, which are given in millimetres, into a supersampled map of tissues."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

from lib.phantom.tissues import BLANKET, TABLE

_STILL = (TABLE, BLANKET)  # paint that does not move with the patient


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a series.

    Attributes
    ----------
    matrix : int
        Rows and columns.
    pixel_mm : float
        Pixel spacing, mm.
    left_mm, top_mm : float
        Patient coordinates (x to the patient's left, y to the back) of the corner of the first pixel, mm.
    oversample : int
        Number of samples along each side of a pixel.
    """

    matrix: int
    pixel_mm: float
    left_mm: float
    top_mm: float
    oversample: int = 2


@dataclass(frozen=True)
class Pose:
    """How a patient lies on the table.

    Attributes
    ----------
    roll : float
        Rotation about the axis of the spine (x = y = 0), radians. It is positive if the left side goes down.
    lift : float
        Height of the body above its position without a roll, mm.
    """

    roll: float = 0.0
    lift: float = 0.0

    @property
    def turn(self) -> np.ndarray:
        """Return the rotation matrix of points, for float (n, 2) @ (2, 2)."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.array([[c, s], [-s, c]])

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates in the scanner of points of the body, float (n, 2) or (2,), mm."""
        return np.asarray(points, float) @ self.turn - (0.0, self.lift)

    def undo(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates in the body of points of the scanner, float (n, 2) or (2,), mm."""
        return (np.asarray(points, float) - (0.0, -self.lift)) @ self.turn.T


class Canvas:
    """A map of paint codes in one axial plane. Later shapes cover earlier ones.

    Parameters
    ----------
    grid : Grid
        Pixel grid of the scanner.
    fill : int
        Paint code of the empty plane.
    pose : Pose
        Position of the patient. Shapes are given in coordinates of the body, except table and blanket.

    Attributes
    ----------
    down : float array (2,)
        Direction of gravity, a unit vector in coordinates of the body.
    """

    def __init__(self, grid: Grid, fill: int = 0, pose: Pose = Pose()):
        self.grid = grid
        self.size = grid.matrix * grid.oversample
        self.scale = grid.oversample / grid.pixel_mm
        self.slant = abs(np.sin(pose.roll)) * self.scale  # samples by which the end of 1 mm moves
        self.down = np.array([np.sin(pose.roll), np.cos(pose.roll)])
        corner = np.array([grid.left_mm, grid.top_mm])
        self._still = self.scale * np.eye(2), -self.scale * corner
        self._moved = self.scale * pose.turn, self.scale * (pose.place((0.0, 0.0)) - corner)
        self._terms = [*self._moved[0].ravel().tolist(), *self._moved[1].tolist()]
        self.image = Image.new("L", (self.size, self.size), int(fill))
        self._draw = ImageDraw.Draw(self.image)

    def _pixels(self, points: np.ndarray, code: int) -> np.ndarray:
        # Pillow paints every sample that a contour touches: a shape's radius grows by a quarter to half of a sample.
        turn, shift = self._still if code in _STILL else self._moved
        return (np.asarray(points, np.float64) @ turn + shift).ravel()

    def polygon(self, points: np.ndarray, code: int) -> None:
        """Fill the closed contour `points`, float (n, 2) in mm, with a paint code."""
        self._draw.polygon(self._pixels(points, code).tolist(), fill=int(code))

    def line(self, points: np.ndarray, width_mm: float, code: int) -> None:
        """Draw an open line of a given width in mm."""
        width = max(1, round(width_mm * self.scale))
        self._draw.line(self._pixels(points, code).tolist(), fill=int(code), width=width, joint="curve")

    def ellipse(self, x: float, y: float, a: float, b: float, code: int, angle: float = 0.0) -> None:
        """Fill an ellipse of semi-axes `a`, `b` in mm, turned by `angle` in radians."""
        if code not in _STILL and (a == b or (angle == 0.0 and abs(a - b) * self.slant < 0.5)):
            xx, xy, yx, yy, left, top = self._terms  # in plain numbers: circles are many
            x, y, a, b = float(x), float(y), float(a) * self.scale, float(b) * self.scale
            x, y = xx * x + yx * y + left, xy * x + yy * y + top
            self._draw.ellipse((x - a, y - b, x + a, y + b), fill=int(code))
            return
        circle = unit_circle(28)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.polygon((circle * (a, b)) @ turn + (x, y), code)

    def samples(self) -> np.ndarray:
        """Return the paint codes, uint8 (matrix * oversample, matrix * oversample)."""
        return np.asarray(self.image)


@cache
def unit_circle(n: int) -> np.ndarray:
    """Return n points of the unit circle, float (n, 2), counted from +x toward +y."""
    angle = np.arange(n) * (2 * np.pi / n)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def smooth_closed(points: np.ndarray, n: int = 64) -> np.ndarray:
    """Return n points on the periodic cubic spline through the control points, float (k, 2) -> (n, 2)."""
    points = np.asarray(points, float)
    return _closed_weights(len(points), n) @ points


def smooth_open(points: np.ndarray, n: int = 32) -> np.ndarray:
    """Return n points on the cubic spline through the control points, float (k, d) -> (n, d)."""
    points = np.asarray(points, float)
    return _open_weights(len(points), n) @ points


@cache
def _closed_weights(k: int, n: int) -> np.ndarray:
    # A periodic spline is linear in its control points: its matrix is made once for each pair of sizes.
    eye = np.eye(k)
    return CubicSpline(np.arange(k + 1), np.vstack([eye, eye[:1]]), bc_type="periodic")(
        np.linspace(0, k, n, endpoint=False)
    )


@cache
def _open_weights(k: int, n: int) -> np.ndarray:
    return CubicSpline(np.arange(k), np.eye(k))(np.linspace(0, k - 1, n))


def grow(contour: np.ndarray, distance_mm: float | np.ndarray) -> np.ndarray:
    """Move a closed contour outward along its normals by `mm`, one distance or one per point (negative: inward)."""
    tangent = np.empty_like(contour)
    tangent[1:-1] = contour[2:] - contour[:-2]
    tangent[0], tangent[-1] = contour[1] - contour[-1], contour[0] - contour[-2]
    length = np.hypot(tangent[:, 0], tangent[:, 1])
    np.maximum(length, 1e-9, out=length)
    x, y = contour[:, 0], contour[:, 1]
    area = x @ tangent[:, 1] - y @ tangent[:, 0]
    step = (distance_mm if area > 0 else -distance_mm) / length
    return np.stack([x + step * tangent[:, 1], y - step * tangent[:, 0]], axis=1)


def ribbon(path: np.ndarray, half_width: np.ndarray) -> np.ndarray:
    """Return the outline of a band along an open path, with rounded ends.

    Parameters
    ----------
    path : float array (n, 2)
        Points along the middle, mm.
    half_width : float array (n,) or float
        Half the width at each point, mm.
    """
    tangent = np.empty_like(path, dtype=float)
    tangent[1:-1] = path[2:] - path[:-2]
    tangent[0], tangent[-1] = path[1] - path[0], path[-1] - path[-2]
    tangent /= np.maximum(np.hypot(tangent[:, 0], tangent[:, 1])[:, None], 1e-9)
    half_width = np.broadcast_to(np.asarray(half_width, float), len(path))[:, None]
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1) * half_width
    start = path[:1] - 0.8 * tangent[:1] * half_width[:1]
    end = path[-1:] + 0.8 * tangent[-1:] * half_width[-1:]
    return np.concatenate([start, path + normal, end, (path - normal)[::-1]])


class Wave:
    """A smooth random function of height z (mm) with mean 0 and SD `sd`: three cosines of 60-200 mm."""

    def __init__(self, rng: np.random.Generator, sd: float = 1.0, wavelength: tuple[float, float] = (60.0, 200.0)):
        self.rate = 2 * np.pi / rng.uniform(*wavelength, 3)
        self.phase = rng.uniform(0, 2 * np.pi, 3)
        self.height = sd * np.sqrt(2 / 3)

    def __call__(self, z: float) -> float:
        """Return the value at height z."""
        return float(self.height * np.cos(self.rate * z + self.phase).sum())


class Wobble:
    """A factor on the radius of a contour: 1 plus small harmonics of the angle whose phases change with height."""

    def __init__(
        self, rng: np.random.Generator, size: float, orders: tuple[int, ...] = (2, 3, 4, 5), drift: float = 0.02
    ):
        self.orders = np.asarray(orders, float)
        self.size = size * rng.normal(0, 1, len(orders)) / np.sqrt(self.orders - 1)
        self.phase = rng.uniform(0, 2 * np.pi, len(orders))
        self.drift = rng.normal(0, drift, len(orders))

    def __call__(self, angle: np.ndarray, z: float) -> np.ndarray:
        """Return the factors, float like `angle`."""
        return 1 + self.size @ np.cos(self.orders[:, None] * angle + (self.phase + self.drift * z)[:, None])
