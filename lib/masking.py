"""Masking experiment: overwrite the voxels that a map ranks highest or lowest, and see what the probability becomes.

Philbrick et al. 2018 rank each map by its absolute value, overwrite the upper or (as control) lower 10 % of the image's
voxels with random values, and report 100 * p_masked / p_original of the labelled class, on correctly classified slices.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import keras
import numpy as np
import pandas as pd
from keras import ops

from lib.attribution import Attributor
from lib.gradients import compiled
from lib.paper import PHASES
from lib.voxels import (
    REGIONS,
    Selection,
    fill_values,
    overwrite_voxels,
    select_voxels,
    upsample,
    voxel_count,
    voxel_magnitude,
)

__all__ = ["COLUMNS", "mask_cohort", "masked_predictor", "overwrite_voxels", "select_voxels", "upsample"]

COLUMNS = (
    *("network", "patient", "series", "slice", "phase", "method", "layer", "region", "within", "score", "fill"),
    *("fraction", "draw", "p_original", "p_masked", "relative_probability"),
)

NEAR_TIE = 1e-4  # difference of two probabilities


def masked_predictor(model: keras.Model, softmax: bool = False) -> Callable[..., list[np.ndarray]]:
    """Compile overwriting and prediction into one function.

    Only masks, and each image and noise field once, travel to the device.

    Parameters
    ----------
    model : keras.Model
    softmax : bool
        Whether the model's output is logits.

    Returns
    -------
    callable
        `(voxels, image, noise, images, noises) -> [probabilities]`: for j < m, image `image[j]` of `images` (s, H, W,
        C) with `voxels[j]` of (m, H, W) overwritten by noise field `noise[j]` of `noises` (d, H, W, C); (m, classes).
    """

    def predict(voxels, image, noise, images, noises):
        masked = ops.where(voxels[..., None], ops.take(noises, noise, axis=0), ops.take(images, image, axis=0))
        output = ops.cast(model(masked, training=False), "float32")
        return [ops.softmax(output) if softmax else output]

    shape = tuple(model.inputs[0].shape)
    signature = [(shape[:-1], "bool"), ((None,), "int32"), ((None,), "int32"), (shape, "float32"), (shape, "float32")]
    return compiled(predict, model.variables, signature)


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
    batch_size: int = 16,
    attributor: Attributor | None = None,
) -> Iterator[pd.DataFrame]:
    """Run the masking experiment over a cohort, batch by batch.

    Parameters
    ----------
    model : keras.Model
        See `Attributor`.
    batches : iterable of (rows, images, body)
        `rows` has the columns patient, series, slice and phase; `images` (n, H, W, C) are standardised; `body` is a
        mask (n, H, W) or None.
    layers, score, attributor
        How maps are made; an `attributor` of this model goes before the other two.
    methods : sequence of str
        See `Attributor`.
    fractions : sequence of float
        Of the voxels in `within`.
    regions : sequence of {"top", "bottom", "random"}
        "random" is the control: a row a slice, draw and fraction, layer "-". Method "random" takes any of the eligible
        voxels; where the image is eligible and `body` is known, method "random_body" takes as many, in the body only.
    within : {"image", "body"}
        The voxels that are ranked and overwritten.
    fill : str
        See `lib.voxels.fill_values`.
    draws : int
        Repetitions, each with its own noise field (one for all maps of a slice) and its own choice among ties.
    seed : int
        Random numbers depend on it, the series, the slice and the draw, and on nothing else.
    interpolation : {"nearest", "bilinear"}
        How maps come to the image's size.
    network : str
        Its name, for the table.
    classes : sequence of str
        Names of the network's outputs: what the column phase holds.
    batch_size : int
        Masked images predicted at once.

    Yields
    ------
    pandas.DataFrame
        One for each batch, columns `COLUMNS`: a row for each slice, map, region, fraction and draw.
        relative_probability = 100 p_masked / p_original.

    Raises
    ------
    ValueError
        If a slice's prediction is wrong or its probability vanishes, `within="body"` lacks a body mask, a choice is not
        known, or a series is no hexadecimal hash.
    """
    for name, value, known in (("within", within, ("image", "body")), *(("regions", r, REGIONS) for r in regions)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known: choose among {', '.join(known)}.")
    attributor = attributor or Attributor(model, layers, score=score)
    attributor.keys(methods)
    predict = masked_predictor(model, softmax=attributor.head == "linear")
    for rows, images, body in batches:
        if within == "body" and body is None:
            raise ValueError("within='body' needs a body mask with every batch: Cohort.read_body gives it.")
        rows, images = rows.reset_index(drop=True), np.ascontiguousarray(images, "float32")
        labels = np.array([list(classes).index(phase) for phase in rows["phase"]], "int32")
        index = np.arange(len(images), dtype="int32")
        (original,) = predict(np.zeros(images.shape[:3], bool), index, index, images, images)
        _check_predictions(rows, original, labels, classes)
        noises, keys = _random_fields(rows, images, body, fill, draws, seed)
        maps = attributor(images, labels, methods)
        eligible = body if within == "body" else None
        if "random" in regions:
            maps = _controls(body, eligible, len(images)) | maps
        versions = _versions(maps, keys, images.shape[1:3], eligible, fractions, regions, interpolation)
        facts, p_masked = [], []
        while chunk := list(islice(versions, batch_size)):
            image, draw = (np.array([fact[at] for fact, _ in chunk], "int32") for at in (0, -1))
            voxels = np.stack([voxels for _, voxels in chunk])
            (probabilities,) = predict(voxels, image, image * draws + draw, images, noises)
            p_masked.append(probabilities[np.arange(len(image)), labels[image]])
            facts += [fact for fact, _ in chunk]
        table = pd.DataFrame(facts, columns=["image", "method", "layer", "region", "fraction", "draw"])
        table = table.join(rows[["patient", "series", "slice", "phase"]], on="image")
        table["p_original"] = original[table["image"], labels[table["image"]]]
        table["p_masked"] = np.concatenate(p_masked)
        table["relative_probability"] = 100.0 * table["p_masked"].astype(float) / table["p_original"]
        yield table.assign(network=network, within=within, score=attributor.score, fill=fill)[list(COLUMNS)]


def _check_predictions(
    rows: pd.DataFrame, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> None:
    for row, values, label in zip(rows.itertuples(), probabilities, labels, strict=True):
        # Another batch size may turn a near-tie round; that is no wrong prediction.
        if values[label] < values.max() - NEAR_TIE or not values[label] > np.finfo("float32").tiny:
            predicted = classes[values.argmax()]
            raise ValueError(
                f"Slice {row.slice} of series {row.series} is labelled {row.phase!r} (probability {values[label]:.3g}) "
                f"and predicted {predicted!r}: masking is defined for correctly predicted slices, choose them."
            )


def _random_fields(
    rows: pd.DataFrame, images: np.ndarray, body: np.ndarray | None, fill: str, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return noise fields (n * draws, H, W, C) and random ranks of the voxels (n, draws, H * W).

    They depend on (seed, series, slice, draw) only, so that results are the same however the work is cut.
    """
    noises = np.empty((len(images) * draws, *images.shape[1:]), "float32")
    keys = np.empty((len(images), draws, images.shape[1] * images.shape[2]), "int32")
    for image, row in enumerate(rows.itertuples()):
        for draw in range(draws):
            try:
                rng = np.random.default_rng([seed, int(row.series, 16), int(row.slice), draw])
            except ValueError:
                raise ValueError(
                    f"Series {row.series!r}, slice {row.slice}: random numbers are drawn by seed, series (a "
                    "hexadecimal hash), slice (0 or more) and draw."
                ) from None
            inside = None if body is None else body[image, None]
            noises[image * draws + draw] = fill_values(images[image, None], fill, rng, inside)[0]
            keys[image, draw] = rng.permutation(keys.shape[-1])
    return noises, keys


def _controls(body: np.ndarray | None, eligible: np.ndarray | None, images: int) -> dict:
    """Return maps whose lowest voxels are a random choice: among all voxels, and among those of the body."""
    controls = {("random", "-"): np.zeros((images, 1, 1), "float32")}
    if body is not None and eligible is None:
        controls["random_body", "-"] = (~np.asarray(body, bool)).astype("float32")
    return controls


def _versions(
    maps: dict,
    keys: np.ndarray,
    shape: tuple[int, int],
    eligible: np.ndarray | None,
    fractions: Sequence[float],
    regions: Sequence[str],
    interpolation: str,
) -> Iterator[tuple[tuple, np.ndarray]]:
    """Yield (image, method, layer, region, fraction, draw) and the voxels (H, W) of every masked version."""
    for image in range(len(keys)):
        inside = slice(None) if eligible is None else np.flatnonzero(eligible[image])
        for key, value in maps.items():
            ranked = upsample(voxel_magnitude(value[image, None]), shape, interpolation).ravel()[inside]
            control = key[0] in ("random", "random_body")
            wanted = ["random"] if control else [region for region in regions if region != "random"]
            for fraction in fractions:
                for region in wanted:
                    selection = Selection(ranked, voxel_count(fraction, len(ranked)), region)
                    for draw, random_rank in enumerate(keys[image]):
                        voxels = np.zeros(shape, bool)
                        voxels.ravel()[inside] = selection.draw(random_rank[inside])
                        yield (image, *key, region, fraction, draw), voxels
