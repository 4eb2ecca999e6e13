"""The soft parts of a chest: body, pleural cavities, heart and great vessels, diaphragm, airways."""

from dataclasses import dataclass, field, replace

import numpy as np

from lib.xray.geometry import View, ellipsoid, superellipse

SIDES = (-1, 1)  # the patient's right and left


@dataclass(frozen=True)
class Habitus:
    """What makes one chest differ from another; drawn by :func:`draw_habitus`.

    Lengths in mm. `width` and `depth` are the inner half-widths of the rib cage at its widest level, `apex` and `dome`
    the heights of the lungs' ends, (right, left).
    """

    width: float
    depth: float
    apex: tuple[float, float]
    dome: tuple[float, float]
    dome_height: tuple[float, float]
    fat: float
    wall: float
    female: bool
    breast: float
    heart: float
    heart_tilt: float
    aorta: float
    age: float
    shift: tuple[float, float]
    turn: float
    stomach: float

    @property
    def scale(self) -> float:
        """Width relative to the mean adult."""
        return self.width / 140


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """Draw an adult who stands upright, has breathed in, and faces the detector nearly squarely."""
    female = bool(rng.random() < 0.45)
    size = rng.normal(0, 1)
    fat = float(np.clip(rng.gamma(3.0, 4.5), 4, 38))
    top = 127 + 4 * size + rng.normal(0, 3)
    dome = -84 - 5 * size + rng.normal(0, 8)
    return Habitus(
        width=(134 if female else 143) + 4 * size + rng.normal(0, 4),
        depth=(73 if female else 80) + 3 * size + 0.25 * fat + rng.normal(0, 5),
        apex=(top + rng.normal(0, 1.5), top + rng.normal(1.5, 1.5)),
        dome=(dome, dome - rng.normal(11, 4)),
        dome_height=(rng.normal(46, 4), rng.normal(44, 4)),
        fat=fat,
        wall=float(np.clip(rng.normal(26 if not female else 21, 4), 15, 36)),
        female=female,
        breast=float(np.clip(rng.normal(0.5 + 0.03 * fat, 0.2), 0.3, 1.5)) if female else 0.0,
        heart=float(np.clip(rng.normal(1.0, 0.07), 0.84, 1.22)),
        heart_tilt=rng.normal(0.95, 0.12),
        aorta=float(np.clip(rng.normal(1.0, 0.12), 0.75, 1.4)),
        age=float(rng.uniform(20, 85)),
        shift=(rng.normal(0, 5), rng.normal(2, 6)),
        turn=rng.normal(0, 4),
        stomach=float(rng.uniform(0, 1)),
    )


@dataclass(frozen=True)
class Retraction:
    """How far a lung has fallen away from the chest wall, in mm: at the apex, and beside the middle and the base."""

    apex: float = 0.0
    middle: float = 0.0
    base: float = 0.0
    waves: tuple[tuple[float, float, float], ...] = ()

    @property
    def sum_cm(self) -> float:
        """A + B + C of Collins et al. (AJR 1995;165:1127), cm."""
        return (self.apex + self.middle + self.base) / 10


@dataclass(frozen=True)
class Hemithorax:
    """One pleural cavity, before heart, mediastinum, spine and diaphragm are taken out; also the lung in it.

    A section at a height z is a superellipse between a medial and a lateral border; toward the apex both borders and
    the depth close as an ellipse does, so that the apex is round from every side.
    """

    habitus: Habitus
    side: int
    gap: Retraction = field(default_factory=Retraction)
    inset: float = 0.0

    widest = -70.0

    @property
    def top(self) -> float:
        """Height of the apex."""
        return self.habitus.apex[self.side > 0] - self.gap.apex - self.inset

    def retraction(self, z: np.ndarray) -> np.ndarray:
        """Return how far the lung's side lies inside the chest wall at heights z, mm."""
        gap = self.gap
        if not gap.sum_cm:
            return np.zeros_like(z)
        height = (z - self.widest) / (self.habitus.apex[self.side > 0] - self.widest)
        base, middle, apex = gap.base, gap.middle, 0.75 * gap.apex
        smooth = np.interp(height, [-0.4, 0.0, 0.25, 0.62, 0.95], [0.8 * base, base, base, middle, apex])
        for size, length, phase in gap.waves:
            smooth = smooth * (1 + size * np.sin(z / length + phase))
        return np.maximum(smooth, 0)

    def borders(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the lateral and the medial border, the half depth and the depth of the middle at heights z."""
        w, scale, top = self.habitus.width, self.habitus.scale, self.top
        tip = 40 * scale
        up = np.clip((z - self.widest) / (top - self.widest), 0, 1)
        low = np.maximum(self.widest - z, 0) / 60
        rounding = 0.3 * (1 - up**1.6) ** (1 / 1.6) + 0.7 * (1 - up**2.1) ** (1 / 2.1)
        lateral = tip + (w - tip) * rounding - 4 * low**2
        lateral = lateral - self.retraction(z) * np.clip(rounding * 2.5, 0, 1) - self.inset
        start = min(62, top - 45)  # from where the apex closes; lower in a lung that has fallen far
        near = np.clip((z - start) / (top - start), 0, 1)
        medial = tip - (tip - 2) * np.sqrt(1 - near**2.2)
        depth = self.habitus.depth * (1 - up**1.9) ** (1 / 1.9) * (1 - 0.06 * low**2) - self.inset
        depth = depth * (1 - 0.05 * self.retraction(z) / w)
        return lateral, medial, np.maximum(depth, 0), -4 - 20 * up**1.6

    def half_depth(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return half the depth and the middle depth of the cavity at (x, z); 0 outside."""
        lateral, medial, depth, middle = self.borders(z)
        across = np.asarray(x) * self.side
        centre = medial + 0.42 * (lateral - medial)
        outer = superellipse(np.clip((across - centre) / np.maximum(lateral - centre, 1e-3), -9, 9), 2.25)
        inner = superellipse(np.clip((centre - across) / np.maximum(centre - medial, 1e-3), -9, 9), 2.1)
        half = depth * np.where(across > centre, outer, inner)
        return np.where(z < self.top, half, 0), middle

    def interval(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return the depths at which rays enter and leave it, (n, n)."""
        x, z = view.plane(-8.0)
        half, middle = self.half_depth(x, z)
        return (middle - half).astype(np.float32), (middle + half).astype(np.float32)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points (n, 3) lie inside."""
        half, middle = self.half_depth(points[:, 0], points[:, 2])
        return np.abs(points[:, 1] - middle) < half


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    tilt: float = 0.0

    def interval(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return the depths at which rays enter and leave it, (n, n)."""
        return ellipsoid(view, self.centre, self.axes, self.tilt)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points (n, 3) lie inside."""
        x, y, z = (points - np.array(self.centre)).T
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        turned = np.stack([cos * x - sin * z, y, sin * x + cos * z]) / np.array(self.axes)[:, None]
        return (turned**2).sum(0) < 1


@dataclass(frozen=True)
class Column:
    """An upright body of elliptical section whose middle and half-widths are given at some heights."""

    heights: tuple[float, ...]  # rising
    x: tuple[float, ...]
    y: tuple[float, ...]
    across: tuple[float, ...]
    deep: tuple[float, ...]

    def _at(self, z: np.ndarray) -> list[np.ndarray]:
        from scipy.interpolate import PchipInterpolator

        values = np.stack([self.x, self.y, self.across, self.deep], axis=1)
        inside = np.clip(z, self.heights[0], self.heights[-1])
        return list(np.moveaxis(PchipInterpolator(self.heights, values)(inside).astype(np.float32), -1, 0))

    def interval(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return the depths at which rays enter and leave it, (n, n)."""
        across, z = view.plane(float(np.mean(self.y)))
        x, y, a, b = self._at(z)
        inside = (z > self.heights[0]) & (z < self.heights[-1])
        half = np.where(inside, b * np.sqrt(np.maximum(1 - ((across - x) / np.maximum(a, 1e-3)) ** 2, 0)), 0)
        return (y - half).astype(np.float32), (y + half).astype(np.float32)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points (n, 3) lie inside."""
        x, y, a, b = self._at(points[:, 2])
        inside = (points[:, 2] > self.heights[0]) & (points[:, 2] < self.heights[-1])
        return inside & (((points[:, 0] - x) / a) ** 2 + ((points[:, 1] - y) / b) ** 2 < 1)


@dataclass(frozen=True)
class Dome:
    """A half of the diaphragm and the belly below it.

    Its surface falls away from the summit to all sides, steeply toward the ribs, so that behind and beside it the lung
    reaches further down: the costophrenic recesses.
    """

    habitus: Habitus
    side: int
    lowered: float = 0.0

    def _shares(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, float]:
        habitus, scale = self.habitus, self.habitus.scale
        summit, height = habitus.dome[self.side > 0] - self.lowered, habitus.dome_height[self.side > 0]
        across = np.asarray(x) * self.side - 66 * scale
        lateral = np.maximum(habitus.width - 66 * scale, 30) * 1.02
        fall = np.where(across > 0, np.abs(across / lateral) ** 2.6, 0.22 * np.abs(across / (70 * scale)) ** 2.0)
        return (summit - z) / height - fall, 0.93 * habitus.depth

    def interval(self, view: View) -> tuple[np.ndarray, np.ndarray]:
        """Return the depths between which a ray runs below the diaphragm, (n, n)."""
        left, deep = self._shares(*view.plane(12.0))
        half = deep * np.maximum(left, 0) ** (1 / 2.4)
        return (12 - half).astype(np.float32), (12 + half).astype(np.float32)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return whether points (n, 3) lie below the diaphragm."""
        left, deep = self._shares(points[:, 0], points[:, 2])
        return np.abs(points[:, 1] - 12) < deep * np.maximum(left, 0) ** (1 / 2.4)


def mediastinum(habitus: Habitus, push: float = 0.0) -> list[Ellipsoid | Column]:
    """Return heart, great vessels, spine and the tissue between the lungs; they overlap.

    Parameters
    ----------
    habitus : Habitus
    push : float
        Shift of heart and vessels to the patient's left, mm.
    """
    h, s, a = habitus.heart, habitus.scale, habitus.aorta
    base = 0.35 * (habitus.dome[0] + 84)  # a deep breath lowers the heart and makes it upright
    tilt, p = habitus.heart_tilt, push
    old = np.clip((habitus.age - 45) / 40, 0, 1)
    left = Ellipsoid((30 * h * s + p, 22, -62 + base), (52 * h * s, 56 * h, 74 * h * s), tilt=np.pi - tilt)
    right = Ellipsoid((-13 * h * s + p, 16, -56 + base), (40 * h * s, 52 * h, 56 * h * s), tilt=0.10)
    basis = Ellipsoid((8 * h * s + p, 10, -28 + base), (42 * h * s, 50 * h, 46 * h * s), tilt=0.35)
    floor = Ellipsoid((10 * h * s + p, 22, -96 + base), (62 * h * s, 52 * h, 26), tilt=0.08)
    trunk = Ellipsoid((17 * s + p, 12, 16), (22 * s, 28, 36), tilt=-0.25)
    appendage = Ellipsoid((30 * h * s + p, 10, -16), (20 * s, 20, 30), tilt=-0.45)
    knob = Ellipsoid((14 * s + p + 4 * old, -12, 52), (16.5 * a * s, 27 * a, 19 * a), tilt=0.25)
    ascending = Column((-20.0, 15.0, 45.0, 62.0), (-8 + p, -16 + p - 5 * old, -13 + p, -4 + p), (22,) * 4,
                       (14 * a, 15 * a, 14 * a, 5.0), (16 * a, 16 * a, 15 * a, 6.0))  # fmt: skip
    cava = Column((-30.0, 10.0, 60.0, 112.0), (-20 * s + p, -23 * s + p, -20 * s + p, -17 * s + p), (8,) * 4,
                  (10.0, 10.0, 9.0, 10.0), (10.0, 10.0, 9.0, 9.0))  # fmt: skip
    descending = Column((-190.0, -60.0, 10.0, 56.0), (7 + p, 14 + 3 * old + p, 22 * s + 3 * old + p, 20 * s + p),
                        (-38.0,) * 4, (11 * a, 12 * a, 12.5 * a, 12 * a), (12 * a,) * 4)  # fmt: skip
    upper = Column((-15.0, 30.0, 62.0, 90.0, 112.0, 130.0, 200.0), (1 + p, p, 0.5 * p, 0, 0, 0, 0),
                   (0, -5, -10, -14, -20, -22, -22), (18 * s, 17 * s, 18 * s, 20 * s, 24 * s, 29 * s, 38 * s),
                   (34, 34, 33, 32, 30, 32, 34))  # fmt: skip
    spine = Column((-200.0, -80.0, 40.0, 200.0), (0,) * 4, (-63, -62, -58, -50), (23, 20, 16.5, 17), (27, 26, 24, 26))
    beside = Column(
        (-200.0, -80.0, 40.0, 110.0), (2, 3, 3, 0), (-66, -65, -61, -54), (38, 33, 28, 24), (17, 16, 14, 12)
    )
    front = Ellipsoid((12 * s + p, 62, -58 + base), (44 * s, 34, 62))
    thymus = Ellipsoid((1 * s + 0.5 * p, 42, 32), (19 * s, 34, 58))
    hila = [Ellipsoid((-29 * s + p, -10, -6), (12 * s, 8, 27), tilt=0.22),
            Ellipsoid((33 * s + p, -12, 6), (12 * s, 8, 20), tilt=-0.2)]  # fmt: skip
    vessels = [trunk, appendage, knob, ascending, cava, descending]
    return [left, right, basis, floor, *vessels, *hila, upper, spine, beside, front, thymus]


def body_outline(habitus: Habitus, z: np.ndarray, fat: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return half the width and half the depth of the body at heights z, with or without its fat, mm."""
    from scipy.interpolate import PchipInterpolator

    s, trunk = habitus.scale, habitus.width + habitus.wall
    heights = np.array([-260, -120, -40, 20, 45, 62, 85, 105, 122, 136, 148, 158, 170, 190, 260])
    axilla = trunk + 8
    widths = np.array([trunk * 0.97, trunk, trunk + 2, axilla, axilla + 10, axilla + 26, 205 * s, 203 * s, 192 * s,
                       168 * s, 133 * s, 98 * s, 70 * s, 60 * s, 60 * s])  # fmt: skip
    deep = habitus.depth + 0.75 * habitus.wall
    depths = np.array([deep + 4, deep + 6, deep + 4, deep, deep - 3, deep - 7, deep - 15, deep - 25, deep - 35,
                       0.7 * (deep - 44) + 0.3 * 56, 0.3 * (deep - 48) + 0.7 * 56, 56, 55, 54, 54])  # fmt: skip
    extra = (habitus.fat if fat else 0.0) * PchipInterpolator([-260, 0, 110, 170, 260], [1.1, 1.0, 0.7, 0.4, 0.4])(z)
    z = np.clip(z, heights[0], heights[-1])
    return PchipInterpolator(heights, widths)(z) + extra, PchipInterpolator(heights, depths)(z) + extra


def body_chord(view: View, habitus: Habitus, fat: bool) -> np.ndarray:
    """Return the length of each ray in the body, (n, n) mm."""
    x, z = view.plane(-5.0)
    width, depth = body_outline(habitus, z, fat)
    return (2 * depth * superellipse(np.clip(x / width, -9, 9), 2.6)).astype(np.float32)


def airways(habitus: Habitus, push: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the centre lines (n, 3) and radii (n,) of trachea and main bronchi."""
    s, p = habitus.scale, push
    trachea = np.array([(0, -22, 200), (0, -24, 120), (-2 + 0.5 * p, -26, 70), (-2 + p, -30, 34)])
    right = np.array([(-2 + p, -30, 35), (-14 * s + p, -33, 19), (-27 * s + p, -36, 2), (-34 * s + p, -38, -14)])
    left = np.array([(-2 + p, -30, 35), (14 * s + p, -33, 22), (32 * s + p, -37, 9), (44 * s + p, -40, -4)])
    return [(trachea, np.array([9.2, 9.2, 9.4, 9.8])), (right, np.array([7.4, 7.0, 6.0, 5.0])),
            (left, np.array([7.0, 6.4, 5.4, 4.6]))]  # fmt: skip


def lung_of(cavity: Hemithorax, gap: Retraction, inset: float = 0.0) -> Hemithorax:
    """Return the lung that has left a gap to its cavity's wall."""
    return replace(cavity, gap=gap, inset=inset)
