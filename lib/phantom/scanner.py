"""The scanner: protocol, partial volume, blur, noise with a measured spectrum, streaks and the field of view."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from lib.phantom.canvas import Grid
from lib.phantom.patient import TISSUE_OF_PAINT, Anatomy
from lib.phantom.tissues import Tissue

PADDING_HU = -3024
# Manufacturer, model, kernel, modulation transfer at which frequency falls to a half (1/mm), noise exponents a, f0, b,
# low-frequency floor, SD in HU for 3 mm in an average patient, share of scans. The SD give those of public scans in the
# liver (lib/published/renal_ct_noise.csv).
_SCANNERS = (
    ("SIEMENS", "SOMATOM Definition", "B30f", 0.36, 0.75, 0.27, 1.9, 0.15, 16.0, 0.32),
    ("SIEMENS", "Biograph mCT", "Br38f", 0.33, 0.60, 0.19, 1.6, 0.22, 12.5, 0.16),
    ("GE MEDICAL SYSTEMS", "LightSpeed VCT", "STANDARD", 0.37, 0.80, 0.27, 1.9, 0.18, 17.0, 0.26),
    ("TOSHIBA", "Aquilion ONE", "FC17", 0.34, 0.80, 0.22, 1.7, 0.15, 26.4, 0.12),
    ("Philips", "Brilliance 64", "B", 0.36, 0.80, 0.28, 1.9, 0.15, 15.0, 0.14),
)
# Thin slices are made for reformatting. Their noise is finer for every kernel: a is increased, f0 and SD multiplied.
_THIN_MM, _THIN_A, _THIN_F0, _THIN_SD = 1.5, 0.7, 1.45, 1.68
_NOISIEST = 50.0  # HU: automatic exposure limits the noise
_FINE_KERNEL = {"SIEMENS": "B45f", "GE MEDICAL SYSTEMS": "DETAIL", "TOSHIBA": "FC10", "Philips": "C"}


@dataclass(frozen=True)
class Protocol:
    r"""How a series was scanned and reconstructed; none of it depends on the phase.

    Attributes
    ----------
    manufacturer, model, kernel : str
    half_frequency : float
        Spatial frequency at which the blur halves the contrast, 1/mm.
    noise_shape : tuple of float
        The values :math:`a`, :math:`f_0`, :math:`b` and floor, see :func:`noise_spectrum`.
    noise_hu : float
        SD in the middle of the body at a fine sampling, HU.
    kvp, thickness_mm, spacing_mm : float
        Tube voltage, slice thickness, and distance between slices.
    fov_mm : float
        Side of the reconstructed square, mm.
    off_centre : tuple of float
        Shift of the table from the isocentre, mm.
    streaks : float
        Strength of horizontal streaks relative to the noise.
    pad_outside : bool
        Whether the corners outside the circular field hold a padding value.
    """

    manufacturer: str
    model: str
    kernel: str
    half_frequency: float
    noise_shape: tuple[float, float, float, float]
    noise_hu: float
    kvp: float
    thickness_mm: float
    spacing_mm: float
    fov_mm: float
    off_centre: tuple[float, float]
    streaks: float
    pad_outside: bool


def draw_protocol(rng: np.random.Generator, anatomy: Anatomy) -> Protocol:
    """Draw a scanner and its settings for a patient's examination."""
    trunk = anatomy.trunk
    make, model, kernel, half, a, f0, b, floor, sd, _ = _SCANNERS[
        rng.choice(len(_SCANNERS), p=[s[-1] for s in _SCANNERS])
    ]
    thickness = float(rng.choice([1.25, 2.0, 2.5, 3.0, 5.0], p=[0.06, 0.10, 0.24, 0.34, 0.26]))
    overlap = float(rng.choice([1.0, 0.8, 0.6], p=[0.7, 0.2, 0.1]))
    kvp = float(rng.choice([120.0, 100.0, 140.0], p=[0.85, 0.11, 0.04]))
    width = 2 * trunk.half_width + (90 if trunk.arms else 0)
    fov = float(np.clip(width + rng.normal(42, 20), 0.97 * width, 500)) if rng.random() > 0.06 else 0.96 * width
    # Automatic exposure compensates for a part of the absorption in thicker patients.
    size = np.exp(0.0022 * (trunk.half_width + trunk.depth / 2 - 300))
    noise = sd * np.sqrt(3.0 / thickness) * size * rng.lognormal(0, 0.12)
    if thickness < _THIN_MM:
        a, f0, noise = a + _THIN_A, _THIN_F0 * f0, _THIN_SD * noise
    return Protocol(
        make, model, kernel, half, (a, f0, b, floor), min(float(noise), _NOISIEST), kvp, thickness, thickness * overlap,
        float(np.clip(fov, 300, 500)), (float(rng.normal(0, 6)), float(rng.normal(0, 6))),
        float(rng.uniform(0.5, 1.0)) if trunk.arms else float(rng.uniform(0.2, 0.5)) * (rng.random() < 0.15),
        bool(rng.random() < 0.45),
    )  # fmt: skip


def sharper(protocol: Protocol) -> Protocol:
    """Return the protocol of a second reconstruction of the same scan with a finer kernel."""
    a, f0, b, floor = protocol.noise_shape
    return replace(
        protocol,
        kernel=_FINE_KERNEL[protocol.manufacturer],
        half_frequency=1.25 * protocol.half_frequency,
        noise_shape=(a, 1.25 * f0, b, floor),
        noise_hu=1.35 * protocol.noise_hu,
    )


def noise_spectrum(frequency: np.ndarray, shape: tuple[float, float, float, float]) -> np.ndarray:
    r"""Return the radial noise power, relative to its peak.

    Parameters
    ----------
    frequency : float array
        Spatial frequency, 1/mm.
    shape : tuple of float
        The values :math:`a`, :math:`f_0`, :math:`b` and floor.

    Notes
    -----
    The power is :math:`f^a \exp(-(f / f_0)^b)`, normalised so that its peak is 1. Below the frequency of the peak, it
    is rescaled so that it falls to `floor` instead of 0.
    """
    a, f0, b, floor = shape
    peak = f0 * (a / b) ** (1 / b)
    power = (np.maximum(frequency, 1e-9) / peak) ** a * np.exp(-((frequency / f0) ** b) + a / b)
    return np.where(frequency < peak, floor + (1 - floor) * power, power)


class Scanner:
    """Computes the images of one series, and holds the filters that all its slices share.

    Parameters
    ----------
    protocol : Protocol
    anatomy : Anatomy
    matrix : int
        Rows and columns. A smaller matrix has larger pixels over the same field, which average the noise.
    """

    def __init__(self, protocol: Protocol, anatomy: Anatomy, matrix: int = 512):
        self.protocol, self.anatomy, self.matrix = protocol, anatomy, matrix
        pixel = protocol.fov_mm / matrix
        x, y = protocol.off_centre
        centre = anatomy.pose.place((0.0, anatomy.trunk.centre_y)) + np.array([x, y + 12])
        self.oversample = 2
        self.grid = Grid(
            matrix, pixel, centre[0] - protocol.fov_mm / 2, centre[1] - protocol.fov_mm / 2, self.oversample
        )
        fx, fy = fft.rfftfreq(matrix, pixel)[None, :], fft.fftfreq(matrix, pixel)[:, None]
        radial = np.hypot(fx, fy)
        aperture = np.sinc(fx * pixel) * np.sinc(fy * pixel)
        # Painting already averages over the pixel; the blur of the kernel is added to this.
        self.transfer = np.exp(-np.log(2) * (radial / protocol.half_frequency) ** 2).astype(np.float32)
        power = noise_spectrum(radial, protocol.noise_shape) * aperture**2
        streak = protocol.streaks * np.exp(-((fx / 0.012) ** 2)) * np.exp(-((fy / 0.25) ** 2)) * (np.abs(fy) > 0.02)
        amplitude = np.sqrt(power + 9 * streak * aperture**2)
        self.amplitude = (amplitude * self._gain(pixel)).astype(np.float32)
        rows = (np.arange(matrix) + 0.5) * pixel - protocol.fov_mm / 2
        rho = np.hypot(rows[None, :], rows[:, None])
        self.outside = rho > protocol.fov_mm / 2 if protocol.pad_outside else None
        self._noise_map(rows + centre[0], rows + centre[1])

    def _gain(self, pixel: float) -> float:
        """Return the factor that gives the SD of the protocol at a fine sampling of 0.7 mm, for every matrix."""
        fine = fft.fftfreq(256, 0.7)
        power = noise_spectrum(np.hypot(fine[None, :], fine[:, None]), self.protocol.noise_shape)
        density = power.mean() / 0.7**2  # integral of the power over frequency, 1/mm^2
        return self.protocol.noise_hu / np.sqrt(density) * self.matrix / pixel / np.sqrt(2)

    def _noise_map(self, x: np.ndarray, y: np.ndarray) -> None:
        """Set the map of the noise, which is highest in the middle of the body and falls to a third in the air."""
        trunk = self.anatomy.trunk
        points = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
        away = (self.anatomy.pose.undo(points) - (0.0, trunk.centre_y)) / (trunk.half_width, trunk.depth / 2)
        q = (away**2).sum(axis=-1)
        self.modulation = (0.34 + 0.72 / (1 + (q / 1.15) ** 3)).astype(np.float32)

    def planes(self, z: float) -> np.ndarray:
        """Return the heights of the planes that are averaged into a slice, mm."""
        thickness = self.protocol.thickness_mm
        count = 1 if thickness < 1.6 else 2
        return z + thickness * ((np.arange(count) + 0.5) / count - 0.5)

    def noise_field(self, index: int, noise: Callable[[int], np.random.Generator]) -> np.ndarray:
        """Return the noise of slice `index`, HU; slices that overlap share a part of it, as they share photons."""

        def white(k: int) -> np.ndarray:
            return noise(k).standard_normal((2, *self.amplitude.shape), dtype=np.float32)

        shared = max(1 - self.protocol.spacing_mm / self.protocol.thickness_mm, 0.0)
        field = white(index)
        if shared > 0:
            angle = 0.5 * np.arcsin(
                min(2 * shared, 1.0)
            )  # the correlation of neighbours is sin(angle) cos(angle) = shared
            field = np.cos(angle) * field + np.sin(angle) * white(index + 1)
        spectrum = (field[0] + 1j * field[1]) * self.amplitude
        return fft.irfft2(spectrum, s=(self.matrix, self.matrix)) * self.modulation

    def image(
        self,
        index: int,
        hounsfield: Callable[[float], np.ndarray],
        noise: Callable[[int], np.random.Generator],
        breath: float = 0.0,
        texture: Callable | None = None,
        streaks: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scan one slice.

        Parameters
        ----------
        index : int
            Place on the grid of the scan; the height is the index times the spacing of the protocol.
        hounsfield : callable
            Function from height in mm to the HU of every paint code, float32 (64,).
        noise : callable
            Function from index to the random generator of the noise of that slice.
        breath : float
            Shift of the organs, mm.
        texture : callable, optional
            Function of HU, tissues, grid and z that changes the noise-free HU in place.
        streaks : callable, optional
            Function from the share of metal in each pixel, float32 (matrix, matrix), to the HU that it adds.

        Returns
        -------
        hu : int16 array (matrix, matrix)
        tissues : uint8 array (matrix, matrix)
        """
        z = index * self.protocol.spacing_mm
        planes = self.planes(z)
        total = np.zeros((self.matrix, self.matrix), np.float32)
        tissues, metal = None, np.zeros_like(total)
        for k, height in enumerate(planes):
            paint = self.anatomy.paint(self.grid, height, breath)
            values = hounsfield(height).take(paint)
            total += values[::2, ::2]
            total += values[1::2, ::2]
            total += values[::2, 1::2]
            total += values[1::2, 1::2]
            if streaks is not None:
                metal += _share_of_pixels(paint == Tissue.METAL) / len(planes)
            if k == len(planes) // 2:
                tissues = TISSUE_OF_PAINT[paint[::2, ::2]]
        total *= 1 / (4 * len(planes))
        if texture is not None:
            texture(total, tissues, self.grid, z)
        spectrum = fft.rfft2(total)
        spectrum *= self.transfer
        image = fft.irfft2(spectrum, s=total.shape)
        image += self.noise_field(index, noise)
        if streaks is not None:
            image += streaks(metal)
        np.clip(np.rint(image, out=image), -1024, 3071, out=image)
        hu = image.astype(np.int16)
        if self.outside is not None:
            hu[self.outside] = PADDING_HU
            tissues[self.outside] = Tissue.OUTSIDE
        return hu, tissues


def _share_of_pixels(samples: np.ndarray) -> np.ndarray:
    """Return the mean over the 2 x 2 samples of each pixel, float32."""
    n = len(samples) // 2
    return samples.reshape(n, 2, n, 2).mean(axis=(1, 3), dtype=np.float32)
