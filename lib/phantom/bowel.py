"""The gut: stomach, duodenum, small bowel and colon, loops that fill the front of the abdomen."""

import numpy as np

from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Wobble, grow, unit_circle
from lib.phantom.tissues import CHYME, Tissue
from lib.phantom.vessels import Vessels

_CIRCLE = unit_circle(44)
_POLAR = np.arctan2(_CIRCLE[:, 1], _CIRCLE[:, 0])


class Loop:
    """A piece of hollow gut: a bent ellipsoid with a wall and a filling.

    Parameters
    ----------
    rng : numpy.random.Generator
    centre : tuple of float
        x, y, z in mm.
    half : tuple of float
        Semi-axes along its course, across it, and in z, mm.
    angle : float
        Course within the plane, radians.
    filling : Tissue
    wall : float
        Thickness of the wall, mm.
    gas : float
        Share of the depth, from the front, that is filled by gas; 0 for none.
    folds : float
        Height of the mucosal folds relative to the radius.
    """

    def __init__(self, rng, centre, half, angle, filling, wall, gas=0.0, folds=0.0, halo=1.3):
        self.centre, self.half, self.angle = np.asarray(centre, float), half, angle
        self.z = float(centre[2])
        self.filling, self.wall, self.gas, self.folds, self.halo = filling, wall, gas, folds, halo
        self.wobble = Wobble(rng, 0.055, (2, 3, 4, 5, 6), drift=0.05)
        self.bend = float(np.clip(rng.normal(0, 0.28), -0.5, 0.5))
        self.lean = rng.normal(0, 0.35, 2)
        self.crypts = Wobble(rng, folds, (9, 11, 13, 16), drift=0.25) if folds else None
        self.specks = rng.uniform((-0.75, -0.75, 0.05), (0.75, 0.75, 0.16), (16, 3)) if filling == Tissue.STOOL else ()

    def outline(self, z: float) -> np.ndarray | None:
        """Return the outer contour at height z, or None where the loop is not there."""
        u = (z - self.z) / self.half[2]
        if not -0.98 < u < 0.98:
            return None
        size = (1 - abs(u) ** 2.4) ** 0.5
        shape = (
            _CIRCLE
            * self.wobble(_POLAR, z)[:, None]
            * (self.half[0] * (0.45 + 0.55 * size) * size**0.5, self.half[1] * size)
        )
        shape[:, 1] += self.bend * (shape[:, 0] ** 2 / self.half[0] - self.half[0] * 0.3)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return shape @ np.array([[c, s], [-s, c]]) + self.centre[:2] + self.lean * (z - self.centre[2])

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint fat plane, wall and filling at height z."""
        outline = self.outline(z)
        if outline is None:
            return
        canvas.polygon(grow(outline, self.halo), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.BOWEL_WALL)
        lumen = grow(outline, -self.wall)
        if np.ptp(lumen[:, 0]) < 3 or np.ptp(lumen[:, 1]) < 3 or self.filling == Tissue.BOWEL_WALL:
            return
        middle = lumen.mean(0)
        if self.crypts is not None:
            lumen = middle + (lumen - middle) * np.minimum(self.crypts(_POLAR, z), 1.12)[:, None]
        canvas.polygon(lumen, self.filling)
        for x, y, size in self.specks:  # gas in stool
            radius = size * self.half[1]
            at = middle + (x, y) * (lumen.max(0) - lumen.min(0)) * 0.42
            drift = 0.35 * np.array([np.sin(9 * x + z / 3), np.cos(8 * y + z / 4)]) * radius
            canvas.ellipse(*(at + drift), radius, 0.8 * radius, Tissue.BOWEL_GAS)
        if self.gas > 0:  # gas lies in front, with a level
            level = lumen[:, 1].min() + self.gas * np.ptp(lumen[:, 1])
            above = lumen.copy()
            above[:, 1] = np.minimum(above[:, 1], level)
            canvas.polygon(above, Tissue.BOWEL_GAS)


class Bowel:
    """The gut of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    trunk : Trunk
    vessels : Vessels
        The mesenteric root, round which the loops lie.

    Notes
    -----
    Three patients in ten drank a positive contrast medium, whatever the phase.
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk, vessels: Vessels):
        self.trunk = trunk
        self.width = trunk.half_width - trunk.fat_side - trunk.wall
        self.depth = trunk.front - trunk.fat_front
        self.oral = rng.random() < 0.3
        self.small = self._small_bowel(rng)
        self.large = self._colon(rng) + self._stomach(rng)
        self.branches = vessels.mesenteric_branches(rng, np.array([self.width, self.depth]))
        self.duodenum = self._duodenum(rng, vessels)

    def paint_small(self, canvas: Canvas, z: float) -> None:
        """Paint mesenteric vessels, small bowel and duodenum at height z."""
        for piece in (*self.branches, *self.small, *self.duodenum):
            piece.paint(canvas, z)

    def paint_large(self, canvas: Canvas, z: float) -> None:
        """Paint colon and stomach at height z."""
        for loop in self.large:
            loop.paint(canvas, z)

    def _small_bowel(self, rng: np.random.Generator) -> list[Loop]:
        """Place loops on a jittered grid in space; a fat belly has them further apart."""
        loops, width, depth, middle = [], self.width, self.depth, self.trunk.centre_y
        step = rng.uniform(26, 30) + 7 * self.trunk.fat_in_belly
        places = np.stack(
            np.meshgrid(np.arange(-width, width, step), np.arange(-depth, -18, 0.9 * step), np.arange(-110, 40, 22)), -1
        )
        for at in places.reshape(-1, 3) + rng.normal(0, 5, (places.size // 3, 3)):
            edge = (abs(at[0]) / (width - 8)) ** 2.2 + (abs(at[1] - middle) / (depth + middle - 6)) ** 2.2
            before_spine, before_kidney = at[1] > -48 and abs(at[0]) < 42, at[1] > -40 and abs(at[0]) > 36
            if edge > 0.90 or before_spine or before_kidney:
                continue
            radius, kind = rng.uniform(10, 14), rng.random()
            if kind < 0.30:
                filling = Tissue.BOWEL_WALL  # collapsed
            elif self.oral and kind < 0.8:
                filling = Tissue.ORAL_CONTRAST
            else:
                filling = CHYME[int(rng.integers(len(CHYME)))]
            loop = Loop(
                rng,
                at,
                (radius * rng.uniform(1.1, 2.0), radius, rng.uniform(17, 24)),
                rng.uniform(0, np.pi),
                filling,
                wall=rng.uniform(1.5, 2.6),
                gas=rng.uniform(0.15, 0.5) if kind > 0.92 else 0.0,
                folds=0.13 if at[0] > 0 else 0.0,  # jejunum on the left
                halo=rng.uniform(0.3, 1.7),
            )
            loops.append(loop)
        return [loops[k] for k in rng.permutation(len(loops))]

    def _colon(self, rng: np.random.Generator) -> list[Loop]:
        width, depth, middle = self.width, self.depth, self.trunk.centre_y
        pieces = []  # centre, half axes, course
        for z in np.arange(-110, 50, 17):
            wander, size = rng.normal(0, 3, 4), rng.uniform((14, 11), (21, 17))
            if z < 25:  # ascending
                at = (-(width - 24) + wander[0], -22 + wander[1] - 0.2 * max(z, 0), z)
                pieces.append((at, (size[0] * 1.1, size[0], 15), 1.4))
            at = (width - 20 + wander[2], -14 + wander[3] - 0.5 * max(z, 0), z)
            pieces.append((at, (size[1] * 1.1, size[1], 15), 1.2))
        level = rng.normal(-12, 22)
        for x in np.linspace(-width * 0.62, width * 0.66, 7):  # transverse, hanging down in the middle
            sag = 26 * (1 - (x / width) ** 2)
            front = middle - (depth + middle) * np.sqrt(max(1 - (abs(x) / width) ** 2.2, 0.05))
            size = rng.uniform(15, 20)
            at = (x, front + size + 6 + rng.normal(0, 2), level - sag + rng.normal(0, 3))
            pieces.append((at, (size * 1.35, size, rng.uniform(18, 24)), rng.normal(0, 0.2)))
        return [self._colon_piece(rng, *piece) for piece in pieces]

    def _colon_piece(self, rng: np.random.Generator, at: tuple, half: tuple, angle: float) -> Loop:
        kind = rng.random()
        if kind > 0.8:  # collapsed
            return Loop(rng, at, (half[0] * 0.6, half[1] * 0.6, half[2]), angle, Tissue.BOWEL_WALL, wall=3.0, halo=2.0)
        gas = rng.uniform(-0.3, 0.4) if kind < 0.45 else rng.uniform(0.5, 0.95)
        return Loop(rng, at, half, angle, Tissue.STOOL, wall=2.0, gas=gas if gas > 0.12 else 0.0, halo=2.0)

    def _stomach(self, rng: np.random.Generator) -> list[Loop]:
        filling = Tissue.ORAL_CONTRAST if self.oral else Tissue.BOWEL_FLUID
        front, z = -self.depth * 0.62, rng.normal(48, 9)
        half = (rng.uniform(38, 52), rng.uniform(24, 32), 46)
        at = (self.width * 0.36, front, z + 12)
        body = Loop(rng, at, half, 0.35, filling, wall=4.5, gas=rng.uniform(0.2, 0.5), folds=0.03, halo=2.2)
        gas = rng.uniform(0.12, 0.3)
        antrum = Loop(
            rng, (-8, front - 2, z - 18), (34, 17, 22), -0.15, filling, wall=5.5, gas=gas, folds=0.03, halo=2.2
        )
        return [antrum, body]

    def _duodenum(self, rng: np.random.Generator, vessels: Vessels) -> list[Loop]:
        """Place the descending part right of the pancreatic head, and the third part between aorta and artery."""
        level = vessels.join[2] - rng.uniform(38, 52)
        loops = []
        for z in np.arange(level, vessels.join[2] + 30, 16):
            at, gas = (-47 + rng.normal(0, 2), vessels.join[1] + 6, z), float(rng.choice([0, 0, 0.35]))
            loops.append(Loop(rng, at, (13, 11, 15), 1.3, Tissue.BOWEL_FLUID, wall=2.8, gas=gas, folds=0.06))
        at = (-12, vessels.aorta_centre(level)[1] - vessels.aorta_radius - 8, level)
        across = Loop(rng, at, (34, 8, 11), 0.0, Tissue.BOWEL_FLUID, wall=2.6, folds=0.06)
        across.bend, across.lean = 0.05, np.zeros(2)
        return [*loops, across]
