"""Seventeen things that spoil a storage-phosphor plate, as changes of the light that the scanner reads.

Each is a factor on the signal, or light that is added, or a displacement; so strength 0 changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

KINDS = (
    *("hairline scratch", "scratch bundle", "curved scratch", "bite mark", "double bite mark", "dust", "hair"),
    *("bent corner", "crease", "peeled edge", "fingerprint", "fluid stain", "residue", "scanner line"),
    *("banding", "light fading", "ghost"),
)
WHOLE_PLATE = ("banding", "light fading", "ghost")  # no place of their own: a stratum apart
CHANGED = 0.05  # share of the signal by which a pixel has to change to belong to an artifact's mask


@dataclass(frozen=True)
class Grid:
    """Positions of the pixels of a plate, mm."""

    rows: int
    columns: int
    pixel_mm: float

    @property
    def x(self) -> np.ndarray:
        """Positions of the columns, (1, columns)."""
        return ((np.arange(self.columns, dtype=np.float32) + 0.5) * np.float32(self.pixel_mm))[None]

    @property
    def y(self) -> np.ndarray:
        """Positions of the rows, (rows, 1)."""
        return ((np.arange(self.rows, dtype=np.float32) + 0.5) * np.float32(self.pixel_mm))[:, None]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        return self.columns * self.pixel_mm, self.rows * self.pixel_mm

    def stroke(self, points: np.ndarray, width: np.ndarray | float) -> np.ndarray:
        """Return which share of each pixel a line through points (n, 2) of a width in mm covers."""
        cover, widths = np.zeros(self.shape, np.float32), np.broadcast_to(width, len(points))
        pixel = self.pixel_mm
        for (ax, ay), (bx, by), wide in zip(points[:-1], points[1:], widths[:-1], strict=True):
            reach = wide / 2 + pixel
            rows = slice(max(int((min(ay, by) - reach) / pixel), 0), max(int((max(ay, by) + reach) / pixel) + 1, 0))
            columns = slice(max(int((min(ax, bx) - reach) / pixel), 0), max(int((max(ax, bx) + reach) / pixel) + 1, 0))
            dx, dy = self.x[:, columns] - ax, self.y[rows] - ay
            if not dx.size or not dy.size:
                continue
            ex, ey = bx - ax, by - ay
            t = np.clip((dx * ex + dy * ey) / (ex * ex + ey * ey + 1e-9), 0, 1)
            distance = np.hypot(dx - t * ex, dy - t * ey)
            here = np.clip((wide / 2 - distance) / pixel + 0.5, 0, 1) * min(1.0, wide / pixel)
            np.maximum(cover[rows, columns], here, out=cover[rows, columns])
        return cover

    def soft(self, image: np.ndarray, mm: float) -> np.ndarray:
        """Return an image blurred by an SD in mm."""
        return gaussian_filter(image, mm / self.pixel_mm)

    def noise(self, rng: np.random.Generator, mm: float) -> np.ndarray:
        """Return smooth noise of SD 1 with a grain of `mm`."""
        from lib.xray.detector import resize

        side = int(np.ceil(max(self.size_mm) / (0.5 * mm)))
        field = gaussian_filter(rng.standard_normal((side, side), dtype=np.float32), 1.0)
        image = resize(field / field.std(), max(self.shape))
        return image[: self.rows, : self.columns]


def _arc(centre, radius: float, start: float, length: float, flat: float = 1.0, count: int = 30) -> np.ndarray:
    angle = start + np.linspace(0, length, count)
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + flat * radius * np.sin(angle)], axis=1)


def _direction(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])


def _hairline(grid, rng, centre, size):
    along = _direction(rng.uniform(0, np.pi)) * rng.uniform(3, 7) * size
    return 0.75 * grid.stroke(np.array([centre - along, centre + along]), rng.uniform(0.10, 0.20)), 0


def _bundle(grid, rng, centre, size):
    angle, loss = rng.uniform(0, np.pi), np.zeros(grid.shape, np.float32)
    along, across = _direction(angle), _direction(angle + np.pi / 2)
    for _ in range(int(rng.integers(5, 10))):
        start = centre + across * rng.normal(0, 1.0 * size) + along * rng.normal(0, 1.2 * size)
        half = along * rng.uniform(1.2, 4.0) * size + across * rng.normal(0, 0.15)
        np.maximum(
            loss,
            rng.uniform(0.4, 0.75) * grid.stroke(np.array([start - half, start + half]), rng.uniform(0.08, 0.18)),
            out=loss,
        )
    return loss, 0


def _curved(grid, rng, centre, size):
    radius = rng.uniform(2.2, 4.5) * size
    line = _arc(centre, radius, rng.uniform(0, 6.3), rng.uniform(1.2, 3.0), rng.uniform(0.5, 1))
    return 0.75 * grid.stroke(line - line.mean(0) + centre, rng.uniform(0.12, 0.24)), 0


def _tooth_print(grid, rng, centre, size):
    line = _arc(centre, rng.uniform(1.6, 2.8) * size, rng.uniform(0, 6.3), rng.uniform(1.0, 1.9))
    print_ = grid.soft(grid.stroke(line - line.mean(0) + centre, rng.uniform(0.5, 0.9) * size), 0.10)
    return rng.uniform(0.45, 0.75) * print_ * np.clip(1 + 0.25 * grid.noise(rng, 0.5), 0.3, 1.3)


def _bite(grid, rng, centre, size):
    return _tooth_print(grid, rng, centre, size), 0


def _double_bite(grid, rng, centre, size):
    apart = _direction(rng.uniform(0, np.pi)) * rng.uniform(1.6, 2.6) * size
    return np.maximum(*(_tooth_print(grid, rng, centre + sign * apart, size) for sign in (-1, 1))), 0


def _dust(grid, rng, centre, size):
    loss = np.zeros(grid.shape, np.float32)
    for _ in range(int(rng.integers(8, 24))):
        at, angle = centre + rng.normal(0, 2.2 * size, 2), rng.uniform(0, np.pi)
        half = _direction(angle) * rng.uniform(0.0, 0.16)
        np.maximum(
            loss,
            rng.uniform(0.6, 0.95) * grid.stroke(np.array([at - half, at + half]), rng.uniform(0.12, 0.38)),
            out=loss,
        )
    return loss, 0


def _hair(grid, rng, centre, size):
    turns = np.cumsum(gaussian_filter(rng.normal(0, 0.9, 60), 4)) + rng.uniform(0, 6.3)
    line = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], axis=1), axis=0) * 0.2 * size
    return 0.55 * grid.stroke(line - line.mean(0) + centre, rng.uniform(0.08, 0.14)), 0


def _to_edge(grid, centre) -> tuple[np.ndarray, np.ndarray]:
    """Return distances from the nearest corner in x and y, for the corner nearest to `centre`."""
    width, height = grid.size_mm
    x = grid.x if centre[0] < width / 2 else width - grid.x
    y = grid.y if centre[1] < height / 2 else height - grid.y
    return x, y


def _bent_corner(grid, rng, centre, size):
    x, y = _to_edge(grid, centre)
    lean, reach = rng.uniform(0.7, 1.4), rng.uniform(4.5, 7.5) * size
    distance = (x + lean * y - reach) / np.hypot(1, lean)
    fold = 0.8 * np.exp(-((distance / 0.16) ** 2)) * (0.75 + 0.25 * np.sin(9 * (x - y)))
    return np.maximum(0.45 / (1 + np.exp(np.clip(distance / 0.3, -40, 40))), fold), 0


def _crease(grid, rng, centre, size):
    along = _direction(rng.uniform(0, np.pi)) * rng.uniform(3.0, 6.0) * size
    line = np.linspace(centre - along, centre + along, 12) + rng.normal(0, 0.10, (12, 2))
    core = grid.soft(grid.stroke(line, 0.30), 0.08)
    return 0.70 * core, 0.45 * grid.soft(grid.stroke(line + 0.28, 0.25), 0.10)


def _peeled_edge(grid, rng, centre, size):
    width, height = grid.size_mm
    edges = [centre[1], height - centre[1], centre[0], width - centre[0]]
    nearest = int(np.argmin(edges))
    along = grid.x if nearest < 2 else grid.y
    away = (grid.y, height - grid.y, grid.x, width - grid.x)[nearest]
    middle = centre[0] if nearest < 2 else centre[1]
    ragged = grid.noise(rng, 0.9)
    depth = (1.5 + 0.9 * ragged) * size * np.exp(-(((along - middle) / (6.0 * size)) ** 2))
    return 0.9 / (1 + np.exp(np.clip((away - depth) / 0.06, -40, 40))) * (depth > 0.12), 0


def _fingerprint(grid, rng, centre, size):
    x, y = grid.x - centre[0], grid.y - centre[1]
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    bend = 0.35 * grid.noise(rng, 2.5)
    rings = np.hypot(u, 0.65 * v + 0.6) + 0.25 * bend
    ridges = 0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * rings / 0.48))
    inside = 1 / (1 + np.exp(np.clip((np.hypot(u / (3.2 * size), v / (4.3 * size)) - 1) * 9, -40, 40)))
    return 0.28 * ridges * inside * np.clip(0.8 + 0.35 * grid.noise(rng, 1.6), 0, 1.3), 0


def _stain(grid, rng, centre, size):
    from scipy.ndimage import distance_transform_edt

    radius = np.hypot(grid.x - centre[0], grid.y - centre[1])
    inside = 1.0 * grid.noise(rng, 3.0) - radius / (1.5 * size) + 1.6 > 0
    rim = distance_transform_edt(inside) * grid.pixel_mm
    return inside * (0.16 + 0.24 * np.exp(-((rim / 0.30) ** 2))), 0


def _residue(grid, rng, centre, size):
    radius = np.hypot(grid.x - centre[0], grid.y - centre[1])
    flakes = np.clip(1.4 * (grid.noise(rng, 0.55) + 0.5 * grid.noise(rng, 1.8) - 0.5), 0, 1)
    return 0.45 * flakes * np.clip(1.6 - radius / (2.6 * size), 0, 1), 0


def _scanner_line(grid, rng, centre, size):
    thick = rng.uniform(0.10, 0.22) * size
    return 0.75 * np.clip((thick / 2 - np.abs(grid.y - centre[1])) / grid.pixel_mm + 0.5, 0, 1) * np.ones(grid.shape), 0


def _banding(grid, rng, centre, size):
    period = rng.uniform(1.6, 3.2) * size
    return 0.16 * (0.5 + 0.5 * np.tanh(3 * np.sin(2 * np.pi * (grid.y - centre[1]) / period))) * np.ones(grid.shape), 0


def _fading(grid, rng, centre, size):
    angle = rng.uniform(0, 2 * np.pi)
    distance = (grid.x - centre[0]) * np.cos(angle) + (grid.y - centre[1]) * np.sin(angle)
    return 0.6 / (1 + np.exp(np.clip(-distance / (2.0 * size), -40, 40))), 0


def _ghost(grid, rng, centre, size):
    return 0, None


_DRAW: dict[str, Callable] = dict(zip(KINDS, (
    _hairline, _bundle, _curved, _bite, _double_bite, _dust, _hair, _bent_corner, _crease, _peeled_edge, _fingerprint,
    _stain, _residue, _scanner_line, _banding, _fading, _ghost,
), strict=True))  # fmt: skip


def spoil(
    signal: np.ndarray,
    kind: str,
    rng: np.random.Generator,
    *,
    pixel_mm: float,
    centre: tuple[float, float] | None = None,
    size: float = 1.0,
    strength: float = 1.0,
    other: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lay an artifact over a plate's signal.

    Parameters
    ----------
    signal : float32 array (rows, columns)
        What the scanner reads of the clean plate, not yet a logarithm.
    kind : str
        One of `KINDS`.
    rng : numpy.random.Generator
        The same state draws the same artifact.
    pixel_mm : float
    centre : (float, float), optional
        Its place, mm from the left and from the top; anywhere but the border if it is not given. Artifacts of a corner
        or an edge go to the nearest one.
    size : float
        Relative to the usual size.
    strength : float
        0 leaves the signal as it is.
    other : float32 array (rows, columns), optional
        The plate's earlier image, of which a ghost is left; the plate itself, turned by half a turn, if not given.

    Returns
    -------
    spoiled : float32 array (rows, columns)
    mask : bool array (rows, columns)
        Where the signal changed by more than `CHANGED`.

    Raises
    ------
    ValueError
        If the kind is not known.
    """
    if kind not in KINDS:
        raise ValueError(f"artifact {kind!r} is not known: choose one of {', '.join(KINDS)}.")
    grid = Grid(*signal.shape, pixel_mm)
    width, height = grid.size_mm
    place = (rng.uniform(0.14, 0.86) * width, rng.uniform(0.14, 0.86) * height)
    centre = np.array(place if centre is None else centre)
    loss, gain = _DRAW[kind](grid, rng, centre, size)
    if gain is None:
        earlier = signal[::-1, ::-1] if other is None else other
        gain = 0.5 * np.roll(earlier, (int(rng.integers(-20, 20)), int(rng.integers(-20, 20))), (0, 1)) / signal
    change = strength * (gain * np.ones(grid.shape) - np.clip(loss, 0, 1))
    spoiled = np.maximum(signal * (1 + change), np.minimum(signal, 2e-4)).astype(np.float32)
    return spoiled, np.abs(spoiled - signal) > CHANGED * signal
