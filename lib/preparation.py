"""From a tree of DICOM files to a cohort: labels, kidney extent, split by patient, one store."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm

from lib.cohort import Cohort
from lib.cohort_tables import Outcome, cohort_tables, rejected_table, write_private_tables, write_table
from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import holds_tissues, kidney_segments, tissue_codes, with_public_names
from lib.dicom.series import Series, Tree, read_tree
from lib.files import atomic_path, resolve
from lib.labels import SPLITS, hashed_id, keyed_hash, read_labels, split_of
from lib.paper import PHASES
from lib.parallel import in_parallel
from lib.private import only_one
from lib.store import FORMAT, Job, Refused, Stored, code_fingerprint, store_series

TABLES = ("cohort.json", "slices.parquet", "series.csv", "rejected.csv")
NOT_SQUARE = 0.01  # relative difference of the sides of a pixel: beyond rounding
FAR = 3  # a segmentation that has nothing to do with a series
NO_EXTENT = (
    "kidney extent unknown: neither in labels.csv nor in a DICOM SEG of the study or of its frame of reference "
    "(TotalSegmentator writes one: TotalSegmentator -i <series> -o <folder beside it> -ot dicom_seg "
    "--roi_subset kidney_left kidney_right)"
)


def prepare_cohort(
    dicom_folder: str | Path,
    output: str | Path,
    *,
    key: str,
    labels: str | Path | None = None,
    split: str = "train_val_test",
    private: str | Path | None = None,
    processes: int = 2,
) -> Cohort:
    """Prepare every usable series of a DICOM tree.

    Parameters
    ----------
    dicom_folder : path
        Any tree with axial CT, and with DICOM SEG objects where there are some.
    output : path
        Folder of the cohort. A series that it holds already, from the same files, kidney extent and code, is kept as it
        is; one that is not usable now, or no longer in `dicom_folder`, is deleted. The tables of a former run are
        deleted before anything else is done, so that a failure leaves none that could be taken for this run's.
    key : str
        Key of the hashes that name patients and series and that split the patients: nobody moves as long as it stays.
        For private data it must be secret.
    labels : path, optional
        CSV with series_uid and any of phase, kidney_bottom_mm, kidney_top_mm. Default: `labels.csv` in
        `dicom_folder`, where there is one.
    split : {"train_val_test", "apply"}
        By patient 64/16/20, taking series with a phase and a kidney extent; or all series, for a trained network:
        labels are not needed, and where no kidney extent is known all slices are kept (`extent_source` "none").
    private : path, optional
        Folder (mode 0700) for what names the source: sources.csv, source_files.csv and rejected_files.csv. Default: not
        written.
    processes : int
        Series worked on at the same time, each with one slice in memory.

    Returns
    -------
    Cohort
        Opened from `output`.

    Raises
    ------
    FileNotFoundError, ValueError
        If a folder or labels.csv is missing or wrong, no series is usable, a split is empty, or the training split
        lacks a phase.
    RuntimeError
        If another process prepares the same output.
    OSError
        If `output` cannot be written: the disk is full, or the folder is read-only.
    """
    if split not in ("train_val_test", "apply"):
        raise ValueError(f"split={split!r}: expected 'train_val_test' or 'apply'.")
    if not key:
        raise ValueError("key is empty: give a text that stays with this cohort, a secret one for private data.")
    dicom_folder, output = resolve(dicom_folder), resolve(output)
    if not dicom_folder.is_dir():
        raise FileNotFoundError(f"{dicom_folder} is no folder: give the one that holds the DICOM files.")
    try:
        with only_one(output, "a preparation writes to"):
            _begin(output, key)
            tree = read_tree(dicom_folder.resolve(), processes)
            jobs, outcomes = _plan(tree, _labels(labels, dicom_folder, tree, split), output, split, key)
            outcomes += _store_all(jobs, output, processes)
            return _finish(tree, outcomes, dicom_folder, output, split, key, private)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            what = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
            message = f"{output} cannot be written ({error.strerror}): {what} and run again. What is stored stays."
            raise OSError(error.errno, message) from error
        raise


def check_splits(slices: pd.DataFrame) -> None:
    """Check that every split has slices and that the training split has every phase.

    Raises
    ------
    ValueError
        Naming the split, the phase and how many patients there are.
    """
    counts = slices.groupby("split")["patient"].nunique()
    for name in SPLITS:
        if name not in counts:
            raise ValueError(
                f"the {name} split is empty: {counts.sum()} patients are too few to divide 64/16/20. Add patients, or "
                "take split='apply' to run a trained network."
            )
    present = set(slices.loc[slices["split"] == "train", "phase"])
    missing = [phase for phase in PHASES if phase not in present]
    if missing:
        raise ValueError(
            f"the train split has no series of phase {', '.join(missing)} ({counts['train']} patients): add series."
        )


def _begin(output: Path, key: str) -> None:
    """Check the key, and delete the tables and leavings of a former run; the stored series stay."""
    group = _open_group(output / "slices.zarr")
    key_id = keyed_hash(key, "key", "")[:8]
    found = group.attrs.get("key_id", key_id)
    if found != key_id:
        raise ValueError(
            f"{output} was prepared with another key (id {found}, not {key_id}): take that one, or another output."
        )
    group.attrs["key_id"] = key_id
    for name in TABLES:
        (output / name).unlink(missing_ok=True)
    for leaving in [output / ".partial", *(path for name in TABLES for path in output.glob(f".{name}.*"))]:
        shutil.rmtree(leaving, ignore_errors=True)


def _open_group(path: Path) -> zarr.Group:
    """Open a group of arrays, also where its metadata was truncated by a crash."""
    try:
        return zarr.open_group(path, mode="a")
    except Exception:  # damaged metadata raise anything; the arrays below have their own
        (path / "zarr.json").unlink(missing_ok=True)
        return zarr.open_group(path, mode="a")


def _labels(labels: str | Path | None, folder: Path, tree: Tree, split: str) -> pd.DataFrame:
    path = resolve(labels) if labels else folder / "labels.csv"
    if not labels and split == "apply" and not path.exists():
        return pd.DataFrame()
    known = {name for item in tree.series for name in (item.uid, item.instance_uid)}
    return read_labels(path, (known | set(tree.rejected["series_uid"])) - {""})


def _plan(tree: Tree, labels: pd.DataFrame, output: Path, split: str, key: str) -> tuple[list[Job], list[Outcome]]:
    """Return the series to store, and those that are refused from the start."""
    tree = Tree(tree.series, [with_public_names(item, key) for item in tree.segmentations], tree.rejected)
    codes, code = _tissue_codes(tree, output), code_fingerprint()
    jobs, refused = [], []
    for series in tree.series:
        row = labels.loc[series.uid].to_dict() if series.uid in labels.index else {}
        bounds = (row.get("kidney_bottom_mm", np.nan), row.get("kidney_top_mm", np.nan))
        kidneys, tissues = _match(tree.segmentations, series)
        job = Job(
            series=series,
            id=hashed_id(key, "series", series.uid),
            patient=hashed_id(key, "patient", series.patient),
            split="apply" if split == "apply" else split_of(series.patient, key),
            phase=row.get("phase"),
            extent=None if np.isnan(bounds).any() else bounds,
            kidneys=kidneys,
            tissues=tissues,
            codes=codes,
            output=output,
            code=code,
        )
        if reason := _refusal(job, labels):
            refused.append((job, Refused(reason)))
        else:
            jobs.append(job)
    return jobs, refused


def _refusal(job: Job, labels: pd.DataFrame) -> str:
    """Return why a series is not even tried, or ""."""
    series = job.series
    if series.shares_uid and series.instance_uid in labels.index:
        return "several patients or studies have this SeriesInstanceUID: labels.csv cannot tell which is meant"
    high, wide = series.spacing_mm[1:]
    if abs(high / wide - 1) > NOT_SQUARE:
        return f"pixels of {high:.3g} x {wide:.3g} mm are no squares: a network would see a patient of another shape"
    if job.split == "apply":
        return ""
    if not job.phase:
        return "no phase in labels.csv"
    return "" if job.extent or job.kidneys else NO_EXTENT


def _tissue_codes(tree: Tree, output: Path) -> dict[str, int]:
    truth = [item for item in tree.segmentations if holds_tissues(item)]
    if not truth:
        return {}
    group = _open_group(output / "tissues.zarr")
    codes = tissue_codes(truth, group.attrs.get("tissues"))
    group.attrs["tissues"] = codes
    return codes


def _match(found: list[Segmentation], series: Series) -> tuple[tuple[Segmentation, ...], Segmentation | None]:
    """Return where to look for the kidneys, best first, and the segmentation of the tissues of this very series.

    Best is a segmentation of this series, then one whose positions can be compared (same frame of reference), then any
    other of the study.
    """

    def distance(item: Segmentation) -> int:
        same_study = item.study == series.study
        if item.patient not in ("", series.patient) and not (same_study and series.patient == series.study):
            return FAR  # somebody else's, whatever the UIDs say
        if item.referenced_series == series.instance_uid and same_study:
            return 0
        if item.frame_of_reference and item.frame_of_reference == series.frame_of_reference:
            return 1
        return 2 if same_study else FAR

    near = [item for item in found if distance(item) < FAR]
    kidneys = [item for item in near if kidney_segments(item)]
    kidneys.sort(key=lambda item: (distance(item), holds_tissues(item), item.path))
    own = [item for item in near if distance(item) == 0 and holds_tissues(item)]
    return tuple(kidneys), max(own, key=lambda item: len(item.segments), default=None)


def _store_all(jobs: list[Job], output: Path, processes: int) -> list[Outcome]:
    outcomes = []
    with tqdm(total=len(jobs), desc="prepare", unit="series", disable=not jobs) as bar:
        for job, outcome in in_parallel(store_series, jobs, processes, crashed=_crashed):
            outcomes.append((job, outcome))
            bar.update()
    shutil.rmtree(output / ".partial", ignore_errors=True)
    return sorted(outcomes, key=lambda item: item[0].id)


def _crashed(job: Job) -> Refused:
    return Refused("the process that read it died, twice (out of memory, or a crash of a library)")


def _finish(
    tree: Tree, outcomes: list[Outcome], folder: Path, output: Path, split: str, key: str, private: str | Path | None
) -> Cohort:
    """Delete what is not used, write the tables, cohort.json last."""
    stored = [(job, outcome) for job, outcome in outcomes if isinstance(outcome, Stored)]
    _delete_others(output, stored)
    rejected = rejected_table(tree, outcomes, key)
    if private is not None:
        write_private_tables(resolve(private), tree, outcomes, key)
    write_table(output / "rejected.csv", rejected.to_csv)
    if not stored:
        counts = rejected.groupby("reason")["files"].sum().sort_values(ascending=False, kind="stable")
        reasons = "; ".join(f"{files} files: {reason}" for reason, files in counts.items())
        raise ValueError(f"no usable series in {folder}: {reasons or 'there are no files in it'}.")
    series, slices = cohort_tables(stored)
    if split == "train_val_test":
        check_splits(slices)
    write_table(output / "series.csv", series.to_csv)
    write_table(output / "slices.parquet", slices.to_parquet)
    facts = {"format": FORMAT, "split": split, "key_id": keyed_hash(key, "key", "")[:8]}
    facts |= {"patients": int(series["patient"].nunique()), "series": len(series), "slices": len(slices)}
    facts |= {"rejected_files": int(rejected["files"].sum())}
    with atomic_path(output / "cohort.json") as path:
        path.write_text(json.dumps(facts, indent=1) + "\n")
    return Cohort.open(output)


def _delete_others(output: Path, stored: list[tuple[Job, Stored]]) -> None:
    """Delete the series that an earlier run stored and this one does not use."""
    kept = {"slices.zarr": {job.id for job, _ in stored}}
    kept["tissues.zarr"] = {job.id for job, outcome in stored if outcome.facts["tissues"]}
    for group, names in kept.items():
        for path in output.glob(f"{group}/*"):
            if path.is_dir() and path.name not in names:
                shutil.rmtree(path)
    if not kept["tissues.zarr"]:
        shutil.rmtree(output / "tissues.zarr", ignore_errors=True)
