"""Masking experiment: overwrite the voxels that a map ranks highest or lowest, and see what the probability becomes.

Philbrick et al. 2018 rank each map by its absolute value, overwrite the upper or (as control) lower 10 % of the image's voxels with
random values, and report 100 * p_masked / p_original of the labelled class, on correctly classified slices.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from lib.attribution import Attributor
from lib.gradients import compiled
from lib.paper import PHASES
from lib.provenance import atomic_path, resolve

REGIONS = ("top", "bottom", "random")
FILLS = ("normal", "uniform", "range", "shuffle")
COLUMNS = (
    *("network", "patient", "series", "slice", "phase", "method", "layer", "region", "within", "score", "fill"),
    *("fraction", "draw", "p_original", "p_masked", "relative_probability"),
)


def upsample(maps: np.ndarray, shape: tuple[int, int], interpolation: str = "nearest") -> np.ndarray:
    """Resize maps to an image's size.

    Parameters
    ----------
    maps : float array, (n, H', W')
    shape : (int, int)
        Height and width in voxels.
    interpolation : {"nearest", "bilinear"}
        "nearest" shows a layer's cells as blocks of voxels; "bilinear" runs from cell centre to cell centre, flat beyond the last.

    Returns
    -------
    float array, (n, H, W)
    """
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"interpolation={interpolation!r} is not known: choose nearest or bilinear.")
    for axis, size in zip((1, 2), shape, strict=True):
        cells = maps.shape[axis]
        if cells == size:
            continue
        if interpolation == "nearest":
            maps = np.take(maps, (2 * np.arange(size) + 1) * cells // (2 * size), axis=axis)
            continue
        position = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        low = np.minimum(position.astype(int), max(cells - 2, 0))
        share = np.expand_dims((position - low).astype(maps.dtype), (0, 3 - axis))
        high = np.take(maps, np.minimum(low + 1, cells - 1), axis=axis)
        maps = np.take(maps, low, axis=axis) * (1 - share) + high * share
    return maps


def voxel_magnitude(maps: np.ndarray) -> np.ndarray:
    """Return |map|, and its maximum over channels where the map has channels: (n, H, W)."""
    maps = np.abs(maps)
    return maps.max(axis=-1) if maps.ndim == 4 else maps


class _Selection:
    """The `count` highest (or lowest) of some values: those that are sure, and the ties at the boundary to choose among."""

    def __init__(self, values: np.ndarray, count: int, region: str):
        rank = len(values) - count if region == "top" else count - 1
        self.sure, self.ties, self.missing = np.zeros(len(values), bool), np.zeros(0, int), 0
        if count:
            boundary = np.partition(values, rank)[rank]
            self.sure = values > boundary if region == "top" else values < boundary
            self.ties = np.flatnonzero(values == boundary)
            self.missing = count - np.count_nonzero(self.sure)

    def draw(self, keys: np.ndarray) -> np.ndarray:
        """Return the chosen values as a mask; among the ties the ones with the smallest of the random, distinct `keys` win."""
        chosen = self.sure.copy()
        if self.missing == len(self.ties):
            chosen[self.ties] = True
        elif self.missing:
            chosen[self.ties[np.argpartition(keys[self.ties], self.missing - 1)[: self.missing]]] = True
        return chosen


def _count(fraction: float, voxels: int) -> int:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected more than 0 and at most 1.")
    return round(fraction * voxels)


def select_voxels(
    maps: np.ndarray,
    fraction: float = 0.1,
    region: str = "top",
    *,
    rng: np.random.Generator,
    within: np.ndarray | None = None,
    magnitude: bool = True,
) -> np.ndarray:
    """Choose a fraction of each image's voxels by the rank of a map.

    Parameters
    ----------
    maps : float array, (n, H, W)
        At the image's size (see `upsample`).
    fraction : float
        In (0, 1].
    region : {"top", "bottom", "random"}
        The voxels with the highest values, the lowest, or any.
    rng : numpy.random.Generator
        Chooses among voxels of equal value at the boundary, and nowhere else.
    within : bool array, (n, H, W), optional
        Voxels that may be chosen; None for the whole image.
    magnitude : bool
        Whether |map| is ranked, as in the paper, rather than the signed map.

    Returns
    -------
    bool array, (n, H, W)
        Exactly round(fraction * H * W) voxels an image, or that fraction of the voxels of `within`.

    Raises
    ------
    ValueError
        If a map holds NaN, or a region, a shape or the fraction does not fit.
    """
    maps = np.asarray(maps)
    if region not in REGIONS:
        raise ValueError(f"region={region!r} is not known: choose one of {', '.join(REGIONS)}.")
    if maps.ndim != 3:
        raise ValueError(f"maps has shape {maps.shape}, expected (n, H, W).")
    if within is not None and np.shape(within) != maps.shape:
        raise ValueError(f"within has shape {np.shape(within)}, expected that of maps, {maps.shape}.")
    if np.isnan(maps).any():
        raise ValueError("maps holds NaN, which has no rank.")
    values = (np.abs(maps) if magnitude else maps).reshape(len(maps), -1)
    chosen = np.zeros(values.shape, bool)
    for image, ranked in enumerate(values):
        eligible = slice(None) if within is None else np.flatnonzero(within[image])
        keys = rng.permutation(ranked[eligible].size)
        source = keys if region == "random" else ranked[eligible]
        chosen[image, eligible] = _Selection(source, _count(fraction, keys.size), region).draw(keys)
    return chosen.reshape(maps.shape)


def fill_values(
    images: np.ndarray, fill: str | np.ndarray, rng: np.random.Generator | None, within: np.ndarray | None = None
) -> np.ndarray:
    """Return values to overwrite voxels with, like `images` (n, H, W, ...) in shape and dtype.

    Parameters
    ----------
    images : float array, (n, H, W) or (n, H, W, C)
        Standardised.
    fill : {"normal", "uniform", "range", "shuffle"} or array
        N(0, 1); U[0, 1); uniform between the image's least and greatest value; the image's own voxels in random order (those of
        `within`, where it is given); or the values themselves.
    rng : numpy.random.Generator
        Not needed for an array.
    within : bool array, (n, H, W), optional
        Where "shuffle" takes its voxels from.
    """
    if not isinstance(fill, str):
        return np.broadcast_to(np.asarray(fill, images.dtype), images.shape)
    if fill not in FILLS:
        raise ValueError(f"fill={fill!r} is not known: choose one of {', '.join(FILLS)}, or give an array.")
    if rng is None:
        raise ValueError(f"fill={fill!r} needs a random generator: give rng.")
    if fill == "normal":
        return rng.standard_normal(images.shape, dtype="float32").astype(images.dtype, copy=False)
    if fill == "shuffle":
        voxels = images.reshape(len(images), -1, *images.shape[3:])
        inside = np.ones(voxels.shape[:2], bool) if within is None else within.reshape(voxels.shape[:2])
        pools = [voxel[np.resize(np.flatnonzero(mask), len(voxel))] for voxel, mask in zip(voxels, inside, strict=True)]
        return np.stack([rng.permutation(pool) for pool in pools]).reshape(images.shape)
    noise = rng.random(images.shape, dtype="float32").astype(images.dtype, copy=False)
    if fill == "uniform":
        return noise
    axes = tuple(range(1, images.ndim))
    low, high = images.min(axis=axes, keepdims=True), images.max(axis=axes, keepdims=True)
    return low + (high - low) * noise


def overwrite_voxels(
    images: np.ndarray, voxels: np.ndarray, *, rng: np.random.Generator | None = None, fill: str | np.ndarray = "normal"
) -> np.ndarray:
    """Return a copy of images (n, H, W[, C]) whose chosen voxels (n, H, W) hold fill values, in every channel. `fill`: see `fill_values`."""
    images = np.asarray(images)
    if np.shape(voxels) != images.shape[:3]:
        raise ValueError(f"voxels has shape {np.shape(voxels)}, expected {images.shape[:3]} as images has.")
    voxels = np.reshape(voxels, np.shape(voxels) + (1,) * (images.ndim - 3))
    return np.where(voxels, fill_values(images, fill, rng), images)


def masked_predictor(model: keras.Model, softmax: bool = False):
    """Compile overwriting and prediction into one function.

    Returns
    -------
    callable
        `(voxels (m, H, W) bool, image (m,) int32, noise (m,) int32, images (s, H, W, C), noises (d, H, W, C)) -> [(m, classes)]`:
        probabilities of image `image[j]` with `voxels[j]` overwritten by noise field `noise[j]`. Only masks and each image and noise
        field once travel to the device. With `softmax` the model's output is taken for logits.
    """

    def predict(voxels, image, noise, images, noises):
        masked = ops.where(voxels[..., None], ops.take(noises, noise, axis=0), ops.take(images, image, axis=0))
        output = ops.cast(model(masked, training=False), "float32")
        return [ops.softmax(output) if softmax else output]

    shape = tuple(model.inputs[0].shape)
    signature = [(shape[:-1], "bool"), ((None,), "int32"), ((None,), "int32"), (shape, "float32"), (shape, "float32")]
    return compiled(predict, model.variables, signature)


def _random_generator(seed: int, series: str, index: int, draw: int) -> np.random.Generator:
    try:
        return np.random.default_rng([seed, int(series, 16), int(index), draw])
    except ValueError:
        raise ValueError(
            f"Series {series!r} is no hexadecimal hash: random numbers are drawn by seed, series, slice and draw."
        ) from None


def mask_cohort(
    model: keras.Model,
    batches: Iterable[tuple[pd.DataFrame, np.ndarray, np.ndarray | None]],
    *,
    layers: Sequence[str] | None = None,
    methods: Sequence[str] = ("saliency", "guided_backprop", "cam", "grad_cam", "sam"),
    fractions: Sequence[float] = (0.1,),
    regions: Sequence[str] = REGIONS,
    within: str = "image",
    score: str = "logit",
    fill: str = "normal",
    draws: int = 3,
    seed: int = 0,
    interpolation: str = "nearest",
    network: str = "",
    classes: Sequence[str] = PHASES,
    batch_size: int = 32,
    attributor: Attributor | None = None,
) -> Iterator[pd.DataFrame]:
    """Run the masking experiment over a cohort, batch by batch.

    Parameters
    ----------
    model : keras.Model
        See `Attributor`.
    batches : iterable of (rows, images, body)
        `rows` has the columns patient, series, slice and phase; `images` (n, H, W, C) are standardised; `body` is a mask (n, H, W) or None.
    layers, score, attributor
        How maps are made; an `attributor` of this model goes before the other two.
    methods : sequence of str
    fractions : sequence of float
        Of the voxels in `within`.
    regions : sequence of {"top", "bottom", "random"}
        "random" is the control: one row a slice, draw and fraction, method "random", layer "-".
    within : {"image", "body"}
        The voxels that are ranked and overwritten.
    fill : str
        See `fill_values`.
    draws : int
        Repetitions, each with its own noise field (one for all maps of a slice) and its own choice among ties.
    seed : int
        Random numbers depend on it, the series, the slice and the draw, and on nothing else.
    interpolation : {"nearest", "bilinear"}
    network : str
        Its name, for the table.
    classes : sequence of str
        Names of the network's outputs: what the column phase holds.
    batch_size : int
        Masked images predicted at once.

    Yields
    ------
    pandas.DataFrame
        One for each batch, columns `COLUMNS`: a row for each slice, map, region, fraction and draw; relative_probability in %.

    Raises
    ------
    ValueError
        If a slice's prediction is wrong or its probability vanishes, or `within="body"` lacks a body mask.
    """
    if within not in ("image", "body"):
        raise ValueError(f"within={within!r} is not known: choose image or body.")
    attributor = attributor or Attributor(model, layers, score=score)
    attributor.keys(methods)
    predict = masked_predictor(model, softmax=attributor.head == "linear")
    for rows, images, body in batches:
        if within == "body" and body is None:
            raise ValueError("within='body' needs a body mask with every batch: Cohort.read_body gives it.")
        images = np.ascontiguousarray(images, "float32")
        labels = np.array([list(classes).index(phase) for phase in rows["phase"]], "int32")
        index = np.arange(len(images), dtype="int32")
        (original,) = predict(np.zeros(images.shape[:3], bool), index, index, images, images)
        _check_predictions(rows, original, labels, classes)
        maps = attributor(images, labels, methods)
        facts, versions = [], []
        noises = np.empty((len(images) * draws, *images.shape[1:]), "float32")
        values = []
        for fact, image, field, voxels in _versions(
            rows, images, body, maps, noises, fractions, regions, within, fill, draws, seed, interpolation
        ):
            facts.append((image, *fact))
            versions.append((voxels, image, field))
            if len(versions) == batch_size:
                values.append(_predict_versions(predict, versions, images, noises, labels))
                versions = []
        if versions:
            values.append(_predict_versions(predict, versions, images, noises, labels))
        table = pd.DataFrame(facts, columns=["image", "method", "layer", "region", "fraction", "draw"])
        table = table.join(rows[["patient", "series", "slice", "phase"]].reset_index(drop=True), on="image")
        table["p_original"] = original[table["image"], labels[table["image"]]]
        table["p_masked"] = np.concatenate(values)
        table["relative_probability"] = 100.0 * table["p_masked"].astype(float) / table["p_original"]
        yield table.assign(network=network, within=within, score=attributor.score, fill=fill)[list(COLUMNS)]


def _check_predictions(
    rows: pd.DataFrame, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> None:
    chosen = probabilities[np.arange(len(labels)), labels]
    for row, predicted, label, probability in zip(
        rows.itertuples(), probabilities.argmax(axis=1), labels, chosen, strict=True
    ):
        if predicted != label or not probability > np.finfo("float32").tiny:
            raise ValueError(
                f"Slice {row.slice} of series {row.series} is labelled {row.phase!r} (probability {probability:.3g}) and predicted "
                f"{classes[predicted]!r}: masking is defined for correctly predicted slices, choose them before."
            )


def _predict_versions(
    predict, versions: list, images: np.ndarray, noises: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    voxels, image, field = zip(*versions, strict=True)
    image = np.array(image, "int32")
    (probabilities,) = predict(np.stack(voxels), image, np.array(field, "int32"), images, noises)
    return probabilities[np.arange(len(image)), labels[image]]


def _versions(
    rows, images, body, maps, noises, fractions, regions, within, fill, draws, seed, interpolation
) -> Iterator[tuple]:
    """Yield (method, layer, region, fraction, draw), image, noise field and voxels of every masked version; fill `noises` as it goes."""
    shape = images.shape[1:3]
    for image, row in enumerate(rows.itertuples()):
        inside = None if body is None else body[image]
        eligible = np.flatnonzero(inside) if within == "body" else slice(None)
        keys = []
        for draw in range(draws):
            rng = _random_generator(seed, row.series, row.slice, draw)
            noises[image * draws + draw] = fill_values(
                images[image, None], fill, rng, None if inside is None else inside[None]
            )[0]
            keys.append(rng.permutation(shape[0] * shape[1]).astype("int32")[eligible])
        sources = [] if "random" not in regions else [(("random", "-"), None, ("random",))]
        ranked = [region for region in regions if region != "random"]
        sources += [(key, value[image, None], ranked) for key, value in maps.items()]
        for key, value, wanted in sources:
            flat = None if value is None else upsample(voxel_magnitude(value), shape, interpolation).ravel()[eligible]
            for fraction in fractions:
                for region in wanted:
                    count = _count(fraction, len(keys[0]))
                    selection = None if flat is None else _Selection(flat, count, region)
                    for draw in range(draws):
                        voxels = np.zeros(shape, bool)
                        chosen = (
                            _Selection(keys[draw], count, "bottom").sure if flat is None else selection.draw(keys[draw])
                        )
                        voxels.ravel()[eligible] = chosen
                        yield (*key, region, fraction, draw), image, image * draws + draw, voxels


def write_shards(tables: Iterable[pd.DataFrame], folder: str | Path, stem: str = "part") -> list[Path]:
    """Write each table to `<folder>/<stem>-00000.parquet` and so on, atomically, and return the paths."""
    paths = []
    for number, table in enumerate(tables):
        path = resolve(folder) / f"{stem}-{number:05d}.parquet"
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
        paths.append(path)
    return paths
