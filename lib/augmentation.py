"""Training slices whose contrast, noise and geometry vary more than in the cohort; none of it is in the paper."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lib.training import Slices

GRAIN = (0.0, 1.0)  # pixels: from white noise to that of a smooth reconstruction kernel


@dataclass(frozen=True)
class Variation:
    """Largest changes of an image, each drawn anew whenever the image is used; 0 leaves a property as it is.

    Attributes
    ----------
    gain : float
        Relative change of all HU, in either direction, as between tube voltages: 0.1 makes 200 HU 180 to 220 HU.
    offset : float
        HU added everywhere, in either direction, as between scanners and in large or small patients.
    noise : float
        Largest SD of added noise, HU. Its grain is from white to smooth.
    stretch : float
        Relative change of width and of depth, each for itself, in either direction.
    """

    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    stretch: float = 0.0

    def __post_init__(self):
        if min(self.gain, self.offset, self.noise, self.stretch) < 0 or max(self.gain, self.stretch) > 0.5:
            raise ValueError(f"Expected no negative number, and gain and stretch of at most 0.5, found {self}.")


def vary(images: np.ndarray, variation: Variation, rng: np.random.Generator, *, mean: float, sd: float) -> np.ndarray:
    r"""Return images with other contrast, noise and geometry, each image with its own draws.

    Parameters
    ----------
    images : float32 array (n, H, W, C)
        Standardised images with 0 outside the body.
    variation : Variation
    rng : numpy.random.Generator
    mean, sd : float
        Of the standardisation, HU.

    Returns
    -------
    float32 array (n, H, W, C)
        0 outside the body, as before.

    Notes
    -----
    Inside the body, HU :math:`h` become :math:`(1 + g) h + o + n`. Gain :math:`g` and offset :math:`o` are uniform
    within their bounds and equal for the whole image; the noise :math:`n` is normal, of an SD uniform between 0 and its
    bound, and smoothed by a Gaussian of 0 to 1 pixels.
    """
    varied = np.empty_like(images)
    for target, image in zip(varied, images, strict=True):
        gain, offset, wide, deep = rng.uniform(-1, 1, 4)
        strength, grain = rng.uniform(0, variation.noise), rng.uniform(*GRAIN)
        image = _stretched(image, 1 + deep * variation.stretch, 1 + wide * variation.stretch)
        changed = image * (1 + gain * variation.gain) + (mean * gain * variation.gain + offset * variation.offset) / sd
        if strength:
            changed = changed + _noise(rng, image.shape, grain) * (strength / sd)
        target[:] = np.where(image == 0, 0, changed)
    return varied


def _stretched(image: np.ndarray, deep: float, wide: float) -> np.ndarray:
    """Return an image made longer by factors along rows and columns, about its centre."""
    if deep == wide == 1:
        return image
    factors = np.array([1 / deep, 1 / wide])
    centre = (np.array(image.shape[:2]) - 1) / 2
    shift, planes = centre - factors * centre, []
    for plane in np.moveaxis(image, -1, 0):
        planes.append(ndimage.affine_transform(plane, factors, shift, order=1, mode="constant", cval=0.0))
    return np.stack(planes, axis=-1)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], grain: float) -> np.ndarray:
    """Return noise of mean 0 and SD 1, smoothed by a Gaussian of `grain` pixels."""
    smooth = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (grain, grain, 0), mode="wrap")
    return smooth / smooth.std()


class VariedSlices(Slices):
    """Batches of training slices that vary: as `lib.training.Slices`, which also says what the parameters are.

    What is drawn follows from seed, epoch and batch, so that a training that was interrupted ends where another does.

    Parameters
    ----------
    variation : Variation
    """

    def __init__(self, cohort, rows, standardisation, weights, *, variation: Variation, **options):
        super().__init__(cohort, rows, standardisation, weights, **options)
        self.variation, self.standardisation = variation, standardisation

    def __getitem__(self, batch):
        images, labels, weights = super().__getitem__(batch)
        rng = np.random.default_rng([self.seed or 0, self.epoch, batch])
        scale = self.standardisation
        return vary(images, self.variation, rng, mean=scale.mean, sd=scale.sd), labels, weights
