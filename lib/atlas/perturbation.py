"""Maps from changed images alone, without gradients: occlusion, LIME and KernelSHAP; and the patches they remove."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, Ridge

Score = Callable[[np.ndarray], np.ndarray]
"""Takes images (n, H, W, C), returns the scores of all classes (n, K)."""


def superpixels(
    image: np.ndarray, within: np.ndarray, count: int, *, seed: int, compactness: float = 0.5
) -> np.ndarray:
    """Divide a region of an image into patches of similar grey values.

    Parameters
    ----------
    image : array (H, W)
        Standardised.
    within : bool array (H, W)
        The region, such as the body.
    count : int
        Number of patches.
    seed : int
        Of the first centres.
    compactness : float
        Weight of a distance of one patch's width against a difference of one SD in grey values.

    Returns
    -------
    int array (H, W)
        0 ... count - 1, and -1 outside the region.

    Notes
    -----
    k-means of place and grey value, as in SLIC (Achanta et al. 2012). The tissues that the phantom knows have no part
    in it.
    """
    rows, columns = np.nonzero(within)
    width = math.sqrt(len(rows) / count)
    grey = np.clip(image[rows, columns], -3, 3)
    points = np.stack([rows / width * compactness, columns / width * compactness, grey], axis=1)
    patches = np.full(image.shape, -1)
    some = np.random.default_rng(seed).permutation(len(points))[: 60 * count]
    clusters = KMeans(count, n_init=1, max_iter=20, random_state=seed).fit(points[some])
    patches[rows, columns] = clusters.predict(points)
    return patches


def occlusion(
    score: Score, image: np.ndarray, baseline: np.ndarray, *, patch: int, stride: int, batch: int = 32
) -> np.ndarray:
    r"""Return how much each class score falls when a square is replaced, (H, W, K).

    Parameters
    ----------
    score : callable
        Class scores of images.
    image, baseline : array (H, W, C)
        The image, and what stands in the square instead.
    patch, stride : int
        Side of the square and the step between squares, pixels. The last squares end at the border.
    batch : int
        Number of images that are scored at once.

    Notes
    -----
    A pixel holds the mean of :math:`f(x) - f(x_S)` over the squares :math:`S` that cover it (Zeiler and Fergus 2014,
    arXiv 1311.2901).
    """
    starts = [sorted({*range(0, size - patch, stride), size - patch}) for size in image.shape[:2]]
    squares = [(slice(y, y + patch), slice(x, x + patch)) for y, x in itertools.product(*starts)]
    copies = np.repeat(image[None], len(squares), axis=0)
    for copy, square in zip(copies, squares, strict=True):
        copy[square] = baseline[square]
    falls = score(image[None]) - _scored(score, copies, batch)
    total, covered = np.zeros((*image.shape[:2], falls.shape[1])), np.zeros((*image.shape[:2], 1))
    for square, fall in zip(squares, falls, strict=True):
        total[square] += fall
        covered[square] += 1
    return total / np.maximum(covered, 1)


def lime(
    score: Score,
    image: np.ndarray,
    baseline: np.ndarray,
    patches: np.ndarray,
    *,
    rng: np.random.Generator,
    samples: int = 500,
    width: float = 0.25,
    alpha: float = 1.0,
) -> np.ndarray:
    r"""Return the weights of LIME's linear model for each class, (patches, K).

    Parameters
    ----------
    score : callable
        Class scores of images; of logits or log odds, since probabilities saturate.
    image, baseline : array (H, W, C)
    patches : int array (H, W)
        As from :func:`superpixels`.
    rng : numpy.random.Generator
        Decides which patches are kept in each sample.
    samples : int
        Number of changed images; the first is the image itself.
    width : float
        Of the kernel of the distance.
    alpha : float
        Strength of the ridge penalty.

    Notes
    -----
    Ridge regression of the scores on the 0/1 vectors :math:`z` of kept patches, with weights :math:`\exp(-d^2 / w^2)`
    and the cosine distance :math:`d = 1 - \sqrt{\bar z}` from the whole image (Ribeiro et al. 2016, arXiv 1602.04938).
    """
    kept = rng.integers(0, 2, (samples, patches.max() + 1)).astype(bool)
    kept[0] = True
    distance = 1 - np.sqrt(kept.mean(axis=1))
    scores = _masked_scores(score, image, baseline, patches, kept)
    return Ridge(alpha=alpha).fit(kept, scores, sample_weight=np.exp(-(distance**2) / width**2)).coef_.T


def kernel_shap(
    score: Score,
    image: np.ndarray,
    baseline: np.ndarray,
    patches: np.ndarray,
    *,
    rng: np.random.Generator,
    samples: int = 500,
) -> np.ndarray:
    r"""Return estimated Shapley values of the patches for each class, (patches, K).

    Parameters
    ----------
    score, image, baseline, patches, rng
        As for :func:`lime`.
    samples : int
        Number of changed images besides the image and the baseline. If there are no more than this many subsets of the
        patches, all are taken, and the values are exact.

    Notes
    -----
    Least squares of :math:`f(z) - f(0)` on :math:`z` with the weight :math:`(d - 1) / (\binom{d}{s} s (d - s))` of a
    subset of :math:`s` of :math:`d` patches, and with the sum bound to :math:`f(1) - f(0)` (Lundberg and Lee 2017,
    arXiv 1705.07874). Sampled subsets come in pairs of one and its complement.
    """
    count = int(patches.max()) + 1  # an integer of Python: 2^64 has no place in one of NumPy
    kept, weights = _subsets(count, samples, rng)
    ends = _masked_scores(score, image, baseline, patches, np.array([[False] * count, [True] * count]))
    empty, whole = ends[0], ends[1] - ends[0]
    gains = _masked_scores(score, image, baseline, patches, kept) - empty
    last, others = kept[:, -1:].astype(float), kept[:, :-1].astype(float)
    fitted = LinearRegression(fit_intercept=False).fit(others - last, gains - last * whole, sample_weight=weights)
    found = np.atleast_2d(fitted.coef_).T
    return np.concatenate([found, (whole - found.sum(axis=0))[None]])


def paint(values: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Return the values of patches (patches, K) spread evenly over their pixels, (H, W, K); 0 outside of patches."""
    sizes = np.bincount(patches[patches >= 0], minlength=len(values))
    spread = np.concatenate([values / np.maximum(sizes, 1)[:, None], np.zeros((1, values.shape[1]))])
    return spread[patches]


def _subsets(count: int, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return subsets of patches that are neither empty nor whole, bool (n, count), and their weights."""
    if 2**count - 2 <= samples:
        kept = np.array(list(itertools.product([False, True], repeat=count)))[1:-1]
        sizes = kept.sum(axis=1)
        return kept, np.array([(count - 1) / (math.comb(count, s) * s * (count - s)) for s in sizes])
    sizes = np.arange(1, count)
    share = (count - 1) / (sizes * (count - sizes))
    drawn = rng.choice(sizes, samples // 2, p=share / share.sum())
    kept = rng.permuted(np.arange(count) < drawn[:, None], axis=1)
    return np.concatenate([kept, ~kept]), np.ones(2 * len(kept))


def _masked_scores(score, image, baseline, patches, kept, batch: int = 32) -> np.ndarray:
    """Return the scores of the image with only some patches kept, (n, K); outside of patches the image stays."""
    shown = np.concatenate([kept, np.ones((len(kept), 1), bool)], axis=1)
    parts = []
    for start in range(0, len(kept), batch):
        masks = shown[start : start + batch][:, patches]
        parts.append(score(np.where(masks[..., None], image, baseline).astype(image.dtype)))
    return np.concatenate(parts)


def _scored(score: Score, images: np.ndarray, batch: int) -> np.ndarray:
    return np.concatenate([score(images[start : start + batch]) for start in range(0, len(images), batch)])
