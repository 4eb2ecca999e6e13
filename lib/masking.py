"""Masking experiment: overwrite the voxels that a map ranks highest or lowest, and see what the probability becomes.

Philbrick et al. 2018 rank each map by its absolute value, overwrite the upper or (as control) lower 10 % of the image's
voxels with random values, and report 100 * p_masked / p_original of the labelled class, on correctly classified slices.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import ops

from lib.attribution import Attributor
from lib.gradients import compiled
from lib.masking_controls import BLOCKS, content_free_maps, control_generator, random_blocks
from lib.paper import PHASES
from lib.voxels import (
    FILLS,
    Selection,
    fill_values,
    overwrite_voxels,
    select_voxels,
    upsample,
    voxel_count,
    voxel_magnitude,
)

__all__ = ["Reading", "mask_cohort", "masked_predictor", "overwrite_voxels", "select_voxels", "upsample"]

METHODS = ("saliency", "guided_backprop", "cam", "grad_cam", "sam")
CHOICES = {
    "within": ("image", "body"),
    "score": ("logit", "probability"),
    "fill": FILLS,
    "interpolation": ("nearest", "bilinear"),
}
NEAR_TIE = 1e-4  # difference of two probabilities


@dataclass(frozen=True)
class Reading:
    """How the paper's masking is read where it leaves something open.

    Attributes
    ----------
    within : {"image", "body"}
        The voxels that are ranked and overwritten.
    score : {"logit", "probability"}
        What the maps differentiate.
    fill : {"normal", "uniform", "range", "shuffle"}
        What is written, see `lib.voxels.fill_values`.
    fraction : float
        Share of the voxels in `within` that is overwritten.
    interpolation : {"nearest", "bilinear"}
        How maps of a lower resolution come to the image's size.
    draws : int
        Repetitions, each with its own noise field (one for all maps of a slice) and its own choice among ties.
    seed : int
        Random numbers depend on it, the series, the slice and the draw, and on nothing else.
    """

    within: str = "image"
    score: str = "logit"
    fill: str = "normal"
    fraction: float = 0.1
    interpolation: str = "nearest"
    draws: int = 3
    seed: int = 0

    def __post_init__(self):
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known: choose among {', '.join(known)}.")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is {self.fraction}, expected more than 0 and at most 1.")
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}: at least one is needed.")

    def facts(self) -> dict[str, object]:
        """Return the attributes by name."""
        return asdict(self)


class Version(NamedTuple):
    """One masked version of an image: which map's mask it is, and the voxels (H, W) that are overwritten."""

    image: int
    method: str
    layer: str
    region: str
    draw: int
    voxels: np.ndarray


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
    attributor: Attributor,
    reading: Reading | None = None,
    *,
    methods: Sequence[str] = METHODS,
    untrained: Attributor | None = None,
    others: Callable[[pd.DataFrame], np.ndarray] | None = None,
    network: str = "",
    classes: Sequence[str] = PHASES,
    batch_size: int = 16,
) -> Iterator[pd.DataFrame]:
    """Run the masking experiment over a cohort, batch by batch.

    Parameters
    ----------
    model : keras.Model
        See `Attributor`.
    batches : iterable of (rows, images, body)
        `rows` has the columns patient, series, slice and phase; `images` (n, H, W, C) are standardised; `body` is a
        mask (n, H, W) or None.
    attributor : Attributor
        Of this model, with the layers whose maps are masked.
    reading : Reading, optional
        The default is the paper's, as this project reads it.
    methods : sequence of str
        See `Attributor`.
    untrained : Attributor, optional
        Of the same network before training: its maps' masks are the control "untrained".
    others : callable, optional
        rows -> images of other patients in the same phase, one for each row: the control "other_patient" masks what
        this network's maps mark there.
    network : str
        Its name, for the table.
    classes : sequence of str
        Names of the network's outputs: what the column phase holds.
    batch_size : int
        Masked images predicted at once.

    Yields
    ------
    pandas.DataFrame
        One for each batch, a row for each slice, map, region and draw: network; patient, series, slice, phase; method,
        layer, region, draw; within, score, fill, fraction; p_original and p_masked of the labelled class and
        relative_probability = 100 p_masked / p_original; `original_<class>` and `masked_<class>`, all probabilities
        before and after.

        Regions of a map are "top" and "bottom", and "other_patient" and "untrained" for the same map's highest voxels
        on another patient's slice, or of the untrained network. The controls of `lib.masking_controls` are methods of
        their own: "random" and "random_body" (layer "-", region "random"), "disc" (region "top") and "blocks" (layer:
        whose cells; region "random").

    Raises
    ------
    ValueError
        If a slice's prediction is wrong or its probability vanishes, the reading asks for the body and there is no body
        mask, the attributor differentiates another score than the reading says, or a series is no hexadecimal hash.
    """
    reading = reading or Reading(score=attributor.score)
    if attributor.score != reading.score:
        raise ValueError(f"the attributor differentiates the {attributor.score}, the reading says {reading.score!r}.")
    attributor.keys(methods)
    predict = masked_predictor(model, softmax=attributor.head == "linear")
    for rows, images, body in batches:
        if reading.within == "body" and body is None:
            raise ValueError("within='body' needs a body mask with every batch: Cohort.read_body gives it.")
        rows, images = rows.reset_index(drop=True), np.ascontiguousarray(images, "float32")
        labels = np.array([list(classes).index(phase) for phase in rows["phase"]], "int32")
        index = np.arange(len(images), dtype="int32")
        (original,) = predict(np.zeros(images.shape[:3], bool), index, index, images, images)
        _check_predictions(rows, original, labels, classes)
        maps = {"": attributor(images, labels, methods)}
        if others is not None:
            maps["other_patient"] = attributor(np.ascontiguousarray(others(rows), "float32"), labels, methods)
        if untrained is not None:
            maps["untrained"] = untrained(images, labels, methods)
        noises, keys = _random_fields(rows, images, body, reading)
        ranked = _ranked(maps, rows, body, images.shape[1:3], reading)
        versions = _versions(ranked, keys, images.shape[1:3], body if reading.within == "body" else None, reading)
        facts, masked = [], []
        while chunk := list(islice(versions, batch_size)):
            image, draw = (np.array([getattr(v, name) for v in chunk], "int32") for name in ("image", "draw"))
            voxels = np.stack([version.voxels for version in chunk])
            masked += predict(voxels, image, image * reading.draws + draw, images, noises)
            facts += [version[:-1] for version in chunk]
        table = pd.DataFrame(facts, columns=Version._fields[:-1])
        yield _results(table, rows, labels, original, np.concatenate(masked), classes, reading, network)


def _results(table, rows, labels, original, masked, classes, reading: Reading, network: str) -> pd.DataFrame:
    """Return the rows of a batch: what was masked, and the probabilities before and after."""
    image = table.pop("image").to_numpy()
    slices = rows.loc[image, ["patient", "series", "slice", "phase"]].reset_index(drop=True)
    before, after = original[image, labels[image]], masked[np.arange(len(image)), labels[image]]
    facts = {name: getattr(reading, name) for name in ("within", "score", "fill", "fraction")}
    chances = {"p_original": before, "p_masked": after, "relative_probability": 100.0 * after.astype(float) / before}
    chances |= {f"original_{name}": original[image, k] for k, name in enumerate(classes)}
    chances |= {f"masked_{name}": masked[:, k] for k, name in enumerate(classes)}
    return slices.join(table).assign(network=network, **facts).join(pd.DataFrame(chances))


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
    rows: pd.DataFrame, images: np.ndarray, body: np.ndarray | None, reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Return noise fields (n * draws, H, W, C) and random ranks of the voxels (n, draws, H * W).

    They depend on (seed, series, slice, draw) only, so that results are the same however the work is cut.
    """
    draws = reading.draws
    noises = np.empty((len(images) * draws, *images.shape[1:]), "float32")
    keys = np.empty((len(images), draws, images.shape[1] * images.shape[2]), "int32")
    for image, row in enumerate(rows.itertuples()):
        for draw in range(draws):
            try:
                rng = np.random.default_rng([reading.seed, int(row.series, 16), int(row.slice), draw])
            except ValueError:
                raise ValueError(
                    f"Series {row.series!r}, slice {row.slice}: random numbers are drawn by seed, series (a "
                    "hexadecimal hash), slice (0 or more) and draw."
                ) from None
            inside = None if body is None else body[image, None]
            noises[image * draws + draw] = fill_values(images[image, None], reading.fill, rng, inside)[0]
            keys[image, draw] = rng.permutation(keys.shape[-1])
    return noises, keys


def _ranked(
    maps: Mapping[str, dict], rows: pd.DataFrame, body: np.ndarray | None, shape: tuple[int, int], reading: Reading
) -> Iterator[tuple[int, str, str, str, np.ndarray]]:
    """Yield image, method, layer, region of every mask, and what is ranked for it: (1, h, w), or (draws, h, w)."""
    controls = content_free_maps(body, len(rows), whole_image=reading.within == "image")
    grids = {layer: values.shape[1:3] for (_, layer), values in maps[""].items() if values.shape[1:3] != shape}
    for image, row in enumerate(rows.itertuples()):
        for (method, layer), values in controls.items():
            yield image, method, layer, "top" if method == "disc" else "random", values[image, None]
        inside = None if body is None else body[image]
        for layer, cells in grids.items():
            streams = [control_generator(reading.seed, row, draw, layer) for draw in range(reading.draws)]
            yield image, BLOCKS, layer, "random", np.stack([random_blocks(inside, cells, rng) for rng in streams])
        for source, computed in maps.items():
            for (method, layer), values in computed.items():
                for region in (source,) if source else ("top", "bottom"):
                    yield image, method, layer, region, voxel_magnitude(values[image, None])


def _versions(
    ranked: Iterator[tuple[int, str, str, str, np.ndarray]],
    keys: np.ndarray,
    shape: tuple[int, int],
    eligible: np.ndarray | None,
    reading: Reading,
) -> Iterator[Version]:
    """Yield every masked version: the highest values of a ranking, or the lowest in the region "bottom"."""
    for image, method, layer, region, values in ranked:
        inside = slice(None) if eligible is None else np.flatnonzero(eligible[image])
        how = "nearest" if method == BLOCKS else reading.interpolation
        flat = upsample(values, shape, how).reshape(len(values), -1)[:, inside]
        count, extreme = voxel_count(reading.fraction, flat.shape[1]), "bottom" if region == "bottom" else "top"
        selections = [Selection(one, count, extreme) for one in flat]
        for draw, random_rank in enumerate(keys[image]):
            voxels = np.zeros(shape, bool)
            voxels.ravel()[inside] = selections[draw % len(selections)].draw(random_rank[inside])
            yield Version(image, method, layer, region, draw, voxels)
