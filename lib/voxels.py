"""Voxels that are chosen by the rank of a map, and the values that overwrite them."""

import numpy as np
from scipy import ndimage, stats

REGIONS = ("top", "bottom", "random")
FILLS = ("normal", "uniform", "range", "zero", "shuffle", "blurred")
BLUR = 1 / 32  # sigma of the fill "blurred" as a share of the image's extent: 8 pixels of 256, 16 of 512


def upsample(maps: np.ndarray, shape: tuple[int, ...], interpolation: str = "nearest") -> np.ndarray:
    """Enlarge maps to the size of an image.

    Parameters
    ----------
    maps : array, (..., H', W'), or (..., D', H', W') for volumes
        One map or several.
    shape : tuple of int
        Height and width in voxels; depth, height and width for volumes.
    interpolation : {"nearest", "bilinear"}
        "nearest" keeps the cells of a layer as blocks of voxels. "bilinear" interpolates between the centres of cells
        and is constant beyond the last centre.

    Returns
    -------
    array, (..., H, W), or (..., D, H, W)

    Raises
    ------
    ValueError
        If `interpolation` is unknown.
    """
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"interpolation={interpolation!r} is not known: choose nearest or bilinear.")
    for axis, size in zip(range(-len(shape), 0), shape, strict=True):
        cells = maps.shape[axis]
        if cells == size:
            continue
        if interpolation == "nearest":
            maps = np.take(maps, (2 * np.arange(size) + 1) * cells // (2 * size), axis=axis)
            continue
        position = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0, cells - 1)
        low = np.minimum(position.astype(int), max(cells - 2, 0))
        share = (position - low).astype(np.result_type(maps, np.float32)).reshape(-1, *[1] * (-1 - axis))
        high = np.take(maps, np.minimum(low + 1, cells - 1), axis=axis)
        maps = np.take(maps, low, axis=axis) * (1 - share) + high * share
    return maps


def centre_channel(values: np.ndarray) -> np.ndarray:
    """Return a map (H, W); if it has channels (H, W, C), which are neighbouring slices, the one in the middle."""
    return values[..., values.shape[-1] // 2] if values.ndim == 3 else values


def voxel_magnitude(maps: np.ndarray) -> np.ndarray:
    """Return the absolute value of maps, (n, H, W); if a map has channels, their maximum."""
    maps = np.abs(maps)
    return maps.max(axis=-1) if maps.ndim == 4 else maps


class Selection:
    """The `count` highest or lowest of some values: those that are certain, and the ties at the boundary.

    Parameters
    ----------
    values : float array, (n,)
    count : int
    region : {"top", "bottom"}
    """

    def __init__(self, values: np.ndarray, count: int, region: str):
        rank = len(values) - count if region == "top" else count - 1
        self.sure, self.ties, self.missing = np.zeros(len(values), bool), np.zeros(0, int), 0
        if count:
            boundary = np.partition(values, rank)[rank]
            self.sure = values > boundary if region == "top" else values < boundary
            self.ties = np.flatnonzero(values == boundary)
            self.missing = count - np.count_nonzero(self.sure)

    def draw(self, keys: np.ndarray) -> np.ndarray:
        """Return the chosen values as a mask; among ties, those with the smallest of the random `keys` are chosen."""
        chosen = self.sure.copy()
        if self.missing == len(self.ties):
            chosen[self.ties] = True
        elif self.missing:
            chosen[self.ties[np.argpartition(keys[self.ties], self.missing - 1)[: self.missing]]] = True
        return chosen


def voxel_count(fraction: float, voxels: int) -> int:
    """Return round(fraction * voxels), after a check of the fraction."""
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
    r"""Choose a fraction of the voxels of each image by the rank of a map.

    Parameters
    ----------
    maps : float array, (n, H, W)
        At the image's size (see `upsample`).
    fraction : float
        In (0, 1].
    region : {"top", "bottom", "random"}
        The voxels with the highest values, those with the lowest, or random ones.
    rng : numpy.random.Generator
        Decides only among voxels of equal value at the boundary.
    within : bool array, (n, H, W), optional
        Voxels that may be chosen; None for the whole image.
    magnitude : bool
        Whether the absolute value of the map is ranked, as in the paper, or the signed map.

    Returns
    -------
    bool array, (n, H, W)
        Exactly round(fraction * H * W) voxels per image, or this fraction of the voxels of `within`.

    Raises
    ------
    ValueError
        If a map holds NaN, or if a region, a shape or the fraction is not valid.

    Notes
    -----
    Of :math:`n` voxels with the values :math:`v_i = \lvert m_i \rvert` of the map, :math:`k = \operatorname{round}(f
    n)` are chosen. With the :math:`k`-th highest value :math:`v_{(k)}`, "top" takes all voxels with :math:`v_i >
    v_{(k)}`, and fills up to :math:`k` with a random choice of those with :math:`v_i = v_{(k)}`. "bottom" does the same
    from below.
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
        source = np.zeros(keys.size) if region == "random" else ranked[eligible]
        chosen[image, eligible] = Selection(source, voxel_count(fraction, keys.size), region).draw(keys)
    return chosen.reshape(maps.shape)


def fill_values(
    images: np.ndarray, fill: str | np.ndarray, rng: np.random.Generator | None, within: np.ndarray | None = None
) -> np.ndarray:
    """Return values that overwrite voxels, with the shape and dtype of `images`.

    Parameters
    ----------
    images : float array, (n, H, W) or (n, H, W, C), or volumes (n, D, H, W, C)
        Standardised.
    fill : {"normal", "uniform", "range", "zero", "shuffle", "blurred"} or array
        "normal" is N(0, 1). "uniform" is U[0, 1). "range" is uniform between the lowest and the highest value of the
        image. "zero" is 0, the mean of the body and the value outside it. "shuffle" takes the voxels of the image (of
        `within`, if given) in random order. "blurred" is the image itself after a Gaussian blur, whose standard
        deviation along each axis is 1/32 of the image's extent (8 pixels of 256). An array holds the values themselves.
    rng : numpy.random.Generator
        Not needed for "zero", "blurred" and an array, in which nothing is random.
    within : bool array, (n, H, W) or (n, D, H, W), optional
        The voxels that "shuffle" takes values from.
    """
    if not isinstance(fill, str):
        return np.broadcast_to(np.asarray(fill, images.dtype), images.shape)
    if fill not in FILLS:
        raise ValueError(f"fill={fill!r} is not known: choose one of {', '.join(FILLS)}, or give an array.")
    grid = images.shape[1:4] if images.ndim == 5 else images.shape[1:3]
    if fill == "zero":
        return np.zeros_like(images)
    if fill == "blurred":
        inner = range(1, 1 + len(grid))
        return ndimage.gaussian_filter(images, [BLUR * n for n in grid], mode="reflect", axes=tuple(inner))
    if rng is None:
        raise ValueError(f"fill={fill!r} needs a random generator: give rng.")
    if fill == "normal":
        return rng.standard_normal(images.shape, dtype="float32").astype(images.dtype, copy=False)
    if fill == "shuffle":
        voxels = images.reshape(len(images), -1, *images.shape[1 + len(grid) :])
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
    """Return a copy of images (n, H, W[, C]) in which the chosen voxels (n, H, W) hold fill values in every channel.

    `fill` and `rng` are those of `fill_values`.
    """
    images = np.asarray(images)
    if np.shape(voxels) != images.shape[:3]:
        raise ValueError(f"voxels has shape {np.shape(voxels)}, expected {images.shape[:3]} as images has.")
    voxels = np.reshape(voxels, np.shape(voxels) + (1,) * (images.ndim - 3))
    return np.where(voxels, fill_values(images, fill, rng), images)


def rank_order(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value in its map, from 0 (lowest) to 1 (highest).

    Equal values share their mean rank. If all values are equal, it is 1/2 everywhere.
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"the map holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or infinite.")
    return ((stats.rankdata(values) - 1) / max(values.size - 1, 1)).reshape(values.shape)


def top_shares(values: np.ndarray, groups: np.ndarray, count: int, fraction: float = 0.1) -> np.ndarray:
    """Return how the highest voxels of a map are distributed over groups of voxels.

    Parameters
    ----------
    values : float array (H, W)
        Map that is ranked as it is; pass its absolute value to rank by that.
    groups : integer or bool array (H, W)
        Each voxel's group, from 0 to `count` - 1.
    count : int
        Number of groups.
    fraction : float
        Share of the voxels that counts as highest.

    Returns
    -------
    float64 array (count,)
        Sums to 1.

    Notes
    -----
    Ties at the boundary count in part. The result is the mean over the random choices that masking makes among them.
    """
    selection = Selection(values.ravel(), voxel_count(fraction, values.size), "top")
    groups = groups.ravel().astype(int)
    chosen = np.bincount(groups[selection.sure], minlength=count).astype(float)
    ties = np.bincount(groups[selection.ties], minlength=count)
    chosen += ties * (selection.missing / max(len(selection.ties), 1))
    return chosen / chosen.sum()
