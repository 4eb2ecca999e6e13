"""Teeth in a jaw: what each adds to enamel, dentine, pulp and fillings along the rays of a dental radiograph."""

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator

from lib.xray.geometry import superellipse


@dataclass(frozen=True)
class Tooth:
    """One tooth as it is seen from the cheek; lengths in mm.

    Heights `h` count from the tips of the cusps toward the root: the enamel ends at `crown`, the roots at `crown` +
    `root`.
    """

    x: float
    y: float
    jaw: int  # -1 upper, 1 lower
    molar: bool
    width: float
    deep: float
    crown: float
    root: float
    enamel: float
    lean: float
    pulp: float
    bends: tuple[float, ...]
    cusps: tuple[float, ...]
    treatment: tuple[tuple[str, float], ...] = field(default=())

    def local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions across the tooth and along it from the tips of the cusps."""
        dx, dy = x - self.x, (y - self.y) * self.jaw
        return dx - self.lean * (dy - self.crown), dy + self.lean * dx

    @property
    def neck(self) -> float:
        """Half the width where the enamel ends."""
        return (0.41 if self.molar else 0.37) * self.width


def draw_tooth(rng: np.random.Generator, x: float, occlusal: float, jaw: int, molar: bool, width: float) -> Tooth:
    """Draw a tooth whose mesial side stands at x, and whose cusps reach the occlusal plane."""
    crown = rng.normal(7.4 if molar else 8.2, 0.35)
    treatment = []
    chance = rng.random()
    if chance < (0.22 if molar else 0.12):
        treatment.append(("amalgam", rng.random()))
    elif chance < (0.38 if molar else 0.24):
        treatment.append(("composite", rng.random()))
    elif chance < 0.42:
        treatment.append(("metal_crown" if rng.random() < 0.35 else "root_filling", rng.random()))
    if rng.random() < 0.16:
        treatment.append(("caries", rng.random()))
    return Tooth(
        x=x + width / 2,
        y=occlusal + jaw * rng.uniform(0.1, 0.6),
        jaw=jaw,
        molar=molar,
        width=width,
        deep=rng.normal(10.3 if molar else 8.6, 0.4),
        crown=crown,
        root=rng.normal(13.4 if molar else 14.2, 0.8),
        enamel=rng.normal(1.36, 0.08),
        lean=rng.normal(0.0, 0.035),
        pulp=float(np.clip(rng.normal(1.0, 0.3), 0.35, 1.6)),
        bends=tuple(rng.normal(0, 0.7, 3)),
        cusps=tuple(rng.uniform(0.7, 1.2, 4)),
        treatment=tuple(treatment),
    )


def _cusps(tooth: Tooth, u: np.ndarray, lingual: bool) -> np.ndarray:
    """Return the depth of the chewing surface below the tips of the cusps at u = -1 to 1, mm."""
    a, b = tooth.cusps[2:] if lingual else tooth.cusps[:2]
    groove = 0.9 if tooth.molar else 0.35
    if tooth.molar:
        hills = np.maximum(a * np.exp(-(((u + 0.46) / 0.30) ** 2)), b * np.exp(-(((u - 0.44) / 0.30) ** 2)))
    else:
        hills = (0.5 * (a + b)) * np.exp(-((u / 0.42) ** 2))
    rim = 1.5 * np.maximum(np.abs(u) - 0.55, 0) ** 2 / 0.2
    return np.maximum(groove + 0.5 * lingual + rim + 0.6 - hills, 0.0)


def _profile(tooth: Tooth, h: np.ndarray, inset: np.ndarray | float = 0.0) -> np.ndarray:
    """Return half the width of the crown at height h."""
    w, c, n = tooth.width / 2, tooth.crown, tooth.neck
    heights = np.array([-1.0, 0.0, 0.16, 0.36, 0.60, 0.85, 1.0, 1.4]) * c
    widths = np.array([0.70 * w, 0.80 * w, 0.93 * w, w, 0.955 * w, 0.5 * (0.90 * w + n), n, 0.96 * n])
    return PchipInterpolator(heights, widths)(np.clip(h, -c, 1.4 * c)) - inset


def _block(tooth: Tooth, across: np.ndarray, h: np.ndarray, inset: np.ndarray | float, deep: np.ndarray | float):
    """Return the chord of the crown with a rind of thickness `inset` taken off all round, mm."""
    half = np.maximum(_profile(tooth, h, inset), 1e-3)
    u = across / half
    chord = 0
    for lingual in (False, True):
        below = h - _cusps(tooth, np.clip(u, -1, 1), lingual) - 1.25 * inset
        rise = superellipse(np.clip(1 - below / 2.6, 0, 1.0), 2.2)
        chord = chord + 0.5 * np.where(below > 0, rise, 0)
    return chord * np.maximum(deep, 0) * superellipse(np.clip(u, -1, 1), 2.8)


def roots_of(tooth: Tooth, across: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the chords of the roots and of the canals in them, mm."""
    below = (h - tooth.crown) / tooth.root
    spread = 0.215 * tooth.width
    if tooth.molar:
        feet = [(-1, 1.0, 0.34 * tooth.deep), (1, 0.96, 0.32 * tooth.deep)]
        feet += [(0, 1.04, 0.22 * tooth.deep)] if tooth.jaw < 0 else []
    else:
        feet = [(0, 1.0, 0.40 * tooth.deep)]
    total, canals = np.zeros(across.shape), np.zeros(across.shape)
    start = 0.10 if tooth.molar else -0.12
    if tooth.molar:
        fork = 0.30 - 0.12 * np.exp(-((across / (0.10 * tooth.width)) ** 2))
        bulk = tooth.neck * (1 - 0.10 * np.clip(below, 0, 1))
        trunk = 0.80 * tooth.deep * superellipse(np.clip(across / bulk, -1, 1), 2.5)
        total = trunk * (below > -0.12) * np.clip((fork - below) / 0.17, 0, 1) ** 0.5
    for k, (place, length, thick) in enumerate(feet):
        s = np.clip((below - start) / (length - start), 0, 1)
        centre = place * spread * (1.0 + 0.36 * s - 0.34 * s**2) + tooth.bends[k] * s**2.5
        width = (0.178 * tooth.width if tooth.molar else tooth.neck) * (1 - 0.30 * s - 0.22 * s**2)
        tip = np.sqrt(np.maximum(1 - np.maximum(s - 0.80, 0) ** 2 / 0.20**2, 0))
        half = np.maximum(width * tip, 1e-3)
        body = 2 * thick * (1 - 0.35 * s) * superellipse(np.clip((across - centre) / half, -1, 1), 2.2) * tip**0.7
        inside = (below > start) & (below < length)
        rise = np.clip((below - start) / 0.12, 0, 1) if tooth.molar else 1.0
        total = np.maximum(total, np.where(inside, body * rise, 0))
        bore = 0.46 * tooth.pulp**0.5 * (1.1 - 0.85 * s) * (1.0 if tooth.molar else 1.25)
        canal = 2.6 * bore * superellipse(np.clip((across - centre) / np.maximum(bore, 1e-3), -1, 1), 2.0)
        canals = np.maximum(canals, canal * np.clip((below + 0.06) / 0.10, 0, 1) * (s < 0.97))
    return total, canals


def chamber_of(tooth: Tooth, across: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return the chord of the pulp chamber with its horns, mm."""
    c, w = tooth.crown, tooth.width
    size = tooth.pulp**0.5
    x, y = across / (0.205 * w * size), (h - 0.86 * c) / (0.20 * c * size)
    room = np.maximum(1 - np.abs(x) ** 2.2 - np.abs(y) ** 2.0, 0) ** 0.75
    horns = 0
    for place in (-0.72, 0.72) if tooth.molar else (0.0,):
        dx = (across - place * 0.205 * w * size) / (0.055 * w)
        dy = (h - 0.68 * c) / (0.22 * c * size)
        horns = np.maximum(horns, 0.45 * np.maximum(1 - dx**2 - dy**2, 0) ** 0.7)
    return 0.30 * tooth.deep * size * np.maximum(room, horns)


def draw_tooth_chords(tooth: Tooth, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return the chords of a tooth's parts over a grid: enamel, dentine, crown, root, and fillings by material.

    Parameters
    ----------
    tooth : Tooth
    x, y : float array (n, m)
        Positions, mm.

    Returns
    -------
    dict of str to float array (n, m)
        mm; "crown" and "root" are outlines (the chord of all hard tissue in them).
    """
    across, h = tooth.local(x, y)
    crown_part = h < tooth.crown * (1.0 + 0.03 * np.cos(np.pi * across / tooth.neck))
    rind = tooth.enamel * np.clip(1 - (np.maximum(h, 0) / tooth.crown) ** 3.0, 0, 1) ** 1.2
    deep = tooth.deep * (0.80 + 0.20 * np.sin(np.pi * np.clip(h / tooth.crown, 0, 1) * 0.9 + 0.2))
    outer = np.where(crown_part, _block(tooth, across, h, 0.0, deep), 0)
    core = np.where(crown_part, np.minimum(_block(tooth, across, h, rind, deep - 2 * rind), outer), 0)
    root, canals = roots_of(tooth, across, h)
    root = np.where(crown_part, 0, root)
    dentine = np.where(crown_part, core, root)
    pulp = np.minimum(np.maximum(chamber_of(tooth, across, h), canals * (h > 0.95 * tooth.crown)), 0.75 * dentine)
    parts = {"enamel": outer - core, "dentine": dentine - pulp, "crown": outer, "root": root}
    for kind, how in tooth.treatment:
        _treat(tooth, kind, how, across, h, parts, canals)
    return parts


def _rounded(a: np.ndarray, b: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance to the corner of two edges at distances a and b (negative inside), rounded."""
    outside = np.hypot(np.maximum(a + radius, 0), np.maximum(b + radius, 0)) - radius
    return np.maximum(np.minimum(np.maximum(a, b), 0), outside)


def _treat(
    tooth: Tooth, kind: str, how: float, across: np.ndarray, h: np.ndarray, parts: dict, canals: np.ndarray
) -> None:
    """Replace tissue by a filling or take mineral away, in place."""
    w, c = tooth.width, tooth.crown
    u = across / w
    soft = lambda distance: np.clip(0.5 - distance / 0.10, 0, 1)  # noqa: E731  distance to an outline, mm, negative inside
    if kind in ("amalgam", "composite"):
        middle, reach = 0.06 * w * (how - 0.5), w * (0.19 + 0.09 * how)
        floor = c * (0.33 + 0.05 * np.cos(7 * u + 6 * how))
        distance = _rounded(np.abs(across - middle) - reach, h - floor, 0.7)
        if how > 0.35:  # a box toward a neighbour
            side = 1 if how > 0.68 else -1
            distance = np.minimum(distance, _rounded(0.16 * w - side * across, h - c * (0.60 + 0.06 * how), 0.5))
        inside = soft(distance)
        share = 0.55 if kind == "amalgam" else 0.62
        filled = inside * parts["crown"] * share
        scale = 1 - filled / np.maximum(parts["crown"], 1e-6)
        parts["enamel"], parts["dentine"] = parts["enamel"] * scale, parts["dentine"] * scale
        parts[kind] = parts.get(kind, 0) + filled
    elif kind == "metal_crown":
        shell = parts["enamel"]
        parts["metal"] = parts.get("metal", 0) + 0.75 * shell
        parts["enamel"] = np.zeros_like(shell)
    elif kind == "root_filling":
        parts["gutta_percha"] = parts.get("gutta_percha", 0) + np.where(
            h > 0.95 * c, 0.55 * canals * soft(h - c - tooth.root * 0.93), 0
        )
        plug = soft(np.hypot(across / 1.2, (h - 0.5 * c) / 1.1) - 0.19 * w) * parts["crown"] * 0.5
        scale = 1 - plug / np.maximum(parts["crown"], 1e-6)
        parts["enamel"], parts["dentine"] = parts["enamel"] * scale, parts["dentine"] * scale
        parts["composite"] = parts.get("composite", 0) + plug
    elif kind == "caries":
        side, depth = (1 if how > 0.5 else -1), 0.8 + 1.8 * ((how * 7) % 1)
        edge = _profile(tooth, h) - side * across
        height = (h - 0.50 * c) / (1.1 * np.clip(1.15 - edge / depth, 0.25, 1.0))
        lost = np.clip(1.1 - edge / depth, 0, 1) ** 0.6 * np.exp(-(height**2)) * (edge > -0.2) * 0.55
        parts["enamel"] = parts["enamel"] * (1 - lost)
        parts["dentine"] = parts["dentine"] * (1 - 0.6 * lost)
