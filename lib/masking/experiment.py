r"""Masking experiment: overwrite the voxels that a map ranks highest or lowest, and measure the probability.

Philbrick et al. 2018 rank the voxels of each correctly classified slice by the absolute value of a map. They overwrite
the highest 10 % (or, as a control, the lowest 10 %) with random values, and report the relative probability of the
labelled class,

.. math:: 100\,\frac{p_\text{masked}}{p_\text{original}}\ \%.
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
from lib.masking.controls import BLOCKS, content_free_maps, control_generator, random_blocks
from lib.paper import PHASES
from lib.voxels import (
    FILLS,
    Selection,
    fill_values,
    upsample,
    voxel_count,
    voxel_magnitude,
)

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
    """Choices of the masking experiment that the paper leaves open.

    Attributes
    ----------
    within : {"image", "body"}
        The voxels that are ranked and overwritten.
    score : {"logit", "probability"}
        The quantity whose gradient the maps show.
    fill : {"normal", "uniform", "range", "zero", "shuffle", "blurred"}
        The values that are written, see `lib.voxels.fill_values`.
    fraction : float
        Share of the voxels in `within` that is overwritten.
    interpolation : {"nearest", "bilinear"}
        How maps of a lower resolution are enlarged to the size of the image.
    draws : int
        Number of repetitions. Each has its own noise field, which all maps of a slice share, and its own random choice
        among ties.
    seed : int
        Random numbers depend on the seed, the series, the slice and the draw, and on nothing else.
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
    """One masked version of an image: the map that the mask comes from, and the voxels (H, W) that are overwritten."""

    image: int
    method: str
    layer: str
    region: str
    draw: int
    voxels: np.ndarray


def masked_predictor(model: keras.Model, softmax: bool = False) -> Callable[..., list[np.ndarray]]:
    """Compile overwriting and prediction into one function.

    Each image and each noise field is sent to the device only once; for the masked versions only their masks are sent.

    Parameters
    ----------
    model : keras.Model
    softmax : bool
        Whether the output of the model is logits, to which a softmax is applied.

    Returns
    -------
    callable
        `(voxels, image, noise, images, noises) -> [probabilities]`. For each j < m it takes image `image[j]` of
        `images` (s, H, W, C) and overwrites the voxels `voxels[j]` of (m, H, W) with noise field `noise[j]` of `noises`
        (d, H, W, C). The probabilities are (m, classes).
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
    attributor : Attributor or lib.maps.variants.MapVariants
        Computes the maps of this model, at the layers whose maps are masked by.
    reading : Reading, optional
        Choices that the paper leaves open; the default is how this project reads the paper.
    methods : sequence of str
        See `Attributor`.
    untrained : Attributor, optional
        Computes the maps of the same network before training; masking by them is the control "untrained".
    others : callable, optional
        rows -> images of other patients in the same phase, one per row. The control "other_patient" masks the voxels
        that the maps of this network mark on those images.
    network : str
        Name or hash of the network, which is written into the table.
    classes : sequence of str
        Names of the network's outputs, as in the column `phase`.
    batch_size : int
        Number of masked images that are predicted at once.

    Yields
    ------
    pandas.DataFrame
        One table per batch, with one row per slice, map, region and draw. Columns: `network`; `patient`, `series`,
        `slice`, `phase`; `method`, `layer`, `region`, `draw`; `within`, `score`, `fill`, `fraction`; `p_original` and
        `p_masked`, the probability of the labelled class before and after; `relative_probability` (percent);
        `original_<class>` and `masked_<class>`, all probabilities before and after.

        The regions of a map are "top" and "bottom". The region is "other_patient" or "untrained" if the highest voxels
        are those of the same map on another patient's slice, or of the untrained network.

        The controls of `lib.masking.controls` are methods of their own: "random" and "random_body" (layer "-", region
        "random"), "disc" (region "top") and "blocks" (region "random"; the layer is the one whose cells are masked).

    Raises
    ------
    ValueError
        If a slice is not classified correctly or its probability is 0, if the reading needs a body mask and there is
        none, if the attributor differentiates another score than the reading says, or if the name of a series is not a
        hexadecimal hash.
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
    """Return the rows of a batch: what was masked, and the probabilities before and after masking."""
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
        # Another batch size may reverse two nearly equal probabilities; that is not a wrong prediction.
        if values[label] < values.max() - NEAR_TIE or not values[label] > np.finfo("float32").tiny:
            predicted = classes[values.argmax()]
            raise ValueError(
                f"Slice {row.slice} of series {row.series} is labelled {row.phase!r} (probability {values[label]:.3g}) "
                f"and predicted {predicted!r}: masking needs correctly classified slices, leave this one out."
            )


def _random_fields(
    rows: pd.DataFrame, images: np.ndarray, body: np.ndarray | None, reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Return noise fields (n * draws, H, W, C) and random ranks of the voxels (n, draws, H * W).

    They depend only on seed, series, slice and draw, so that the results are the same however the work is divided.
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
    """Yield image, method, layer and region of every mask, and the values that are ranked: (1 or draws, h, w)."""
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
    """Yield every masked version: the voxels with the highest values, or with the lowest for the region "bottom"."""
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
