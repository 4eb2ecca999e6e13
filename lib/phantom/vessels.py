"""Aorta, vena cava, renal, mesenteric and portal vessels, and the ureters: tubes along paths in space."""
# ruff: noqa: RUF005  (sums of arrays, not of tuples)

import numpy as np

from lib.phantom.canvas import Canvas, Wave, ribbon, smooth_open
from lib.phantom.kidneys import Kidney
from lib.phantom.kinetics import Subject
from lib.phantom.tissues import URETER, Tissue


class Tube:
    """A vessel: a smooth path through control points, each with a radius.

    Parameters
    ----------
    points : float array (k, 3)
        Control points, mm.
    radii : float array (k,)
        Radii, mm.
    code : int
        Paint code.
    """

    def __init__(self, points, radii, code: int, n: int = 40):
        smooth = smooth_open(np.column_stack([np.asarray(points, float), np.asarray(radii, float)]), n)
        self.path, self.radius, self.code = smooth[:, :3], np.maximum(smooth[:, 3], 0.4), code
        self.low = float((self.path[:, 2] - self.radius).min())
        self.high = float((self.path[:, 2] + self.radius).max())

    def paint(self, canvas: Canvas, z: float, extra: float = 0.0, code: int | None = None) -> None:
        """Paint the section at height z, widened by `extra` mm."""
        if not self.low - extra < z < self.high + extra:
            return
        code = self.code if code is None else code
        radius = self.radius + extra
        above = self.path[:, 2] - z
        # Where the path crosses the plane steeply its section is a disc; where it runs within it, a band.
        half = np.sqrt(np.maximum(radius**2 - above**2, 0))
        inside = half > 0.35
        edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(int), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if stop - start > 2:
                canvas.polygon(ribbon(self.path[start:stop, :2], half[start:stop]), code)
            else:
                k = (start + stop - 1) // 2
                canvas.ellipse(*self.path[k, :2], half[k], half[k], code)


class Vessels:
    """The great vessels of one patient and their branches to the kidneys and the gut.

    Parameters
    ----------
    rng : numpy.random.Generator
    subject : Subject
    kidneys : tuple of Kidney
    hilum : float array (3,)
        Where the portal vein enters the liver, mm.
    """

    def __init__(self, rng: np.random.Generator, subject: Subject, kidneys: tuple[Kidney, Kidney], hilum: np.ndarray):
        male = subject.sex == "M"
        self.aorta_radius = float(np.clip(rng.normal(9.4 if male else 8.2, 0.9) + 0.03 * (subject.age - 60), 6.5, 13))
        self.aorta_x, self.aorta_y = Wave(rng, 2.0), Wave(rng, 1.2)
        self.aorta_side = rng.normal(4.5, 2.0)
        self.cava_x, self.cava_size = Wave(rng, 1.5), rng.uniform(0.85, 1.15)
        self.cava_flat = float(np.clip(rng.normal(0.72, 0.14), 0.42, 1.0))
        plaque = np.clip((subject.age - 52) / 30 + rng.normal(0, 0.3), 0, 1.1)
        self.plaques = rng.uniform((0, -95, 0.15, 5), (2 * np.pi, 95, 0.6, 16), (int(9 * plaque), 4))
        self.vein_z, self.artery_z = (
            kidneys[1].z + rng.normal(0, 5),
            np.array([k.z for k in kidneys]) + rng.normal(6, 4, 2),
        )
        self.renal = self._renal(rng, kidneys)
        self.portal, self.smv, self.sma = self._visceral(rng, hilum)
        self.ureters = [self._ureter(rng, kidney) for kidney in kidneys]

    def aorta_centre(self, z: float) -> np.ndarray:
        """Return the centre of the aorta at height z, float (2,), mm."""
        return np.array([self.aorta_side - 0.015 * z + self.aorta_x(z), -20.5 - self.aorta_radius + self.aorta_y(z)])

    def cava_centre(self, z: float) -> np.ndarray:
        """Return the centre of the vena cava at height z, float (2,), mm."""
        forward = 0.10 * max(z, 0) + 0.003 * max(z, 0) ** 2 * 0.3
        return np.array([-21.5 - 0.03 * z + self.cava_x(z), -24.0 - forward])

    def share_renal(self, z: float) -> float:
        """Return the share of renal blood in the vena cava at height z: 0 below the renal veins, 1 above them."""
        return float(np.clip((z - self.vein_z + 8) / 22, 0, 1))

    def _renal(self, rng: np.random.Generator, kidneys: tuple[Kidney, Kidney]) -> list[Tube]:
        tubes = []
        for kidney, artery_z in zip(kidneys, self.artery_z, strict=True):
            side, hilum = kidney.side, kidney.hilum()
            origin = np.append(self.aorta_centre(artery_z), artery_z)
            caliber = rng.uniform(2.5, 3.1)
            # Over the crus and round the front of the psoas into the hilum; the right one passes behind the cava.
            round_psoas = np.array([side * 34, -15 + rng.normal(0, 1.5), 0.4 * artery_z + 0.6 * hilum[2] - 2])
            start = origin + (side * 0.7 * self.aorta_radius, 3, 0)
            path = [origin, start, (side * 19, -20, artery_z - 2), round_psoas, hilum - (0, 1, 0)]
            tubes.append(Tube(path, np.array([1.1, 1.1, 1.0, 0.95, 0.7]) * caliber, Tissue.ARTERY))
            branches = [hilum + (side * rng.uniform(5, 11), rng.uniform(-9, 9), rng.uniform(-16, 16)) for _ in range(3)]
            tubes += [
                Tube([round_psoas, hilum + (0, rng.uniform(-3, 3), 0), end], [1.6, 1.5, 0.9], Tissue.ARTERY)
                for end in branches
            ]
            vein_z = self.vein_z if side > 0 else 0.5 * (self.vein_z + hilum[2])
            cava = np.append(self.cava_centre(vein_z), vein_z)
            caliber = rng.uniform(3.4, 4.6)
            if side > 0:  # between the aorta and the superior mesenteric artery
                aorta = self.aorta_centre(vein_z)
                over = (aorta[0] - 2, aorta[1] - self.aorta_radius - 3.4, vein_z + 2)
                path = [
                    cava,
                    over,
                    (aorta[0] + self.aorta_radius + 5, aorta[1] - 2, vein_z),
                    (35, -21, 0.5 * (vein_z + hilum[2])),
                    hilum - (0, 4, 0),
                ]
                radii = np.array([0.9, 0.55, 0.95, 1.0, 0.75]) * caliber
            else:
                path = [cava, cava - (7, -1, 0), (-35, -21, 0.4 * vein_z + 0.6 * hilum[2]), hilum - (0, 4, 0)]
                radii = np.array([0.9, 1.0, 1.0, 0.75]) * caliber
            tubes.append(Tube(path, radii, Tissue.RENAL_VEIN))
            ends = [hilum + (side * rng.uniform(5, 10), rng.uniform(-8, 6), rng.uniform(-15, 15)) for _ in range(2)]
            tubes += [Tube([path[-2], hilum - (0, 3, 0), end], [2.6, 2.4, 1.2], Tissue.RENAL_VEIN) for end in ends]
        return tubes

    def _visceral(self, rng: np.random.Generator, hilum: np.ndarray) -> tuple[Tube, Tube, Tube]:
        root_z = float(self.artery_z.mean() + rng.normal(14, 3))
        aorta = self.aorta_centre(root_z)
        front = aorta[1] - self.aorta_radius
        sma = Tube(
            [(aorta[0], aorta[1], root_z), (aorta[0], front - 6, root_z - 3), (aorta[0] - 1, front - 15, root_z - 22),
             (aorta[0] - 4, front - 20, root_z - 55), (aorta[0] - 12, front - 24, root_z - 110)],
            [3.6, 3.4, 3.3, 3.0, 2.2], Tissue.ARTERY,
        )  # fmt: skip
        join = np.array([aorta[0] - 12, front - 21, root_z - 8])
        smv = Tube(
            [join, join + (-1, 1, -20), join + (-2, -3, -50), join + (-8, -6, -100)],
            [5.8, 5.2, 4.8, 3.4],
            Tissue.PORTAL_VEIN,
        )
        way = np.append(min(hilum[0], join[0] - 15), hilum[1:]) - join  # to the liver's hilum, always to the right
        portal = Tube(
            [join, join + (-9, 0, 0.3 * way[2]), join + 0.6 * way + (0, 3, 0), join + way],
            [6.2, 6.4, 6.2, 5.0],
            Tissue.PORTAL_VEIN,
        )
        splenic = Tube(
            [join, join + (20, -4, 6), join + (48, 4, 14), join + (72, 14, 22), join + (92, 24, 28)],
            [4.6, 4.4, 4.0, 3.6, 3.0], Tissue.PORTAL_VEIN,
        )  # fmt: skip
        celiac = Tube(
            [(aorta[0], aorta[1], root_z + 15), (aorta[0], front - 8, root_z + 17),
             (aorta[0] + 14, front - 12, root_z + 19), (aorta[0] + 40, front - 6, root_z + 26),
             (aorta[0] + 75, front + 6, root_z + 32)],
            [3.4, 3.2, 2.6, 2.3, 1.8], Tissue.ARTERY,
        )  # fmt: skip
        self.join = join
        inferior_vein = Tube(
            [join + (24, 2, -4), (30, -36, root_z - 32), (33 + rng.normal(0, 3), -33, root_z - 70), (31, -30, -120)],
            [2.4, 2.3, 2.0, 1.6], Tissue.PORTAL_VEIN,
        )  # fmt: skip
        low_z = root_z - rng.uniform(55, 68)
        low = np.append(self.aorta_centre(low_z), low_z)
        inferior_artery = Tube(
            [low, low + (3, -self.aorta_radius - 3, -4), (24, -36, low_z - 22), (28, -32, low_z - 60)],
            [1.8, 1.7, 1.6, 1.2], Tissue.ARTERY,
        )  # fmt: skip
        self.covered = [splenic, celiac, inferior_vein, inferior_artery]
        return portal, smv, sma

    def _ureter(self, rng: np.random.Generator, kidney: Kidney) -> Tube:
        start, side = kidney.outlet(), kidney.side
        lip = kidney.place(-0.3, np.array([1.1 * kidney.half_width]), np.array([-0.12]))[0]
        path = [
            start,
            np.append(lip, start[2] - 5),
            (side * np.clip(side * lip[0] - 2, 38, 46), -13, start[2] - 22),
            (side * (40 + rng.normal(0, 2)), -16, start[2] - 55),
            (side * 37, -19, start[2] - 110),
        ]
        return Tube(path, np.array([2.3, 2.0, 1.7, 1.5, 1.5]) * rng.uniform(0.85, 1.25), URETER)

    def paint_covered(self, canvas: Canvas, z: float) -> None:
        """Paint splenic and inferior mesenteric vessels at height z, which stomach, spleen and colon may cover."""
        for extra, code in ((0.5, Tissue.VISCERAL_FAT), (0.0, None)):
            for tube in self.covered:
                tube.paint(canvas, z, extra, code)

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint all other vessels, and the ureters, at height z."""
        centre, cava = self.aorta_centre(z), self.cava_centre(z)
        for tube in self.renal:
            tube.paint(canvas, z)
        radius = self.aorta_radius * (1 + 0.0016 * z)
        b = 10.5 * self.cava_size * self.cava_flat * (1 + 0.002 * z)
        a = 11.0 * self.cava_size / self.cava_flat**0.4
        canvas.ellipse(*cava, a + 0.8, b + 0.8, Tissue.VISCERAL_FAT, 0.25)
        canvas.ellipse(*cava, a, b, Tissue.VENA_CAVA, 0.25)
        visceral = (self.portal, self.smv, self.sma)
        for tube, fat in zip(visceral, (0.5, 0.5, 2.2), strict=True):
            tube.paint(canvas, z, extra=fat, code=Tissue.VISCERAL_FAT)
        for tube in visceral:
            tube.paint(canvas, z)
        canvas.ellipse(*centre, radius + 1.0, radius + 1.0, Tissue.MUSCLE)
        canvas.ellipse(*centre, radius, radius, Tissue.AORTA)
        for angle, height, width, length in self.plaques:
            if abs(z - height) < length:
                arc = angle + width * np.sqrt(1 - ((z - height) / length) ** 2) * np.linspace(-1, 1, 7)
                ring = centre + np.stack([np.cos(arc), np.sin(arc)], 1) * (radius + 0.2)
                canvas.polygon(ribbon(ring, 1.1), Tissue.CALCIFICATION)
        for ureter in self.ureters:
            ureter.paint(canvas, z, 1.0, Tissue.MUSCLE)
            ureter.paint(canvas, z)

    def mesenteric_branches(self, rng: np.random.Generator, places: np.ndarray, n: int = 90) -> list[Tube]:
        """Draw branches that run from the mesenteric root to the small bowel, in pairs of artery and vein.

        Parameters
        ----------
        rng : numpy.random.Generator
        places : float array (k, 3)
            Places of the bowel, mm.
        n : int
            Number of pairs.
        """
        tubes = []
        for end in places[rng.permutation(len(places))[:n]]:
            # They leave the main vessel higher than they arrive, and run in an arch.
            z = 0.55 * end[2] + 0.45 * self.join[2] + rng.normal(0, 6)
            down = np.clip((self.join[2] - z) / 100, 0, 1)
            start = np.array([self.join[0] - 8 * down, self.join[1] - 5 * down, z])
            middle = 0.5 * (start + end) + rng.normal(0, 6, 3)
            stop = start + 0.9 * (end - start)
            caliber = rng.uniform(0.85, 1.25)
            tubes.append(Tube([start, middle, stop], np.array([2.3, 1.8, 1.2]) * caliber, Tissue.PORTAL_VEIN, 30))
            beside = np.array([3.4, 1.2, 2.0]) * rng.choice([-1, 1], 3)
            path = [start + (3, 1, 1), middle + beside, stop + 0.6 * beside]
            tubes.append(Tube(path, np.array([1.5, 1.25, 0.9]) * caliber, Tissue.ARTERY, 30))
        return tubes
