"""One patient's anatomy: everything drawn once, then painted at any height."""

import numpy as np

from lib.phantom.abdomen import Abdomen
from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Grid
from lib.phantom.kidneys import draw_kidneys
from lib.phantom.kinetics import Subject
from lib.phantom.tissues import PAINT_TISSUE, PAINTS, Tissue
from lib.phantom.vessels import Vessels

TISSUE_OF_PAINT = np.zeros(PAINTS, np.uint8)
for _tissue in Tissue:
    TISSUE_OF_PAINT[_tissue] = _tissue
for _paint, _tissue in PAINT_TISSUE.items():
    TISSUE_OF_PAINT[_paint] = _tissue


class Anatomy:
    """The anatomy of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    subject : Subject
        Size, sex and age shape trunk, kidneys, aorta and bone.
    """

    def __init__(self, rng: np.random.Generator, subject: Subject):
        self.trunk = Trunk(rng, subject)
        room = self.trunk.half_width - self.trunk.fat_side - self.trunk.wall
        self.kidneys = draw_kidneys(rng, (subject.height_m / 1.72) ** 0.6, room)
        self.vessels = Vessels(rng, subject, self.kidneys)
        self.abdomen = Abdomen(rng, self.trunk, self.vessels)

    @property
    def kidney_extent(self) -> tuple[float, float]:
        """Return the lowest and the highest point of both kidneys, mm."""
        return min(k.bottom for k in self.kidneys), max(k.top for k in self.kidneys)

    def paint(self, grid: Grid, z: float, breath: float = 0.0) -> np.ndarray:
        """Paint the plane at height z.

        Parameters
        ----------
        grid : Grid
        z : float
            Height, mm.
        breath : float
            Shift of the organs toward the head against spine and ribs, mm.

        Returns
        -------
        uint8 array (matrix * oversample, matrix * oversample)
            Paint codes (`lib.phantom.tissues`).
        """
        canvas = Canvas(grid)
        self.trunk.paint_frame(canvas, z)
        self.abdomen.paint(canvas, z - breath)
        self.trunk.paint_wall(canvas, z)
        self.trunk.paint_back(canvas, z)
        for kidney in self.kidneys:
            kidney.paint(canvas, z - breath)
        self.vessels.paint(canvas, z - 0.5 * breath)
        return canvas.samples()
