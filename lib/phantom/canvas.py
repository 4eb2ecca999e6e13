"""Paint closed contours given in millimetres into a supersampled map of tissues."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline


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
        Paint samples along each side of a pixel.
    """

    matrix: int
    pixel_mm: float
    left_mm: float
    top_mm: float
    oversample: int = 2


class Canvas:
    """A map of paint codes of one axial plane; later shapes cover earlier ones, as in painting."""

    def __init__(self, grid: Grid, fill: int = 0):
        self.grid = grid
        self.size = grid.matrix * grid.oversample
        self.scale = grid.oversample / grid.pixel_mm
        self._open(Image.new("L", (self.size, self.size), int(fill)))

    def _open(self, image: Image.Image) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image)

    def copy(self) -> "Canvas":
        """Return an independent copy."""
        twin = object.__new__(Canvas)
        twin.grid, twin.size, twin.scale = self.grid, self.size, self.scale
        twin._open(self.image.copy())
        return twin

    def _pixels(self, points: np.ndarray) -> list[float]:
        # Pillow paints every sample that a contour touches: a shape's radius grows by a quarter to half of a sample.
        points = np.asarray(points, np.float64) - (self.grid.left_mm, self.grid.top_mm)
        return (points * self.scale).ravel().tolist()

    def polygon(self, points: np.ndarray, code: int) -> None:
        """Fill the closed contour `points`, float (n, 2) in mm, with a paint code."""
        self._draw.polygon(self._pixels(points), fill=int(code))

    def line(self, points: np.ndarray, width_mm: float, code: int) -> None:
        """Draw an open line of a given width in mm."""
        self._draw.line(self._pixels(points), fill=int(code), width=max(1, round(width_mm * self.scale)), joint="curve")

    def ellipse(self, x: float, y: float, a: float, b: float, code: int, angle: float = 0.0) -> None:
        """Fill an ellipse of semi-axes `a`, `b` in mm, turned by `angle` in radians."""
        if angle == 0.0:
            box = self._pixels(np.array([[x - a, y - b], [x + a, y + b]]))
            self._draw.ellipse(box, fill=int(code))
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
    """Move a closed contour outward along its normals by mm, one distance or one a point (inward where negative)."""
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
        Half of the width at each point, mm.
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
    """A contour's radius factor 1 + small harmonics of the angle whose phases drift with height."""

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
