"""A kidney: cortex, pyramids, columns, sinus fat, calyces and pelvis, and sometimes a cyst or a tumour."""

import numpy as np

from lib.phantom.canvas import Canvas, Wobble, grow, ribbon, smooth_open, unit_circle
from lib.phantom.tissues import FASCIA, TUMOUR_NECROSIS, Tissue

_ANGLES = np.arange(72) * (2 * np.pi / 72) - np.pi  # from the hilum, in the plane of the section
_CIRCLE = unit_circle(40)
_POLAR = np.arctan2(_CIRCLE[:, 1], _CIRCLE[:, 0])
MEAN_TILT = (13.0, 21.5)  # of the long axis in the coronal and the sagittal plane, degrees


class Kidney:
    """One kidney of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    side : {-1, 1}
        -1 is the right kidney, 1 the left one.
    centre : tuple of float
        x, y, z of its centre, mm.
    size : float
        Factor on the mean length and widths.
    girth : float
        Factor on the widths alone.
    tilt : tuple of float
        Mean tilt of the long axis in the coronal and in the sagittal plane, degrees; the lower pole is lateral and
        anterior.

    Attributes
    ----------
    half_length, half_width, half_depth : float
        Semi-axes along the kidney, from the hilum to the opposite side, and across, mm. Except for notch, waves and the
        shape of the poles, the kidney is an ellipsoid.
    half_height : float
        Half the extent in z, mm.

    Notes
    -----
    The distributions follow Glodny et al., BMC Urol 2009;9:19 (length, cortical and parenchymal width), and the
    lesion-free kidneys of the KiTS23 segmentations (axes, tilt, extent).
    """

    def __init__(
        self,
        rng: np.random.Generator,
        side: int,
        centre: tuple[float, float, float],
        size: float = 1.0,
        girth: float = 1.0,
        tilt: tuple[float, float] = MEAN_TILT,
    ):
        self.side = side
        self.x, self.y, self.z = centre
        self.half_length = float(np.clip(rng.normal(59.1, 4.5), 46, 73)) * size
        self.half_width = float(np.clip(rng.normal(34.7, 2.1), 27, 43)) * size * girth
        self.half_depth = float(np.clip(rng.normal(26.0, 1.9), 20, 33)) * size * girth
        self.tilt = np.radians(np.clip(rng.normal(tilt, (6, 8)), -10, 48))
        self.turn = np.radians(rng.normal(38, 9))  # the hilum looks this far forward of the midline
        self.cortex = float(np.clip(rng.normal(6.6, 1.0), 4.4, 9.0))
        self.parenchyma = float(np.clip(rng.normal(15.4, 1.8), 11.5, 19.5))
        self.wobble = Wobble(rng, 0.022, (2, 3, 4, 5, 6, 8), drift=0.03)
        self.sinus_wobble = Wobble(rng, 0.10, (2, 3, 4, 5), drift=0.05)
        self.notch = rng.uniform(0.30, 0.48)
        self.pelvis = rng.uniform(0.8, 1.35)
        self.extrarenal = rng.uniform(0, 1) ** 1.5  # how far the pelvis reaches out of the sinus
        self._draw_pyramids(rng)
        self.masses = _draw_masses(rng)
        self._lean()
        self.fat = rng.uniform(0, 2 * np.pi, 3)
        self.strands = rng.uniform((-1, 0), (1, 1), (6, 2))
        self.fascia = rng.uniform(5, 13)  # beyond the fat that pushes other organs away, mm

    def _lean(self) -> None:
        r"""Tilt the upright ellipsoid: its horizontal sections are ellipses around an inclined line.

        Notes
        -----
        Let :math:`C = \sum a^2 u u^\top` over the semi-axes :math:`a` and their directions :math:`u`, in the
        coordinates z, toward the hilum, and across. The Cholesky factor of :math:`C` maps the unit sphere to the
        ellipsoid and every horizontal plane to a horizontal one. Its first column holds half the height and the shift
        of the centres; the rest is the section at half height.
        """
        toward, across = self._frame()
        coronal, sagittal = np.tan(self.tilt)
        rise = np.array([-self.side * coronal, sagittal])  # of the upper pole, per mm of height
        along = np.array([1.0, rise @ toward, rise @ across])
        along /= np.linalg.norm(along)
        hilar = np.array([0.0, 1.0, 0.0]) - along[1] * along
        hilar /= np.linalg.norm(hilar)
        axes = np.stack([along, hilar, np.cross(along, hilar)], axis=1)
        axes *= (self.half_length, self.half_width, self.half_depth)
        factor = np.linalg.cholesky(axes @ axes.T)
        self.half_height, self.rise = float(factor[0, 0]), factor[1:, 0]
        self.stretch = factor[1:, 1:] / (self.half_width, self.half_depth)

    def _frame(self) -> np.ndarray:
        """Return unit vectors in the plane, toward the hilum and across, float (2, 2)."""
        toward = np.array([-self.side * np.cos(self.turn), -np.sin(self.turn)])
        return np.stack([toward, np.array([-toward[1], toward[0]]) * self.side])

    def _draw_pyramids(self, rng: np.random.Generator) -> None:
        pyramids = []  # angle from the hilum, height, half angle, half height
        for row, height in enumerate(np.linspace(-0.66, 0.66, 6)):
            angles = np.array([-2.3, -1.35, 0.0, 1.35, 2.3]) + np.pi + (0.33 if row % 2 else -0.33)
            for angle in angles + rng.normal(0, 0.13, len(angles)):
                wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
                if abs(wrapped) > 0.85:
                    half = rng.uniform(0.34, 0.48)
                    pyramids.append((wrapped, height + rng.normal(0, 0.045), half, rng.uniform(0.17, 0.24)))
        self.pyramids = np.array(pyramids)
        self.calyx_size = rng.uniform(0.85, 1.3, len(pyramids))

    @property
    def bottom(self) -> float:
        """Return the height of the lower pole, mm."""
        return self.z - self.half_height

    @property
    def top(self) -> float:
        """Return the height of the upper pole, mm."""
        return self.z + self.half_height

    def hilum(self) -> np.ndarray:
        """Return the point where vessels enter, float (3,)."""
        return np.append(self.place(0.0, np.array([0.72 * self.half_width]), np.zeros(1))[0], self.z)

    def outlet(self) -> np.ndarray:
        """Return the point where the pelvis ends and the ureter begins, float (3,)."""
        h = -0.22
        path, _ = self._pelvis(h)
        return np.append(path[-1], self.z + h * self.half_height)

    def _pelvis(self, h: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle of the pelvis at relative height h, float (9, 2), and half of its width, float (9,), mm."""
        share = np.linspace(0, 1, 9)
        full = np.exp(-(((h + 0.06) / 0.30) ** 4))
        reach = 0.20 + (0.34 + 0.40 * self.extrarenal) * full * share
        path = self.place(h, reach * self.half_width, -0.12 * share**2)  # behind the vessels
        return path, self.pelvis * full * (1.3 + 3.0 * np.sin(np.pi * share**0.8) ** 1.5)

    def place(self, h: float, radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
        """Return points of the section at relative height h in [-1, 1] given in polar coordinates, float (n, 2).

        The coordinates are those of the upright kidney, whose section the tilt then shifts and stretches.
        """
        section = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) @ self.stretch.T + h * self.rise
        # The kidney curves round its hilum: its poles lean toward it.
        section[:, 0] += self.half_width * 0.16 * (h * h - 0.3)
        return section @ self._frame() + (self.x, self.y)

    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Return points on the whole surface, float (n, 2), and their heights, float (n,), mm."""
        heights = np.linspace(-0.9, 0.9, 9)
        points = np.concatenate([self.place(h, self.radius(h, _ANGLES), _ANGLES) for h in heights])
        return points, np.repeat(self.z + heights * self.half_height, len(_ANGLES))

    def radius(self, h: float, angle: np.ndarray) -> np.ndarray:
        """Return the distance of the surface from the section's centre, mm."""
        shrink = max(1 - abs(h) ** 1.75, 0.0) ** 0.5  # poles a little more pointed than an ellipsoid's
        base = 1 / np.sqrt((np.cos(angle) / self.half_width) ** 2 + (np.sin(angle) / self.half_depth) ** 2)
        notch = self.notch * np.exp(-((h / 0.48) ** 4)) * np.exp(-((angle / 0.50) ** 2))
        return base * shrink * self.wobble(angle, h * self.half_height) * (1 - notch)

    def sinus(self, h: float, angle: np.ndarray) -> np.ndarray:
        """Return the radius of the renal sinus, mm (0 at the poles)."""
        depth = self.radius(h, angle) - self.parenchyma * (1 - 0.12 * h * h)
        opening = np.exp(-((angle / 0.42) ** 2)) * np.exp(-((h / 0.50) ** 4))
        inner = np.maximum(depth * self.sinus_wobble(angle, h * self.half_height), 0.0)
        inner = inner * np.clip(1.25 - 1.25 * np.abs(h), 0, 1) ** 0.5
        return inner + opening * (self.radius(h, angle) * 1.06 - inner)

    def paint_fascia(self, canvas: Canvas, z: float) -> None:
        """Paint the renal fascia (Gerota's) and septa within it; what is painted later may cover them."""
        h = (z - self.z) / self.half_height
        if abs(h) < 1.2:
            inside = 0.83 * h  # it encloses the poles at a distance
            away = self.fascia * np.sqrt(1 - (h / 1.2) ** 2) + self._fat_round(h)
            outline = grow(self.place(inside, self.radius(inside, _ANGLES), _ANGLES), away)
            canvas.line(np.roll(outline, len(_ANGLES) // 2, axis=0)[6:-6], 0.7, FASCIA)  # open toward the hilum
            for angle, share in self.strands:  # septa of the fat between
                at = np.array([np.pi + 1.7 * angle, np.pi + 1.7 * angle + 0.3])
                reach = self.radius(inside, at) + np.array([1.0, (0.5 + 0.5 * share) * self.fascia])
                canvas.line(self.place(inside, reach, at), 0.5, FASCIA)

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint the section at height z, with its masses and a thin layer of fat around it."""
        h, masses = (z - self.z) / self.half_height, self._masses_at(z)
        for _, _, contour in masses:
            canvas.polygon(grow(contour, 2.0), Tissue.VISCERAL_FAT)
        if abs(h) < 0.995:
            outline = self.place(h, self.radius(h, _ANGLES), _ANGLES)
            canvas.polygon(grow(outline, self._fat_round(h)), Tissue.VISCERAL_FAT)
            canvas.polygon(outline, Tissue.RENAL_CORTEX)
            self._paint_inside(canvas, h)
        for tissue, radius, contour in masses:
            canvas.polygon(contour, tissue)
            if tissue == Tissue.RENAL_TUMOUR and radius > 12:
                middle = contour.mean(axis=0)
                canvas.polygon(middle + (contour - middle) * 0.5 + (1.5, -1), TUMOUR_NECROSIS)

    def _fat_round(self, h: float) -> np.ndarray:
        """Return the thickness of the perirenal fat that pushes other organs away, mm, at each angle of the section."""
        waves = (
            np.cos(2 * _ANGLES + self.fat[0])
            + np.cos(3 * _ANGLES + self.fat[1] + 2 * h)
            + np.cos(_ANGLES + self.fat[2])
        )
        return 1.2 + 1.1 * np.maximum(waves + 0.8, 0)

    def _paint_inside(self, canvas: Canvas, h: float) -> None:
        sinus = self.sinus(h, _ANGLES)
        has_sinus = np.median(sinus) > 2.0
        if has_sinus:
            canvas.polygon(self.place(h, sinus, _ANGLES), Tissue.SINUS_FAT)
        papillae = []
        for k, (angle, height, half, reach) in enumerate(self.pyramids):
            u = (h - height) / reach
            if abs(u) >= 1:
                continue
            width = half * np.sqrt(1 - u * u)
            arc = angle + width * np.array([-1, -0.75, -0.3, 0.3, 0.75, 1])
            outer = self.radius(h, arc) - self.cortex - np.array([2.6, 0.6, 0, 0, 0.6, 2.6])
            base = float(self.radius(h, np.array([angle]))[0])
            tip = max(base - self.parenchyma - 1.8, 0.14 * base)
            tip_half = width * np.array([0.42, 0.30, -0.30, -0.42])
            tip_radius = tip + np.array([2.5, 0, 0, 2.5])
            if base - self.cortex < tip + 2:
                continue
            outer = np.maximum(outer, tip + 1.0)
            canvas.polygon(
                self.place(h, np.append(outer, tip_radius), np.append(arc, angle + tip_half)), Tissue.RENAL_MEDULLA
            )
            papillae.append((k, angle, tip, 1 - u * u))
        self._paint_collecting_system(canvas, h, papillae, has_sinus)

    def _paint_collecting_system(self, canvas: Canvas, h: float, papillae: list, has_sinus: bool) -> None:
        """Paint calyces at the papillae, infundibula, and the pelvis, which narrows into the ureter."""
        self._paint_sinus_vessels(canvas, h)
        hub_radius = 0.26 * self.half_width
        hub = self.place(h, np.array([hub_radius]), np.array([0.0]))[0]
        for k, angle, tip, fullness in papillae:
            size = self.calyx_size[k] * self.pelvis**0.5 * (0.55 + 0.45 * fullness)
            at = max(tip - 0.6, 1.2)
            cup = np.array([-1.0, -0.55, 0, 0.55, 1.0]) * 3.2 * size / max(at, 3.5)
            back = at - size * np.array([0.9, 2.4, 3.0, 2.4, 0.9])
            front = at + np.array([1.3, 0.4, 0.0, 0.4, 1.3])
            radius = np.maximum(np.concatenate([front, back[::-1]]), 0.0)
            canvas.polygon(self.place(h, radius, angle + np.concatenate([cup, cup[::-1]])), Tissue.URINE)
            if abs(h) < 0.6 and k % 2 == 0:  # infundibulum
                start = self.place(h, np.array([max(at - 2, 1.0)]), np.array([angle]))[0]
                bend = 0.5 * (start + hub) + 0.12 * (hub - start)[::-1] * (1, -1)
                canvas.polygon(ribbon(smooth_open(np.stack([start, bend, hub]), 9), 1.2 * size), Tissue.URINE)
        if has_sinus:  # upper and lower infundibula run along the kidney
            shrink = 1 - 0.35 * abs(h)
            canvas.ellipse(*hub, 3.3 * self.pelvis * shrink, 2.6 * self.pelvis * shrink, Tissue.URINE, 0.6)
        path, half = self._pelvis(h)
        if half[4] > 0.8:
            canvas.polygon(ribbon(path, half), Tissue.URINE)

    def _paint_sinus_vessels(self, canvas: Canvas, h: float) -> None:
        if abs(h) > 0.62:
            return
        for k, (angle, code, half) in enumerate(
            ((0.55, Tissue.RENAL_VEIN, 1.9), (-0.6, Tissue.ARTERY, 1.2), (1.5, Tissue.RENAL_VEIN, 1.4),
             (-1.4, Tissue.ARTERY, 1.0), (2.4, Tissue.RENAL_VEIN, 1.2))
        ):  # fmt: skip
            angle = angle + 0.5 * np.sin(7 * h + k)
            reach = float(self.sinus(h, np.array([angle]))[0])
            if reach < 6:
                continue
            polar = np.linspace(0.3, 0.95, 7)
            bend = angle * np.linspace(0.6, 1.0, 7)
            canvas.polygon(ribbon(self.place(h, reach * polar, bend), half * np.linspace(1, 0.6, 7)), code)

    def _masses_at(self, z: float) -> list[tuple[Tissue, float, np.ndarray]]:
        """Return tissue, radius (mm) and contour of the section of each mass that the plane at height z cuts."""
        found = []
        for tissue, angle, height, size, depth, lumps in self.masses:
            u = (z - self.z - height * self.half_height) / size
            if abs(u) < 1:
                reach = self.radius(height, np.array([angle])) + size * depth
                centre = self.place(height, reach, np.array([angle]))[0]
                radius = size * np.sqrt(1 - u * u)
                found.append((tissue, radius, centre + _CIRCLE * (radius * lumps(_POLAR, z))[:, None]))
        return found


def _draw_masses(rng: np.random.Generator) -> list[tuple]:
    """Draw simple cysts (more often) and a solid tumour (rarely): tissue, angle, height, radius, depth, outline.

    They lie in front and at the side. Behind the kidney they would displace muscles.
    """
    masses = []
    for _ in range(rng.choice(3, p=[0.74, 0.18, 0.08])):
        size = float(np.clip(rng.lognormal(np.log(8), 0.5), 3.5, 24))
        masses.append((Tissue.RENAL_CYST, rng.uniform(0.9, 3.3), rng.uniform(-0.7, 0.7), size, rng.uniform(-0.5, 0.4),
                       Wobble(rng, 0.01)))  # fmt: skip
    if rng.random() < 0.07:
        size = float(np.clip(rng.lognormal(np.log(14), 0.35), 8, 26))
        masses.append((Tissue.RENAL_TUMOUR, rng.uniform(0.9, 3.3), rng.uniform(-0.6, 0.6), size, rng.uniform(-0.4, 0.2),
                       Wobble(rng, 0.03)))  # fmt: skip
    return masses


def draw_kidneys(rng: np.random.Generator, size: float = 1.0, room: float = 140.0) -> tuple[Kidney, Kidney]:
    """Draw the right and the left kidney, the right one lower on average.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : float
        Factor on the lengths, which follows from the height of the patient.
    room : float
        Half the width of the abdomen, mm. In a wide abdomen the kidneys lie further apart.

    Notes
    -----
    The two kidneys of a patient resemble each other in size, width and tilt. Sometimes one lies much lower than the
    other and then further forward, on the slope of the psoas; this gives the extent of both kidneys its long tail (133
    ± 22 mm). The kidneys are drawn closer together than in patients (149 ± 20 mm), since `Anatomy` then moves them out
    of the muscles beside the spine.
    """
    size = size * float(np.clip(rng.normal(1.0, 0.06), 0.84, 1.17))
    girth = float(np.clip(rng.lognormal(0.0, 0.06), 0.85, 1.18))
    apart = float(np.clip(rng.normal(140, 21), 104, 198)) * (room / 140) ** 0.4
    lower = float(np.clip(6.5 + 19 * rng.standard_t(5), -60, 78))
    middle = rng.normal(0, 5)
    tilt = rng.normal(MEAN_TILT, (5, 7))
    depth = -4 + rng.normal(0, 12, 2) + 0.3 * np.array([-lower, lower]) / 2
    right = Kidney(rng, -1, (-apart / 2, depth[0], middle - lower / 2), size, girth, tilt)
    left = Kidney(rng, 1, (apart / 2, depth[1], middle + lower / 2), size, girth, tilt)
    return right, left
