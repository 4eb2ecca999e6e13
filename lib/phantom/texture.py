"""Unevenness inside tissues: layered urine, the arterial spleen, streaming in the vena cava, soft mottling."""

import numpy as np

from lib.phantom.canvas import Grid
from lib.phantom.physiology import URINE_CEILING
from lib.phantom.tissues import Tissue

# Amplitude of soft mottling, HU.
_MOTTLED = {
    Tissue.LIVER: 3.5,
    Tissue.MUSCLE: 5.0,
    Tissue.PANCREAS: 7.0,
    Tissue.TRABECULAR_BONE: 14.0,
    Tissue.BOWEL_WALL: 8.0,
    Tissue.BOWEL_FLUID: 8.0,
    Tissue.STOOL: 35.0,
    Tissue.VISCERAL_FAT: 5.0,
    Tissue.SUBCUTANEOUS_FAT: 3.0,
    Tissue.RENAL_TUMOUR: 18.0,
}


class Texture:
    """Unevenness of the tissues of one patient at one time.

    Parameters
    ----------
    rng : numpy.random.Generator
    time : float or None
        Time after the start of the injection, s; None before it.
    """

    def __init__(self, rng: np.random.Generator, time: float | None):
        self.wave = rng.uniform(0, 2 * np.pi, (6, 3))
        direction = rng.normal(0, 1, (6, 3))
        direction /= np.linalg.norm(direction, axis=1)[:, None]
        self.rate = direction * (2 * np.pi / np.array([9.0, 14.0, 22.0, 11.0, 30.0, 17.0]))[:, None]
        seconds = -1e3 if time is None else time
        self.moire = 34 * np.exp(-(((seconds - 32) / 13) ** 2)) * rng.uniform(0.7, 1.2)
        self.streaming = 30 * np.exp(-(((seconds - 45) / 22) ** 2)) * rng.uniform(0.6, 1.3)
        self.layering = rng.uniform(0.15, 0.5)
        self.strength = np.zeros(64, np.float32)
        for tissue, size in _MOTTLED.items():
            self.strength[tissue] = size * rng.uniform(0.7, 1.3)

    def __call__(self, hu: np.ndarray, tissues: np.ndarray, grid: Grid, z: float) -> None:
        """Change the HU of a slice in place; HU are float32 (n, n), tissues uint8 (n, n)."""
        n = grid.matrix
        x = (grid.left_mm + (np.arange(n, dtype=np.float32) + 0.5) * grid.pixel_mm)[None, :]
        y = (grid.top_mm + (np.arange(n, dtype=np.float32) + 0.5) * grid.pixel_mm)[:, None]
        mottle = np.zeros_like(hu)
        for k in range(0, 6, 2):  # product of two plane waves: separable, so cheap
            rx, ry, rz = self.rate[k]
            phase = self.wave[k, 0] + rz * z
            warp = 1.5 * np.sin(self.rate[k + 1, 1] * y + self.wave[k + 1, 1]).astype(np.float32)
            mottle += np.sin(rx * x + phase).astype(np.float32) * np.cos(ry * y + warp).astype(np.float32)
        hu += mottle * self.strength[tissues]
        self._inside(hu, tissues, Tissue.SPLEEN, self.moire, x, y, z, 13.0)
        self._inside(hu, tissues, Tissue.VENA_CAVA, self.streaming, x, y, z, 9.0)
        self._layer_urine(hu, tissues, grid, y)

    def _inside(self, hu, tissues, tissue, size, x, y, z, wavelength) -> None:
        if size < 2:
            return
        rows, columns = np.nonzero(tissues == tissue)
        px, py = x[0, columns], y[rows, 0]
        bend = 2.6 * np.sin(py / (0.75 * wavelength) + self.wave[0, 1] + z / 15)
        bend += 2.2 * np.sin((px - py) / wavelength + self.wave[2, 1] - z / 12)
        stripes = np.sin(np.pi * (px + 0.6 * py) / wavelength + bend + self.wave[1, 1])
        hu[rows, columns] += size * stripes

    def _layer_urine(self, hu, tissues, grid, y) -> None:
        rows, columns = np.nonzero(tissues == Tissue.URINE)
        if len(rows) == 0:
            return
        values = hu[rows, columns]
        dense = values > 120
        if not dense.any():
            return
        middle = grid.matrix // 2
        for side in (columns < middle, columns >= middle):
            chosen = side & dense
            if chosen.any():
                depth = y[rows[chosen], 0]
                lean = np.clip((depth - depth.mean()) / 14, -1.2, 1.2)
                hu[rows[chosen], columns[chosen]] = np.minimum(
                    values[chosen] * (1 + self.layering * lean), URINE_CEILING
                )
