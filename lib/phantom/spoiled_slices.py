"""CT slices of phantoms with and without what spoils them: the streaks of metal, a ring, the couch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from lib.body_mask import body_mask
from lib.files import atomic_path, resolve
from lib.paper import PHASES
from lib.parallel import in_parallel
from lib.phantom.labelling_reader import draw_scan_time
from lib.phantom.metal_streaks import MetalStreaks
from lib.phantom.scanner import Scanner
from lib.phantom.study import Examination, Scan
from lib.phantom.tissues import KIDNEY_TISSUES

KINDS = ("metal streak", "ring", "couch")
MATRIX, FOV_MM = 256, 480.0  # the couch has to be in the picture
PIXEL = FOV_MM / MATRIX
CHANGED = 0.03  # grey value by which a pixel has to change to belong to an artifact's mask, 20 HU
_METAL_HU = 3071.0
_SHELL_HU = -50.0  # carbon fibre and resin, around foam that is as good as air


class SpoiledSlice:
    """One slice through the kidneys of a phantom, scanned at a time of any phase, and what may be laid over it.

    Parameters
    ----------
    seed : int
        Of the patient; it also draws height and time.
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 29])
        exam = Examination(f"CT{seed}", seed, 1, "middle", MATRIX)
        exam.protocol = replace(exam.protocol, fov_mm=FOV_MM, off_centre=(0.0, 0.0), pad_outside=False)
        phase = PHASES[rng.integers(len(PHASES))]
        bottom, top = exam.anatomy.kidney_extent
        self.step = round((bottom + rng.uniform(0.25, 0.75) * (top - bottom)) / exam.protocol.spacing_mm)
        self.exam, self.phase, self.time = exam, phase, draw_scan_time(rng, phase)
        grid = Scanner(exam.protocol, exam.anatomy, MATRIX).grid
        self.streaks = MetalStreaks(grid, exam.anatomy, exam.protocol.half_frequency)

    def expose(self, number: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return HU, float32, and tissues of the slice; another number is another exposure, which differs in noise."""
        hu, tissues = self.exam.scan_slice(Scan(f"{self.phase} {number}", self.time, 0.0), self.step)
        return hu.astype(np.float32), tissues

    def artifact(self, kind: str, rng: np.random.Generator, hu: np.ndarray, body: np.ndarray, size: float = 1.0):
        """Return what an artifact adds to a slice.

        Parameters
        ----------
        kind : str
            One of `KINDS`.
        rng : numpy.random.Generator
            The same state draws the same place.
        hu : float array (MATRIX, MATRIX)
        body : bool array (MATRIX, MATRIX)
        size : float
            Relative to the usual size: the diameter of the metal, the breadth of the ring, the thickness of the couch.

        Returns
        -------
        float32 array (MATRIX, MATRIX)
            HU.

        Notes
        -----
        Metal: a disk of 3 mm radius anywhere in the body, with its streaks (:class:`MetalStreaks`). Ring: a detector
        channel that reads too little light writes a bright ring with dark borders around the axis of rotation. Couch:
        two shells of a curved couch, which the preparation has not removed; it lies outside the body alone, the other
        two inside.

        Raises
        ------
        ValueError
            If the kind is not known.
        """
        down, right = np.mgrid[:MATRIX, :MATRIX] * PIXEL + PIXEL / 2 - FOV_MM / 2  # mm from the axis of rotation
        if kind == "metal streak":
            places = np.argwhere(ndimage.binary_erosion(body, iterations=4))
            y, x = (places[rng.integers(len(places))] + 0.5) * PIXEL - FOV_MM / 2
            share = np.clip((3.0 * size - np.hypot(down - y, right - x)) / PIXEL + 0.5, 0, 1).astype(np.float32)
            added = ndimage.gaussian_filter(share, 0.6) * (_METAL_HU - hu) + self.streaks(share, rng)
            return np.where(body, added, 0).astype(np.float32)
        if kind == "ring":
            away = (np.hypot(down, right) - rng.uniform(20, 100)) / (2.5 * size)
            added = rng.uniform(60, 120) * (1 - away**2) * np.exp(-(away**2) / 2)
            return np.where(body, added, 0).astype(np.float32)
        if kind == "couch":
            lowest = down[body].max() + rng.uniform(2, 15)
            aside, thick = right - rng.uniform(-25, 25), 1.5 * size
            depth = down - (lowest - aside**2 / 1400)
            shells = np.maximum(*(np.clip((thick - np.abs(depth - at)) / PIXEL + 0.5, 0, 1) for at in (0, 28 * size)))
            there = (np.abs(aside) < 200) & ~ndimage.binary_dilation(body, iterations=2)
            return np.where(there, shells * (_SHELL_HU + 1000), 0).astype(np.float32)
        raise ValueError(f"artifact {kind!r} is not known: choose one of {', '.join(KINDS)}.")


def show(hu: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Return grey values of HU (H, W) from 0 (-200 HU or less) to 1 (500 HU or more), float32, whatever the field."""
    return np.clip((np.asarray(hu, np.float32) + 200) / 700, 0, 1).astype(np.float32)


def _one(job: tuple[int, int, int]) -> dict[str, np.ndarray]:
    seed, exposure, bank = job
    piece = SpoiledSlice(seed)
    hu, tissues = piece.expose(exposure)
    body = body_mask(hu, PIXEL)
    hu = np.where(body, hu, -1000).astype(np.float32)  # as the preparation leaves it
    kidneys = np.isin(tissues, KIDNEY_TISSUES)
    outside, inside = (ndimage.distance_transform_edt(part) * PIXEL for part in (~kidneys, kidneys))
    rng = np.random.default_rng([seed, 31])
    kinds = [kind for kind in KINDS for _ in range(bank)]
    laid = [piece.artifact(kind, rng, hu, body, rng.uniform(0.7, 1.4)) for kind in kinds]
    bank_of = np.stack(laid).astype(np.float16) if laid else np.zeros((0, MATRIX, MATRIX), np.float16)
    distance = np.where(kidneys, PIXEL / 2 - inside, outside - PIXEL / 2).astype(np.float32)
    return {"signal": hu, "field": body, "distance_mm": distance, "artifacts": bank_of}


def slices(
    seeds: range, path: str | Path, *, exposure: int = 0, bank: int = 0, processes: int = 1
) -> dict[str, np.ndarray]:
    """Return one slice of each of some patients, made once and kept in a file.

    Parameters
    ----------
    seeds : range
        Of the patients.
    path : path
        Of the .npz file; if it holds these slices it is read.
    exposure : int
        Its number, see `SpoiledSlice.expose`.
    bank : int
        How many artifacts of each kind are drawn for each slice.
    processes : int

    Returns
    -------
    dict
        seed (n,), signal (HU, -1000 outside the body), field (the body) bool, distance_mm (from the kidneys, negative
        inside), all (n, MATRIX, MATRIX); artifacts, HU, (n, 3 bank, MATRIX, MATRIX).
    """
    path, wanted = resolve(path), np.array([*seeds, exposure, bank])
    if path.exists():
        with np.load(path) as held:
            if np.array_equal(held["wanted"], wanted):
                return {name: held[name] for name in held if name != "wanted"}
    jobs = [(int(seed), exposure, bank) for seed in seeds]
    done = {job[0]: one for job, one in in_parallel(_one, jobs, processes)}
    arrays = {name: np.stack([done[seed][name] for seed in seeds]) for name in done[seeds[0]]}
    arrays = {"seed": np.array([*seeds]), **arrays}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, wanted=wanted, **arrays)
    return arrays


def from_bank(held: dict, index: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return a slice with an artifact of its bank, any of them, its HU times a strength."""
    bank = held["artifacts"][index]
    return held["signal"][index] + np.float32(strength) * bank[rng.integers(len(bank))].astype(np.float32)


def spoiled_slices(held: dict, places: int, sizes, seed: int) -> dict[str, np.ndarray]:
    """Return every slice with every artifact at several places and sizes.

    Parameters
    ----------
    held : dict
        Of :func:`slices`.
    places : int
    sizes : sequence of float
    seed : int

    Returns
    -------
    dict
        plate (index of the slice), kind, place, size of each image, and the arrays signal, mask (where the grey value
        changed by more than `CHANGED`) and field (n, MATRIX, MATRIX): the body, and for a couch all from the body's
        upper end to 60 mm below it.
    """
    rows: dict[str, list] = {name: [] for name in ("plate", "kind", "place", "size", "signal", "mask", "field")}
    for index, patient in enumerate(held["seed"]):
        piece, hu, body = SpoiledSlice(int(patient)), held["signal"][index], held["field"][index]
        heights = np.flatnonzero(body.any(axis=1))
        around = np.zeros_like(body)
        around[heights[0] : heights[-1] + round(60 / PIXEL)] = True
        for number, kind in enumerate(KINDS):
            for place in range(places):
                for size in sizes:
                    rng = np.random.default_rng([seed, index, number, place])  # sizes share a place
                    spoiled, field = hu + piece.artifact(kind, rng, hu, body, size), around if kind == "couch" else body
                    mask = np.abs(show(spoiled, field) - show(hu, field)) > CHANGED
                    for name, value in zip(rows, (index, kind, place, size, spoiled, mask, field), strict=True):
                        rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}
