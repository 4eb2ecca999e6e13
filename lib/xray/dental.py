"""A simulated dental radiograph on a storage-phosphor plate: bitewing or periapical."""

import zlib
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter

from lib.xray.beam import beam, density, in_basis
from lib.xray.teeth import Tooth, draw_tooth, draw_tooth_chords

ROWS, COLUMNS, PIXEL_MM = 484, 640, 0.064  # a plate of size 2: 31 x 41 mm
VIEWS = ("bitewing", "periapical")
UPPER_MM = ((False, 7.0), (False, 6.8), (True, 10.4), (True, 9.9), (True, 8.8))
LOWER_MM = ((False, 7.0), (False, 7.2), (True, 11.1), (True, 10.6), (True, 10.2))
CORNER_MM = 3.4


@dataclass(frozen=True)
class Plate:
    """What the scanner reads off a plate, and what is true of it.

    Attributes
    ----------
    signal : float32 array (rows, columns)
        Light that the scanner reads: 1 where nothing was in the beam's way.
    plate : bool array (rows, columns)
        False outside the plate's round corners.
    teeth, crowns : bool array (rows, columns)
        Hard tissue of teeth; their crowns alone.
    distance_mm : float32 array (rows, columns)
        From the teeth: negative inside.
    pixel_mm : float
    facts : dict
        A row of a table.
    """

    signal: np.ndarray
    plate: np.ndarray
    teeth: np.ndarray
    crowns: np.ndarray
    distance_mm: np.ndarray
    pixel_mm: float
    facts: dict


class Mouth:
    """A patient's teeth on one side, drawn from a seed.

    Parameters
    ----------
    seed : int
    view : {"bitewing", "periapical"}
        Both jaws' crowns, or the whole lower or upper teeth with their roots.
    """

    def __init__(self, seed: int, view: str = "bitewing"):
        if view not in VIEWS:
            raise ValueError(f"view={view!r} is not known: choose one of {', '.join(VIEWS)}.")
        self.seed, self.view = seed, view
        rng = self._rng("teeth")
        self.mirrored = bool(rng.random() < 0.5)  # the front teeth on the right: the patient's right side
        occlusal = 15.5 + rng.normal(0, 0.8)
        jaws = (-1, 1)
        if view == "periapical":
            jaws = (int(rng.choice([-1, 1])),)
            occlusal = 3.2 if jaws[0] > 0 else 27.8
        self.teeth: list[Tooth] = []
        start = rng.uniform(-5.5, 1.0)
        for jaw in jaws:
            x = start + (-2.8 if jaw > 0 else 0.0) + rng.normal(0, 0.5)
            size = rng.normal(1.0, 0.035)
            for molar, width in LOWER_MM if jaw > 0 else UPPER_MM:
                wide = width * size * rng.normal(1, 0.02)
                self.teeth.append(draw_tooth(rng, x, occlusal, jaw, molar, wide))
                x += wide + float(np.clip(rng.normal(-0.20, 0.12), -0.6, 0.5))
        self.crest_mm = {jaw: float(np.clip(rng.gamma(4.0, 0.42), 0.9, 4.5)) for jaw in jaws}
        self.cheek_mm = rng.uniform(11, 19)

    def _rng(self, *names: object) -> np.random.Generator:
        return np.random.default_rng([self.seed, *(zlib.crc32(str(name).encode()) for name in names)])

    def expose(self, noise: int = 0) -> Plate:
        """Return the plate as the scanner reads it; `noise` numbers repeated exposures of the same mouth."""
        y, x = (((np.arange(n) + 0.5) * PIXEL_MM).astype(np.float32) for n in (ROWS, COLUMNS))
        x, y = np.meshgrid(x, y)
        parts = {name: np.zeros(x.shape, np.float32) for name in ("enamel", "dentine", "crown", "root")}
        for tooth in self.teeth:
            low, high = sorted((tooth.y - tooth.jaw * 1.5, tooth.y + tooth.jaw * (tooth.crown + tooth.root + 2)))
            rows = slice(max(int(low / PIXEL_MM), 0), min(int(high / PIXEL_MM) + 1, ROWS))
            reach = 0.62 * tooth.width + 2.0
            columns = slice(
                max(int((tooth.x - reach) / PIXEL_MM), 0), min(max(int((tooth.x + reach) / PIXEL_MM) + 1, 0), COLUMNS)
            )
            if rows.stop <= rows.start or columns.stop <= columns.start:
                continue
            for name, chord in draw_tooth_chords(tooth, x[rows, columns], y[rows, columns]).items():
                whole = parts.setdefault(name, np.zeros(x.shape, np.float32))
                np.maximum(whole[rows, columns], chord, out=whole[rows, columns]) if name in ("crown", "root") else (
                    np.add(whole[rows, columns], chord, out=whole[rows, columns])
                )
        for name, chord in parts.items():  # no part of a mouth has an edge sharper than this
            parts[name] = gaussian_filter(chord, 0.05 / PIXEL_MM)
        compact, spongy, soft = self._jaws(x, y, parts)
        thickness = self._thickness(parts, compact, spongy, soft)
        primary = beam("dental").transmission(thickness)
        signal = self._read(primary, self._rng("noise", noise))
        teeth = (parts["crown"] > 0.6) | (parts["root"] > 0.6)
        distance = distance_transform_edt(~teeth) - distance_transform_edt(teeth)
        arrays = [signal, plate_outline(ROWS, COLUMNS, PIXEL_MM), teeth, parts["crown"] > 0.6,
                  (distance * PIXEL_MM).astype(np.float32)]  # fmt: skip
        if self.mirrored:
            arrays = [np.ascontiguousarray(array[:, ::-1]) for array in arrays]
        treated = [kind for tooth in self.teeth for kind, _ in tooth.treatment]
        side = "right" if self.mirrored else "left"
        facts = {"seed": self.seed, "view": self.view, "teeth": len(self.teeth), "side": side,
                 "fillings": len(treated) - treated.count("caries"), "caries": treated.count("caries")}  # fmt: skip
        return Plate(*arrays, PIXEL_MM, facts)

    def _jaws(self, x: np.ndarray, y: np.ndarray, parts: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the chords of compact bone, of spongy bone and of soft tissue, mm."""
        rng, compact, spongy = self._rng("bone"), np.zeros(x.shape), np.zeros(x.shape)
        soft = np.full(x.shape, self.cheek_mm) + 1.2 * _waves(rng, x.shape, 7.0)
        roots = parts["root"] > 0.35
        away = distance_transform_edt(~roots) * PIXEL_MM
        for jaw in sorted(self.crest_mm):
            mine = [tooth for tooth in self.teeth if tooth.jaw == jaw]
            necks = np.array([tooth.y + jaw * tooth.crown for tooth in mine])
            places = np.array([tooth.x for tooth in mine])
            line = np.interp(x[0], places, gaussian_filter(necks, 0.8, mode="nearest"))
            scallop = np.zeros(x.shape[1])
            for tooth in mine:  # the crest rises between teeth and dips where a root stands
                scallop += 0.55 * np.exp(-(((x[0] - tooth.x) / (0.33 * tooth.width)) ** 2))
            crest = line + jaw * (
                self.crest_mm[jaw] + scallop + 0.12 * gaussian_filter(rng.normal(size=x.shape[1]), 12) * 12
            )
            below = (y - crest[None]) * jaw
            bone = np.clip(below / 0.10 + 0.5, 0, 1)
            ligament = 0.75 * np.exp(-(((away - 0.09) / 0.09) ** 2)) * (away > 0)
            wide = np.clip(6.0 + 0.65 * below, 6.0, 11.0)
            wide = np.maximum(wide - 1.1 * parts["root"], 0.12 * wide) * (1 - ligament)
            spongy += bone * wide * self._trabeculae(rng, x.shape, jaw)
            plates = np.clip(1.3 + 0.14 * below, 1.3, 2.6)  # the cheek's and the tongue's side, seen face on
            compact += bone * plates * (1 - 0.5 * ligament) * np.where(parts["root"] > 0.35, 0.6, 1.0)
            compact += bone * 1.5 * np.exp(-(((below - 0.30) / 0.22) ** 2)) * np.clip(away / 0.3, 0, 1)
            compact += 2.6 * np.exp(-(((away - 0.36) / 0.13) ** 2)) * (below > 0.2)
            gum = np.clip((below + self.crest_mm[jaw] + 1.2) / 1.2, 0, 1)
            soft += gum * np.clip(3.0 + 0.35 * below, 0, 7)
        return compact, spongy, soft

    def _trabeculae(self, rng: np.random.Generator, shape: tuple[int, int], jaw: int) -> np.ndarray:
        """Return the density of spongy bone, mean about 1: struts, level in the lower jaw, finer in the upper."""
        total = np.ones(shape)
        scales = ((0.80, 1.6, 0.20), (0.42, 1.3, 0.17)) if jaw > 0 else ((0.55, 1.0, 0.18), (0.32, 1.0, 0.16))
        for size, stretch, amount in scales:
            field = rng.standard_normal(shape, dtype=np.float32)
            sigma = size / PIXEL_MM / 2
            smooth = gaussian_filter(field, (sigma, sigma * stretch)) - gaussian_filter(
                field, (2 * sigma, 2 * sigma * stretch)
            )
            smooth /= smooth.std()
            total += amount * (2.0 * np.exp(-(smooth**2) / 0.5) - 1.0 + 0.5 * smooth)
        return np.maximum(total + 0.12 * _waves(rng, shape, 2.5) + 0.10 * _waves(rng, shape, 6.0), 0.05)

    def _thickness(
        self, parts: dict, compact: np.ndarray, spongy: np.ndarray, soft: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return g/cm2 by material."""
        composite_share = 0.80 * parts["composite"] if "composite" in parts else 0  # glass in resin: near enamel
        tissues = {"enamel": parts["enamel"] + composite_share, "dentine": parts["dentine"],
                   "cortical_bone": compact, "spongiosa": spongy}  # fmt: skip
        flesh = np.maximum(soft, 0)
        water = 0.1 * in_basis("muscle")[0] * flesh
        mineral = 0.1 * in_basis("muscle")[1] * flesh
        for tissue, chord in tissues.items():
            water = water + 0.1 * in_basis(tissue)[0] * chord
            mineral = mineral + 0.1 * in_basis(tissue)[1] * chord
        thickness = {"water": water, "hydroxyapatite": mineral}
        metal = parts.get("amalgam", 0) * 1.0 + parts.get("metal", 0) * 1.0
        if np.ndim(metal):
            thickness["amalgam"] = 0.1 * density("amalgam") * np.minimum(metal, 4.0)
        if "gutta_percha" in parts:
            thickness["gutta_percha"] = 0.1 * density("gutta_percha") * parts["gutta_percha"]
        return thickness

    def _read(self, primary: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return what the scanner reads: scatter, quanta, the plate's blur and grain, the scanner's own noise."""
        scatter = 0.28 * gaussian_filter(primary, 5.0 / PIXEL_MM, mode="nearest", truncate=2.5)
        quanta = rng.uniform(1.2e6, 3.0e6) * PIXEL_MM**2 * beam("dental").swank
        counted = rng.poisson((primary + scatter) * quanta).astype(np.float32) / quanta
        blurred = 0.75 * gaussian_filter(counted, 0.055 / PIXEL_MM) + 0.25 * gaussian_filter(counted, 0.16 / PIXEL_MM)
        grain = 1 + 0.006 * gaussian_filter(rng.standard_normal(primary.shape, dtype=np.float32), 0.6)
        return np.maximum(blurred * grain + 0.0006 * rng.standard_normal(primary.shape), 2e-4).astype(np.float32)


def plate_outline(rows: int, columns: int, pixel_mm: float) -> np.ndarray:
    """Return where the plate is: a rectangle with round corners, bool (rows, columns)."""
    y, x = (np.abs((np.arange(n) + 0.5) * pixel_mm - n * pixel_mm / 2) - n * pixel_mm / 2 for n in (rows, columns))
    dx, dy = np.maximum(x + CORNER_MM, 0)[None], np.maximum(y + CORNER_MM, 0)[:, None]
    return np.hypot(dx, dy) < CORNER_MM - 0.05


def show(signal: np.ndarray, plate: np.ndarray, limits: tuple[float, float] = (0.85, 0.06)) -> np.ndarray:
    """Return grey values from 0 (black, much signal or no plate) to 1 (white), float32.

    Linear in the logarithm of the signal between two fixed limits: what happens in one place of a plate, an artifact
    for example, changes the grey of no other.
    """
    low, high = (-np.log(limit) for limit in limits)
    share = np.clip((-np.log(np.maximum(signal, 1e-4)) - low) / (high - low), 0, 1)
    return ((0.03 + 0.97 * share) * plate).astype(np.float32)


def _waves(rng: np.random.Generator, shape: tuple[int, int], size_mm: float) -> np.ndarray:
    """Return smooth noise of SD 1."""
    step = max(1, int(size_mm / PIXEL_MM / 4))
    coarse = rng.standard_normal((shape[0] // step + 2, shape[1] // step + 2))
    from scipy.ndimage import zoom

    field = zoom(gaussian_filter(coarse, 2), step, order=1)[: shape[0], : shape[1]]
    return (field - field.mean()) / field.std()
