"""The organs of the abdomen in the order in which they are painted: gut, pancreas, spleen, liver, adrenals."""
# ruff: noqa: RUF005  (sums of arrays, not of tuples)

import numpy as np

from lib.phantom.body import Trunk
from lib.phantom.bowel import Bowel
from lib.phantom.canvas import Canvas, grow, ribbon, smooth_closed, smooth_open
from lib.phantom.liver import Liver
from lib.phantom.tissues import Tissue
from lib.phantom.vessels import Vessels


class Abdomen:
    """The abdominal organs of one patient, fitted to the trunk.

    Parameters
    ----------
    rng : numpy.random.Generator
    trunk : Trunk
    vessels : Vessels
    liver : Liver
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk, vessels: Vessels, liver: Liver):
        self.trunk, self.liver = trunk, liver
        self.spleen_tip = float(np.clip(rng.normal(0, 18), -40, 35))
        self.spleen_size = float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.4))
        self.bowel = Bowel(rng, trunk, vessels)
        self.pancreas_z = float(vessels.join[2] + rng.normal(8, 4))
        self.pancreas_size = rng.uniform(0.85, 1.15)
        self.pancreas_wobble = rng.normal(0, 1, 26)
        self.join, self.vessels = vessels.join, vessels
        self.adrenal_turn = rng.normal(0, 0.12, 2)

    # Painting order: gut, then solid organs over it, so that nothing lies inside the liver.
    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint all abdominal organs at height z, except kidneys and great vessels."""
        self.bowel.paint_small(canvas, z)
        self._paint_pancreas(canvas, z)
        self.vessels.paint_covered(canvas, z)
        self.bowel.paint_large(canvas, z)
        self._paint_spleen(canvas, z)
        self.liver.paint(canvas, z)
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

    def _paint_spleen(self, canvas: Canvas, z: float) -> None:
        u = (z - self.spleen_tip) / 75
        if u <= 0.02:
            return
        size = min(u * 2.0, 1.0) ** 0.6 * self.spleen_size
        share = np.linspace(0, 1, 22)
        angle = 0.62 - (0.30 + 0.85 * size) * share
        depth = 41 * size * np.sin(np.pi * share**0.9) ** 0.65 * (1 - 0.16 * np.exp(-(((share - 0.55) / 0.12) ** 2)))
        outer = self.trunk.inward(z, angle, np.full(len(angle), 0.7))
        inner = self.trunk.inward(z, angle, 0.7 + depth)
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
