"""Pneumothorax as a classification: simulated or public radiographs with masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom import dcmread

from lib.files import atomic_path, resolve
from lib.maps.localisation import read_runs, union_of_runs
from lib.parallel import in_parallel
from lib.xray.chest import Chest

PARTS = ("grey", "gap", "tube", "label")
MEAN, SD = 0.45, 0.28  # of grey values: the networks' input is standardised


def has_tube(seed: int, chance: float) -> bool:
    """Return whether a patient has a chest tube."""
    return bool(np.random.default_rng([seed, 71]).random() < chance)


def _one(job: tuple[int, int, tuple[tuple[bool, float], ...]]) -> list[tuple]:
    seed, pixels, states = job
    patient, images = Chest(seed), []
    for finding, tubes in states:
        image = patient.radiograph(pixels, pneumothorax=finding, chest_tube=has_tube(seed, tubes))
        images.append((image.grey.astype(np.float16), image.gap, image.tube))
    return images


def chests(
    seeds: range,
    path: str | Path,
    states: Mapping[str, tuple[bool, float]],
    *,
    pixels: int = 128,
    processes: int = 1,
) -> dict[str, dict]:
    """Return radiographs of patients in one or several states, made once and kept in a file.

    Parameters
    ----------
    seeds : range
        The patients.
    path : path
        Of the .npz file; if it holds what is asked for it is read.
    states : mapping of str to (bool, float)
        By name, whether they have a pneumothorax, and the chance of a chest tube. Between the states of a patient
        nothing else changes: they are counterfactuals.
    pixels, processes : int

    Returns
    -------
    dict of str to dict
        By state: grey (n, pixels, pixels) float16, gap and tube bool, label (n,) int.
    """
    path, asked = resolve(path), f"{seeds} {pixels} {dict(states)}"
    if path.exists():
        with np.load(path) as held:
            if str(held["asked"]) == asked:
                return {state: {part: held[f"{state}/{part}"] for part in PARTS} for state in states}
    jobs = [(seed, pixels, tuple(states.values())) for seed in seeds]
    done = {job[0]: images for job, images in in_parallel(_one, jobs, processes)}
    found = {}
    for number, (state, (finding, _)) in enumerate(states.items()):
        images = [done[seed][number] for seed in seeds]
        arrays = [np.stack([image[k] for image in images]) for k in range(3)]
        found[state] = dict(zip(PARTS, (*arrays, np.full(len(images), int(finding))), strict=True))
    flat = {f"{state}/{part}": array for state, parts in found.items() for part, array in parts.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, asked=asked, **flat)
    return found


def joined(*sets: dict) -> dict:
    """Return sets of images as one."""
    return {part: np.concatenate([held[part] for held in sets]) for part in PARTS}


def public_chests(folder: str | Path, *, pixels: int = 128, limit: int = 0, seed: int = 0) -> dict:
    """Return the radiographs and masks of SIIM-ACR Pneumothorax Segmentation from somebody's own copy.

    Parameters
    ----------
    folder : path
        Holds `dicom-images-train/**/<ImageId>.dcm` and `train-rle.csv`.
    pixels : int
        The images' side; that of the files has to be a multiple of it.
    limit : int
        Images at most, drawn at random; 0 takes all.
    seed : int

    Returns
    -------
    dict
        As a state of :func:`chests`, without tubes.

    Raises
    ------
    FileNotFoundError
        If the table, or every image of it, is missing.
    """
    folder = resolve(folder)
    table = folder / "train-rle.csv"
    if not table.exists():
        raise FileNotFoundError(f"{table} is missing: the folder of SIIM-ACR has train-rle.csv and dicom-images-train.")
    runs = read_runs(table)
    files = {file.stem: file for file in sorted((folder / "dicom-images-train").rglob("*.dcm"))}
    names = sorted(runs.keys() & files.keys())
    if not names:
        raise FileNotFoundError(f"none of the {len(runs)} images of {table.name} is among {len(files)} DICOM files.")
    if limit and limit < len(names):
        names = sorted(np.random.default_rng(seed).choice(names, limit, replace=False))
    grey, gap = [], []
    for name in names:
        dataset = dcmread(files[name])
        values = dataset.pixel_array.astype(np.float32)
        values = values.max() - values if dataset.PhotometricInterpretation == "MONOCHROME1" else values
        step = values.shape[0] // pixels
        if step * pixels != values.shape[0] or values.shape[0] != values.shape[1]:
            raise ValueError(f"an image has {values.shape} pixels: its side is no multiple of {pixels}.")
        small = values.reshape(pixels, step, pixels, step).mean((1, 3))
        low, high = np.quantile(small, [0.01, 0.99])
        grey.append(np.clip((small - low) / max(high - low, 1e-6), 0, 1).astype(np.float16))
        gap.append(union_of_runs(runs[name], values.shape, step))
    gap = np.array(gap)
    label = np.array([bool(runs[name]) for name in names], int)
    return {"grey": np.array(grey), "gap": gap, "tube": np.zeros_like(gap), "label": label}


def network_input(grey: np.ndarray) -> np.ndarray:
    """Return images (n, h, w) as the networks' input (n, h, w, 1), standardised."""
    return ((np.asarray(grey, np.float32) - MEAN) / SD)[..., None]
