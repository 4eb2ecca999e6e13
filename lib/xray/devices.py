"""What lies on and in a patient besides anatomy: chest tubes, leads, lines, folds of skin."""

from dataclasses import dataclass

import numpy as np

from lib.xray.beam import density
from lib.xray.geometry import View, draw_band, smooth_curve, tube
from lib.xray.thorax import Habitus


@dataclass(frozen=True)
class Devices:
    """Things that are there whether or not there is a pneumothorax."""

    leads: tuple[np.ndarray, ...] = ()
    electrodes: tuple[tuple[float, float], ...] = ()
    line: np.ndarray | None = None
    fold: tuple[float, float, float, float] | None = None

    def draw(self, view: View, thickness: dict[str, np.ndarray]) -> None:
        """Add to the line integrals, in place."""
        shape = (view.pixels, view.pixels)
        for name in ("pvc", "barium_sulphate", "copper"):
            thickness.setdefault(name, np.zeros(shape, np.float32))
        for lead in self.leads:
            window, chord, _ = draw_band(view, tube(view, lead, 0.75), ends=True)
            thickness["pvc"][window] += 0.1 * density("pvc") * chord
            window, chord, _ = draw_band(view, tube(view, lead, 0.45), ends=True)
            thickness["copper"][window] += 0.1 * 1.1 * chord
        for x, z in self.electrodes:
            across, height = view.plane(118.0)
            r = np.hypot(across - x, height - z)
            thickness["copper"] += (0.1 * density("copper") * 0.10 * (r < 4.5) + 0.02 * (r < 14)).astype(np.float32)
        if self.line is not None:
            window, outer, inner = draw_band(view, tube(view, self.line, 1.15), wall=0.45, ends=True)
            thickness["pvc"][window] += 0.1 * density("pvc") * (outer - inner)
            thickness["barium_sulphate"][window] += 0.1 * 0.22 * (outer - inner)
        if self.fold is not None:
            x0, slope, width, thick = self.fold
            across, height = view.plane(-105.0)
            beyond = np.abs(across) * np.sign(x0) * np.sign(across) - abs(x0) * np.sign(x0)
            beyond = (across * np.sign(x0)) - abs(x0) - slope * height - 5 * np.sin(height / 40)
            fade = np.clip((110 - np.abs(height)) / 40, 0, 1)
            ridge = thick * np.exp(-np.maximum(-beyond, 0) / width) / (1 + np.exp(beyond / 0.4))
            thickness["water"] += (0.1 * ridge * fade).astype(np.float32)


def draw_devices(rng: np.random.Generator, habitus: Habitus) -> Devices:
    """Draw leads with electrodes (in one patient of three), a central line (of six) and a fold of skin (of four)."""
    leads, electrodes, front = [], [], habitus.depth + 28.0
    s = habitus.scale
    if rng.random() < 0.33:
        for side in (-1, 1):
            for height in rng.permutation([rng.uniform(78, 104), rng.uniform(-105, -40)])[: rng.integers(1, 3)]:
                start = np.array([side * rng.uniform(70, 125) * s, front, height])
                electrodes.append((float(start[0]), float(start[2])))
                middle = start + np.array([rng.normal(0, 25), 2, rng.normal(-40, 30)])
                end = np.array([rng.normal(0, 60), front, -210.0])
                leads.append(
                    smooth_curve(np.array([start, middle, 0.5 * (middle + end) + [rng.normal(0, 22), 0, 0], end]), 60)
                )
    line = None
    if rng.random() < 0.17:
        side = rng.choice([-1, 1], p=[0.75, 0.25])
        line = smooth_curve(np.array([
            (side * 40, 60, 210), (side * 33, 45, 150), (side * 24 * s, 25, 105), (-15 * s, 10, 60),
            (-19 * s, 8, rng.uniform(-5, 30)),
        ]), 60)  # fmt: skip
    fold = None
    if rng.random() < 0.25:
        side = rng.choice([-1, 1])
        fold = (side * rng.uniform(72, 118) * s, rng.uniform(-0.25, 0.25), rng.uniform(8, 22), rng.uniform(4, 9))
    return Devices(tuple(leads), tuple(electrodes), line, fold)


def draw_tube(
    view: View, side: int, habitus: Habitus, rng: np.random.Generator, thickness: dict[str, np.ndarray]
) -> np.ndarray:
    """Add a chest tube (PVC with a stripe of barium sulphate) in place and return its chord, (n, n) mm.

    It enters between the ribs at the side and runs up to the apex, or down behind the dome.
    """
    s, w = habitus.scale, habitus.width
    entry = np.array([side * (w + habitus.wall + 45), 10, rng.uniform(-70, -25)])
    wall = np.array([side * (w + 2), 0, entry[2] + rng.uniform(8, 25)])
    if rng.random() < 0.8:
        inner = np.array([side * (w - rng.uniform(10, 24)), -25, wall[2] + rng.uniform(30, 55)])
        tip = np.array([side * rng.uniform(42, 66) * s, -40, rng.uniform(62, 96)])
        points = [entry, wall, inner, 0.55 * inner + 0.45 * tip + np.array([side * 7, -5, 0]), tip]
    else:
        points = [
            entry,
            wall,
            wall + np.array([-side * 22, -30, -6]),
            np.array([side * rng.uniform(48, 75), -60, wall[2] - rng.uniform(5, 40)]),
        ]
    line = smooth_curve(np.array(points), 80)
    radius = rng.uniform(3.2, 4.8)
    window, outer, inner = draw_band(view, tube(view, line, radius), wall=0.28 * radius, ends=True)
    thickness["pvc"][window] += 0.1 * density("pvc") * (outer - inner)
    turned = line + 0.55 * radius * np.array([np.cos(0.6), 0.0, np.sin(0.6)])
    ports = (np.arange(len(line)) % 9 < 7) | (np.arange(len(line)) < 58)  # the stripe is cut by the side holes
    for start in np.flatnonzero(ports[:-1] & ports[1:]):
        piece, chord, _ = draw_band(view, tube(view, turned[start : start + 2], 0.55), ends=True)
        thickness["barium_sulphate"][piece] = np.maximum(thickness["barium_sulphate"][piece], 0.1 * 0.9 * chord)
    total = np.zeros((view.pixels, view.pixels), np.float32)
    total[window] = outer
    return total
