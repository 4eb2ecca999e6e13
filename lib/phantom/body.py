"""The trunk: skin, fat, abdominal wall, ribs, spine, back muscles, and the table below them.

All coordinates are mm: x to the patient's left, y to the back, z to the head; the origin is the centre of the second
lumbar vertebral body.
"""
# ruff: noqa: RUF005  (sums of arrays, not of tuples)

import numpy as np

from lib.phantom.canvas import Canvas, Wave, Wobble, grow, ribbon, smooth_closed, smooth_open
from lib.phantom.kinetics import Subject
from lib.phantom.tissues import BLANKET, INTRAMUSCULAR_FAT, RIB_MARROW, TABLE, THECAL_SAC, Tissue

_ANGLES = np.arange(160) * (2 * np.pi / 160)  # from the left side (+x) toward the back (+y)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)

# Control points of the left side's back muscles at L2 (x, y), mirrored for the right.
_ERECTOR = [(3, 46), (8, 36), (18, 32), (32, 30), (48, 29), (62, 33), (70, 42), (69, 52), (60, 61), (45, 67), (28, 71),
            (11, 71), (3, 64)]  # fmt: skip
_LUMBORUM = [(40, 27), (47, 19), (58, 16), (68, 19), (74, 26), (69, 33), (56, 34), (45, 33)]
_VERTEBRA = [(0, 13), (11, 14.5), (20, 11), (23.5, 0), (20, -11), (10, -16), (0, -17), (-10, -16), (-20, -11),
             (-23.5, 0), (-20, 11), (-11, 14.5)]  # fmt: skip
_MULTIFIDUS = [(2, 62), (2, 38), (12, 31), (22, 27), (40, 28), (47, 34), (22, 42)]
_MULTIFIDUS_SEPTUM = [(9, 66), (20, 60), (27, 48), (30, 34)]
_LONGISSIMUS_SEPTUM = [(49, 67), (47, 55), (52, 44), (50, 32)]


class Arm:
    """An arm beside the trunk.

    Parameters
    ----------
    side : {-1, 1}
    away : float
        Distance of the centre of the arm from the spine, mm.
    y : float
        Depth of the arm, mm.
    scale : float
        Size relative to an arm of 84 mm.
    """

    def __init__(self, side: int, away: float, y: float, scale: float):
        self.side, self.x, self.y, self.scale = side, side * away, y, scale

    @property
    def outline(self) -> np.ndarray:
        """Return points of the skin, float (160, 2), mm."""
        return np.stack([self.x + 42 * self.scale * _COS, self.y + 42 * self.scale * _SIN], axis=1)

    def paint(self, canvas: Canvas) -> None:
        """Paint skin, fat, muscle and the two bones of the forearm."""
        for a, b, code in ((36, 42, Tissue.SKIN), (34.5, 40.5, Tissue.SUBCUTANEOUS_FAT), (28, 34, Tissue.MUSCLE)):
            canvas.ellipse(self.x, self.y, a * self.scale, b * self.scale, code, 0.2 * self.side)
        for dy in (-11, 12):
            canvas.ellipse(self.x + self.side * 0.4 * dy, self.y + dy, 8, 7, Tissue.CORTICAL_BONE)
            canvas.ellipse(self.x + self.side * 0.4 * dy, self.y + dy, 4, 3.5, RIB_MARROW)


class Trunk:
    """The trunk of one patient, which encloses the abdominal organs.

    Parameters
    ----------
    rng : numpy.random.Generator
    subject : Subject
        The body mass index decides girth and fat.
    """

    def __init__(self, rng: np.random.Generator, subject: Subject):
        bmi = subject.weight_kg / subject.height_m**2
        male = subject.sex == "M"
        girth = (bmi / 27.5) ** 0.5
        self.half_width = float(np.clip(rng.normal(176 if male else 168, 8) * girth, 138, 222))
        self.depth = float(np.clip(rng.normal(248 if male else 234, 12) * girth, 180, 320))
        fat = (1.0 if male else 1.35) * (bmi / 27.5) ** 1.6
        self.fat_front = float(np.clip(rng.normal(17, 5) * fat, 5, 48))
        self.fat_side = float(np.clip(rng.normal(15, 4) * fat, 5, 45))
        self.fat_back = float(np.clip(rng.normal(13, 4) * fat, 5, 35))
        self.back = 79.0 + self.fat_back
        self.front = self.depth - self.back
        self.centre_y = (self.back - self.front) / 2
        self.wall = float(rng.uniform(15, 21)) * (1.06 if male else 0.92)
        self.rectus = float(rng.uniform(6.5, 10.5)) * (1.1 if male else 0.9)
        self.wall_wobble = Wobble(rng, 0.05, (3, 4, 5, 7), drift=0.01)
        self.planes = rng.uniform((0.28, 3, 3, 0.4), (0.40, 12, 14, 1.0), (2, 4)) + np.array(
            [[0, 0, 0, 0], [0.32, 0, 0, 0]]
        )
        self.muscle = float(np.clip(rng.normal(1.0, 0.08) - 0.003 * (subject.age - 60), 0.75, 1.15))
        self.fat_in_muscle = float(np.clip((subject.age - 35) / 45 + rng.normal(0, 0.2), 0.0, 1.3))
        self.squareness = rng.uniform(2.15, 2.5)
        self.wobble = Wobble(rng, 0.014, (2, 3, 4, 5, 6, 7, 9), drift=0.008)
        self.inner_wobble = Wobble(rng, 0.012, (2, 3, 4, 5, 7, 9))
        self.flank = Wave(rng, 0.015, (150, 300))
        self.skew = rng.normal(0, 0.028)
        self.handles = rng.uniform(0, 0.05, 2)
        self.flat = rng.uniform(2, 9)
        self.groove = float(rng.uniform(3, 9))
        self.rib_top = 68 + rng.normal(0, 8)
        self.rib_slope = 58 + rng.normal(0, 4)
        self.disc_offset = float(rng.uniform(-17, 17))
        self.vertebra = float(rng.normal(1.04 if male else 0.95, 0.05))
        self.twist = rng.normal(0, 0.6, (24,))
        self.strands = rng.uniform((0, -9, -0.3, -130, 8, 0.3), (160, 9, 0.3, 130, 60, 1), (rng.integers(14, 60), 6))
        self.bumps = rng.normal(0, 0.9, (len(_ERECTOR), 2, 2))
        self.table_y = self.back + rng.uniform(1, 4)
        self.table_kind = int(rng.integers(3))
        self.blanket = rng.random() < 0.4
        arms = [Arm(side, self.half_width + rng.uniform(54, 78), rng.uniform(-40, 30), rng.uniform(0.9, 1.15))
                for side in (-1, 1)]  # fmt: skip
        self.arms = arms if rng.random() < 0.10 else []
        self.fat_in_belly = float(np.clip((bmi - 22) / 14 + (0.15 if male else -0.1) + rng.normal(0, 0.2), 0, 1.2))
        self._contours: dict[float, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def contours(self, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return skin, outer face and inner face of the muscular wall at height z, each float (160, 2)."""
        if z not in self._contours:
            self._contours = {z: self._contour(z)}
        return self._contours[z]

    def _contour(self, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        power = 2 / self.squareness
        waist = 1 + 0.05 * ((z - 5) / 90) ** 2 + self.flank(z)
        a, b = self.half_width * waist, self.depth / 2 * (1 + 0.3 * self.flank(z + 40))
        x = a * np.sign(_COS) * np.abs(_COS) ** power
        y = b * np.sign(_SIN) * np.abs(_SIN) ** power
        x = x * np.where(_COS > 0, 1 + self.skew, 1 - self.skew)
        x = x * (
            1
            + self.handles[(_COS < 0).astype(int)]
            * np.exp(-(((_SIN - 0.45) / 0.35) ** 2))
            * np.clip(0.6 - z / 90, 0, 1)
        )
        wobble = self.wobble(_ANGLES, z)
        skin = np.stack([x * wobble, y * (0.5 + 0.5 * wobble)], 1)
        back = np.clip(_SIN, 0, 1)
        skin[:, 1] -= self.groove * np.exp(-((skin[:, 0] / 16) ** 2)) * back  # the furrow over the spine
        skin[:, 1] += self.centre_y
        rest = self.back - self.flat  # the back lies on the table
        skin[:, 1] = np.where(skin[:, 1] > rest, rest + 0.35 * (skin[:, 1] - rest), skin[:, 1])
        fat = np.where(_SIN < 0, self.fat_side + (self.fat_front - self.fat_side) * _SIN**2, self.fat_side)
        fat = fat + (self.fat_back - fat) * np.where(_SIN > 0, _SIN**4, 0)
        loin = min(11 + 0.4 * self.fat_side, 20)  # the pad behind the flank
        for angle in (0.86, np.pi - 0.86):
            fat = fat + loin * np.exp(-(((_ANGLES - angle) / 0.36) ** 2))
        outer = grow(skin, -1.0)
        outer = _inset(outer, fat * self.inner_wobble(_ANGLES * 1.0, z))
        # Flat muscles at the sides, two lens-shaped recti in front with the linea alba between, fascia behind.
        off = np.abs(outer[:, 0])
        flat = self.wall * np.clip((off - 58) / 32, 0, 1) ** 0.8
        rectus = 2.2 + self.rectus * np.sqrt(np.clip(1 - ((off - 35) / 33) ** 2, 0, 1))
        thick = np.where(_SIN < 0, np.maximum(flat, np.where(off < 75, rectus, 0)), flat)
        thick = thick + (2.5 - thick) * np.clip((_SIN - 0.45) / 0.35, 0, 1)
        thick = thick * self.wall_wobble(_ANGLES, z)
        thick = thick * (1 - 0.25 * np.clip(z / 80, 0, 1)) * self.muscle
        inner = _inset(outer, thick)
        return skin, outer, inner

    def inward(self, z: float, angle: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Return points at a depth (mm) inside the abdominal wall, at angles counted from +x toward the back."""
        inner = self.contours(z)[2]
        centre = np.array([0.0, self.centre_y])
        ray = inner - centre
        polar = np.unwrap(np.arctan2(ray[:, 1], ray[:, 0]))
        order = np.mod(angle - polar[0], 2 * np.pi) + polar[0]
        x = np.interp(order, np.append(polar, polar[0] + 2 * np.pi), np.append(inner[:, 0], inner[0, 0]))
        y = np.interp(order, np.append(polar, polar[0] + 2 * np.pi), np.append(inner[:, 1], inner[0, 1]))
        wall = np.stack([x, y], 1)
        toward = centre - wall
        length = np.hypot(toward[:, 0], toward[:, 1])[:, None]
        return wall + toward / length * np.minimum(depth[:, None], 0.86 * length)

    def paint_frame(self, canvas: Canvas, z: float) -> None:
        """Paint table, skin and abdominal fat at height z."""
        skin, outer, _ = self.contours(z)
        self._paint_table(canvas)
        for arm in self.arms:
            arm.paint(canvas)
        canvas.polygon(skin, Tissue.SKIN)
        canvas.polygon(outer, Tissue.VISCERAL_FAT)

    def paint_wall(self, canvas: Canvas, z: float) -> None:
        """Paint subcutaneous fat and the muscular wall with its ribs over the contents of the abdomen."""
        skin, outer, inner = self.contours(z)
        canvas.polygon(_ring(grow(skin, -1.7), outer), Tissue.SUBCUTANEOUS_FAT)
        self._paint_septa(canvas, skin, outer, z)
        canvas.polygon(_ring(outer, inner), Tissue.MUSCLE)
        # Fat planes between the three flat muscles of each side.
        left = np.arange(-30, 20)
        for share, head, tail, width in self.planes:
            for span in (left, 80 - left):
                k = span[int(head) : len(span) - int(tail) - (12 if z > 40 else 0)]
                # The muscles grow and shrink against each other from back to front, and the fat between them is patchy.
                swell = (0.5 - share) * np.sin(np.linspace(0.4, 2.9, len(k)) + 0.01 * z)
                wave = share + 0.45 * swell + 0.035 * np.sin(k * 0.33 + 0.03 * z + 9 * share + span[0])
                plane = outer[k % 160] + (inner - outer)[k % 160] * wave[:, None]
                gap = 4 + int(6 * abs(np.sin(0.02 * z + 11 * share + span[0])))
                canvas.line(plane[:gap], width, INTRAMUSCULAR_FAT)
                canvas.line(plane[gap + 2 :], 0.8 * width, INTRAMUSCULAR_FAT)
        front = int(0.75 * len(_ANGLES))
        canvas.line(np.stack([outer[front], inner[front]]), 3.0, INTRAMUSCULAR_FAT)
        self._paint_ribs(canvas, z, outer, inner)

    def _paint_septa(self, canvas: Canvas, skin: np.ndarray, outer: np.ndarray, z: float) -> None:
        for place, slant, drift, middle, reach, deep in self.strands:  # of connective tissue, from the skin or within
            if abs(z - middle) < reach:
                i = int(place + drift * z) % len(skin)
                j = int(i + slant) % len(skin)
                ends = (skin[i], 0.3 * skin[j] + 0.7 * outer[j])
                start = ends[0] + (1 - deep) * (ends[1] - ends[0]) * 0.6
                canvas.line(np.stack([start, start + deep * (ends[1] - start)]), 0.4, Tissue.SKIN)

    def _paint_ribs(self, canvas: Canvas, z: float, outer: np.ndarray, inner: np.ndarray) -> None:
        for side in (-1, 1):
            for rib, last in ((12, 0.95), (11, 1.65), (10, 2.25), (9, 2.5), (8, 2.7)):
                angle = (self.rib_top + 31 * (12 - rib) - z) / self.rib_slope  # from the spine round the flank
                if not 0.42 < angle < last:
                    continue
                turn = np.pi / 2 - angle if side > 0 else np.pi / 2 + angle
                k = round(turn / (2 * np.pi) * len(_ANGLES))
                span = np.arange(k - 4, k + 5) % len(_ANGLES)
                middle = 0.35 * outer[span] + 0.65 * inner[span]
                middle = smooth_open(middle[[0, 2, 4, 6, 8]], 15)
                length = np.hypot(*(middle[-1] - middle[0]))
                keep = min(1.0, (12 + 4 * self.twist[rib] + 9 * angle) / max(length, 1))  # cut ever more obliquely
                middle = middle[7] + (middle - middle[7]) * keep
                taper = np.sqrt(np.clip(1 - np.linspace(-1, 1, 15) ** 2 * 0.9, 0, 1)) * (1 - 0.2 * (angle > last - 0.2))
                thick = 4.3 - 0.4 * angle
                canvas.polygon(ribbon(middle, thick * taper), Tissue.CORTICAL_BONE)
                canvas.polygon(ribbon(middle[1:-1], (thick - 1.1) * taper[1:-1]), RIB_MARROW)

    def _paint_table(self, canvas: Canvas) -> None:
        x = np.linspace(-210, 210, 41)
        sag = (0.00055, 0.0009, 0.0012)[self.table_kind]
        top = np.stack([x, self.table_y + 16 - sag * x**2], 1)
        if self.blanket:
            canvas.polygon(ribbon(np.stack([x * 0.95, self.table_y + 8 - sag * x**2], 1), 5.0), BLANKET)
        canvas.polygon(ribbon(top, 1.2), TABLE)
        if self.table_kind == 2:
            under = np.stack([x, self.table_y + 62 - 0.0021 * x**2], 1)
            canvas.line(under, 1.2, TABLE)
        elif self.table_kind == 1:
            canvas.line(np.array([[-190, self.table_y + 22], [-120, self.table_y + 62], [120, self.table_y + 62],
                                  [190, self.table_y + 22]]), 1.0, TABLE)  # fmt: skip

    def paint_back(self, canvas: Canvas, z: float) -> None:
        """Paint back muscles, psoas, crura and spine at height z."""
        low = np.clip((30 - z) / 90, 0, 1.3)  # grows downward
        for side in (-1, 1):
            mirror = np.array([side, 1.0])
            k = 0 if side < 0 else 11
            jitter = self.twist[k : k + 11, None] * np.array([1.2, 0.9])
            scale = np.array([0.92 + 0.16 * self.muscle * (0.7 + 0.3 * low), 1.0])
            erector = smooth_closed((np.array(_ERECTOR) + self.bumps[:, (side + 1) // 2]) * scale * mirror, 56)
            canvas.polygon(np.array(_MULTIFIDUS) * scale * mirror, Tissue.MUSCLE)
            canvas.polygon(erector, Tissue.MUSCLE)
            self._paint_muscle_fat(canvas, side, z)
            size = 0.75 + 0.3 * low
            lumborum = np.array(_LUMBORUM) + jitter[:8]
            middle = lumborum.mean(0)
            canvas.polygon(
                smooth_closed(((lumborum - middle) * size * self.muscle + middle) * mirror, 36), Tissue.MUSCLE
            )
            a, b = (7 + 13 * low) * self.muscle, (11 + 12 * low) * self.muscle
            psoas = np.array([(20 + 0.2 * a, 12), (22, 2), (24 + 0.3 * a, 4 - b * 0.75), (25 + 1.1 * a, -b * 0.7 + 6),
                              (25 + 1.75 * a, 8), (25 + 1.4 * a, 8 + 0.65 * b), (22 + 0.7 * a, 17)])  # fmt: skip
            canvas.polygon(smooth_closed((psoas + 0.5 * jitter[:7]) * mirror, 40), Tissue.MUSCLE)
            if z > -15:  # diaphragmatic crura beside the aorta
                thick = np.clip(2.2 + 0.045 * (z + 15), 2, 6)
                path = (
                    np.array([(21, 2), (18.5, -10), (14, -20), (11 + 2 * (side > 0), -25 - 0.12 * max(z, 0))]) * mirror
                )
                canvas.polygon(
                    ribbon(smooth_open(path + np.array([1.5, 0]), 14), thick * np.linspace(1, 0.6, 14)), Tissue.MUSCLE
                )
        self._paint_spine(canvas, z)

    def _paint_muscle_fat(self, canvas: Canvas, side: int, z: float) -> None:
        mirror = np.array([side, 1.0])
        for k, septum in enumerate((_MULTIFIDUS_SEPTUM, _LONGISSIMUS_SEPTUM)):
            path = np.array(septum) + self.twist[k * 4 : k * 4 + 4, None] * 1.5
            canvas.line(smooth_open(path, 16) * mirror, 0.8 + 0.8 * self.fat_in_muscle, INTRAMUSCULAR_FAT)
        spots = int(9 * self.fat_in_muscle)
        for k in range(spots):  # streaks of fat, more with age
            u = (k * 0.618 + 0.1 * self.twist[k]) % 1
            x, y = 12 + 52 * u, 38 + 24 * ((k * 0.414 + 0.02 * z) % 1)
            turn = 0.5 * self.twist[(k + 3) % 24]
            step = np.array([5 * np.cos(1.2 + turn), 5 * np.sin(1.2 + turn)])
            canvas.line(np.stack([(x, y) - step, (x, y) + step]) * mirror, 0.9, INTRAMUSCULAR_FAT)

    def _paint_spine(self, canvas: Canvas, z: float) -> None:
        level = (z + self.disc_offset + 17.5) % 35 - 17.5  # height within a vertebra and half a disc on each side
        scale = self.vertebra
        disc = abs(level) > 12.8
        body = smooth_closed(np.array(_VERTEBRA) * scale, 60)
        body = body * (1.0 + 0.05 * (abs(level) / 12.8) ** 3 if not disc else 1.03)
        self._paint_arch(canvas, level, scale, disc)
        if disc:
            canvas.polygon(body, Tissue.DISC)
            return
        endplate = abs(level) > 11.6
        canvas.polygon(body, Tissue.CORTICAL_BONE)
        canvas.polygon(grow(body, -4.0 if endplate else -0.8), Tissue.TRABECULAR_BONE)
        if abs(level) < 3:  # basivertebral vein
            canvas.polygon(ribbon(np.array([(0, 13.5), (0, 7), (0, 3)]) * scale, 1.6), THECAL_SAC)

    def _paint_arch(self, canvas: Canvas, level: float, scale: float, disc: bool) -> None:
        canal = smooth_closed(
            np.array([(0, 13), (9, 15), (12, 22), (7, 30), (0, 33), (-7, 30), (-12, 22), (-9, 15)]) * scale, 40
        )
        for side in (-1, 1):
            mirror = np.array([side, 1.0]) * scale
            if -6 < level < 9:  # pedicle
                canvas.polygon(ribbon(np.array([(13, 10), (14.5, 16), (15, 24)]) * mirror, 4.5), Tissue.CORTICAL_BONE)
                canvas.polygon(
                    ribbon(np.array([(13.5, 9), (14.5, 17), (15, 22)]) * mirror, 2.6), Tissue.TRABECULAR_BONE
                )
            if -4 < level < 4:  # transverse process
                reach = 44 - 3 * abs(level)
                path = np.array([(15, 24), (28, 25), (reach, 27)]) * mirror
                canvas.polygon(ribbon(path, np.array([3.6, 2.8, 2.2])), Tissue.CORTICAL_BONE)
                canvas.polygon(ribbon(path[:2], np.array([2.0, 1.4])), Tissue.TRABECULAR_BONE)
            if disc or abs(level) > 9:  # facet joint: two cortical plates with a gap
                canvas.ellipse(side * 17 * scale, 27 * scale, 5.2, 7, Tissue.CORTICAL_BONE, 0.5 * side)
                canvas.ellipse(side * 17.5 * scale, 26 * scale, 3.6, 5.2, Tissue.TRABECULAR_BONE, 0.5 * side)
                gap = np.array([(13.5, 32), (17, 27), (18.5, 20)]) * mirror
                canvas.line(gap, 1.2, Tissue.DISC)
        lamina = np.array([(16, 25), (12, 31), (0, 36), (-12, 31), (-16, 25)]) * scale
        if level < 10:
            canvas.polygon(ribbon(smooth_open(lamina, 15), 2.8), Tissue.CORTICAL_BONE)
            canvas.polygon(ribbon(smooth_open(lamina, 15)[1:-1], 1.4), Tissue.TRABECULAR_BONE)
        canvas.polygon(canal, Tissue.SPINAL_CANAL)
        canvas.ellipse(0, 22.5 * scale, 8.5 * scale, 7.0 * scale, THECAL_SAC)
        if level < 6:  # spinous process
            path = np.array([(0, 36), (0.5, 48), (0.6, 62 + 3 * (level < -2))])
            canvas.polygon(ribbon(path * scale, np.array([3.4, 2.6, 3.6])), Tissue.CORTICAL_BONE)
            canvas.polygon(ribbon(path[:3] * scale, np.array([1.9, 1.2, 2.2])), Tissue.TRABECULAR_BONE)


def _ring(outside: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the outline of the band between two closed contours, as one polygon with a seam."""
    return np.concatenate([outside, outside[:1], inside[:1], inside[:0:-1], inside[:1]])


def _inset(contour: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Move each point inward by a distance of its own, mm, and smooth the result so that it stays a simple curve."""
    ahead, behind = np.roll(contour, -1, axis=0), np.roll(contour, 1, axis=0)
    tangent = ahead - behind
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.maximum(np.hypot(normal[:, 0], normal[:, 1])[:, None], 1e-9)
    inner = contour + distance[:, None] * normal
    for _ in range(3):
        inner = 0.25 * np.roll(inner, 1, axis=0) + 0.5 * inner + 0.25 * np.roll(inner, -1, axis=0)
    return inner
