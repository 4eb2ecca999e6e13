"""The liver with its gallbladder and the two trees of veins in it."""

import numpy as np

from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Wobble, grow, ribbon, smooth_closed
from lib.phantom.tissues import Tissue

# Depth of the liver (mm) along its span from the back of the right flank to the front: two lobes and a fissure.
_PROFILE = (
    [0, 0.01, 0.04, 0.1, 0.22, 0.4, 0.55, 0.66, 0.70, 0.74, 0.80, 0.86, 0.92, 0.97, 1],
    [0, 12, 26, 44, 66, 82, 77, 68, 56, 55, 45, 33, 21, 10, 0],
)
# Where the portal vein enters the liver and, above most kidneys, where the hepatic veins meet: share of the liver's
# span, share of its depth, height in mm.
HILUM, CONFLUENCE = (0.60, 0.92, 52.0), (0.44, 0.95, 105.0)


class Liver:
    """The liver of one patient, which lies along the abdominal wall from the right flank to the front.

    Parameters
    ----------
    rng : numpy.random.Generator
    trunk : Trunk
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk):
        self.trunk = trunk
        self.tip = float(np.clip(rng.normal(-38, 22), -85, 5))
        self.reach = rng.uniform(0.85, 1.15)
        self.depth = rng.uniform(0.88, 1.12)
        self.wobble = Wobble(rng, 0.08, (3, 4, 5, 7, 9), drift=0.02)
        self.gallbladder = rng.random() < 0.82
        self.gallbladder_z, self.gallbladder_r = rng.normal(-5, 10), rng.uniform(9, 15)
        self.vessels = draw_liver_vessels(rng)

    @property
    def hilum(self) -> np.ndarray:
        """Return the point where the portal vein enters, float (3,), mm."""
        return np.append(self._place(HILUM[2], np.array([HILUM[:2]]))[0], HILUM[2])

    def _span(self, z: float) -> tuple[float, float, float] | None:
        u = (z - self.tip) / 120
        if u <= 0.02:
            return None
        first = np.pi - 0.25 - 0.40 * min(u * 1.8, 1)
        last = np.pi + 0.40 + 1.95 * min(u, 1.0) ** 0.8 * self.reach
        return first, last, min(u * 2.1, 1.0) ** 0.6 * self.depth

    def _thickness(self, z: float, share: np.ndarray, size: float) -> np.ndarray:
        profile = np.interp(share, *_PROFILE)
        return profile * size * self.wobble(share * np.pi, z) * self.trunk.half_width / 172

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint the liver at height z with fat plane, fissure, veins and gallbladder."""
        span = self._span(z)
        if span is None:
            return
        first, last, size = span
        share = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 37))
        angle = first + (last - first) * share
        depth = self._thickness(z, share, size)
        outer = self.trunk.inward(z, angle, np.full(len(angle), 0.7))
        inner = self.trunk.inward(z, angle, 0.7 + depth)
        outline = smooth_closed(np.concatenate([outer[::2], inner[-2:0:-1]]), 130)
        canvas.polygon(grow(outline, 2.0), Tissue.VISCERAL_FAT)
        canvas.polygon(outline, Tissue.LIVER)
        if last > 4.6 and z > self.tip + 45:  # fissure of the round ligament
            at = np.array([first + 0.70 * (last - first)])
            reach = self._thickness(z, np.array([0.70]), size)
            fissure = [
                self.trunk.inward(z, at + d, 0.7 + reach * f)[0] for d, f in ((0, 1.02), (0.02, 0.85), (0.01, 0.66))
            ]
            canvas.polygon(ribbon(np.array(fissure), np.array([3.5, 2.2, 1.0])), Tissue.VISCERAL_FAT)
        self._paint_vessels(canvas, z)
        if self.gallbladder:
            self._paint_gallbladder(canvas, z)

    def _place(self, z: float, place: np.ndarray) -> np.ndarray:
        """Return the points, float (n, 2) in mm, at height z for shares of the span and of the depth, float (n, 2)."""
        first, last, size = self._span(z)
        depth = place[:, 1] * self._thickness(z, place[:, 0], size)
        return self.trunk.inward(z, first + (last - first) * place[:, 0], 0.7 + depth)

    def _paint_vessels(self, canvas: Canvas, z: float) -> None:
        """Paint the segments of the two trees that are within their radius of height z."""
        start, stop, radius, code = self.vessels
        rise = stop[:, 2] - start[:, 2]
        rise = np.where(np.abs(rise) < 1e-3, 1e-3, rise)
        enter, leave = (z - radius - start[:, 2]) / rise, (z + radius - start[:, 2]) / rise
        enter, leave = np.clip(np.minimum(enter, leave), 0, 1), np.clip(np.maximum(enter, leave), 0, 1)
        seen = np.flatnonzero(leave > enter)
        along = np.stack([enter, 0.5 * (enter + leave), leave], axis=1)[seen, :, None]
        place = (start[seen, None] + along * (stop - start)[seen, None])[..., :2].reshape(-1, 2)
        paths = self._place(z, np.clip(place, 0.04, 0.96)).reshape(-1, 3, 2)
        for path, r, paint in zip(paths, radius[seen], code[seen], strict=True):
            if np.hypot(*(path[2] - path[0])) < r:
                canvas.ellipse(*path[1], r, r, paint)
            else:
                canvas.polygon(ribbon(path, r * np.array([0.8, 1.0, 0.8])), paint)

    def gallbladder_bed(self) -> np.ndarray | None:
        """Return where the gallbladder lies, or lay, float (3,) in mm; None if the liver does not reach there."""
        if self._span(self.gallbladder_z) is None:
            return None
        return np.append(self._place(self.gallbladder_z, np.array([[0.60, 0.93]]))[0], self.gallbladder_z)

    def _paint_gallbladder(self, canvas: Canvas, z: float) -> None:
        u = (z - self.gallbladder_z) / (self.gallbladder_r * 2)
        if abs(u) >= 1:
            return
        at = self._place(z, np.array([[0.60, 0.93]]))[0]
        a = self.gallbladder_r * np.sqrt(1 - u * u)
        canvas.ellipse(*at, a + 1.2, 1.35 * a + 1.2, Tissue.BOWEL_WALL, 0.4)
        canvas.ellipse(*at, a, 1.35 * a, Tissue.GALLBLADDER, 0.4)


def draw_liver_vessels(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw the portal and the hepatic veins, two trees that fork from the hilum and from below the diaphragm.

    Returns
    -------
    start, stop : float array (n, 3)
        Ends of each segment: share of the span of the liver, share of its depth, height in mm.
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
