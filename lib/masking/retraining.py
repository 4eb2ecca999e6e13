r"""Remove and retrain: how well a new network does without the voxels that a map ranks highest.

Masking shows a network images such as it has never seen, so that a fall of the probability may tell more about the
strange image than about what was removed. Hooker et al. 2019 ("ROAR") therefore remove the highest voxels from every
slice, of training and of test, and train a new network on what is left. A map has found what the task needs if the new
network is worse than one that was trained without as many random voxels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.cohort import Cohort, Standardisation, slice_weights
from lib.files import atomic_path
from lib.masking.controls import BLOCKS, DISC, RANDOM, content_free_maps, control_generator, random_blocks
from lib.networks import phase_net
from lib.patient_statistics import RESAMPLES, balanced_mean
from lib.provenance import begin
from lib.training import Schedule, Slices, predict, train
from lib.voxels import Selection, fill_values, upsample, voxel_count, voxel_magnitude

Name = tuple[str, str]  # method and layer
NOTHING: Name = ("nothing", "-")  # the slices as they are


class SlicesInMemory:
    """Slices that are held in memory, perhaps changed; `lib.training` reads them as it reads a cohort.

    Parameters
    ----------
    rows : DataFrame
        `series` and `slice` of each image.
    images : float array (n, H, W, C)
        Standardised.
    """

    def __init__(self, rows: pd.DataFrame, images: np.ndarray):
        self.images, self._places = images, pd.MultiIndex.from_frame(rows[["series", "slice"]])

    def read(self, rows: pd.DataFrame, standardisation: Standardisation) -> np.ndarray:
        """Return the images of rows, float32; they are standardised already."""
        found = self._places.get_indexer(pd.MultiIndex.from_frame(rows[["series", "slice"]]))
        if (found < 0).any():
            raise KeyError(f"{(found < 0).sum()} of {len(rows)} slices are not held in memory.")
        return self.images[found].astype("float32")

    def batches(
        self, rows: pd.DataFrame, standardisation: Standardisation, *, batch_size: int = 32
    ) -> Iterator[tuple[pd.DataFrame, np.ndarray, None]]:
        """Yield rows and their images, as `Cohort.batches` does, without body masks."""
        for start in range(0, len(rows), batch_size):
            chunk = rows.iloc[start : start + batch_size]
            yield chunk, self.read(chunk, standardisation), None


def read_slices(
    cohort: Cohort, rows: pd.DataFrame, standardisation: Standardisation
) -> tuple[SlicesInMemory, np.ndarray]:
    """Read slices into memory, as float16, with their body masks (n, H, W)."""
    parts = [(images.astype("float16"), body) for _, images, body in cohort.batches(rows, standardisation)]
    images, bodies = (np.concatenate(part) for part in zip(*parts, strict=True))
    return SlicesInMemory(rows, images), bodies


def predicted_class_maps(attributor: Attributor, name: Name, images: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
    """Return the magnitude of a map of every image, (n, h, w), for the class that the network predicts.

    It is not that of the labelled class: where a map depends on the class, the shape of what it removes would then tell
    a new network the label.
    """
    parts = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype("float32")
        classes = attributor.model.predict_on_batch(batch).argmax(axis=1)
        parts.append(voxel_magnitude(attributor(batch, classes, [name[0]])[name]))
    return np.concatenate(parts)


def control_values(name: Name, rows: pd.DataFrame, bodies: np.ndarray, cells: tuple[int, int], seed: int) -> np.ndarray:
    """Return what a control ranks, for every slice: random voxels, random blocks of a layer's cells, or the disc."""
    if name[0] == BLOCKS:
        drawn = zip(rows.itertuples(), bodies, strict=True)
        return np.stack([random_blocks(body, cells, control_generator(seed, row, 0, name[1])) for row, body in drawn])
    return content_free_maps(bodies, len(rows), whole_image=False)[name]


def control_of(name: Name) -> Name:
    """Return the control of a map's shape: random voxels for a map at the input, otherwise blocks of its layer."""
    return RANDOM if name[1] == "input" else (BLOCKS, name[1])


def without_highest(
    rows: pd.DataFrame,
    images: np.ndarray,
    bodies: np.ndarray,
    values: np.ndarray,
    fraction: float,
    fill: str,
    seed: int,
) -> np.ndarray:
    """Return the images with the highest share of the body's voxels overwritten, each slice for itself.

    Parameters
    ----------
    rows : DataFrame
        `series` and `slice`, from which the random numbers follow (ties, and the fill where it is random).
    images : float array (n, H, W, C)
    bodies : bool array (n, H, W)
    values : float array (n, h, w)
        What is ranked; enlarged to the images as blocks.
    fraction : float
        Share of the voxels of the body, in (0, 1].
    fill : str
        See `lib.voxels.fill_values`; Hooker et al. write the mean, which is "zero" here.
    seed : int

    Returns
    -------
    array (n, H, W, C)
    """
    changed = images.copy()
    for image, row in enumerate(rows.itertuples()):
        rng = np.random.default_rng([seed, int(row.series, 16), int(row.slice)])
        inside = np.flatnonzero(bodies[image])
        ranked = upsample(values[image], bodies.shape[1:]).ravel()[inside]
        chosen = Selection(ranked, voxel_count(fraction, len(inside)), "top").draw(rng.permutation(len(inside)))
        where = np.unravel_index(inside[chosen], bodies.shape[1:])
        changed[(image, *where)] = fill_values(images[image, None], fill, rng, bodies[image, None])[(0, *where)]
    return changed


@dataclass(frozen=True)
class Recipe:
    """How every network is trained: the paper's architecture by the short recipe of 02_train_network, at one size.

    Attributes
    ----------
    epochs, batch_size : int
    learning_rate : float
        At its highest.
    rotation, translation : float
        Largest augmentation, in degrees and in pixels of a 512 x 512 image.
    seed : int
        Of the first weights, the order of the slices and the augmentation.
    """

    epochs: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    rotation: float = 5.0
    translation: float = 5.0
    seed: int = 1


def retrain(
    folder: str | Path,
    images: Callable[[], SlicesInMemory],
    rows: pd.DataFrame,
    standardisation: Standardisation,
    recipe: Recipe,
    *,
    depends_on: dict,
    inputs: tuple = (),
) -> pd.DataFrame:
    """Train a new network on the training slices among `rows`, and predict the test slices with it.

    Parameters
    ----------
    folder : path
        For `model.keras` and `predictions.parquet`. What is finished is read again, and what was interrupted goes on,
        unless what it depends on has changed.
    images : callable
        Returns what the network sees; called only if there is something to train.
    rows : DataFrame
        patient, series, slice, phase and split of the slices.
    standardisation, recipe
    depends_on, inputs
        What the images follow from: parameters, and files.

    Returns
    -------
    DataFrame
        As from `lib.training.predict`.
    """
    facts = {"recipe": asdict(recipe), "standardisation": asdict(standardisation)} | depends_on
    folder = begin(folder, parameters=facts, inputs=inputs, code=("lib/masking/retraining.py",))
    if not (folder / "predictions.parquet").exists():
        size, parts, slices = standardisation.image_size, dict(iter(rows.groupby("split"))), images()
        keras.utils.set_random_seed(recipe.seed)
        network = phase_net(size, standardisation.channels, initializer="he_normal")
        seen = [
            Slices(slices, parts[split], standardisation, slice_weights(parts[split]), batch_size=recipe.batch_size,
                   seed=seed, keep=True)
            for split, seed in (("train", recipe.seed), ("val", None))
        ]  # fmt: skip
        schedule = Schedule(recipe.learning_rate, max_epochs=recipe.epochs, decay="cosine")
        train(network, *seen, schedule, folder / "training.npz", clip_norm=1.0, seed=recipe.seed,
              rotation=recipe.rotation, translation=recipe.translation * size / 512)  # fmt: skip
        with atomic_path(folder / "model.keras") as file:
            network.save(file)
        with atomic_path(folder / "predictions.parquet") as file:
            predict(network, slices, parts["test"], standardisation).to_parquet(file)
    return pd.read_parquet(folder / "predictions.parquet")


def summarise_retrained(
    predictions: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return the accuracy on test slices after each removal, and its difference from the control of the same shape.

    Parameters
    ----------
    predictions : DataFrame
        One row per test slice and network: `repeat`, `method`, `layer`, `fraction` (0 for NOTHING), patient, series,
        slice, phase, predicted.
    rng, resamples
        See `lib.patient_statistics.balanced_mean`.

    Returns
    -------
    DataFrame
        One row per map or control and fraction: `method`, `layer`, `fraction`, `accuracy`, `low`, `high` (per cent,
        every phase weighs the same; 95 % interval that resamples patients), `lowest`, `highest` (of the repeats),
        `difference`, `difference_low`, `difference_high` (accuracy minus that of the control, in points; empty for
        controls), `lower` (repeats in which the map's accuracy is below the control's), `repeats`.
    """
    right = predictions.assign(right=100.0 * (predictions["phase"] == predictions["predicted"]))
    slices, names = ["patient", "phase", "series", "slice"], ["method", "layer", "fraction"]
    wide = right.pivot_table(index=slices, columns=[*names, "repeat"], values="right")
    patients, phases = (wide.index.get_level_values(level) for level in slices[:2])

    def mean(values: np.ndarray) -> np.ndarray:
        return balanced_mean(values, patients, phases, rng=rng, resamples=resamples)

    rows = []
    for method, layer, fraction in predictions[names].drop_duplicates().itertuples(index=False):
        own = wide[method, layer, fraction]
        accuracy, single = mean(own.mean(axis=1).to_numpy()[:, None])[0], mean(own.to_numpy())[:, 0]
        facts = (method, layer, fraction, *accuracy, single.min(), single.max())
        control = (*control_of((method, layer)), fraction)
        if _is_map(method) and control in wide.columns.droplevel("repeat"):
            less = own - wide[control]
            facts += (*mean(less.mean(axis=1).to_numpy()[:, None])[0], (mean(less.to_numpy())[:, 0] < 0).sum())
        else:
            facts += (np.nan, np.nan, np.nan, np.nan)
        rows.append((*facts, own.shape[1]))
    columns = [*names, "accuracy", "low", "high", "lowest", "highest"]
    columns += ["difference", "difference_low", "difference_high", "lower", "repeats"]
    return pd.DataFrame(rows, columns=columns)


def _is_map(method: str) -> bool:
    return method not in (NOTHING[0], RANDOM[0], BLOCKS, DISC[0])


def names_of(text: str) -> list[Name]:
    """Return methods and layers, given as "saliency/input grad_cam/conv4b", followed by the controls of their shapes.

    Raises
    ------
    ValueError
        If a name has no layer.
    """
    found = [tuple(word.partition("/")[::2]) for word in text.split()]
    if not found or not all(layer for _, layer in found):
        raise ValueError(f"maps={text!r}: expected methods with layers, such as 'saliency/input grad_cam/conv4b'.")
    return [*found, *dict.fromkeys(control_of(name) for name in found), DISC]


def layers_of(names: Sequence[Name]) -> list[str]:
    """Return the layers that an `Attributor` is asked for."""
    return list(dict.fromkeys(layer for method, layer in names if layer not in ("input", "-")))
