"""The bones of a chest: ribs, spine, clavicles, scapulae, humeral heads; what they add to water and mineral."""

from dataclasses import dataclass

import numpy as np

from lib.xray.beam import in_basis
from lib.xray.geometry import View, draw_band, smooth_curve, superellipse, tube
from lib.xray.thorax import SIDES, Habitus, Hemithorax

RIBS = 12


@dataclass
class Bone:
    """Line integrals of compact and spongy bone, mm; soft tissue has to give way to their sum."""

    compact: np.ndarray
    spongy: np.ndarray

    @classmethod
    def empty(cls, view: View) -> "Bone":
        """Return none at all."""
        shape = (view.pixels, view.pixels)
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32))

    def add(self, window, outer: np.ndarray, inner: np.ndarray, *, solid: float = 1.0) -> None:
        """Add a bone: compact between the outer and the inner chord, spongy within; `solid` thins both."""
        self.compact[window] += np.float32(solid) * (outer - inner)
        self.spongy[window] += np.float32(solid) * inner

    def thickness(self, quality: float) -> dict[str, np.ndarray]:
        """Return what bone puts in the place of muscle, g/cm2 of water and of hydroxyapatite.

        Parameters
        ----------
        quality : float
            Mineral relative to ICRU-44; falls with age.
        """
        muscle, compact, spongy = (in_basis(tissue) for tissue in ("muscle", "cortical_bone", "spongiosa"))
        water = (compact[0] - muscle[0]) * self.compact + (spongy[0] - muscle[0]) * self.spongy
        mineral = quality * (compact[1] * self.compact + spongy[1] * self.spongy)
        return {"water": 0.1 * water, "hydroxyapatite": 0.1 * mineral}


def vertebra_height(number: int, habitus: Habitus) -> float:
    """Return the height of the middle of thoracic vertebra `number` (1 to 13, the last is L1), mm."""
    top = 0.5 * sum(habitus.apex) - 8
    gaps = 19.0 + 0.75 * np.arange(13)
    gaps *= (top - (habitus.dome[0] + 12)) / gaps[:9].sum()  # the tenth stands at the right dome in deep inspiration
    return float(top - gaps[: number - 1].sum())


def rib_line(number: int, side: int, habitus: Habitus, jitter: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a rib's centre line (n, 3), the outward direction along it, and where it turns at the side."""
    wall = Hemithorax(habitus, side)
    head = vertebra_height(number, habitus) + 6
    fall = np.interp(number, [1, 2, 3, 4, 6, 8, 10, 11, 12], [36, 54, 68, 79, 92, 98, 96, 84, 70]) * (
        0.5 + 0.5 * habitus.scale
    )
    fall *= 1 + jitter[1]
    end = {11: 0.62, 12: 0.42}.get(number, 1.0)
    # fraction of the way, share of the fall, share of the width, share of the depth (-1 behind, 1 in front)
    path = np.array([
        (0.00, -0.02, None, None), (0.09, -0.05, 0.29, -0.90), (0.22, 0.02, 0.58, -0.97), (0.36, 0.17, 0.83, -0.72),
        (0.50, 0.36, 0.975, -0.33), (0.62, 0.54, 1.0, 0.08), (0.75, 0.74, 0.955, 0.50), (0.88, 0.91, 0.83, 0.80),
        (1.00, 1.02, 0.66, 0.97),
    ], dtype=object)  # fmt: skip
    points = []
    for _, drop, across, deep in path:
        z = head - drop * fall
        lateral, _, depth, middle = (float(value) for value in wall.borders(np.array(min(z, wall.top - 4.0))))
        lateral, depth = max(lateral, 34.0 * habitus.scale) + 4.0, max(depth, 26.0) + 4.0
        if across is None:
            points.append((side * 15.0, -58.0 - 0.5 * number, z))
        else:
            points.append((side * across * lateral, middle + deep * depth, z + jitter[0]))
    line = smooth_curve(np.array(points), 41)
    line = line[: int(40 * end) + 1]
    centre = np.array([side * 30.0, -5.0, 0])
    outward = (line - centre) * np.array([1 / 1.3, 1.0, 0.0])
    turn = int(np.argmax(line[:, 0] * side))
    return line, outward / np.linalg.norm(outward, axis=1, keepdims=True), turn


def draw_ribs(view: View, habitus: Habitus, rng: np.random.Generator, bone: Bone) -> None:
    """Add twelve pairs of ribs, each as a flat tube of compact bone around spongy bone."""
    for number in range(1, RIBS + 1):
        for side in SIDES:
            line, outward, turn = rib_line(number, side, habitus, rng.normal(0, [1.2, 0.04]))
            thick = np.interp(number, [1, 2, 10, 12], [3.6, 4.0, 4.5, 3.2])
            high = np.interp(number, [1, 2, 5, 10, 12], [7.5, 6.0, 6.3, 6.3, 4.5]) * habitus.scale
            along = np.linspace(0, 1, len(line))
            grow = np.interp(along, [0, 0.06, 0.2, 0.5, 0.8, 1.0], [0.8, 0.78, 0.92, 1.0, 1.04, 1.06])
            radii = np.stack([np.full(len(line), thick) * (1.12 - 0.3 * along), high * grow], axis=1)
            wall = np.interp(number, [1, 12], [1.25, 0.95])
            for part in (slice(0, turn + 1), slice(turn, None)):
                if len(line[part]) < 3:
                    continue
                band = tube(view, line[part], radii[part], outward[part])
                bone.add(*draw_band(view, band, wall=wall))


def draw_spine(view: View, habitus: Habitus, bone: Bone) -> None:
    """Add vertebrae from the lower neck to L1: body, endplates, pedicles, spinous and transverse processes."""
    for number in range(-3, 14):
        z = vertebra_height(max(number, 1), habitus) + (19.0 * (1 - number) if number < 1 else 0)
        pitch = 18.0 if number < 1 else vertebra_height(number, habitus) - vertebra_height(min(number + 1, 13), habitus)
        pitch = pitch or 25.0
        half = float(np.interp(number, [-3, 1, 5, 12], [12, 14.5, 14.5, 20]) * habitus.scale)
        high, deep = float(0.41 * pitch), float(np.interp(number, [-3, 1, 12], [15, 17, 29]))
        y = float(np.interp(number, [1, 12], [-46, -50]))
        m = float(view.magnification(y))
        window = view.window((-(half + 2) * m, (z - high - 4) * m), ((half + 2) * m, (z + high + 4) * m))
        x, height = (plane[part] for plane, part in zip(
            view.plane(float(y)), ((slice(None), window[1]), (window[0], slice(None))), strict=True
        ))  # fmt: skip
        if not x.size or not height.size:
            continue
        relative = (height - z) / high
        waist = half * (0.92 + 0.08 * np.minimum(relative**2, 1))
        tipped = height - z + 0.10 * (number - 8) * (1 - (x / half) ** 2)
        outer = deep * superellipse(x / waist, 3.5) * superellipse(tipped / high, 6)
        inner = (deep - 1.2) * superellipse(x / (waist - 0.7), 3.5) * superellipse(tipped / (high - 0.7), 6)
        bone.add(window, outer.astype(np.float32), np.minimum(inner, outer).astype(np.float32), solid=0.45)
        for side in SIDES:
            centre = np.array(
                [(side * 0.70 * half, y - 22, z + 0.18 * high), (side * 0.70 * half, y - 6, z + 0.1 * high)]
            )
            ring = tube(view, smooth_curve(centre, 5), np.full((5, 2), (2.9, 5.0)) * habitus.scale,
                        np.tile([1.0, 0.0, 0.0], (5, 1)))  # fmt: skip
            bone.add(*draw_band(view, ring, wall=0.9, ends=True), solid=0.25)
            if 1 <= number <= 12:
                reach = np.interp(number, [1, 12], [35, 22]) * habitus.scale
                process = np.array(
                    [(side * 9, y - 30, z + 4), (side * 0.6 * reach, y - 34, z + 7), (side * reach, y - 40, z + 8)]
                )
                band = tube(view, smooth_curve(process, 7), np.linspace(4.2, 3.4, 7))
                bone.add(*draw_band(view, band, wall=0.9, ends=True), solid=0.8)
        tip = np.array([(0, y - 34, z), (0.3, y - 44, z - 0.5 * pitch), (0.6, y - 50, z - 0.95 * pitch)])
        band = tube(view, smooth_curve(tip, 7), np.linspace(2.3, 3.2, 7))
        bone.add(*draw_band(view, band, wall=0.8, ends=True), solid=0.4)


def draw_shoulders(view: View, habitus: Habitus, rng: np.random.Generator, bone: Bone) -> None:
    """Add clavicles, manubrium, scapulae turned off the lungs, and the humeral heads."""
    s, top = habitus.scale, 0.5 * sum(habitus.apex) - 127
    x, z = view.plane(62.0)
    plate = (
        9 * superellipse(x / (26 * s * (1 + 0.10 * np.sin((z - 55) / 24))), 5) * superellipse((z - 74 - top) / 23, 6)
    )
    core = 7.5 * superellipse(x / (24.8 * s), 5) * superellipse((z - 74 - top) / 21.5, 6)
    bone.add(
        (slice(None), slice(None)), plate.astype(np.float32), np.minimum(core, plate).astype(np.float32), solid=0.7
    )
    for side in SIDES:
        raise_ = top + rng.normal(0, 3)
        clavicle = np.array([(15, 70, 88), (34, 74, 92), (62, 66, 99), (92, 44, 107), (124, 14, 113), (150, -6, 117)])
        clavicle = smooth_curve(clavicle * [side * s, 1, 1] + [0, 0, raise_], 41)
        radius = np.interp(np.linspace(0, 1, 41), [0, 0.12, 0.4, 0.7, 1], [8.6, 6.6, 5.3, 5.4, 6.2]) * (0.5 + 0.5 * s)
        bone.add(*draw_band(view, tube(view, clavicle, radius), wall=2.1, ends=True))
        out = rng.normal(4, 4)
        turn, shift = np.array([side * s, 1, 1]), np.array([side * out, 0, raise_ * 0.7])

        def place(points, turn=turn, shift=shift):
            return np.array(points) * turn + shift

        corners = place([(101, -92, 100), (112, -96, 40), (131, -96, -22), (140, -90, -8), (150, -82, 35),
                         (152, -60, 76), (140, -62, 92)])  # fmt: skip
        flat, _ = view.project(corners)
        bone.compact += 1.9 * _polygon(view, flat)
        for line, radius, wall in (
            (place([(101, -92, 100), (108, -95, 60), (117, -97, 15), (131, -96, -22)]), 1.5, 1.5),
            (place([(131, -96, -22), (140, -90, -6), (149, -82, 35), (152, -66, 72)]), 4.6, 1.7),
            (place([(107, -98, 78), (125, -104, 90), (150, -80, 110), (166, -45, 117)]), 4.4, 1.4),
            (place([(138, -62, 92), (143, -45, 99), (150, -28, 90)]), 5.0, 1.2),
        ):
            band = tube(view, smooth_curve(line, 21), radius)
            bone.add(*draw_band(view, band, wall=wall, ends=True), solid=0.8)
        head = place([(172, -45, 92)])[0]
        shaft = smooth_curve(place([(176, -44, 80), (186, -40, 50), (193, -38, 0), (198, -36, -60)]), 21)
        bone.add(*draw_band(view, tube(view, shaft, np.linspace(14, 11, 21)), wall=4.0, ends=True))
        centre, m = view.project(head[None])
        u, v = view.axes
        distance = np.hypot(u[None] - centre[0, 0], v[:, None] - centre[0, 1]) / m[0]
        ball = 2 * np.sqrt(np.maximum(23.0**2 - distance**2, 0))
        marrow = 2 * np.sqrt(np.maximum(21.6**2 - distance**2, 0))
        bone.add((slice(None), slice(None)), ball.astype(np.float32), marrow.astype(np.float32), solid=0.8)


def _polygon(view: View, corners: np.ndarray, times: int = 4) -> np.ndarray:
    """Return which share of each pixel lies in a polygon given by (u, v), (n, n) float32."""
    from PIL import Image, ImageDraw

    size = view.pixels * times
    pixels = [((u + view.side_mm / 2) / view.side_mm * size, (view.side_mm / 2 - v) / view.side_mm * size)
              for u, v in smooth_closed(corners)]  # fmt: skip
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).polygon(pixels, fill=255)
    return np.asarray(image.reduce(times), np.float32) / 255


def smooth_closed(corners: np.ndarray, count: int = 80) -> np.ndarray:
    """Return a closed curve near corners (n, 2), rounded."""
    from scipy.interpolate import PchipInterpolator

    closed = np.concatenate([corners, corners[:1]])
    at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    return PchipInterpolator(at, closed)(np.linspace(0, at[-1], count))
