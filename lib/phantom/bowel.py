"""The gut: stomach, duodenum, small bowel and colon, which fill the front of the abdomen."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Wobble, grow, unit_circle
from lib.phantom.tissues import CHYME, Tissue
from lib.phantom.vessels import Vessels

_CIRCLE = unit_circle(44)
_POLAR = np.arctan2(_CIRCLE[:, 1], _CIRCLE[:, 0])
_STEP = 2.8  # mm between neighbouring spheres of a tube
_HAUSTRUM = 12  # spheres from one narrow place of the colon to the next
COLLAPSED = Tissue.BOWEL_WALL  # a filling: none


class Gut:
    """A part of the gut: spheres along a path, each with a filling; a plane cuts them into discs that merge.

    Parameters
    ----------
    stations : float array (k, 3)
        Points through which the path runs, mm.
    radius : float array (k,)
        Outer radius at the stations, mm. It is smoothed along the path, and multiplied by 0.55 where the gut is
        collapsed.
    filling : sequence of int (k,)
        Paint code from each station to the next; `COLLAPSED` for none.
    gas : float array (k,)
        Share of the height, from the front, that gas fills, from each station to the next.
    wall : float
        Thickness of the wall, mm.
    folds : tuple of int and float
        Number of spheres from one fold of the wall to the next, and the height of the folds as a share of the radius of
        the lumen (0: no folds). Folds are visible where the path runs within the plane.
    haustra : float
        Depth of the constrictions of the colon, relative to its radius.
    specks : float array (m, 4), optional
        Gas bubbles in stool: place along the path (0 to 1), x and y within the lumen (-1 to 1), relative radius.
    """

    def __init__(self, stations, radius, filling, gas, wall, folds=(1, 0.0), haustra=0.0, specks=()):
        count = len(stations)
        fine = CubicSpline(np.arange(count), stations)(np.linspace(0, count - 1, 12 * count))
        travelled = np.append(0, np.cumsum(np.hypot.reduce(np.diff(fine, axis=0), axis=1)))
        n = max(int(travelled[-1] / _STEP), 2)
        along = np.linspace(0, travelled[-1], n)
        self.path = np.stack([np.interp(along, travelled, axis) for axis in fine.T], axis=1)
        place = np.interp(along, travelled, np.linspace(0, count - 1, len(fine)))  # in stations
        station = place.astype(int)
        self.filling = np.asarray(filling)[station]
        empty = self.filling == COLLAPSED
        width = np.interp(place, np.arange(count), radius)
        width = np.convolve(np.pad(width * np.where(empty, 0.55, 1.0), 3, "edge"), np.full(7, 1 / 7), "valid")
        self.radius = width * (1 - haustra * np.cos(np.pi * np.arange(n) / _HAUSTRUM) ** 2)
        self.lumen = np.where(empty, 0.0, np.maximum(self.radius - wall, 0.0))
        tangent = np.gradient(self.path, axis=0)
        tangent /= np.hypot.reduce(tangent, axis=1)[:, None]
        every, self.fold_depth = folds
        self.normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        self.lies = np.hypot.reduce(self.normal, axis=1)  # cosine of the angle between path and plane
        self.folded = (self.lies > 0.75) & ~empty & (np.arange(n) % every == 0) & (self.fold_depth > 0)
        self.gas = np.asarray(gas, float)[station] * ~empty
        self.pockets = np.append(0, np.flatnonzero(np.diff(self.gas)) + 1)  # where the gas changes
        self.specks = [(int(s * (n - 1)), x, y, size) for s, x, y, size in specks]

    def section(self, z: float, extra: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the spheres that the plane at height z cuts, int (n,), and the radii of the discs, mm."""
        square = (self.radius + extra) ** 2 - (self.path[:, 2] - z) ** 2
        cut = np.flatnonzero(square > 1.0)
        return cut, np.sqrt(square[cut])

    def paint_outside(self, canvas: Canvas, z: float, code: int, extra: float = 0.0) -> None:
        """Paint the whole section at height z with one code: the wall, or with `extra` mm the fat around it."""
        for k, half in zip(*self.section(z, extra), strict=True):
            canvas.ellipse(*self.path[k, :2], half, half, code)

    def paint_inside(self, canvas: Canvas, z: float) -> None:
        """Paint the filling at height z."""
        square = self.lumen**2 - (self.path[:, 2] - z) ** 2
        cut = np.flatnonzero(square > 1.0)
        half = np.sqrt(square[cut])
        for k, r in zip(cut, half, strict=True):
            canvas.ellipse(*self.path[k, :2], r, r, self.filling[k])
        for k, x, y, size in self.specks:
            if square[k] > 4.0 and self.filling[k] == Tissue.STOOL:
                reach = np.sqrt(square[k])
                canvas.ellipse(*(self.path[k, :2] + 0.7 * reach * np.array([x, y])), size * reach, 0.8 * size * reach,
                               Tissue.BOWEL_GAS)  # fmt: skip
        if (self.gas[cut] > 0).any():
            level = self._levels(canvas.down)
            for k, r in zip(cut, half, strict=True):
                if self.gas[k] > 0:
                    paint_gas(canvas, self.path[k, :2] + _CIRCLE * (r + 0.2), level[k])
        for k in cut[self.folded[cut]]:
            # A tube that lies obliquely is wider in the plane than the disc of its sphere.
            wide = np.sqrt(self.lumen[k] ** 2 - (self.lies[k] * (self.path[k, 2] - z)) ** 2) / self.lies[k]
            for ends in (1.05, 1 - self.fold_depth), (-1.05, self.fold_depth - 1):
                across = wide * np.array(ends)[:, None] * self.normal[k]
                canvas.line(self.path[k, :2] + across, 1.1, Tissue.BOWEL_WALL)

    def _levels(self, down: np.ndarray) -> np.ndarray:
        """Return the level of the fluid along the path, mm toward `down`; each pocket of gas has a single level."""
        depth = self.path[:, :2] @ down
        front = np.minimum.reduceat(depth - self.lumen, self.pockets)
        back = np.maximum.reduceat(depth + self.lumen, self.pockets)
        level = front + self.gas[self.pockets] * (back - front)
        return np.repeat(level, np.diff(np.append(self.pockets, len(depth))))


def paint_gas(canvas: Canvas, contour: np.ndarray, level: float) -> None:
    """Paint gas in the part of a contour, float (n, 2), that is above a level, which gravity keeps flat."""
    depth = contour @ canvas.down
    if depth.min() < level:
        canvas.polygon(contour - np.maximum(depth - level, 0)[:, None] * canvas.down, Tissue.BOWEL_GAS)


class Sac:
    """A part of the stomach: a bent ellipsoid.

    Parameters
    ----------
    rng : numpy.random.Generator
    centre, half : tuple of float
        Centre x, y, z, and semi-axes along the sac, across it, and in z, mm.
    angle : float
        Direction of the sac within the plane, radians.
    filling : Tissue
    wall : float
        Thickness of the wall, mm.
    """

    def __init__(self, rng, centre, half, angle, filling, wall):
        self.centre, self.half, self.angle = np.asarray(centre, float), half, angle
        self.filling, self.wall = filling, wall
        self.wobble = Wobble(rng, 0.055, (2, 3, 4, 5, 6), drift=0.05)
        self.rugae = Wobble(rng, 0.03, (9, 11, 13, 16), drift=0.25)
        self.bend = float(np.clip(rng.normal(0, 0.28), -0.5, 0.5))
        self.lean = rng.normal(0, 0.35, 2)

    def outline(self, z: float) -> np.ndarray:
        """Return the outer contour at height z, float (44, 2), or (0, 2) above and below the sac."""
        u = (z - self.centre[2]) / self.half[2]
        if not -0.98 < u < 0.98:
            return np.empty((0, 2))
        size = (1 - abs(u) ** 2.4) ** 0.5
        axes = self.half[0] * (0.45 + 0.55 * size) * size**0.5, self.half[1] * size
        shape = _CIRCLE * self.wobble(_POLAR, z)[:, None] * axes
        shape[:, 1] += self.bend * (shape[:, 0] ** 2 / self.half[0] - self.half[0] * 0.3)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return shape @ np.array([[c, s], [-s, c]]) + self.centre[:2] + self.lean * (z - self.centre[2])

    def paint(self, canvas: Canvas, z: float, level: float) -> None:
        """Paint fat plane, wall, filling, and the gas above a level, mm toward `canvas.down`."""
        outline = self.outline(z)
        if not len(outline):
            return
        canvas.polygon(grow(outline, 2.2), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.BOWEL_WALL)
        lumen = grow(outline, -self.wall)
        if np.ptp(lumen[:, 0]) < 3 or np.ptp(lumen[:, 1]) < 3:
            return
        middle = lumen.mean(0)
        lumen = middle + (lumen - middle) * np.minimum(self.rugae(_POLAR, z), 1.12)[:, None]
        canvas.polygon(lumen, self.filling)
        paint_gas(canvas, lumen, level)


class Bowel:
    """The gut of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    trunk : Trunk
    vessels : Vessels
        They contain the mesenteric root, around which the loops lie.

    Notes
    -----
    Three patients in ten have positive oral contrast, in every phase.
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk, vessels: Vessels):
        self.trunk = trunk
        self.width = trunk.half_width - trunk.fat_side - trunk.wall
        self.depth = trunk.front - trunk.fat_front
        self.oral = rng.random() < 0.3
        places = self._places(rng, vessels)
        ways = walks(places, np.array([20.0, -45.0, 20.0]))
        self.small = [*self._small_bowel(rng, places, ways), self._duodenum(rng, vessels)]
        self.colon = self._colon(rng)
        self.stomach = self._stomach(rng)
        heights = np.linspace(-0.9, 0.9, 7)
        self.stomach_wall = np.concatenate(
            [sac.outline(sac.centre[2] + u * sac.half[2]) for sac in self.stomach for u in heights]
        )
        self.stomach_gas = rng.uniform(0.08, 0.40)  # share of its height, front to back
        self.branches = vessels.mesenteric_branches(rng, places[np.concatenate([*ways, np.empty(0, int)])])

    def paint_small(self, canvas: Canvas, z: float) -> None:
        """Paint mesenteric vessels, small bowel and duodenum at height z. Loops that touch share a wall."""
        for branch in self.branches:
            branch.paint(canvas, z)
        self._paint(canvas, z, self.small, halo=0.8)

    def paint_large(self, canvas: Canvas, z: float) -> None:
        """Paint colon and stomach at height z."""
        self._paint(canvas, z, self.colon, halo=2.0)
        depth = self.stomach_wall @ canvas.down
        level = depth.min() + self.stomach_gas * np.ptp(depth)  # one cavity, one level of fluid
        for sac in self.stomach:
            sac.paint(canvas, z, level)

    @staticmethod
    def _paint(canvas: Canvas, z: float, stretches: list[Gut], halo: float) -> None:
        for stretch in stretches:
            stretch.paint_outside(canvas, z, Tissue.VISCERAL_FAT, halo)
        for stretch in stretches:
            stretch.paint_outside(canvas, z, Tissue.BOWEL_WALL)
        for stretch in stretches:
            stretch.paint_inside(canvas, z)

    def _places(self, rng: np.random.Generator, vessels: Vessels) -> np.ndarray:
        """Draw the places of the small bowel, float (n, 3).

        They are spread evenly in the available space, further apart if there is much fat, and do not cover the
        mesenteric vessels.
        """
        width, depth, middle = self.width, self.depth, self.trunk.centre_y
        step = rng.uniform(23, 26) + 5 * self.trunk.fat_in_belly
        grid = np.meshgrid(np.arange(-width, width, step), np.arange(-depth, -18, 0.9 * step), np.arange(-115, 45, 23))
        places = np.stack(grid, -1).reshape(-1, 3)
        places = places + rng.normal(0, 6, places.shape)
        x, y = np.abs(places[:, 0]), places[:, 1]
        edge = (x / (width - 6)) ** 2.2 + (np.abs(y - middle) / (depth + middle - 4)) ** 2.2
        clear = np.ones(len(places), bool)
        for vessel in (vessels.sma, vessels.smv, *vessels.covered):
            clear &= cKDTree(vessel.path).query(places)[0] > 14 + 2 * vessel.radius.max()
        return places[(edge < 0.88) & clear & ~((y > -48) & (x < 42)) & ~((y > -40) & (x > 36))]

    def _small_bowel(self, rng: np.random.Generator, places: np.ndarray, ways: list[np.ndarray]) -> list[Gut]:
        stretches = []
        for walk in ways:
            count, held = len(walk), runs(rng, len(walk), 0.35)
            kind, filling = rng.random(count)[held], rng.choice(CHYME, count)[held]
            filling[kind < 0.8 * self.oral] = Tissue.ORAL_CONTRAST
            filling[kind < 0.30] = COLLAPSED
            gas = np.where(kind > 0.92, 0.15 + 4 * (kind - 0.92), 0.0)
            jejunum = places[walk, 0].mean() > -10
            folds = (2, 0.32) if jejunum else (5, 0.18)
            stretches.append(
                Gut(places[walk], rng.uniform(11, 14.5, count), filling, gas, rng.uniform(1.6, 2.4), folds=folds)
            )
        return stretches

    def _colon(self, rng: np.random.Generator) -> list[Gut]:
        """Draw the colon from caecum to sigmoid: up the right flank, across the front, and down the left flank."""
        width, depth, middle = self.width, self.depth, self.trunk.centre_y
        level, sag = rng.normal(-8, 20), rng.uniform(12, 40)
        right = [(-(width - 23), -32 - 0.2 * max(z, 0), z) for z in np.arange(-125, 24, 21)]
        across = []
        for x in np.linspace(-width * 0.66, width * 0.70, 9):  # hangs down in the middle
            front = middle - (depth + middle) * np.sqrt(max(1 - (abs(x) / width) ** 2.2, 0.05))
            rise = 22 * (x / width) + 34 * max(x / width, 0) ** 3
            across.append((x, front + rng.uniform(21, 29), level + rise - sag * (1 - (x / width) ** 2)))
        left = [(width - 19, -24 - 0.4 * max(z, 0), z) for z in np.arange(46, -126, -21)]
        stations = np.array([*right, *across, *left])
        stations = stations + rng.normal(0, 3.5, stations.shape)
        n, parts = len(stations), (len(right), len(across), len(left))
        radius = np.repeat([20.0, 19.0, 14.5], parts) * rng.lognormal(0, 0.10) * rng.lognormal(0, 0.07, n)
        kind = rng.random(n)[runs(rng, n, 0.45)]
        filling = np.where(kind > 0.82, COLLAPSED, Tissue.STOOL)
        gas = np.where(kind < 0.35, 0.55 + kind, np.where(kind < 0.55, kind - 0.2, 0.0))
        specks = rng.uniform((0, -0.8, -0.8, 0.06), (1, 0.8, 0.8, 0.20), (900, 4))
        folds = (_HAUSTRUM, 0.25)
        return [Gut(stations, radius, filling, gas, 2.0, folds=folds, haustra=0.30, specks=specks)]

    def _stomach(self, rng: np.random.Generator) -> list[Sac]:
        filling = Tissue.ORAL_CONTRAST if self.oral else Tissue.BOWEL_FLUID
        front, z = -self.depth * 0.62, rng.normal(48, 9)
        half = (rng.uniform(38, 54), rng.uniform(25, 36), 48)
        body = Sac(rng, (self.width * 0.36, front, z + 12), half, 0.35, filling, 4.5)
        behind = (self.width * 0.48, 0.55 * front, z + 40)
        fundus = Sac(rng, behind, (rng.uniform(30, 42), rng.uniform(26, 36), 42), 0.9, filling, 4.5)
        antrum = Sac(rng, (-8, front - 10, z - 18), (34, 17, 22), -0.15, filling, 5.5)
        return [antrum, fundus, body]

    def _duodenum(self, rng: np.random.Generator, vessels: Vessels) -> Gut:
        """Draw the duodenum: down the right side of the pancreatic head, then between aorta and mesenteric artery."""
        low, top = vessels.join[2] - rng.uniform(38, 52), vessels.join[2] + 15
        depth, front = vessels.join[1] + 6, vessels.aorta_centre(low)[1] - vessels.aorta_radius - 8
        down = [(-47 + rng.normal(0, 2), depth, z) for z in np.linspace(top, low + 8, 5)]
        stations = [*down, (-36, 0.5 * (depth + front), low), (-12, front, low), (14, front - 1, low + 5),
                    (26, front - 8, low + 18)]  # fmt: skip
        radius = np.append(np.full(5, 11.5), [10.0, 8.0, 8.5, 10.0]) * rng.lognormal(0, 0.08)
        kind = rng.random(9)[runs(rng, 9, 0.5)]
        filling = np.where(kind < 0.25, COLLAPSED, Tissue.BOWEL_FLUID)
        gas = np.where((kind > 0.75) & (np.arange(9) < 5), 0.35, 0.0)
        return Gut(stations, radius, filling, gas, 2.4, folds=(2, 0.22))


def walks(places: np.ndarray, start: np.ndarray, reach: float = 46.0) -> list[np.ndarray]:
    """Return paths from neighbour to neighbour that visit no place twice, each an int array of at least three."""
    free, here = np.ones(len(places), bool), start
    walks, walk = [], []
    while free.any():
        # Loops lie in sheets: a step along the body's axis costs more than one in the plane.
        far = np.hypot.reduce((places - here) * (1, 1, 1.25), axis=1) + np.where(free, 0, np.inf)
        k = int(far.argmin())
        if walk and far[k] > reach:
            walks.append(np.array(walk))
            walk = []
        walk.append(k)
        free[k], here = False, places[k]
    walks.append(np.array(walk))
    return [walk for walk in walks if len(walk) >= 3]


def runs(rng: np.random.Generator, n: int, change: float) -> np.ndarray:
    """Return for each of n stations an index: its own with the probability `change`, else that of the station before.

    Returns
    -------
    int array (n,)
        Indices into an array of n values.
    """
    fresh = rng.random(n) < change
    fresh[:1] = True
    return np.maximum.accumulate(np.where(fresh, np.arange(n), 0))
