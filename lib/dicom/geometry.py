"""From the directions in which an image is stored to the patient's axes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lib.dicom.errors import Unusable

TILT_DEGREES = 10.0  # from axial, by gantry or by patient: read up to here, and noted from half a degree on


class Turn(NamedTuple):
    """How a stored image is turned until row 0 is anterior and column 0 the patient's right, in this order."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def image(self, stored: np.ndarray) -> np.ndarray:
        """Return the image (a view), turned."""
        turned = stored.T if self.transpose else stored
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def stored(self, turned: np.ndarray) -> np.ndarray:
        """Return a turned image (a view) as it was stored: the inverse of `image`."""
        image = turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return image.T if self.transpose else image

    def pair(self, rows: float, columns: float) -> tuple[float, float]:
        """Return two numbers that belong to stored rows and columns in the order of the turned image's axes."""
        return (columns, rows) if self.transpose else (rows, columns)


def centre_z(
    position: tuple[float, ...], orientation: tuple[float, ...], spacing: tuple[float, ...], rows: int, columns: int
) -> float:
    """Return z of an image's centre, mm, toward the head.

    Parameters
    ----------
    position, orientation, spacing : tuples of 3, 6 and 2 numbers
        ImagePositionPatient (centre of the first pixel), ImageOrientationPatient (direction along a row, then down a
        column), PixelSpacing (between rows, then between columns).
    rows, columns : int
        Size of the image as stored.
    """
    along_row, down_column = orientation[2], orientation[5]
    return position[2] + along_row * spacing[1] * (columns - 1) / 2 + down_column * spacing[0] * (rows - 1) / 2


def turn_to_patient(orientation: tuple[float, ...]) -> tuple[Turn, float]:
    """Return how to turn an axial image, and by how many degrees it is tilted or turned in its plane.

    Parameters
    ----------
    orientation : tuple of 6 numbers
        Patient directions (x left, y posterior, z head) of travelling along a row, then down a column.

    Raises
    ------
    Unusable
        If the directions are not perpendicular, the plane is not axial, or it is tilted by more than TILT_DEGREES.
    """
    axes = np.reshape(orientation, (2, 3))
    lengths = np.linalg.norm(axes, axis=1)
    if not np.allclose(lengths, 1, atol=0.02) or abs(axes[0] @ axes[1]) > 0.02:
        raise Unusable("ImageOrientationPatient is no pair of perpendicular directions")
    axes = axes / lengths[:, None]
    normal = np.cross(*axes)
    normal /= np.linalg.norm(normal)
    if abs(normal[2]) < np.sqrt(0.5):
        raise Unusable(f"{'coronal' if abs(normal[1]) > abs(normal[0]) else 'sagittal'}, not axial")
    tilt = np.degrees(np.arccos(min(1.0, abs(normal[2]))))
    transpose = abs(axes[0, 0]) < abs(axes[0, 1])
    x, y = (axes[1, 0], axes[0, 1]) if transpose else (axes[0, 0], axes[1, 1])
    turned = np.degrees(np.arccos(min(1.0, abs(x))))
    if max(tilt, turned) > TILT_DEGREES:
        what = "tilted" if tilt >= turned else "turned in plane"
        raise Unusable(f"{what} by {max(tilt, turned):.0f} degrees (at most {TILT_DEGREES:.0f} are read)")
    return Turn(bool(transpose), bool(y < 0), bool(x < 0)), float(max(tilt, turned))
