"""Pneumothorax as a classification: simulated or public radiographs with masks."""

from pathlib import Path

import numpy as np
import pandas as pd
from pydicom import dcmread

from lib.files import atomic_path, resolve
from lib.localisation import read_runs, union_of_runs
from lib.parallel import in_parallel
from lib.xray.chest import Chest

MEAN, SD = 0.45, 0.28  # of grey values: the networks' input is standardised


FINDINGS = {"half": (1,), "none": (), "all": (0, 1)}  # whose seeds, modulo 2, have a pneumothorax


def has_tube(seed: int, chance: float) -> bool:
    """Return whether a patient has a chest tube."""
    return bool(np.random.default_rng([seed, 71]).random() < chance)


def _one(job: tuple[int, int, bool, bool]) -> tuple:
    seed, pixels, finding, tube = job
    image = Chest(seed).radiograph(pixels, pneumothorax=finding, chest_tube=tube)
    return image.grey.astype(np.float16), image.gap, image.tube, image.facts


def chests(
    seeds: range, path: str | Path, *, pixels: int = 128, finding: str = "half", tubes: float = 0.0,
    tube_alone: bool = False, processes: int = 1,
) -> dict:  # fmt: skip
    """Return radiographs of some seeds, made once and kept in a file.

    Parameters
    ----------
    seeds : range
    path : path
        Of the .npz file; if it holds what is asked for it is read.
    pixels : int
    finding : {"half", "none", "all"}
        Whether odd seeds have a pneumothorax, or nobody, or everybody: with the same seeds, counterfactuals.
    tubes : float
        Chance of a chest tube.
    tube_alone : bool
        Whether a patient without pneumothorax may have one. Otherwise the tube gives the finding away.
    processes : int

    Returns
    -------
    dict
        grey (n, pixels, pixels) float16, gap and tube bool, label (n,) int, facts DataFrame.
    """
    if finding not in FINDINGS:
        raise ValueError(f"finding must be one of {', '.join(FINDINGS)}, got {finding!r}.")
    path, asked = resolve(path), f"{seeds} {pixels} {finding} {tubes} {tube_alone}"
    table = path.with_suffix(".csv")
    if path.exists() and table.exists():
        with np.load(path) as held:
            if str(held["asked"]) == asked:
                return {k: held[k] for k in ("grey", "gap", "tube", "label")} | {"facts": pd.read_csv(table)}
    ill = {seed: seed % 2 in FINDINGS[finding] for seed in seeds}
    jobs = [(seed, pixels, ill[seed], (tube_alone or ill[seed]) and has_tube(seed, tubes)) for seed in seeds]
    done = {job[0]: one for job, one in in_parallel(_one, jobs, processes)}
    grey, gap, tube = (np.stack([done[seed][k] for seed in seeds]) for k in range(3))
    facts = pd.DataFrame([done[seed][3] for seed in seeds])
    held = {"grey": grey, "gap": gap, "tube": tube, "label": facts["pneumothorax"].to_numpy(int)}
    with atomic_path(table) as temporary:
        facts.to_csv(temporary, index=False)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, asked=asked, **held)
    return held | {"facts": facts}


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
        As :func:`chests`, without tubes.

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
    facts = pd.DataFrame({"seed": range(len(names)), "pneumothorax": label.astype(bool), "gap_share": gap.mean((1, 2))})
    return {"grey": np.array(grey), "gap": gap, "tube": np.zeros_like(gap), "label": label, "facts": facts}


def network_input(grey: np.ndarray) -> np.ndarray:
    """Return images (n, h, w) as the networks' input (n, h, w, 1), standardised."""
    return ((np.asarray(grey, np.float32) - MEAN) / SD)[..., None]
