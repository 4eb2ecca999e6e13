"""The anatomy of one patient, which is drawn once from random numbers and can be painted at any height."""

import numpy as np
from scipy import ndimage

from lib.phantom.abdomen import Abdomen
from lib.phantom.attachments import Attachments
from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Grid, Pose
from lib.phantom.kidneys import draw_kidneys
from lib.phantom.kinetics import Subject
from lib.phantom.liver import Liver
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
        Size, sex and age decide the shape of trunk, kidneys, aorta and bone.
    """

    def __init__(self, rng: np.random.Generator, subject: Subject):
        self.trunk = Trunk(rng, subject)
        room = self.trunk.half_width - self.trunk.fat_side - self.trunk.wall
        self.kidneys = draw_kidneys(rng, (subject.height_m / 1.72) ** 0.6, room)
        self._settle_kidneys()
        liver = Liver(rng, self.trunk)
        self.vessels = Vessels(rng, subject, self.kidneys, liver.hilum)
        self.abdomen = Abdomen(rng, self.trunk, self.vessels, liver)
        self.pose = self._lie(np.radians(np.clip(rng.normal(0, 4), -10, 10)))
        self.attachments: Attachments | None = None  # what the published study's patients do not wear
        for arm in self.trunk.arms:  # arms do not reach into the table
            arm.y -= self._dip(self.pose.place(arm.outline))

    def _settle_kidneys(self) -> None:
        """Move the kidneys out of bone, wall and muscle into the fat beside the spine; tissue gives way by 5 mm."""
        grid = Grid(128, 3.0, -192.0, self.trunk.centre_y - 192.0, oversample=1)
        heights = np.arange(-100, 101, 25)
        ways = []  # from every sample to the nearest one that holds fat, mm
        for z in heights:
            canvas = Canvas(grid)
            self.trunk.paint_frame(canvas, z)
            self.trunk.paint_wall(canvas, z)
            self.trunk.paint_back(canvas, z)
            occupied = canvas.samples() != Tissue.VISCERAL_FAT
            nearest = ndimage.distance_transform_edt(occupied, return_distances=False, return_indices=True)
            ways.append((nearest - np.indices(occupied.shape))[::-1] * grid.pixel_mm)
        ways = np.stack(ways)
        for kidney in self.kidneys:
            outline, z = kidney.surface()
            plane = np.clip(np.rint((z - heights[0]) / 25).astype(int), 0, len(heights) - 1)
            shift = np.zeros(2)
            for step in range(30):
                column, row = ((outline + shift - (grid.left_mm, grid.top_mm)) / grid.pixel_mm).astype(int).T
                way = ways[plane, :, row, column]
                deep = np.hypot(*way.T) > 5
                if deep.mean() < 0.04:
                    break
                shift += 0.8 * way[deep].mean(axis=0) - (0, 0.1 * step)
            kidney.x, kidney.y = kidney.x + shift[0], kidney.y + shift[1]

    def _dip(self, points: np.ndarray) -> float:
        """Return how far points of the scanner, float (n, 2), lie inside table and blanket, mm; 0 if they do not."""
        grid = Grid(800, 1.0, -400.0, -250.0, oversample=1)
        away = Canvas(grid, pose=Pose(lift=1e4))  # the body is out of sight
        self.trunk.paint_frame(away, 0.0)
        solid = away.samples() > 0
        top = np.where(solid.any(axis=0), solid.argmax(axis=0), grid.matrix)
        x, y = points.T
        column = np.clip(np.floor(x - grid.left_mm).astype(int), 0, grid.matrix - 1)
        return max(float((y - grid.top_mm - top[column]).max()) + 1.0, 0.0)

    def _lie(self, roll: float) -> Pose:
        """Return the pose with a roll (radians), lifted so that the skin does not reach into table or blanket."""
        skin = np.concatenate([self.trunk.contours(z)[0] for z in range(-100, 101, 25)])
        return Pose(roll, self._dip(Pose(roll).place(skin)))

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
            Shift of the organs toward the head, relative to spine and ribs, mm.

        Returns
        -------
        uint8 array (matrix * oversample, matrix * oversample)
            Paint codes (`lib.phantom.tissues`).
        """
        canvas = Canvas(grid, pose=self.pose)
        self.trunk.paint_frame(canvas, z)
        for kidney in self.kidneys:
            kidney.paint_fascia(canvas, z - breath)
        self.abdomen.paint(canvas, z - breath)
        self.trunk.paint_wall(canvas, z)
        self.trunk.paint_back(canvas, z)
        for kidney in self.kidneys:
            kidney.paint(canvas, z - breath)
        self.vessels.paint(canvas, z - 0.5 * breath)
        if self.attachments is not None:
            self.attachments.paint(canvas, z, breath)
        return canvas.samples()
