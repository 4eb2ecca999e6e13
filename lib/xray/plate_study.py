"""Clean and spoiled dental plates at the size of the network, made once and kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.files import atomic_path, resolve
from lib.parallel import in_parallel
from lib.xray.dental import PIXEL_MM, Mouth, show
from lib.xray.plate_artifacts import KINDS, spoil

ROWS, COLUMNS = 192, 256
PIXEL = PIXEL_MM * 2.5
MEAN, SD = 0.42, 0.25  # of grey values: the network's input is standardised


def reduced(image: np.ndarray) -> np.ndarray:
    """Return a plate's array (484, 640) as means over 2.5 x 2.5 pixels, (192, 256) float32."""
    doubled = np.asarray(image, np.float32)[2:482].repeat(2, axis=0).repeat(2, axis=1)
    return doubled.reshape(ROWS, 5, COLUMNS, 5).mean((1, 3))


def _one(job: tuple[int, int]) -> dict[str, np.ndarray]:
    seed, noise = job
    plate = Mouth(seed).expose(noise)
    return {
        "signal": reduced(plate.signal),
        "field": reduced(plate.plate) > 0.5,
        "teeth": reduced(plate.teeth) > 0.5,
        "distance_mm": reduced(plate.distance_mm),
    }


def plates(seeds: range, path: str | Path, *, noise: int = 0, processes: int = 1) -> dict[str, np.ndarray]:
    """Return the plates of some seeds at the network's size, made once and kept in a file.

    Parameters
    ----------
    seeds : range
    path : path
        Of the .npz file; if it holds these seeds it is read.
    noise : int
        Number of the exposure, see `Mouth.expose`.
    processes : int

    Returns
    -------
    dict
        seed (n,), signal float32, field (the plate without its missing corners) and teeth bool, distance_mm float32
        (from the teeth, negative inside), all (n, 192, 256).
    """
    path, wanted = resolve(path), np.array([*seeds])
    if path.exists():
        with np.load(path) as held:
            if np.array_equal(held["seed"], wanted) and int(held["noise"]) == noise:
                return {name: held[name] for name in held if name != "noise"}
    done = {job[0]: one for job, one in in_parallel(_one, [(int(seed), noise) for seed in seeds], processes)}
    arrays = {name: np.stack([done[seed][name] for seed in seeds]) for name in done[seeds[0]]}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, seed=wanted, noise=noise, **arrays)
    return {"seed": wanted, **arrays}


def network_input(signal: np.ndarray, field: np.ndarray, show: Callable = show) -> np.ndarray:
    """Return plates (n, rows, columns) as the network's input (n, rows, columns, 1), standardised.

    `show` makes grey values of a signal and its field.
    """
    grey = np.stack([show(*pair) for pair in zip(signal, field, strict=True)])
    return ((grey - MEAN) / SD)[..., None].astype(np.float32)


def freshly_spoiled(held: dict, index: int, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return the signal of a plate with any artifact of any size; a ghost is that of any other plate."""
    other = held["signal"][rng.integers(len(held["signal"]))]
    kind, size = KINDS[rng.integers(len(KINDS))], rng.uniform(0.7, 1.4)
    return spoil(held["signal"][index], kind, rng, pixel_mm=PIXEL, size=size, strength=strength, other=other)[0]


def spoiled_set(held: dict, kinds, places: int, sizes, seed: int) -> dict[str, np.ndarray]:
    """Return every plate with every artifact at several places and sizes.

    Parameters
    ----------
    held : dict
        Of :func:`plates`.
    kinds : sequence of str
    places : int
    sizes : sequence of float
    seed : int

    Returns
    -------
    dict
        plate (index), kind, place, size of each image, and the arrays signal and mask (n, rows, columns).
    """
    rows: dict[str, list] = {name: [] for name in ("plate", "kind", "place", "size", "signal", "mask")}
    for index, signal in enumerate(held["signal"]):
        for number, kind in enumerate(kinds):
            for place in range(places):
                for size in sizes:
                    rng = np.random.default_rng([seed, index, number, place])  # sizes share place and shape
                    image, mask = spoil(signal, kind, rng, pixel_mm=PIXEL, size=size)
                    for name, value in zip(rows, (index, kind, place, size, image, mask), strict=True):
                        rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}
