"""Air in a pleural cavity: how far the lung falls away, and where its vessels go."""

from dataclasses import dataclass, replace

import numpy as np

from lib.xray.thorax import Hemithorax, Retraction


@dataclass(frozen=True)
class Pneumothorax:
    """One pneumothorax.

    Attributes
    ----------
    side : int
        1 left, -1 right.
    gap : Retraction
    shift : float
        How far heart and trachea are pushed to the other side, mm.
    lowered : float
        How far the dome of the diaphragm is pushed down, mm.
    line_mm : float
        Thickness of the visceral pleura with the lung tissue that is pressed against it.
    """

    side: int
    gap: Retraction
    shift: float
    lowered: float
    line_mm: float

    def scaled(self, size: float) -> Retraction:
        """Return the gap with all its widths times `size`."""
        gap = self.gap
        return replace(gap, apex=gap.apex * size, middle=gap.middle * size, base=gap.base * size)


def draw_pneumothorax(rng: np.random.Generator) -> Pneumothorax:
    """Draw a pneumothorax of an upright patient: widest at the apex, mostly small, now and then with tension.

    Notes
    -----
    The spread of sizes is fitted to the masks of a public set of chest radiographs (SIIM-ACR 2019), which cover .13 to
    4.4 % of the image in nine of ten cases, 1.4 % on average.
    """
    side = int(rng.choice([-1, 1]))
    apex = float(np.clip(np.exp(rng.normal(np.log(7.5), 0.85)), 1.8, 80.0))
    middle = apex * rng.uniform(0.10, 0.75)
    base = apex * float(rng.choice([rng.uniform(0.0, 0.15), rng.uniform(0.15, 0.75)]))
    waves = tuple((rng.normal(0, 0.10), rng.uniform(16, 48), rng.uniform(0, 6.3)) for _ in range(2))
    tension = max(0.0, (apex + middle + base) - 90) / 90
    return Pneumothorax(
        side,
        Retraction(apex, middle, base, waves),
        shift=float(rng.uniform(0, 3) + 14 * tension),
        lowered=float(rng.uniform(0, 2) + 18 * tension),
        line_mm=float(rng.uniform(0.35, 0.6)),
    )


def move_points(points: np.ndarray, cavity: Hemithorax, lung: Hemithorax) -> np.ndarray:
    """Return where points (n, 3) of a full lung go when it retracts to `lung`.

    Heights above the hilum are scaled toward it; at the new height, the way from the medial to the lateral border and
    from the middle to the front or back are scaled as the borders are.
    """
    x, y, z = points.T
    hilum = 0.0
    up = np.clip((z - hilum) / (cavity.top - hilum), 0, 1)
    height = z - (cavity.top - lung.top) * up
    lateral, medial, depth, middle = cavity.borders(z)
    new_lateral, new_medial, new_depth, new_middle = lung.borders(height)
    across = x * cavity.side
    centre, new_centre = 0.5 * (medial + 20), 0.5 * (new_medial + 20)
    share = np.clip((across - centre) / np.maximum(lateral - centre, 1), 0, 1)
    moved = np.where(across > centre, new_centre + share * (new_lateral - new_centre), across)
    deep = new_middle + (y - middle) * new_depth / np.maximum(depth, 1)
    return np.stack([moved * cavity.side, deep, height], axis=1)
