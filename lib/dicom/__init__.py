"""DICOM files -> headers -> pixels -> series -> volumes in Hounsfield units; segmentations beside them."""

from lib.dicom.series import find_series, read_volume

__all__ = ["find_series", "read_volume"]
