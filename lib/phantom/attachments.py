"""Metal and plastic on and in a patient, the same in every phase: ECG electrodes with their wires, surgical clips."""

import numpy as np

from lib.phantom.abdomen import Abdomen
from lib.phantom.body import Trunk
from lib.phantom.canvas import Canvas, Wave
from lib.phantom.tissues import GEL, PLASTIC, Tissue
from lib.phantom.vessels import Vessels

# Far below the 33,000 HU of steel at 70 keV: what a scanner reconstructs of metal is limited, and stored up to 3071 HU.
METAL_HU = 8000.0
GEL_HU, PLASTIC_HU = 150.0, 110.0
_FRONT, _POINTS = 120, 160  # the point of the skin's contour that lies in front, and their number
_WITH_ELECTRODES, _WITH_GALLBLADDER_CLIPS, _WITH_AORTIC_CLIPS = 0.55, 0.85, 0.08  # shares of patients


class Electrode:
    """An electrode on the skin of the belly, and the wire that leads from it toward the head.

    Parameters
    ----------
    rng : numpy.random.Generator
    trunk : Trunk
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk):
        self.trunk = trunk
        self.place = _FRONT + float(rng.uniform(-28, 28))  # on the contour, about 6 mm from point to point
        self.z = float(rng.uniform(-130, 90))
        self.gel = float(rng.uniform(8, 12))  # radius, mm
        self.pressed = float(rng.uniform(2.0, 6.0))  # depth to which tape and weight press it into the skin, mm
        self.snap = (float(rng.uniform(2.5, 4.5)), float(rng.uniform(2.0, 3.2)))  # half the width, and the height, mm
        self.drift = float(rng.normal(0, 0.06))  # points of the contour per mm of height
        self.sway, self.gap = Wave(rng, 2.0), Wave(rng, 2.0)

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint the section of gel, snap, connector and wire at height z."""
        away = abs(z - self.z)
        if away < self.gel:
            self._layer(canvas, z, np.sqrt(self.gel**2 - away**2), 0.0, 1.6, GEL)
        half, height = self.snap
        if away < 5.0:  # the connector that is clipped onto the snap
            self._layer(canvas, z, np.sqrt(25.0 - away**2) + 3.0, 1.6, 3.0 + height, PLASTIC)
        if away < half:
            self._layer(canvas, z, np.sqrt(half**2 - away**2), 1.6, 1.6 + height, Tissue.METAL)
        if z > self.z:
            self._paint_wire(canvas, z)

    def _layer(self, canvas: Canvas, z: float, half: float, low: float, high: float, code: int) -> None:
        """Paint what lies flat on the skin: half its width, and its lower and upper face, mm from below."""
        at, along, outward = self._frame(self.place, z)
        corners = np.array([(-half, low), (half, low), (half, high), (-half, high)]) - (0.0, self.pressed)
        canvas.polygon(at + corners[:, :1] * along + corners[:, 1:] * outward, code)

    def _paint_wire(self, canvas: Canvas, z: float) -> None:
        path = np.array([self._wire(height) for height in (z - 0.7, z + 0.7)])
        canvas.line(path, 2.4, PLASTIC)
        canvas.line(path, 0.8, Tissue.METAL)

    def _wire(self, z: float) -> np.ndarray:
        """Return where the wire crosses height z, float (2,), mm: it begins at the connector and lies on the skin."""
        begun = min(max(z - self.z, 0.0) / 15, 1.0)
        place = self.place + self.drift * (z - self.z) + begun * (self.sway(z) - self.sway(self.z))
        at, _, outward = self._frame(place, z)
        return at + (1.5 - self.pressed + (1 - begun) * self.snap[1] + begun * abs(self.gap(z))) * outward

    def _frame(self, place: float, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a point of the skin, the direction along the skin and the one away from it, each float (2,)."""
        skin = self.trunk.contours(z)[0]
        first = int(np.floor(place))
        here, there = skin[first % _POINTS], skin[(first + 1) % _POINTS]
        along = (there - here) / np.hypot(*(there - here))
        return here + (place - first) * (there - here), along, np.array([along[1], -along[0]])


class Clip:
    """A surgical clip: two legs of metal, 1 mm thick.

    Parameters
    ----------
    rng : numpy.random.Generator
    centre : float array (3,)
        mm.
    """

    def __init__(self, rng: np.random.Generator, centre: np.ndarray):
        self.centre, self.length = np.asarray(centre, float), float(rng.uniform(4, 9))
        direction = rng.normal(0, 1, 3)
        self.direction = direction / np.linalg.norm(direction)
        self.apart = float(rng.uniform(0.8, 2.0))

    def paint(self, canvas: Canvas, z: float) -> None:
        """Paint the section at height z."""
        rise, above = self.direction[2], z - self.centre[2]
        half = self.length / 2
        if abs(rise) < 0.1:  # lies in the plane
            span = np.array([-half, half]) if abs(above) < 0.6 else np.zeros(0)
        else:
            span = np.sort([(above - 0.6) / rise, (above + 0.6) / rise])
            span = np.clip(span, -half, half) if span[0] < half and span[1] > -half else np.zeros(0)
        if len(span):
            across = np.array([-self.direction[1], self.direction[0]])
            across *= 0.5 * self.apart / max(np.hypot(*across), 1e-6)
            legs = self.centre[:2] + span[:, None] * self.direction[:2]
            for side in (-1, 1):
                canvas.line(legs + side * across, 1.0, Tissue.METAL)


class Attachments:
    """Electrodes, wires and clips of one patient.

    They follow from the patient alone and are in every scan: metal says nothing about the phase.

    Parameters
    ----------
    rng : numpy.random.Generator
        A generator of their own, so that nothing else of the patient changes.
    trunk : Trunk
    abdomen : Abdomen
    vessels : Vessels

    Notes
    -----
    Electrodes as for an ECG: a pad of gel of 16 to 24 mm, a metal snap of 5 to 9 mm with its connector, and an
    insulated copper wire over the skin. Clips of 4 to 9 mm lie where the gallbladder was taken out, and in a few
    patients beside the aorta, as after the removal of lymph nodes. The sizes are those of common products. The shares
    of patients were chosen so that a network meets metal often; they are no statistic of a hospital.
    """

    def __init__(self, rng: np.random.Generator, trunk: Trunk, abdomen: Abdomen, vessels: Vessels):
        wears, cleared, dissected = rng.random(3) < (_WITH_ELECTRODES, _WITH_GALLBLADDER_CLIPS, _WITH_AORTIC_CLIPS)
        count = int(rng.integers(2, 6))
        self.electrodes = [Electrode(rng, trunk) for _ in range(count)] if wears else []
        self.clips: list[Clip] = []
        bed = abdomen.liver.gallbladder_bed()
        if cleared and bed is not None and not abdomen.liver.gallbladder:
            self.clips += [Clip(rng, bed + rng.normal(0, 5, 3)) for _ in range(int(rng.integers(2, 5)))]
        if dissected:
            for z in rng.uniform(-80, 50, int(rng.integers(4, 11))):
                round_it = rng.uniform(np.pi, 2 * np.pi)  # in front and at the sides of the aorta
                reach = vessels.aorta_radius + rng.uniform(3, 12)
                at = vessels.aorta_centre(z) + reach * np.array([np.cos(round_it), np.sin(round_it)])
                self.clips.append(Clip(rng, np.append(at, z)))

    def hounsfield(self, hu: np.ndarray) -> np.ndarray:
        """Return the HU of every paint code, float32 (64,), with those of metal, gel and plastic."""
        hu = hu.copy()
        hu[Tissue.METAL], hu[GEL], hu[PLASTIC] = METAL_HU, GEL_HU, PLASTIC_HU
        return hu

    def paint(self, canvas: Canvas, z: float, breath: float) -> None:
        """Paint their section at height z (mm): clips move with the organs, electrodes do not."""
        for clip in self.clips:
            clip.paint(canvas, z - breath)
        for electrode in self.electrodes:
            electrode.paint(canvas, z)
