"""A cohort of simulated patients, written as DICOM in the form that a hospital would send."""

import csv
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lib.files import atomic_path, resolve
from lib.labels import split_of
from lib.parallel import in_parallel
from lib.phantom.labelling_reader import READER_ERROR
from lib.phantom.study import LABELS, Examination

PHANTOM_KEY = "philbrick2018"  # public, so that phantom patients have the same ids and the same split for everyone
WHOLE_KIDNEYS = 22  # approximate number of slices from end to end; the paper's test series have 23


class PlannedPatient(NamedTuple):
    """A patient who is to be written; the fields are arguments of `write_patient`."""

    patient_id: str
    seed: int
    slices: int
    placing: str


def write_patient(
    folder: str | Path,
    patient_id: str,
    *,
    seed: int,
    slices: int,
    placing: str,
    labelling: str = "reader",
    reader_error: float = READER_ERROR,
    matrix: int = 512,
    attachments: bool = False,
    phases: list[str] | None = None,
) -> list[dict]:
    """Write the examination of one patient.

    Parameters
    ----------
    folder : path
        Folder of the cohort; files are written to `<folder>/<patient_id>/<study>/<series>/`.
    patient_id : str
    seed : int
        All random properties of this patient follow from the seed.
    slices : int
        Number of slices per series.
    placing : {"spread", "middle", "whole"}
        Places of the slices: spread over the kidneys, neighbouring slices in their middle, or from end to end (see
        `lib.phantom.study.slice_steps`).
    labelling : {"reader", "scan_time"}
        Whether a series is labelled by a simulated reader of the image, or by the time after the injection.
    reader_error : float
        SD of the error of the reader (see `lib.phantom.labelling_reader.read_phase`).
    matrix : int
        Rows and columns.
    attachments : bool
        Whether patients may have electrodes, wires and clips, in every phase.
    phases : list of str, optional
        Phases that the examination is meant to show; by default one to five are drawn at random.

    Returns
    -------
    list of dict
        One row per series: `series_uid`, `phase`, `kidney_bottom_mm`, `kidney_top_mm`, and the truth about the series.

    Raises
    ------
    ValueError
        If `labelling` or `placing` is unknown, or `slices` is less than one.
    """
    if labelling not in ("reader", "scan_time"):
        raise ValueError(f"labelling is {labelling!r}; expected 'reader' or 'scan_time'.")
    if placing not in ("spread", "middle", "whole"):
        raise ValueError(f"placing is {placing!r}; expected 'spread', 'middle' or 'whole'.")
    if slices < 1:
        raise ValueError(f"slices is {slices}; a series needs at least 1.")
    target = resolve(folder) / patient_id
    with atomic_path(target) as temporary:
        study = Examination(patient_id, seed, slices, placing, matrix, attachments)
        rows = study.write(temporary, phases, labelling, reader_error)
        made_from = _settings(seed, slices, placing, labelling, reader_error, matrix, attachments)
        rows = [row | made_from for row in rows]
        _write_rows(temporary / "truth.csv", rows)
    return rows


def plan_cohort(
    patients: int, *, slices: int, test_slices: int, seed: int, test_seed: int, key: str
) -> list[PlannedPatient]:
    """Return the patients of a cohort, as needed by `write_cohort`.

    Parameters
    ----------
    patients : int
        Number of patients.
    slices, test_slices : int
        Number of slices per series. They are spread over the kidneys for training and validation patients, and
        neighbours in the middle of the kidneys for test patients. With `test_slices=0`, test series run from end to end
        of the kidneys, which gives 20 to 25 slices in most patients.
    seed, test_seed : int
        Seeds of the training and validation patients, and of the test patients.
    key : str
        Key that decides the split, as in `lib.labels.split_of`.

    Returns
    -------
    list of PlannedPatient
        All have different seeds.
    """
    plan = []
    for number in range(patients):
        patient = f"PHANTOM{number:05d}"
        test = split_of(patient, key) == "test"
        entropy = np.random.SeedSequence([test_seed if test else seed, test, number])
        drawn = int(entropy.generate_state(1, np.uint64)[0] >> 1)
        which = (slices, "spread") if not test else (test_slices, "middle") if test_slices else (WHOLE_KIDNEYS, "whole")
        plan.append(PlannedPatient(patient, drawn, *which))
    return plan


def write_cohort(
    folder: str | Path,
    patients: list[PlannedPatient],
    *,
    processes: int = 2,
    labelling: str = "reader",
    reader_error: float = READER_ERROR,
    matrix: int = 512,
    attachments: bool = False,
) -> Path:
    """Write a cohort with patients in parallel; patients that exist already are kept.

    Parameters
    ----------
    folder : path
    patients : list of PlannedPatient
    processes : int
        Number of processes; the files do not depend on it.
    labelling, reader_error, matrix, attachments
        As in `write_patient`.

    Returns
    -------
    Path
        Path of labels.csv (`series_uid`, `phase`, `kidney_bottom_mm`, `kidney_top_mm`); truth.csv is written beside it.

    Raises
    ------
    ValueError
        If a patient_id occurs twice, or if a patient exists already and was written with other settings.
    """
    folder = resolve(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = [patient[0] for patient in patients]
    if len(set(names)) != len(names):
        raise ValueError("patients holds a patient_id twice; each patient needs a different one.")
    settings = {"labelling": labelling, "reader_error": reader_error, "matrix": matrix, "attachments": attachments}
    for patient_id, *drawn in patients:
        _check_written(folder / patient_id, _settings(*drawn, **settings))
    waiting = [patient for patient in patients if not (folder / patient[0]).exists()]
    done = len(patients) - len(waiting)
    with tqdm(total=len(patients), initial=done, desc="phantom", unit="patient") as bar:
        for _ in in_parallel(partial(_write_one, folder, settings), waiting, processes):
            bar.update()
    rows = []
    for name in names:
        with open(folder / name / "truth.csv", newline="") as file:
            rows += list(csv.DictReader(file))
    _write_rows(folder / "truth.csv", rows)
    _write_rows(folder / "labels.csv", [{name: row[name] for name in LABELS} for row in rows])
    return folder / "labels.csv"


def _write_one(folder: Path, settings: dict, patient: PlannedPatient) -> None:
    patient_id, seed, slices, placing = patient
    write_patient(folder, patient_id, seed=seed, slices=slices, placing=placing, **settings)


def _settings(
    seed: int, slices: int, placing: str, labelling: str, reader_error: float, matrix: int, attachments: bool
) -> dict:
    """Return the settings that decide the files of a patient, as recorded in truth.csv."""
    more = {"attachments": True} if attachments else {}  # not recorded where there are none
    return {"seed": seed, "slices": slices, "placing": placing, "labelling": labelling,
            "reader_error": reader_error, "matrix": matrix} | more  # fmt: skip


def _check_written(folder: Path, settings: dict) -> None:
    if not folder.exists():
        return
    with open(folder / "truth.csv", newline="") as file:
        row = {"attachments": "False"} | next(csv.DictReader(file))
    for name, value in ({"attachments": False} | settings).items():
        if row[name] != str(value):
            raise ValueError(
                f"{folder} was written with {name}={row[name]}, but {name}={value} is asked for now: "
                "remove the folder, or write this cohort elsewhere."
            )


def _write_rows(path: Path, rows: list[dict]) -> None:
    with atomic_path(path) as temporary:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
