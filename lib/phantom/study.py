"""The examination of one patient: its phases, its series, and the truth about each series."""

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset

from lib.phantom.attachments import Attachments
from lib.phantom.labelling_reader import draw_phases, draw_scan_time, phase_by_time, read_phase
from lib.phantom.metal_streaks import MetalStreaks
from lib.phantom.objects import SeriesWriter, draw_syntax, uid, write_segmentations
from lib.phantom.patient import Anatomy
from lib.phantom.physiology import Physiology
from lib.phantom.scanner import Protocol, Scanner, draw_protocol, sharper
from lib.phantom.texture import Texture
from lib.phantom.tissues import Tissue

LABELS = ("series_uid", "phase", "kidney_bottom_mm", "kidney_top_mm")
# Tissues whose noise-free HU at the voltage of the series are written into truth.csv as <name>_hu.
MEASURED = {
    "aorta": Tissue.AORTA,
    "renal_artery": Tissue.ARTERY,
    "renal_vein": Tissue.RENAL_VEIN,
    "vena_cava": Tissue.VENA_CAVA,
    "portal_vein": Tissue.PORTAL_VEIN,
    "hepatic_vein": Tissue.HEPATIC_VEIN,
    "cortex": Tissue.RENAL_CORTEX,
    "medulla": Tissue.RENAL_MEDULLA,
    "urine": Tissue.URINE,
    "liver": Tissue.LIVER,
    "spleen": Tissue.SPLEEN,
    "pancreas": Tissue.PANCREAS,
    "muscle": Tissue.MUSCLE,
    "bowel_wall": Tissue.BOWEL_WALL,
}
PROTOCOL_COLUMNS = ("manufacturer", "kernel", "kvp", "thickness_mm", "spacing_mm", "fov_mm")


class Visit(NamedTuple):
    """What all series of an examination have in common.

    Attributes
    ----------
    folder : Path
        Folder of the study.
    header : Dataset
        Patient, study and frame of reference.
    table_mm : float
        Position of the table, which is added to the heights of the phantom, mm.
    start : float
        Start of the injection, s after midnight.
    syntax : str
        Transfer syntax of the images.
    """

    folder: Path
    header: Dataset
    table_mm: float
    start: float
    syntax: str


class Scan(NamedTuple):
    """One scan.

    Attributes
    ----------
    phase : str
        The phase that the scan is meant to show.
    time : float or None
        Time after the start of the injection, s; None before it.
    breath : float
        Shift of the organs toward the head, relative to spine and ribs, mm.
    """

    phase: str
    time: float | None
    breath: float


class Examination:
    """A patient who follows from a seed. Each part has a separate random generator, so that no part changes another.

    Parameters
    ----------
    patient_id : str
    seed : int
    slices : int
        Number of slices per series; with `placing="whole"` it is approximate.
    placing : {"spread", "middle", "whole"}
        Places of the slices, see :func:`slice_steps`.
    matrix : int
        Rows and columns.
    attachments : bool
        Whether the patient may have electrodes, wires and clips (`lib.phantom.attachments`).
    """

    def __init__(self, patient_id: str, seed: int, slices: int, placing: str, matrix: int, attachments: bool = False):
        self.patient_id, self.seed, self.matrix = patient_id, seed, matrix
        self.slices, self.placing = slices, placing
        self.physiology = Physiology(self._rng("physiology"))
        self.anatomy = Anatomy(self._rng("anatomy"), self.physiology.subject)
        self.protocol = draw_protocol(self._rng("protocol"), self.anatomy)
        if attachments:
            anatomy = self.anatomy
            anatomy.attachments = Attachments(self._rng("attachments"), anatomy.trunk, anatomy.abdomen, anatomy.vessels)

    def _rng(self, *names: object) -> np.random.Generator:
        key = [zlib.crc32(str(name).encode()) for name in names]
        return np.random.default_rng([self.seed, *key])

    def write(self, folder: Path, phases: list[str] | None, labelling: str, reader_error: float) -> list[dict]:
        """Write all series under `folder`; return one row of labels and truth per series (see `write_patient`)."""
        rng = self._rng("study")
        phases = draw_phases(rng) if phases is None else phases
        header = self._header(rng)
        table_mm, start = float(np.round(rng.uniform(-250, 250), 1)), rng.uniform(8, 17) * 3600
        visit = Visit(folder / "ST0001", header, table_mm, start, draw_syntax(rng))
        rows, number = [], 1
        for k, phase in enumerate(phases):
            drawn = self._rng("scan", phase)
            time = draw_scan_time(drawn, phase)
            labels = self._labels(phase, time, drawn, labelling, reader_error) | {"scan": k}
            breath = float(np.clip(self._rng("breath", phase).normal(0, 3), -8, 8))
            for reconstruction in range(1 + (drawn.random() < 0.08)):
                number += 1
                row = self._write_series(visit, Scan(phase, time, breath), number, reconstruction) | labels
                rows.append({name: row[name] for name in (*LABELS, *(n for n in row if n not in LABELS))})
        return rows

    def _labels(
        self, phase: str, time: float | None, rng: np.random.Generator, labelling: str, reader_error: float
    ) -> dict[str, str]:
        """Return the label of the series, the label of a second reader, and the true phase."""
        first = read_phase(self.physiology, time, rng, reader_error)
        second = read_phase(self.physiology, time, self._rng("second reader", phase), reader_error)
        label = phase_by_time(time) if labelling == "scan_time" else first
        true = read_phase(self.physiology, time)
        return {"phase": label, "label": label, "intended_phase": phase, "true_phase": true, "second_reader": second}

    def _header(self, rng: np.random.Generator) -> Dataset:
        """Return the DICOM attributes of patient, study and frame of reference."""
        subject, study = self.physiology.subject, Dataset()
        day, born = rng.integers(0, 365 * 6), int(subject.age * 365.25)
        date = np.datetime64("2012-01-01") + day
        study.SpecificCharacterSet = "ISO_IR 100"
        study.PatientName, study.PatientID, study.PatientSex = (
            f"PHANTOM^{self.patient_id}",
            self.patient_id,
            subject.sex,
        )
        study.PatientBirthDate = str(date - born).replace("-", "")
        study.PatientAge = f"{int(subject.age):03d}Y"
        study.PatientSize, study.PatientWeight = f"{subject.height_m:.2f}", f"{subject.weight_kg:.1f}"
        study.StudyInstanceUID = uid(self.patient_id, self.seed, "study")
        study.FrameOfReferenceUID = uid(self.patient_id, self.seed, "frame")
        study.StudyDate, study.StudyTime = str(date).replace("-", ""), "080000.000000"
        study.StudyID, study.AccessionNumber, study.ReferringPhysicianName = "1", f"{self.seed % 10**8:08d}", ""
        study.StudyDescription = "CT ABDOMEN"
        return study

    def _write_series(self, visit: Visit, scan: Scan, number: int, reconstruction: int) -> dict:
        """Write the images and segmentations of one series; return the extent of the kidneys and the truth."""
        protocol = sharper(self.protocol) if reconstruction else self.protocol
        scanner, texture = Scanner(protocol, self.anatomy, self.matrix), Texture(self._rng("texture"), scan.time)
        series_uid = uid(self.patient_id, self.seed, scan.phase, reconstruction)
        bottom, top = (edge + scan.breath for edge in self.anatomy.kidney_extent)
        steps = slice_steps(
            self._rng("slices", scan.phase), bottom, top, protocol.spacing_mm, self.slices, self.placing
        )
        writer = self._writer(visit, scan, protocol, scanner, series_uid, number)
        if self.placing == "whole" and len(steps) > 1:
            writer.template.SpacingBetweenSlices = f"{protocol.spacing_mm * (steps[1] - steps[0]):g}"
        first = round((top + 60) / protocol.spacing_mm)  # scans run from the head down
        tissues = np.zeros((len(steps), self.matrix, self.matrix), np.uint8)
        hounsfield, noise = self._hounsfield(scan, protocol.kvp), partial(self._rng, "noise", scan.phase)
        metal = self._streaks(scanner)
        for k, step in enumerate(steps):
            streaks = metal and partial(metal, rng=self._rng("streaks", scan.phase, int(step)))
            hu, tissues[k] = scanner.image(int(step), hounsfield, noise, scan.breath, texture, streaks)
            writer.write(hu, step * protocol.spacing_mm + visit.table_mm, first - int(step))
        write_segmentations(visit.folder, writer.datasets, tissues, 1000 + 2 * number)
        return {
            "series_uid": series_uid,
            "kidney_bottom_mm": round(bottom + visit.table_mm, 2),
            "kidney_top_mm": round(top + visit.table_mm, 2),
            "patient": self.patient_id,
            "scan_time_s": "" if scan.time is None else round(scan.time, 2),
            "reconstruction": reconstruction,
            **self._truth(scan, protocol),
        }

    def _writer(
        self, visit: Visit, scan: Scan, protocol: Protocol, scanner: Scanner, series_uid: str, number: int
    ) -> SeriesWriter:
        """Return the writer of the images of one series."""
        grid = scanner.grid
        return SeriesWriter(
            visit.folder / f"SE{number:04d}",
            visit.header,
            protocol,
            series_uid,
            number,
            self.matrix,
            position=(grid.left_mm + grid.pixel_mm / 2, grid.top_mm + grid.pixel_mm / 2),
            scan_clock=visit.start + (-240.0 if scan.time is None else scan.time),
            contrast=None if scan.time is None else (visit.start, self.physiology.injection),
            syntax=visit.syntax,
        )

    def scan_slice(self, scan: Scan, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Scan the slice at a step of the protocol's grid; return int16 HU and uint8 tissues, (matrix, matrix) each."""
        scanner, metal = Scanner(self.protocol, self.anatomy, self.matrix), None
        if (streaks := self._streaks(scanner)) is not None:
            metal = partial(streaks, rng=self._rng("streaks", scan.phase, step))
        noise, texture = partial(self._rng, "noise", scan.phase), Texture(self._rng("texture"), scan.time)
        return scanner.image(step, self._hounsfield(scan, self.protocol.kvp), noise, scan.breath, texture, metal)

    def _streaks(self, scanner: Scanner) -> MetalStreaks | None:
        """Return what computes the streaks of metal in a series, or None without any."""
        if self.anatomy.attachments is None:
            return None
        return MetalStreaks(scanner.grid, self.anatomy, scanner.protocol.half_frequency)

    def _hounsfield(self, scan: Scan, kvp: float) -> Callable[[float], np.ndarray]:
        """Return a function from height to the HU of every paint code; renal blood mixes into the vena cava."""
        base = self.physiology.hounsfield(scan.time, kvp)
        if self.anatomy.attachments is not None:
            base = self.anatomy.attachments.hounsfield(base)

        def at_height(z: float) -> np.ndarray:
            hu = base.copy()
            share = self.anatomy.vessels.share_renal(z - scan.breath)
            hu[Tissue.VENA_CAVA] = self.physiology.vena_cava(scan.time, kvp, share)
            return hu

        return at_height

    def _truth(self, scan: Scan, protocol: Protocol) -> dict[str, object]:
        """Return noise-free HU, the settings of the scanner and the subject, as written into truth.csv."""
        base, subject = self.physiology.hounsfield(scan.time, protocol.kvp), self.physiology.subject
        return {
            **{f"{name}_hu": round(float(base[tissue]), 1) for name, tissue in MEASURED.items()},
            **{name: getattr(protocol, name) for name in PROTOCOL_COLUMNS},
            "noise_hu": round(protocol.noise_hu, 2),
            "age": round(subject.age, 1),
            "sex": subject.sex,
            "weight_kg": round(subject.weight_kg, 1),
            "output_factor": round(subject.output_factor, 3),
        }


def slice_steps(
    rng: np.random.Generator, bottom: float, top: float, spacing: float, slices: int, placing: str
) -> np.ndarray:
    """Choose the slices of a series on the grid of the scan, whose heights are multiples of the spacing.

    Parameters
    ----------
    rng : numpy.random.Generator
    bottom, top : float
        Lower and upper end of the kidneys, mm.
    spacing : float
        Distance between neighbouring slices, mm.
    slices : int
        Number of slices.
    placing : {"spread", "middle", "whole"}
        "spread": the central 80 % of the extent is divided into `slices` equal parts, and each gives one slice at
        random. "middle": neighbouring slices that include the middle of the kidneys, from a random start. "whole":
        slices from end to end at equal distances; the distance is the multiple of the spacing that gives about
        `slices`.

    Returns
    -------
    int array
        In ascending order; the height of a slice is step * spacing.
    """
    if placing == "whole":
        first, last = int(np.ceil(bottom / spacing)), int(np.floor(top / spacing))
        stride = max(1, round((last - first + 1) / slices))
        return np.arange(first + int(rng.integers(0, stride)), last + 1, stride)
    if placing == "middle":
        return round((bottom + top) / 2 / spacing) - int(rng.integers(0, slices)) + np.arange(slices)
    share = 0.10 + 0.80 * (np.arange(slices) + rng.random(slices)) / slices
    steps = np.round((bottom + share * (top - bottom)) / spacing).astype(int)
    for k in range(1, slices):  # thick slices: no two at the same height
        steps[k] = max(steps[k], steps[k - 1] + 1)
    return steps
