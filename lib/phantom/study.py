"""One patient's examination: its phases, its series, and what is true of each."""

import zlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from lib.phantom.labelling_reader import draw_phases, draw_scan_time, phase_by_time, read_phase
from lib.phantom.objects import SeriesWriter, draw_syntax, uid, write_segmentations
from lib.phantom.patient import Anatomy
from lib.phantom.physiology import Physiology
from lib.phantom.scanner import Protocol, Scanner, draw_protocol, sharper
from lib.phantom.texture import Texture
from lib.phantom.tissues import Tissue

LABELS = ("series_uid", "phase", "kidney_bottom_mm", "kidney_top_mm")
# Tissues whose noise-free HU at the series' voltage go into truth.csv as <name>_hu.
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


class Examination:
    """A patient drawn from a seed; each part has a generator of its own, so that one does not disturb another.

    Parameters
    ----------
    patient_id : str
    seed : int
    slices : int
        Slices a series.
    contiguous : bool
        Neighbouring slices, or slices spread over the kidneys.
    matrix : int
        Rows and columns.
    """

    def __init__(self, patient_id: str, seed: int, slices: int, contiguous: bool, matrix: int):
        self.patient_id, self.seed, self.matrix = patient_id, seed, matrix
        self.slices, self.contiguous = slices, contiguous
        self.physiology = Physiology(self._rng("physiology"))
        self.anatomy = Anatomy(self._rng("anatomy"), self.physiology.subject)
        self.protocol = draw_protocol(self._rng("protocol"), self.anatomy)

    def _rng(self, *names: object) -> np.random.Generator:
        key = [zlib.crc32(str(name).encode()) for name in names]
        return np.random.default_rng([self.seed, *key])

    def write(self, folder: Path, phases: list[str] | None, labelling: str, reader_error: float) -> list[dict]:
        """Write all series under `folder` and return one row of labels and truth for each (`write_patient`)."""
        rng = self._rng("study")
        phases = draw_phases(rng) if phases is None else phases
        study = self._study(rng)
        table_mm = float(np.round(rng.uniform(-250, 250), 1))
        start = rng.uniform(8, 17) * 3600
        syntax = draw_syntax(rng)
        rows, number = [], 1
        for k, phase in enumerate(phases):
            scan = self._rng("scan", phase)
            time = draw_scan_time(scan, phase)
            label = read_phase(self.physiology, time, scan, reader_error)
            label = phase_by_time(time) if labelling == "scan_time" else label
            again = scan.random() < 0.08
            for copy_ in range(1 + again):
                number += 1
                protocol = sharper(self.protocol) if copy_ else self.protocol
                row = self._write_series(folder, study, protocol, phase, time, number, table_mm, start, syntax, copy_)
                row.update(
                    phase=label, label=label, intended_phase=phase, true_phase=read_phase(self.physiology, time), scan=k
                )
                rows.append({name: row[name] for name in (*LABELS, *(n for n in row if n not in LABELS))})
        return rows

    def _study(self, rng: np.random.Generator) -> Dataset:
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

    def _write_series(
        self,
        folder: Path,
        study: Dataset,
        protocol: Protocol,
        phase: str,
        time: float | None,
        number: int,
        table_mm: float,
        start: float,
        syntax: str,
        copy_: int,
    ) -> dict:
        breath = float(np.clip(self._rng("breath", phase).normal(0, 3), -8, 8))
        texture = Texture(self._rng("texture"), time)
        scanner = Scanner(protocol, self.anatomy, self.matrix)
        series_uid = uid(self.patient_id, self.seed, phase, copy_)
        grid, spacing = scanner.grid, protocol.spacing_mm
        position = (grid.left_mm + grid.pixel_mm / 2, grid.top_mm + grid.pixel_mm / 2)
        clock = start + (time if time is not None else -240.0)
        target, contrast = (
            folder / "ST0001" / f"SE{number:04d}",
            None if time is None else (start, self.physiology.injection),
        )
        writer = SeriesWriter(
            target, study, protocol, series_uid, number, self.matrix, position, clock, contrast, syntax
        )
        base = self.physiology.hounsfield(time, protocol.kvp)

        def hounsfield(z: float) -> np.ndarray:
            hu = base.copy()
            share = self.anatomy.vessels.share_renal(z - breath)
            hu[Tissue.VENA_CAVA] = self.physiology.vena_cava(time, protocol.kvp, share)
            return hu

        def noise(index: int) -> np.random.Generator:
            return self._rng("noise", phase, index)

        bottom, top = (edge + breath for edge in self.anatomy.kidney_extent)
        steps = slice_steps(self._rng("slices", phase), bottom, top, spacing, self.slices, self.contiguous)
        first = round((top + 60) / spacing)  # scans run from the head down
        tissues = np.zeros((len(steps), self.matrix, self.matrix), np.uint8)
        for k, step in enumerate(steps):
            hu, tissues[k] = scanner.image(int(step), hounsfield, noise, breath, texture)
            writer.write(hu, step * spacing + table_mm, first - int(step))
        write_segmentations(folder / "ST0001", writer.datasets, tissues, 1000 + 2 * number)
        subject = self.physiology.subject
        return {
            "series_uid": series_uid,
            "kidney_bottom_mm": round(bottom + table_mm, 2),
            "kidney_top_mm": round(top + table_mm, 2),
            "patient": self.patient_id,
            "scan_time_s": "" if time is None else round(time, 2),
            "reconstruction": copy_,
            **{f"{name}_hu": round(float(base[tissue]), 1) for name, tissue in MEASURED.items()},
            **{name: getattr(protocol, name) for name in PROTOCOL_COLUMNS},
            "noise_hu": round(protocol.noise_hu, 2),
            "age": round(subject.age, 1),
            "sex": subject.sex,
            "weight_kg": round(subject.weight_kg, 1),
            "output_factor": round(subject.output_factor, 3),
        }


def slice_steps(
    rng: np.random.Generator, bottom: float, top: float, spacing: float, slices: int, contiguous: bool
) -> np.ndarray:
    """Choose the slices of a series on the scan's grid, whose heights are multiples of the spacing.

    Parameters
    ----------
    rng : numpy.random.Generator
    bottom, top : float
        Extent of the kidneys, mm.
    spacing : float
        Distance of neighbouring slices, mm.
    slices : int
    contiguous : bool
        True: neighbours from a random start, the middle of the kidneys among them. False: one in each of `slices` equal
        parts of the central 80 % of the extent, at random within it.

    Returns
    -------
    int array (slices,)
        Ascending; height = step * spacing.
    """
    if contiguous:
        return round((bottom + top) / 2 / spacing) - int(rng.integers(0, slices)) + np.arange(slices)
    share = 0.10 + 0.80 * (np.arange(slices) + rng.random(slices)) / slices
    steps = np.round((bottom + share * (top - bottom)) / spacing).astype(int)
    for k in range(1, slices):  # thick slices: no two at one height
        steps[k] = max(steps[k], steps[k - 1] + 1)
    return steps
