"""Maps made of many gradients: gradient x input, SmoothGrad, integrated gradients."""

from collections.abc import Callable

import numpy as np

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


def gradients_of(attributor) -> Gradient:
    """Return the gradient of the class score as a function of images (n, H, W, C) and classes (n,).

    Parameters
    ----------
    attributor : lib.attribution.Attributor
    """

    def gradient(images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return attributor(images, classes, ["saliency"])["saliency", "input"].reshape(images.shape)

    return gradient


def gradient_x_input(gradient: Gradient, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the gradient times the image, (n, H, W, C): of a bias-free ReLU network it sums to the score."""
    return gradient(images, classes) * images


def integrated_gradients(
    gradient: Gradient, images: np.ndarray, classes: np.ndarray, baseline: np.ndarray | float = 0.0, steps: int = 32
) -> np.ndarray:
    r"""Return integrated gradients, (n, H, W, C), signed.

    Parameters
    ----------
    gradient : callable
        As from :func:`gradients_of`.
    images : float array (n, H, W, C)
    classes : int array (n,)
    baseline : array that broadcasts to images
        Where the path begins.
    steps : int
        Number of gradients.

    Notes
    -----
    .. math:: (x - x_0) \int_0^1 \nabla f(x_0 + a\, (x - x_0))\, \mathrm{d}a

    by Gauss-Legendre quadrature (Sundararajan et al. 2017, arXiv 1703.01365). The sum of the map is the difference of
    the scores, up to the error of the quadrature.
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    change = images - baseline
    total = np.zeros_like(images)
    for node, weight in zip(nodes, weights, strict=True):
        at = (baseline + (node + 1) / 2 * change).astype(images.dtype)
        total += (weight / 2 * gradient(at, classes)).astype(images.dtype)
    return change * total


def smooth_gradients(
    gradient: Gradient,
    images: np.ndarray,
    classes: np.ndarray,
    *,
    seeds: np.ndarray,
    noise: float = 0.15,
    samples: int = 25,
    squared: bool = False,
) -> np.ndarray:
    r"""Return SmoothGrad, (n, H, W, C): the mean gradient of noisy copies of each image.

    Parameters
    ----------
    gradient : callable
        As from :func:`gradients_of`.
    images : float array (n, H, W, C)
    classes : int array (n,)
    seeds : int array (n,)
        Of the noise of each image, so that a map does not depend on what else is in the batch.
    noise : float
        SD of the noise, as a share of the image's range.
    samples : int
        Number of noisy copies.
    squared : bool
        Whether squares of gradients are averaged, which keeps no sign.

    Notes
    -----
    .. math:: \frac{1}{n} \sum_{i=1}^n \nabla f(x + e_i), \qquad e_i \sim N(0, \sigma^2)

    (Smilkov et al. 2017, arXiv 1706.03825; squares: Hooker et al. 2019, arXiv 1806.10758).
    """
    generators = [np.random.default_rng(int(seed)) for seed in seeds]
    spread = noise * np.ptp(images.reshape(len(images), -1), axis=1).reshape(-1, *[1] * (images.ndim - 1))
    total = np.zeros_like(images)
    for _ in range(samples):
        drawn = np.stack([rng.standard_normal(images.shape[1:], dtype=np.float32) for rng in generators])
        found = gradient((images + spread * drawn).astype(images.dtype), classes)
        total += found**2 if squared else found
    return total / samples
