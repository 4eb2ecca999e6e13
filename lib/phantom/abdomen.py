"""The solid organs of the belly: liver with gallbladder and vessels, spleen, pancreas, adrenals."""
# ruff: noqa: RUF005  (sums of arrays, not of tuples)

import numpy as np

from lib.phantom.body import Trunk
from lib.phantom.bowel import Bowel
from lib.phantom.canvas import Canvas, Wobble, grow, ribbon, smooth_closed, smooth_open
from lib.phantom.tissues import Tissue
from lib.phantom.vessels import Vessels

# Depth of the liver (mm) along its span from the back of the right flank to the front: two lobes and a fissure.
_LIVER_PROFILE = (
    [0, 0.01, 0.04, 0.1, 0.22, 0.4, 0.55, 0.66, 0.70, 0.74, 0.80, 0.86, 0.92, 0.97, 1],
    [0, 12, 26, 44, 66, 82, 77, 68, 56, 55, 45, 33, 21, 10, 0],
)
# Where the portal vein enters the liver and, above every kidney, where the hepatic veins meet: share of the liver's
# span, share of its depth, height in mm.
HILUM, CONFLUENCE = (0.60, 0.92, 52.0), (0.44, 0.95, 105.0)


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
        self.liver_vessels = draw_liver_vessels(rng)
        vessels.lead_portal_vein(np.append(self._in_liver(HILUM[2], np.array([HILUM[:2]]))[0], HILUM[2]))
        self.bowel = Bowel(rng, trunk, vessels)
        self.pancreas_z = float(vessels.join[2] + rng.normal(8, 4))
        self.pancreas_size = rng.uniform(0.85, 1.15)
        self.pancreas_wobble = rng.normal(0, 1, 26)
        self.join, self.vessels = vessels.join, vessels
        self.adrenal_turn = rng.normal(0, 0.12, 2)

    # Painting order: gut, then solid organs over it, so that nothing lies inside the liver.
    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint every organ of the belly at height z, except kidneys and great vessels."""
        self.bowel.paint_small(canvas, z)
        self._paint_pancreas(canvas, z)
        self.vessels.paint_covered(canvas, z)
        self.bowel.paint_large(canvas, z)
        self._paint_spleen(canvas, z)
        self._paint_liver(canvas, z)
        self._paint_adrenals(canvas, z)

    def _paint_pancreas(self, canvas: Canvas, z: float) -> None:
        x, y, _ = self.join
        # Head at the right of the superior mesenteric vein, body over it, tail toward the splenic hilum, rising.
        path = np.array([(x - 24, y + 8, -16), (x - 20, y + 2, -4), (x - 8, y - 9, 4), (x + 14, y - 13, 8),
                         (x + 42, y - 3, 14), (x + 68, y + 9, 20), (x + 88, y + 18, 25)])  # fmt: skip
        points = smooth_open(path + (0, 0, self.pancreas_z), 26)
        radius = np.interp(np.arange(26), [0, 5, 9, 14, 20, 25], [12, 13, 9, 10, 11, 7]) * self.pancreas_size
        radius = radius * (1 + 0.10 * self.pancreas_wobble)
        thick = np.maximum(1 - ((points[:, 2] - z) / (radius * 1.35)) ** 2, 0)
        half = radius * np.sqrt(thick)
        inside = np.flatnonzero(half > 2.0)
        if len(inside) < 4:
            return
        run = slice(inside[0], inside[-1] + 1)
        half = np.maximum(half[run], 1.0)
        band = ribbon(points[run, :2], half)
        k = np.arange(len(band))
        band = grow(band, 1.1 * np.sin(2.1 * k + 0.2 * z) + 0.8 * np.sin(1.3 * k - 0.11 * z))  # lobules
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
        canvas.polygon(grow(outline, 2.0), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.LIVER)
        if last > 4.6 and z > self.liver_tip + 45:  # fissure of the round ligament
            at = np.array([first + 0.70 * (last - first)])
            reach = self._liver_depth(z, np.array([0.70]), size)
            fissure = [
                self._wall_point(z, at + d, 0.7 + reach * f)[0] for d, f in ((0, 1.02), (0.02, 0.85), (0.01, 0.66))
            ]
            canvas.polygon(ribbon(np.array(fissure), np.array([3.5, 2.2, 1.0])), Tissue.VISCERAL_FAT)
        self._paint_liver_vessels(canvas, z)
        if self.gallbladder:
            self._paint_gallbladder(canvas, z)

    def _in_liver(self, z: float, place: np.ndarray) -> np.ndarray:
        """Return where shares of the liver's span and of its depth, float (n, 2), lie at height z, float (n, 2), mm."""
        first, last, size = self._liver_span(z)
        depth = place[:, 1] * self._liver_depth(z, place[:, 0], size)
        return self._wall_point(z, first + (last - first) * place[:, 0], 0.7 + depth)

    def _paint_liver_vessels(self, canvas: Canvas, z: float) -> None:
        """Paint the pieces of the two trees that lie within a radius of height z."""
        start, stop, radius, code = self.liver_vessels
        rise = stop[:, 2] - start[:, 2]
        rise = np.where(np.abs(rise) < 1e-3, 1e-3, rise)
        enter, leave = (z - radius - start[:, 2]) / rise, (z + radius - start[:, 2]) / rise
        enter, leave = np.clip(np.minimum(enter, leave), 0, 1), np.clip(np.maximum(enter, leave), 0, 1)
        seen = np.flatnonzero(leave > enter)
        along = np.stack([enter, 0.5 * (enter + leave), leave], axis=1)[seen, :, None]
        place = (start[seen, None] + along * (stop - start)[seen, None])[..., :2].reshape(-1, 2)
        paths = self._in_liver(z, np.clip(place, 0.04, 0.96)).reshape(-1, 3, 2)
        for path, r, paint in zip(paths, radius[seen], code[seen], strict=True):
            if np.hypot(*(path[2] - path[0])) < r:
                canvas.ellipse(*path[1], r, r, paint)
            else:
                canvas.polygon(ribbon(path, r * np.array([0.8, 1.0, 0.8])), paint)

    def _paint_gallbladder(self, canvas: Canvas, z: float) -> None:
        u = (z - self.gallbladder_z) / (self.gallbladder_r * 2)
        if abs(u) >= 1:
            return
        at = self._in_liver(z, np.array([[0.60, 0.93]]))[0]
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


def draw_liver_vessels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw the portal and the hepatic veins, two trees that fork from the hilum and from below the diaphragm.

    Returns
    -------
    start, stop : float array (n, 3)
        Ends of each piece: share of the liver's span, share of its depth, height in mm.
    radius : float array (n,), mm
    code : int array (n,)
    """
    span, depth = 250.0, 70.0  # mm that the shares stand for
    scale = np.array([span, depth, 1.0])
    hilum, confluence = HILUM * scale, CONFLUENCE * scale
    trunks = [
        (hilum, direction, 40.0, caliber, Tissue.PORTAL_VEIN)
        for direction, caliber in (((-1, -0.5, -0.5), 4.0), ((-0.9, -0.5, 0.7), 3.6), ((-0.7, -0.2, -1.0), 3.4),
                                   ((1, -0.4, 0.1), 3.4), ((0.4, -0.6, -0.8), 2.4))
    ] + [
        (confluence, direction, 42.0, caliber, Tissue.HEPATIC_VEIN)
        for direction, caliber in (((-0.8, -0.4, -0.8), 4.0), ((-0.2, -0.6, -0.9), 3.8), ((0.9, -0.3, -0.6), 3.6))
    ]  # fmt: skip
    pieces = []
    while trunks:
        here, direction, length, radius, code = trunks.pop()
        heading = np.asarray(direction, float) + rng.normal(0, 0.15, 3)
        for _ in range(2):  # a branch bends once
            heading = heading / np.hypot.reduce(heading) + rng.normal(0, 0.16, 3)
            there = here + 0.5 * length * rng.uniform(0.8, 1.2) * heading
            pieces.append((*here, *there, radius, code))
            here, radius = there, 0.95 * radius
        inside = 0.05 * span < here[0] < 0.95 * span and 0.10 * depth < here[1] < 0.97 * depth
        if not inside or radius < 0.9:
            continue
        aside = rng.normal(0, 1, 3)
        share = rng.uniform(0.35, 0.65)
        for turn, part in ((0.55 * aside, share), (-0.75 * aside, 1 - share)):  # radius cubed is shared (Murray)
            trunks.append((here, heading + turn, 0.82 * length, radius * part ** (1 / 3), code))
    table = np.array(pieces)
    return table[:, :3] / scale, table[:, 3:6] / scale, table[:, 6], table[:, 7].astype(int)
