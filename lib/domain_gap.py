"""How CT slices of one source differ from those of another, as a network gets them: HU, texture, size, features."""

import keras
import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lib.cohort import Standardisation
from lib.resampling import resample

METAL_HU = 1500.0  # brighter than nearly all bone of an adult's trunk
NEAR_SKIN_MM = 15.0
HU_EDGES = np.arange(-200, 3201, 20)
MEASURES = {  # columns of input_measures, and their names in figures
    "width_mm": "Width of the body (mm)",
    "depth_mm": "Depth of the body (mm)",
    "filled": "Body (share of the image)",
    "mean_hu": "Mean (HU)",
    "fat": "Fat, -150 to -50 HU (share)",
    "gas": "Gas, below -500 HU (share)",
    "bright": "Above 200 HU (share)",
    "metal": "Above 1500 HU (share)",
    "metal_near_skin": "Above 1500 HU near the skin (share)",
    "grain_hu": "Grain (HU)",
}


def as_input(hu: np.ndarray, standardisation: Standardisation) -> np.ndarray:
    """Return a slice as the network gets it, float32 (size, size, 1); equal to what `Cohort.read` returns.

    Parameters
    ----------
    hu : float array (H, W)
        NaN outside the body.
    standardisation : Standardisation
        Of a network for one channel.

    Raises
    ------
    ValueError
        If the network takes a slice with its neighbours.
    """
    if standardisation.channels != 1:
        raise ValueError(f"the network takes {standardisation.channels} slices at once; expected a network for 1.")
    scaled = (np.asarray(hu, np.float32) - np.float32(standardisation.mean)) * np.float32(1 / standardisation.sd)
    scaled = np.where(np.isfinite(scaled), scaled, np.float32(standardisation.outside))
    return resample(scaled, standardisation.image_size, standardisation.outside)[..., None]


def input_measures(hu: np.ndarray, pixel_mm: float) -> dict[str, float]:
    """Measure a slice without knowing its tissues.

    Parameters
    ----------
    hu : float array (H, W)
        NaN outside the body.
    pixel_mm : float

    Returns
    -------
    dict of float
        Keys of `MEASURES`; shares are of the body, except `filled`, which is the body's share of the image.

    Notes
    -----
    The grain is a robust standard deviation (1.4826 times the median absolute value) of what a 3 x 3 mean takes away
    from soft tissue (0 to 150 HU), corrected for the share of white noise that the mean leaves.
    """
    body = np.isfinite(hu)
    values = hu[body]
    rows, columns = body.any(axis=1), body.any(axis=0)
    filled = np.where(body, hu, -1000.0)
    rest = filled - ndimage.uniform_filter(filled, 3)
    soft = ndimage.binary_erosion((filled > 0) & (filled < 150), iterations=2)
    grain = 1.4826 * np.median(np.abs(rest[soft])) / np.sqrt(8 / 9) if soft.any() else np.nan
    return {
        "width_mm": float(columns.sum() * pixel_mm),
        "depth_mm": float(rows.sum() * pixel_mm),
        "filled": float(body.mean()),
        "mean_hu": float(values.mean()),
        "fat": float(((values > -150) & (values < -50)).mean()),
        "gas": float((values < -500).mean()),
        "bright": float((values > 200).mean()),
        "metal": float((values > METAL_HU).mean()),
        "metal_near_skin": float(metal_near_skin(hu, pixel_mm).sum() / body.sum()),
        "grain_hu": float(grain),
    }


def ranks(measured: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Return the share of the reference's slices below each value, ties counted half; 0 or 1 lies outside of them."""
    shares = {}
    for name in reference:
        values, known = measured[name].to_numpy()[:, None], reference[name].dropna().to_numpy()
        shares[name] = (known < values).mean(axis=1) + 0.5 * (known == values).mean(axis=1)
    return pd.DataFrame(shares, index=measured.index)


def metal_near_skin(hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Return where metal lies on the skin or close below it, bool (H, W): electrodes and wires, and no bowel or pelvis.

    It is what has more than `METAL_HU` within `NEAR_SKIN_MM` of the border of the body.
    """
    body = np.isfinite(hu)
    depth = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1] * pixel_mm
    return (np.nan_to_num(hu, nan=-1000.0) > METAL_HU) & body & (depth <= NEAR_SKIN_MM)


def without(hu: np.ndarray, metal: np.ndarray, margin: int = 8) -> np.ndarray:
    """Return a slice without its metal: HU of the nearest remaining voxels of the body in its place.

    Parameters
    ----------
    hu : float array (H, W)
        NaN outside the body.
    metal : bool array (H, W)
    margin : int
        Voxels around the metal that are replaced as well, since blur and streaks brighten them.
    """
    body = np.isfinite(hu)
    gone = ndimage.binary_dilation(metal, iterations=margin) & body if metal.any() else metal
    if not gone.any() or not (body & ~gone).any():
        return hu.copy()
    nearest = ndimage.distance_transform_edt(~(body & ~gone), return_distances=False, return_indices=True)
    return np.where(gone, hu[tuple(nearest)], hu)


def hu_histogram(hu: np.ndarray) -> np.ndarray:
    """Return the share of the body's voxels in each bin of `HU_EDGES`, float (n,); what lies beyond counts nowhere."""
    values = hu[np.isfinite(hu)]
    return np.histogram(values, HU_EDGES)[0] / len(values)


def texture_spectrum(image: np.ndarray, bins: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return the radial power of a square network input, and the frequencies in cycles per pixel, each float (bins,).

    Parameters
    ----------
    image : float array (n, n)
        The mean is subtracted, and a Hann window keeps the border of the image from adding power of its own.
    bins : int
        Between 0 and 0.5 cycles per pixel.
    """
    n = image.shape[0]
    taper = np.hanning(n)
    power = np.abs(np.fft.fft2((image - image.mean()) * taper[:, None] * taper)) ** 2 / n**2
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n))
    which = np.minimum((frequency * 2 * bins).astype(int), bins).ravel()  # the corners beyond 0.5 come last
    total, cells = np.bincount(which, power.ravel(), bins + 1), np.bincount(which, minlength=bins + 1)
    return (np.arange(bins) + 0.5) / (2 * bins), (total / np.maximum(cells, 1))[:bins]


def last_features(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return what enters the last layer of a network, float (n, features), for images (n, size, size, channels)."""
    return keras.Model(network.inputs, network.layers[-1].input).predict(images, verbose=0)


def fit_plane(features: np.ndarray) -> Pipeline:
    """Return the plane of the two principal components of standardised features (n, f); `transform` projects to it."""
    return make_pipeline(StandardScaler(), PCA(2)).fit(features)


def distances(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Return how far features lie from a reference, float (n,), in standard deviations of its principal components.

    Notes
    -----
    The Mahalanobis distance :math:`\sqrt{\tfrac1k \sum_{i=1}^k t_i^2 / \lambda_i}` over the :math:`k` components that
    hold 99 % of the variance of the reference, so that 1 is typical of it.
    """
    scale = StandardScaler().fit(reference)
    model = PCA(0.99, whiten=True).fit(scale.transform(reference))
    return np.sqrt((model.transform(scale.transform(features)) ** 2).mean(axis=1))
