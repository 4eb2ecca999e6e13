"""Liver, gallbladder, spleen, pancreas, adrenals, stomach, colon and the small bowel that fills the front of the abdomen."""

import numpy as np

from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Wave, Wobble, grow, ribbon, smooth_closed, smooth_open, unit_circle
from lib.phantom.tissues import CHYME, Tissue
from lib.phantom.vessels import Tube, Vessels

# Depth of the liver (mm) along its span from the back of the right flank to the front: two lobes and a fissure.
_LIVER_PROFILE = (
    [0, 0.01, 0.04, 0.1, 0.22, 0.4, 0.55, 0.66, 0.70, 0.74, 0.86, 0.94, 0.98, 1],
    [0, 12, 26, 44, 66, 82, 77, 68, 56, 60, 50, 36, 20, 0],
)
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


class Abdomen:
    """The organs of the belly of one patient, fitted to its trunk."""

    def __init__(self, rng: np.random.Generator, trunk: Trunk, vessels: Vessels):
        self.trunk = trunk
        self.liver_tip = float(np.clip(rng.normal(-38, 22), -85, 5))
        self.liver_reach = rng.uniform(0.85, 1.15)
        self.liver_depth = rng.uniform(0.88, 1.12)
        self.liver_wobble = Wobble(rng, 0.08, (3, 4, 5, 7, 9), drift=0.02)
        self.spleen_tip = float(np.clip(rng.normal(0, 18), -40, 35))
        self.spleen_size = float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.4))
        self.gallbladder = rng.random() < 0.82
        self.gallbladder_z, self.gallbladder_r = rng.normal(-5, 10), rng.uniform(9, 15)
        self.liver_vessels = rng.uniform((0.05, 0.2, -60, -1, -1), (0.95, 0.9, 100, 1, 1), (60, 5))
        self.stomach_z = rng.normal(48, 9)
        width, depth = trunk.half_width - trunk.fat_side - trunk.wall, trunk.front - trunk.fat_front
        self.width, self.depth = width, depth
        oral = rng.random() < 0.3
        self.loops = self._small_bowel(rng, width, depth, oral)
        self.colon = self._colon(rng, width, depth, oral)
        self.stomach = self._stomach(rng, width, depth, oral)
        self.branches = vessels.mesenteric_branches(rng, np.array([width, depth]))
        self.pancreas_z = float(vessels.join[2] + rng.normal(8, 4))
        self.pancreas_size = rng.uniform(0.85, 1.15)
        self.pancreas_wobble = rng.normal(0, 1, (3, 26))
        self.join = vessels.join
        self.duodenum = self._duodenum(rng, vessels)
        self.adrenal_turn = rng.normal(0, 0.12, 2)

    # Painting order: gut, then solid organs over it, so that nothing lies inside the liver.
    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint every organ of the belly at height z, except kidneys and great vessels."""
        for tube in self.branches:
            tube.paint(canvas, z)
        for loop in self.loops:
            loop.paint(canvas, z)
        for loop in self.duodenum:
            loop.paint(canvas, z)
        self._paint_pancreas(canvas, z)
        for loop in self.colon:
            loop.paint(canvas, z)
        for loop in self.stomach:
            loop.paint(canvas, z)
        self._paint_spleen(canvas, z)
        self._paint_liver(canvas, z)
        self._paint_adrenals(canvas, z)

    def _small_bowel(self, rng, width, depth, oral) -> list[Loop]:
        loops = []
        step = rng.uniform(26, 30) + 4 * self.trunk.fat_in_belly
        for z in np.arange(-110, 40, 22):
            for x in np.arange(-width, width, step):
                for y in np.arange(-depth, -18, step * 0.9):
                    at = np.array([x, y, z]) + rng.normal(0, 5, 3)
                    inside = (abs(at[0]) / (width - 8)) ** 2.2 + (
                        abs(at[1] - self.trunk.centre_y) / (depth + self.trunk.centre_y - 6)
                    ) ** 2.2
                    behind = at[1] > -48 and abs(at[0]) < 42  # the great vessels
                    kidney = at[1] > -40 and abs(at[0]) > 36
                    if inside > 0.90 or behind or kidney:
                        continue
                    radius = rng.uniform(10, 14)
                    long = radius * rng.uniform(1.1, 2.0)
                    kind = rng.random()
                    chyme = CHYME[int(rng.integers(len(CHYME)))]
                    filling = (
                        Tissue.BOWEL_WALL if kind < 0.30 else Tissue.ORAL_CONTRAST if oral and kind < 0.8 else chyme
                    )
                    gas = rng.uniform(0.15, 0.5) if kind > 0.92 else 0.0
                    jejunal = at[0] > 0
                    loops.append(Loop(rng, at, (long, radius, rng.uniform(17, 24)), rng.uniform(0, np.pi), filling,
                                      rng.uniform(1.5, 2.6), gas, 0.13 if jejunal else 0.0, rng.uniform(0.3, 1.7)))  # fmt: skip
        order = rng.permutation(len(loops))
        return [loops[k] for k in order]

    def _colon(self, rng, width, depth, oral) -> list[Loop]:
        loops = []

        def piece(at, half, angle):
            kind = rng.random()
            radius = half[1]
            if kind < 0.45:
                loops.append(Loop(rng, at, half, angle, Tissue.STOOL, 2.2, rng.uniform(0, 0.4), halo=2.0))
            elif kind < 0.8:
                loops.append(Loop(rng, at, half, angle, Tissue.STOOL, 1.8, rng.uniform(0.5, 0.95), halo=2.0))
            else:
                loops.append(
                    Loop(rng, at, (half[0] * 0.6, radius * 0.6, half[2]), angle, Tissue.BOWEL_WALL, 3.0, halo=2.0)
                )

        for z in np.arange(-110, 50, 17):
            wander = rng.normal(0, 3, 4)
            size = rng.uniform(14, 21)
            if z < 25:
                piece((-(width - 24) + wander[0], -22 + wander[1] - 0.2 * max(z, 0), z), (size * 1.1, size, 15), 1.4)
            size = rng.uniform(11, 17)
            piece((width - 20 + wander[2], -14 + wander[3] - 0.5 * max(z, 0), z), (size * 1.1, size, 15), 1.2)
        level = rng.normal(-12, 22)
        for x in np.linspace(-width * 0.62, width * 0.66, 7):
            sag = 26 * (1 - (x / width) ** 2)
            front = self.trunk.centre_y - (depth + self.trunk.centre_y) * np.sqrt(
                max(1 - (abs(x) / width) ** 2.2, 0.05)
            )
            size = rng.uniform(15, 20)
            piece(
                (x, front + size + 6 + rng.normal(0, 2), level - sag + rng.normal(0, 3)),
                (size * 1.35, size, rng.uniform(18, 24)),
                rng.normal(0, 0.2),
            )
        return loops

    def _stomach(self, rng, width, depth, oral) -> list[Loop]:
        filling = Tissue.ORAL_CONTRAST if oral else Tissue.BOWEL_FLUID
        front = -depth * 0.62
        body = Loop(rng, (width * 0.36, front, self.stomach_z + 12), (rng.uniform(38, 52), rng.uniform(24, 32), 46), 0.35, filling,
                    4.5, rng.uniform(0.2, 0.5), 0.03, 2.2)  # fmt: skip
        antrum = Loop(
            rng, (-8, front - 2, self.stomach_z - 18), (34, 17, 22), -0.15, filling, 5.5, rng.uniform(0, 0.3), 0.03, 2.2
        )
        return [antrum, body]

    def _duodenum(self, rng, vessels: Vessels) -> list[Loop]:
        filling = Tissue.BOWEL_FLUID
        third = vessels.join[2] - rng.uniform(38, 52)
        right = [Loop(rng, (-47 + rng.normal(0, 2), vessels.join[1] + 6, z), (13, 11, 15), 1.3, filling, 2.8,
                      rng.choice([0, 0, 0.35]), 0.06) for z in np.arange(third, vessels.join[2] + 30, 16)]  # fmt: skip
        across = Loop(
            rng,
            (-12, vessels.aorta_centre(third)[1] - vessels.aorta_radius - 8, third),
            (34, 8, 11),
            0.0,
            filling,
            2.6,
            0.0,
            0.06,
        )
        across.bend, across.lean = 0.05, np.zeros(2)
        return [*right, across]

    def _paint_pancreas(self, canvas: Canvas, z: float) -> None:
        x, y, _ = self.join
        # Head at the right of the superior mesenteric vein, body over it, tail toward the splenic hilum, rising.
        path = np.array([(x - 24, y + 8, -16), (x - 20, y + 2, -4), (x - 8, y - 9, 4), (x + 14, y - 13, 8), (x + 42, y - 3, 14),
                         (x + 68, y + 9, 20), (x + 88, y + 18, 25)])  # fmt: skip
        points = smooth_open(path + (0, 0, self.pancreas_z), 26)
        radius = np.interp(np.arange(26), [0, 5, 9, 14, 20, 25], [12, 13, 9, 10, 11, 7]) * self.pancreas_size
        radius = radius * (1 + 0.10 * np.interp(np.arange(26) * 1.0, np.arange(26), self.pancreas_wobble[0]))
        thick = np.maximum(1 - ((points[:, 2] - z) / (radius * 1.35)) ** 2, 0)
        half = radius * np.sqrt(thick)
        inside = np.flatnonzero(half > 2.0)
        if len(inside) < 4:
            return
        run = slice(inside[0], inside[-1] + 1)
        half = np.maximum(half[run], 1.0)
        band = ribbon(points[run, :2], half)
        lobules = 1.1 * np.sin(np.arange(len(band)) * 2.1 + 0.2 * z) + 0.8 * np.sin(
            np.arange(len(band)) * 1.3 - 0.11 * z
        )
        band = grow(band, 0.0) + (grow(band, 1.0) - band) * lobules[:, None]
        canvas.polygon(grow(band, 1.4), Tissue.VISCERAL_FAT)
        canvas.polygon(band, Tissue.PANCREAS)
        for k in range(2, len(half) - 2, 3):  # fat between lobules
            at = points[run][k, :2] + half[k] * np.array([0.2, 0.5]) * np.sin(k + np.arange(2) + 0.1 * z)
            canvas.line(np.stack([at, at + (2.0, -3.0)]), 0.8, Tissue.VISCERAL_FAT)

    def _wall_point(self, z: float, angle: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return points a depth (mm) inward of the abdominal wall at angles from +x toward the back."""
        inner = self.trunk.contours(z)[2]
        centre = np.array([0.0, self.trunk.centre_y])
        ray = inner - centre
        polar = np.unwrap(np.arctan2(ray[:, 1], ray[:, 0]))
        order = np.mod(angle - polar[0], 2 * np.pi) + polar[0]
        x = np.interp(order, np.append(polar, polar[0] + 2 * np.pi), np.append(inner[:, 0], inner[0, 0]))
        y = np.interp(order, np.append(polar, polar[0] + 2 * np.pi), np.append(inner[:, 1], inner[0, 1]))
        wall = np.stack([x, y], 1)
        toward = centre - wall
        length = np.hypot(toward[:, 0], toward[:, 1])[:, None]
        return wall + toward / length * np.minimum(depth[:, None], 0.86 * length)

    def _liver_span(self, z: float) -> tuple[float, float, float] | None:
        u = (z - self.liver_tip) / 120
        if u <= 0.02:
            return None
        first = np.pi - 0.25 - 0.40 * min(u * 1.8, 1)
        last = np.pi + 0.40 + 1.95 * min(u, 1.0) ** 0.8 * self.liver_reach
        return first, last, min(u * 2.1, 1.0) ** 0.6 * self.liver_depth

    def _liver_depth(self, z: float, share: np.ndarray, size: float) -> np.ndarray:
        profile = np.interp(share, *_LIVER_PROFILE)
        return profile * size * self.liver_wobble(share * np.pi, z) * self.trunk.half_width / 172

    def _paint_liver(self, canvas: Canvas, z: float) -> None:
        span = self._liver_span(z)
        if span is None:
            return
        first, last, size = span
        share = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 37))
        angle = first + (last - first) * share
        depth = self._liver_depth(z, share, size)
        outer = self._wall_point(z, angle, np.full(len(angle), 0.7))
        inner = self._wall_point(z, angle, 0.7 + depth)
        outline = smooth_closed(np.concatenate([outer[::2], inner[-2:0:-1]]), 130)
        if self.gallbladder:
            self._paint_gallbladder(canvas, z, first, last, size)
        canvas.polygon(grow(outline, 2.0), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.LIVER)
        if last > 4.6 and z > self.liver_tip + 45:  # fissure of the round ligament
            at = np.array([first + 0.70 * (last - first)])
            reach = self._liver_depth(z, np.array([0.70]), size)
            fissure = [
                self._wall_point(z, at + d, 0.7 + reach * f)[0] for d, f in ((0, 1.02), (0.02, 0.85), (0.01, 0.66))
            ]
            canvas.polygon(ribbon(np.array(fissure), np.array([3.5, 2.2, 1.0])), Tissue.VISCERAL_FAT)
        for k, (along, deep, height, dx, dy) in enumerate(self.liver_vessels):
            if abs(z - height) > 9:
                continue
            half = (2.6 if k % 5 == 0 else 1.6) * np.sqrt(1 - ((z - height) / 9) ** 2)
            centre = self._wall_point(
                z, np.array([first + (last - first) * along]), 2 + deep * self._liver_depth(z, np.array([along]), size)
            )[0]
            course = np.array([dx, dy]) * (9 if k % 3 else 4)
            reach = 0.9 * float(self._liver_depth(z, np.array([along]), size)[0]) * min(deep, 1 - deep)
            course = course * min(1.0, reach / 9)
            path = np.stack([centre - course, centre + 0.15 * course[::-1], centre + course])
            code = Tissue.HEPATIC_VEIN if k % 2 else Tissue.PORTAL_VEIN
            canvas.polygon(ribbon(smooth_open(path, 7), half * np.linspace(1, 0.6, 7)), code)
        if self.gallbladder:
            self._paint_gallbladder(canvas, z, first, last, size)

    def _paint_gallbladder(self, canvas: Canvas, z: float, first: float, last: float, size: float) -> None:
        u = (z - self.gallbladder_z) / (self.gallbladder_r * 2)
        if abs(u) >= 1:
            return
        along = 0.60
        depth = 0.95 * self._liver_depth(z, np.array([along]), size)
        at = self._wall_point(z, np.array([first + (last - first) * along]), depth)[0]
        a = self.gallbladder_r * np.sqrt(1 - u * u)
        canvas.ellipse(*at, a + 1.2, 1.35 * a + 1.2, Tissue.BOWEL_WALL, 0.4)
        canvas.ellipse(*at, a, 1.35 * a, Tissue.GALLBLADDER, 0.4)

    def _paint_spleen(self, canvas: Canvas, z: float) -> None:
        u = (z - self.spleen_tip) / 75
        if u <= 0.02:
            return
        size = min(u * 2.0, 1.0) ** 0.6 * self.spleen_size
        share = np.linspace(0, 1, 22)
        angle = 0.62 - (0.30 + 0.85 * size) * share
        depth = 41 * size * np.sin(np.pi * share**0.9) ** 0.65 * (1 - 0.16 * np.exp(-(((share - 0.55) / 0.12) ** 2)))
        outer = self._wall_point(z, angle, np.full(len(angle), 0.7))
        inner = self._wall_point(z, angle, 0.7 + depth)
        outline = smooth_closed(np.concatenate([outer[::2], inner[::-2]]), 70)
        canvas.polygon(grow(outline, 2.0), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.SPLEEN)

    def _paint_adrenals(self, canvas: Canvas, z: float) -> None:
        for side, turn in zip((-1, 1), self.adrenal_turn, strict=True):
            if not 36 < z < 78:
                continue
            size = np.sqrt(1 - ((z - 57) / 21) ** 2)
            apex = np.array([side * 34, -22.0])
            for spread in (-0.28, 0.30):
                end = apex + 20 * size * np.array([side * np.sin(0.5 + spread + turn), np.cos(0.5 + spread + turn)])
                canvas.polygon(
                    ribbon(smooth_open(np.stack([apex, 0.5 * (apex + end) + (side, 0), end]), 8), 1.9), Tissue.ADRENAL
                )


__all__ = ["Abdomen", "Loop", "Tube", "Wave"]
