r"""Remove and retrain: how well a new network does without the voxels that a map ranks highest.

Masking shows a network images such as it has never seen, so that a fall of the probability may tell more about the
strange image than about what was removed. Hooker et al. 2019 ("ROAR") therefore remove the highest voxels from every
slice, of training and of test, and train a new network on what is left. If the new network is worse than one that was
trained without as many random voxels, what the map marks matters more than scattered voxels do. The reverse does not
follow: what was removed may be there a second time, in another organ.
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
from lib.masking.controls import BLOCKS, BRIGHTNESS, content_free_maps, control_generator, image_maps, random_blocks
from lib.networks import phase_net
from lib.provenance import begin
from lib.training import Schedule, Slices, native_precision, predict, train
from lib.voxels import Selection, fill_values, upsample, voxel_count, voxel_magnitude

Name = tuple[str, str]  # method and layer


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


def maps_of_all_classes(
    attributor: Attributor, names: Sequence[Name], images: np.ndarray, *, batch_size: int = 32
) -> dict[Name, np.ndarray]:
    """Return the magnitude of maps of every image, the mean over the classes, as (n, h, w) by name.

    A map of one class would not do. Its shape tells which class it is of, and a new network could read the answer of
    the explained network from the hole that the map leaves.
    """
    methods, classes = list(dict.fromkeys(method for method, _ in names)), attributor.model.output_shape[-1]
    parts: dict[Name, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].astype("float32")
        found = [attributor(batch, np.full(len(batch), number), methods) for number in range(classes)]
        for name in names:
            parts[name].append(np.mean([voxel_magnitude(maps[name]) for maps in found], axis=0))
    return {name: np.concatenate(values) for name, values in parts.items()}


def control_values(
    name: Name, rows: pd.DataFrame, images: np.ndarray, bodies: np.ndarray, cells: tuple[int, int], seed: int
) -> np.ndarray:
    """Return what a control ranks on every slice, (n, h, w).

    Random voxels, random blocks of a layer's cells, a disc about the body's centroid, or the brightness of the image.
    """
    if name[0] == BLOCKS:
        drawn = zip(rows.itertuples(), bodies, strict=True)
        return np.stack([random_blocks(body, cells, control_generator(seed, row, 0, name[1])) for row, body in drawn])
    if name == BRIGHTNESS:
        return image_maps(images, bodies)[name]
    return content_free_maps(bodies, len(rows), whole_image=False)[name]


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
        What is ranked; enlarged to the images as blocks. Among cells of equal value, whole cells are drawn.
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
        inside, shape = np.flatnonzero(bodies[image]), bodies.shape[1:]
        ranked = upsample(values[image], shape).ravel()[inside]
        cells = upsample(rng.permutation(values[image].size).reshape(values[image].shape), shape).ravel()[inside]
        ties = cells * len(inside) + rng.permutation(len(inside))  # cell by cell
        where = np.unravel_index(inside[Selection(ranked, voxel_count(fraction, len(inside)), "top").draw(ties)], shape)
        written = fill_values(images[image, None].astype("float32"), fill, rng, bodies[image, None])
        changed[(image, *where)] = written[(0, *where)]
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
                   seed=seed)
            for split, seed in (("train", recipe.seed), ("val", None))
        ]  # fmt: skip
        schedule = Schedule(recipe.learning_rate, max_epochs=recipe.epochs, decay="cosine")
        train(network, *seen, schedule, folder / "training.npz", clip_norm=1.0, seed=recipe.seed,
              rotation=recipe.rotation, translation=recipe.translation * size / 512, precision=native_precision()
        )  # fmt: skip
        with atomic_path(folder / "model.keras") as file:
            network.save(file)
        with atomic_path(folder / "predictions.parquet") as file:
            predict(network, slices, parts["test"], standardisation).to_parquet(file)
    return pd.read_parquet(folder / "predictions.parquet")
