"""Controls: maps and masks that do not depend on the network, or not on this slice."""

from zlib import crc32

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude

RANDOM = ("random", "-")  # random voxels of the image
RANDOM_BODY = ("random_body", "-")  # as many random voxels, all in the body
DISC = ("disc", "-")  # a disc about the body's centroid
BRIGHTNESS = ("brightness", "-")  # of the image
BLOCKS = "blocks"  # random cells in the body, as large as those of a layer
CONTROLS = ("random", "random_body", "disc", BLOCKS)


def content_free_maps(body: np.ndarray | None, images: int, *, whole_image: bool = True) -> dict:
    """Return maps whose highest voxels are the controls that need no new map in every draw.

    Parameters
    ----------
    body : bool array (n, H, W) or None
        The body. Without it only the control of random voxels in the image is returned.
    images : int
        Number of images, n.
    whole_image : bool
        Whether all voxels of the image may be masked. If only those of the body may, "random" already chooses among
        these, and "random_body" is left out.

    Returns
    -------
    dict
        float32 maps (n, 1, 1) or (n, H, W) by RANDOM, RANDOM_BODY and DISC. Voxels with equal values are chosen at
        random when the map is masked.
    """
    maps = {RANDOM: np.zeros((images, 1, 1), "float32")}
    if body is not None:
        if whole_image:
            maps[RANDOM_BODY] = np.asarray(body, "float32")
        maps[DISC] = np.stack([_towards_centroid(mask) for mask in body])
    return maps


def image_maps(images: np.ndarray, body: np.ndarray) -> dict:
    """Return maps that show the image and no network: a map that is no better than these has explained nothing.

    Parameters
    ----------
    images : float32 array (n, H, W, C)
        Standardised slices, of which the middle channel is taken.
    body : bool array (n, H, W)

    Returns
    -------
    dict
        float32 maps (n, H, W), 0 outside the body: DISC, as in :func:`content_free_maps`; ("edges", "-"), the magnitude
        of the gradient of the image after a Gaussian blur with an SD of one pixel; BRIGHTNESS, the image less
        the lowest value in the body.
    """
    middle = np.asarray(images[..., images.shape[-1] // 2], "float32")
    edges = np.stack([gaussian_gradient_magnitude(image, 1.0) for image in middle])
    lowest = np.where(body, middle, np.inf).min(axis=(1, 2), keepdims=True)
    brightness = np.where(body, middle - lowest, 0.0)
    disc = content_free_maps(body, len(images))[DISC]
    maps = {DISC: disc, ("edges", "-"): edges, BRIGHTNESS: brightness}
    return {name: (values * body).astype("float32") for name, values in maps.items()}


def matched_control(layer: str) -> tuple[str, str, str]:
    """Return method, layer and region of the control that matches the shape of a map.

    For a map at the input it is random voxels of the body, for a map at a layer random blocks of the body as large as
    the layer's cells.
    """
    return (*RANDOM_BODY, "random") if layer == "input" else (BLOCKS, layer, "random")


def random_blocks(body: np.ndarray | None, cells: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return random values for the cells of a layer, with higher values inside the body.

    Parameters
    ----------
    body : bool array (H, W) or None
    cells : (int, int)
        Rows and columns of the layer's grid.
    rng : numpy.random.Generator

    Returns
    -------
    float32 array (rows, columns)
        In [0, 1), plus 1 where more than half of the cell lies in the body.
    """
    order = rng.random(cells, dtype="float32")
    if body is None:
        return order
    rows, columns = (np.arange(n) * m // n for n, m in zip(body.shape, cells, strict=True))
    cell = (rows[:, None] * cells[1] + columns).ravel()
    inside = np.bincount(cell, body.ravel(), cells[0] * cells[1]) / np.bincount(cell, minlength=cells[0] * cells[1])
    return order + (inside.reshape(cells) > 0.5)


def control_generator(seed: int, row, draw: int, layer: str) -> np.random.Generator:
    """Return the random generator of a slice's blocks, which is independent of the one of its noise.

    `row` has the attributes `series` and `slice`.
    """
    return np.random.default_rng([seed, int(row.series, 16), int(row.slice), draw, crc32(layer.encode())])


def _towards_centroid(body: np.ndarray) -> np.ndarray:
    """Return a map that falls from 1 with the distance from the body's centroid, or from the image's without a body."""
    rows, columns = np.indices(body.shape)
    weights = body if body.any() else np.ones(body.shape)
    centre = [np.average(axis, weights=weights) for axis in (rows, columns)]
    return (1 / (1 + np.hypot(rows - centre[0], columns - centre[1]))).astype("float32")
