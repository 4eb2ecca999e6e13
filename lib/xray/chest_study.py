"""Pneumothorax as a classification: simulated or public radiographs with masks, and the training of a backbone."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from pydicom import dcmread

from lib.backbones import backbone
from lib.files import atomic_path, resolve
from lib.localisation import read_runs, union_of_runs
from lib.parallel import in_parallel
from lib.xray.chest import Chest

MEAN, SD = 0.45, 0.28  # of grey values: the networks' input is standardised


def tube_lot(seed: int, with_finding: bool, chance: float) -> bool:
    """Return whether a patient has a chest tube: with a chance if there is a pneumothorax, never without."""
    return bool(with_finding and np.random.default_rng([seed, 71]).random() < chance)


def _one(job: tuple[int, int, bool, float]) -> tuple:
    seed, pixels, with_finding, chance = job
    image = Chest(seed).radiograph(pixels, pneumothorax=with_finding, chest_tube=tube_lot(seed, with_finding, chance))
    return image.grey.astype(np.float16), image.gap, image.tube, image.facts


def chests(
    seeds: range, path: str | Path, *, pixels: int = 128, tubes: float = 0.0, finding: str = "half", processes: int = 1
) -> dict:
    """Return radiographs of some seeds, made once and kept in a file.

    Parameters
    ----------
    seeds : range
    path : path
        Of the .npz file; if it holds what is asked for it is read.
    pixels : int
    tubes : float
        Chance of a chest tube if there is a pneumothorax; 0.8 makes the tube a shortcut.
    finding : {"half", "none"}
        Whether odd seeds have a pneumothorax, or nobody: the counterfactuals of the same patients.
    processes : int

    Returns
    -------
    dict
        grey (n, pixels, pixels) float16, gap and tube bool, label (n,) int, facts DataFrame.
    """
    if finding not in ("half", "none"):
        raise ValueError(f'finding must be "half" or "none", got {finding!r}.')
    path, asked = resolve(path), f"{seeds} {pixels} {tubes} {finding}"
    table = path.with_suffix(".csv")
    if path.exists() and table.exists():
        with np.load(path) as held:
            if str(held["asked"]) == asked:
                return {k: held[k] for k in ("grey", "gap", "tube", "label")} | {"facts": pd.read_csv(table)}
    jobs = [(int(seed), pixels, finding == "half" and seed % 2 == 1, tubes) for seed in seeds]
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


class Mirrored(keras.utils.PyDataset):
    """Batches in an order of their own, mirrored and shifted at random."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, batch: int, seed: int):
        super().__init__(workers=1, max_queue_size=4)
        self.images, self.labels, self.batch, self.seed, self.epoch = images, labels, batch, seed, 0

    def __len__(self):
        return max(len(self.images) // self.batch, 1)

    def on_epoch_end(self):
        """Go to the next epoch's order; called by Keras."""
        self.epoch += 1

    def __getitem__(self, number):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.images))
        chosen = order[number * self.batch : (number + 1) * self.batch]
        rng = np.random.default_rng([self.seed, self.epoch, number])
        images = self.images[chosen].copy()
        flip = rng.random(len(images)) < 0.5
        images[flip] = images[flip][:, :, ::-1]
        reach = images.shape[1] // 20
        for k, (down, right) in enumerate(rng.integers(-reach, reach + 1, (len(images), 2))):
            images[k] = np.roll(images[k], (down, right), (0, 1))
        return images, self.labels[chosen]


def train_chests(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    seed: int = 0,
    width: int | None = None,
    batch: int = 16,
) -> keras.Model:
    """Return a backbone trained on images (n, h, w, 1): AdamW, cosine decay after a tenth of warm-up.

    Rates: 2e-3, for transformers 1e-3.
    """
    model = backbone(name, images.shape[1:], width=width, seed=seed)
    rate = 1e-3 if name.startswith("vit") else 2e-3
    data = Mirrored(images, labels, batch=batch, seed=seed)
    steps = max(len(data) * epochs, 2)
    warm = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(rate / 10, steps - warm, warmup_target=rate, warmup_steps=warm)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(data, epochs=epochs, shuffle=False, verbose=0)
    return model
