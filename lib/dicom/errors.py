"""Why a DICOM file, a slice or a series cannot be used."""

from __future__ import annotations

from typing import NamedTuple


class DicomError(ValueError):
    """A DICOM file or series that cannot be used: the message says which and why."""


class Unusable(Exception):
    """Why a file is no slice of a series. The reason never repeats text of the header, which may name a patient."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class Rejected(NamedTuple):
    """A file that belongs to no series: where it is, why, and what it says that it belongs to."""

    path: str
    reason: str
    patient: str = ""
    study: str = ""
    series_uid: str = ""
