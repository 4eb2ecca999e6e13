"""Maps of more images than fit in memory: batch by batch from any iterable, kept in a Zarr store, resumable."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import zarr
from tqdm import tqdm

from lib.attribution import Attributor, Scores


def batches_of(source) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield (images, classes or None) from what holds batches.

    Parameters
    ----------
    source : iterable, tf.data.Dataset, torch DataLoader or keras.utils.PyDataset
        Its batches are images, or tuples of images and classes; what follows in a tuple, such as weights, is left
        aside. Classes may be numbers (n,) or (n, 1), or one-hot (n, classes).

    Raises
    ------
    ValueError
        If classes are neither.

    Examples
    --------
    >>> [(images.shape, classes.tolist()) for images, classes in batches_of([(np.zeros((2, 4, 4, 1)), np.eye(3)[:2])])]
    [((2, 4, 4, 1), [0, 1])]
    """
    indexed = isinstance(source, keras.utils.PyDataset)
    for batch in (source[number] for number in range(len(source))) if indexed else source:
        images, classes = (*batch, None)[:2] if isinstance(batch, (tuple, list)) else (batch, None)
        images = np.asarray(images)
        yield images, None if classes is None else _numbers(np.asarray(classes), len(images))


def _numbers(classes: np.ndarray, count: int) -> np.ndarray:
    """Return classes as numbers (n,)."""
    if classes.ndim == 2 and classes.shape[1] > 1:
        if not ((classes == 0) | (classes == 1)).all() or not (classes.sum(axis=1) == 1).all():
            raise ValueError("classes has several columns and is not one-hot: give one class for each image.")
        return classes.argmax(axis=1)
    classes = classes.reshape(-1)
    if len(classes) != count or not np.array_equal(classes, np.round(classes)):
        raise ValueError(
            f"classes {classes.shape} {classes.dtype} are not one whole number for each of {count} images."
        )
    return classes.astype("int64")


def stream(
    attributor: Attributor,
    source,
    methods: Iterable[str] | None = None,
    *,
    predicted: bool = False,
    skip: int = 0,
    progress: bool = True,
) -> Iterator[tuple[dict[tuple[str, str], np.ndarray], Scores]]:
    """Yield maps and scores batch by batch.

    Parameters
    ----------
    attributor : lib.attribution.Attributor
    source
        See `batches_of`.
    methods : iterable of str, optional
        None for all.
    predicted : bool
        Whether to explain the class that is predicted even where the source names one.
    skip : int
        Images to leave out at the beginning.
    progress : bool
        Whether to show a bar.

    Examples
    --------
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> parts = stream(Attributor(model), [np.zeros((2, 2, 2, 1)), np.ones((1, 2, 2, 1))], progress=False)
    >>> [maps["saliency", "input"].shape for maps, scores in parts]
    [(2, 2, 2), (1, 2, 2)]
    """
    try:
        total = len(source)
    except TypeError:  # a generator, or a dataset of unknown length
        total = None
    bar = tqdm(batches_of(source), total=total, unit="batch", disable=not progress)
    for images, classes in bar:
        left_out = min(skip, len(images))
        skip -= left_out
        if left_out < len(images):
            chosen = None if predicted or classes is None else classes[left_out:]
            yield attributor(images[left_out:], chosen, methods, return_scores=True)


def explain_to_zarr(
    attributor: Attributor,
    source,
    path: str | Path,
    methods: Iterable[str] | None = None,
    *,
    predicted: bool = False,
    progress: bool = True,
) -> zarr.Group:
    """Write the maps of every image of a source into a Zarr group, and go on where an interrupted run stopped.

    Parameters
    ----------
    attributor, source, methods, predicted, progress
        See `stream`. A source gives the same images in the same order every time.
    path : str or Path
        A folder.

    Returns
    -------
    zarr.Group
        "<method>/<layer>" (images, H', W'), a "/" in a layer's path written as "|"; "classes", "explained" and, for
        class scores, "outputs". The attribute "images" counts those that are complete.

    Raises
    ------
    ValueError
        If the folder holds maps of another network, of other weights or settings.

    Examples
    --------
    >>> import tempfile
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     group = explain_to_zarr(Attributor(model), [np.zeros((2, 2, 2, 1))], folder, progress=False)
    ...     group["saliency/input"].shape, group.attrs["images"]
    ((2, 2, 2), 2)
    """
    group = zarr.open_group(str(path), mode="a")
    identity = _identity(attributor, attributor.keys(methods), predicted)
    found = group.attrs.get("identity", identity)
    if found != identity:
        raise ValueError(
            f"{path} holds maps of another network, of other weights or settings: choose another folder or remove it."
        )
    group.attrs["identity"] = identity
    done = int(group.attrs.get("images", 0))
    for maps, scores in stream(attributor, source, methods, predicted=predicted, skip=done, progress=progress):
        arrays = {f"{method}/{layer.replace('/', '|')}": value for (method, layer), value in maps.items()}
        arrays |= {name: value for name, value in scores._asdict().items() if value is not None}
        for name, value in arrays.items():
            if name not in group:
                chunks = (1, *value.shape[1:]) if value.ndim > 2 else (1024, *value.shape[1:])
                group.create_array(name, shape=(0, *value.shape[1:]), chunks=chunks, dtype=value.dtype)
            group[name].resize((done + len(value), *value.shape[1:]))
            group[name][done:] = value
        done += len(scores.classes)
        group.attrs["images"] = done  # last: a batch that was interrupted is made again
    return group


def _identity(attributor: Attributor, keys: Sequence[tuple[str, str]], predicted: bool) -> str:
    """Return a digest of the network's weights, what is asked of it and how."""
    digest = hashlib.sha256()
    for variable in attributor.model.weights:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).tobytes())
    readings = ("score", "blur_sigma", "maximum", "inversion", "gradient", "output", "tokens")
    facts = [list(keys), [getattr(attributor, name) for name in readings], predicted, attributor.target is None]
    digest.update(json.dumps(facts, default=str).encode())
    return digest.hexdigest()[:16]
