"""What a map's mask is held against: masks that know nothing of the network, or nothing of this slice."""

from zlib import crc32

import numpy as np

RANDOM = ("random", "-")  # any voxels of the image
RANDOM_BODY = ("random_body", "-")  # as many voxels, all in the body
DISC = ("disc", "-")  # a disc about the body's centroid
BLOCKS = "blocks"  # random cells of a layer's grid, in the body; the layer is the cell size's
CONTROLS = ("random", "random_body", "disc", BLOCKS)


def content_free_maps(body: np.ndarray | None, images: int, *, whole_image: bool = True) -> dict:
    """Return maps whose highest voxels are the controls that are the same in every draw.

    Parameters
    ----------
    body : bool array (n, H, W) or None
        The body; without it there is the control of any voxels only.
    images : int
        n.
    whole_image : bool
        Whether all voxels of the image may be masked. If only the body's may, "random" is a choice among these already,
        and "random_body" is left out.

    Returns
    -------
    dict
        RANDOM, RANDOM_BODY, DISC -> float32 maps (n, 1, 1) or (n, H, W). Where all values are equal the choice is left
        to the random tie-break.
    """
    maps = {RANDOM: np.zeros((images, 1, 1), "float32")}
    if body is not None:
        if whole_image:
            maps[RANDOM_BODY] = np.asarray(body, "float32")
        maps[DISC] = np.stack([_towards_centroid(mask) for mask in body])
    return maps


def random_blocks(body: np.ndarray | None, cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a random order of a layer's cells, those in the body first.

    Parameters
    ----------
    body : bool array (H, W) or None
    cells : (int, int)
        Rows and columns of the layer's grid.
    rng : numpy.random.Generator

    Returns
    -------
    float32 array (rows, columns)
        In [0, 1), and 1 more where most of the cell lies in the body.
    """
    order = rng.random(cells, dtype="float32")
    if body is None:
        return order
    rows, columns = (np.arange(n) * m // n for n, m in zip(body.shape, cells, strict=True))
    cell = (rows[:, None] * cells[1] + columns).ravel()
    inside = np.bincount(cell, body.ravel(), cells[0] * cells[1]) / np.bincount(cell, minlength=cells[0] * cells[1])
    return order + (inside.reshape(cells) > 0.5)


def control_generator(seed: int, row, draw: int, layer: str) -> np.random.Generator:
    """Return the generator of the blocks of a slice (`row.series`, `row.slice`): a stream beside that of its noise."""
    return np.random.default_rng([seed, int(row.series, 16), int(row.slice), draw, crc32(layer.encode())])


def _towards_centroid(body: np.ndarray) -> np.ndarray:
    """Return a map that falls from 1 with the distance from the body's centroid (the image's, without a body)."""
    rows, columns = np.indices(body.shape)
    weights = body if body.any() else np.ones(body.shape)
    centre = [np.average(axis, weights=weights) for axis in (rows, columns)]
    return (1 / (1 + np.hypot(rows - centre[0], columns - centre[1]))).astype("float32")
