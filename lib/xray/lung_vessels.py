"""Pulmonary arteries and veins: trees that fill a lung and taper from the hilum."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from lib.xray.geometry import View, add_tubes, tube
from lib.xray.thorax import Hemithorax

STEPS = 6  # points of a branch
CLASSES_MM = (0.0, 0.5, 0.7, 1.0)  # thin vessels are spread over the pixels by class of radius, larger ones are tubes


@dataclass(frozen=True)
class Tree:
    """Branches of a vascular tree: centre lines (n, STEPS, 3) and radii (n, 2) at their two ends, mm."""

    lines: np.ndarray
    radii: np.ndarray


def fill_points(cavity: Hemithorax, bodies: list, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` points (n, 3) spread over a lung, away from its surface and denser toward the base."""
    habitus, side = cavity.habitus, cavity.side
    shrunk = Hemithorax(habitus, side, inset=9.0)
    found, have = [], 0
    while have < count:
        low = np.array([0, -habitus.depth - 20, habitus.dome[side > 0] - 45])
        high = np.array([habitus.width, habitus.depth, shrunk.top])
        points = rng.uniform(low, high, (6 * count, 3)) * [side, 1, 1]
        keep = shrunk.contains(points)
        for body in bodies:
            keep &= ~body.contains(points)
        points = points[keep]
        height = (points[:, 2] - low[2]) / (high[2] - low[2])
        points = points[rng.random(len(points)) < 1.0 - 0.55 * height]
        found.append(points)
        have += len(points)
    return np.concatenate(found)[:count]


def grow(root: np.ndarray, heading: np.ndarray, targets: np.ndarray, tip_mm: float, rng: np.random.Generator) -> Tree:
    """Grow a tree from a root to all targets by splitting them in two again and again.

    Parameters
    ----------
    root, heading : array (3,)
        Where it starts, and the direction in which it starts.
    targets : array (n, 3)
        Where branches end.
    tip_mm : float
        Radius of a last branch.
    rng : numpy.random.Generator

    Notes
    -----
    A branch goes part of the way to the centre of the targets that it has to reach, then these are split across their
    longest axis (one step of a power iteration finds it well enough). Radii follow
    r^2.5 = r1^2.5 + r2^2.5, near Murray's cube.
    """
    lines, radii, leaves = [], [], []
    stack = [(root, heading / np.linalg.norm(heading), np.arange(len(targets)))]
    t = np.linspace(0, 1, STEPS)[:, None]
    while stack:
        start, direction, chosen = stack.pop()
        if len(chosen) <= 2:
            leaves += [(start, direction, targets[k]) for k in chosen]
            continue
        points = targets[chosen]
        centre = points.sum(0) / len(points)
        first = len(chosen) > len(targets) / 9  # segmental vessels part near the hilum
        end = start + ((0.10 if first else 0.30) + 0.12 * rng.random()) * (centre - start)
        length = math.dist(start, end)
        control = start + 0.42 * length * direction + 0.06 * length * rng.standard_normal(3)
        lines.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
        radius = tip_mm * len(chosen) ** (1 / 2.5)
        radii.append((radius, radius * 0.93))
        onward = (end - control) / (math.dist(end, control) + 1e-9)
        spread = points - centre
        far = spread[np.argmax((spread**2).sum(1))]
        order = np.argsort(spread @ (spread.T @ (spread @ far)))
        cut = int(min(max(round(len(chosen) * rng.uniform(0.36, 0.64)), 1), len(chosen) - 1))
        for part in (chosen[order[:cut]], chosen[order[cut:]]):
            aim = targets[part].sum(0) / len(part) - end
            new = 0.55 * onward + 0.45 * aim / (math.hypot(*aim) + 1e-9)
            stack.append((end, new / (math.hypot(*new) + 1e-9), part))
    start, direction, end = (np.array(column) for column in zip(*leaves, strict=True))
    length = np.linalg.norm(end - start, axis=1, keepdims=True)
    control = start + 0.42 * length * direction + 0.06 * length * rng.standard_normal(start.shape)
    start, control, end = start[:, None], control[:, None], end[:, None]
    last = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    tips = np.tile((tip_mm, 0.55 * tip_mm), (len(leaves), 1))
    return Tree(np.concatenate([np.array(lines), last]), np.concatenate([np.array(radii), tips]))


def hilum(side: int, scale: float, push: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the artery and the upper veins of a lung leave the mediastinum, (3,) each."""
    artery = np.array([side * 33 * scale + push, -14, 12 if side > 0 else 4])
    vein = np.array([side * 26 * scale + push, -2, -22])
    return artery, vein


def lung_trees(
    cavity: Hemithorax, bodies: list, rng: np.random.Generator, push: float = 0.0, tips: int = 240
) -> list[Tree]:
    """Return arteries and veins of one lung."""
    artery, vein = hilum(cavity.side, cavity.habitus.scale, push)
    outward = np.array([cavity.side * 1.0, -0.2, -0.9])
    trees = [grow(artery, outward, fill_points(cavity, bodies, tips, rng), 0.60, rng)]
    trees.append(
        grow(vein, np.array([cavity.side, 0.1, 0.1]), fill_points(cavity, bodies, int(0.7 * tips), rng), 0.55, rng)
    )
    return trees


def draw_trees(view: View, trees: list[Tree], shape=None) -> np.ndarray:
    """Return the chord length of vessels along each ray, (n, n) float32 mm.

    Parameters
    ----------
    view : View
    trees : list of Tree
    shape : callable, optional
        Moves points (n, 3), as a lung that retracts moves its vessels.
    """
    out = np.zeros((view.pixels, view.pixels), np.float32)
    for tree in trees:
        lines = tree.lines if shape is None else shape(tree.lines.reshape(-1, 3)).reshape(tree.lines.shape)
        mean = tree.radii.mean(axis=1)
        edges = [*CLASSES_MM, max(CLASSES_MM[-1], 0.8 * view.pixel_mm) + 1e-6]
        for low, high in pairwise(edges):
            chosen = (mean >= low) & (mean < high)
            if chosen.any():
                out += _splat(view, lines[chosen], tree.radii[chosen], 0.5 * (low + high))
        t = np.linspace(0, 1, STEPS)
        large = np.flatnonzero(mean >= edges[-1])
        bands = [tube(view, lines[k], np.interp(t, [0, 1], tree.radii[k])) for k in large]
        add_tubes(view, bands, out, ends=False)
    return out


def _splat(view: View, lines: np.ndarray, radii: np.ndarray, typical: float) -> np.ndarray:
    """Spread the volume of thin vessels over the pixels that they cross."""
    count = max(4, math.ceil(8.0 / view.pixel_mm))  # samples between two points of a branch
    between = (np.arange(count) + 0.5) / count
    a, b = lines[:, :-1, None], lines[:, 1:, None]
    points = (a + between[None, None, :, None] * (b - a)).reshape(-1, 3)
    step = np.linalg.norm(b - a, axis=-1).repeat(len(between), axis=2) / len(between)
    along = (np.arange(lines.shape[1] - 1)[:, None] + between).ravel() / (lines.shape[1] - 1)
    radius = radii[:, :1] + (radii[:, 1:] - radii[:, :1]) * along
    position, magnification = view.project(points)
    volume = np.pi * radius.ravel() ** 2 * step.ravel() * magnification**2
    column = (position[:, 0] + view.side_mm / 2) / view.pixel_mm - 0.5
    row = (view.side_mm / 2 - position[:, 1]) / view.pixel_mm - 0.5
    n, out = view.pixels, np.zeros(view.pixels**2)
    c0, r0 = np.floor(column).astype(int), np.floor(row).astype(int)
    for dr in (0, 1):
        for dc in (0, 1):
            weight = (1 - np.abs(row - r0 - dr)) * (1 - np.abs(column - c0 - dc))
            inside = (r0 + dr >= 0) & (r0 + dr < n) & (c0 + dc >= 0) & (c0 + dc < n)
            cells = (r0 + dr)[inside] * n + (c0 + dc)[inside]
            out += np.bincount(cells, (volume * weight)[inside], minlength=n * n)
    image = (out / view.pixel_mm**2).reshape(n, n).astype(np.float32)
    return gaussian_filter(image, 0.5 * typical * 1.1 / view.pixel_mm, truncate=3)
