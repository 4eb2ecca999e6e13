"""From a tree of DICOM files to a cohort: labels, kidney extent, split by patient, one store."""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm

from lib.cohort import Cohort
from lib.dicom.headers import Segmentation
from lib.dicom.segmentation import holds_tissues, kidney_segments, tissue_codes
from lib.dicom.series import Series, Tree, read_tree
from lib.files import atomic_path, resolve
from lib.labels import SPLITS, hashed_id, keyed_hash, read_labels, split_of
from lib.paper import PHASES
from lib.parallel import in_parallel
from lib.store import FORMAT, Job, store_series


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
        Folder of the cohort. A series that it holds already, from the same files and kidney extent, is kept as it is;
        one that is not usable now, or no longer in `dicom_folder`, is deleted.
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
        Folder (mode 0700) for what names the source: sources.csv and rejected_files.csv. Default: not written.
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
    """
    if split not in ("train_val_test", "apply"):
        raise ValueError(f"split={split!r}: expected 'train_val_test' or 'apply'.")
    if not key:
        raise ValueError("key is empty: give a text that stays with this cohort, a secret one for private data.")
    dicom_folder, output = resolve(dicom_folder), resolve(output)
    key_id = keyed_hash(key, "key", "")[:8]
    _check_same_key(output, key_id)
    tree = read_tree(dicom_folder, processes)
    jobs, refused = _plan(tree, _labels(labels, dicom_folder, tree, split), output, split, key)
    results = _store_all(jobs, output, processes)
    usable = [result for result in results if "reason" not in result]
    _delete_others(output, usable)
    refused += [result for result in results if "reason" in result]
    rejected = _rejected(tree, refused, key)
    if private is not None:
        _write_private(resolve(private), tree, refused, key)
    _write(output / "rejected.csv", rejected.to_csv)
    if not usable:
        counts = rejected.groupby("reason")["files"].sum().sort_values(ascending=False)
        reasons = "; ".join(f"{files} files: {reason}" for reason, files in counts.items())
        raise ValueError(f"no usable series in {dicom_folder}: {reasons or 'there are no files in it'}.")
    series, slices = _tables(usable)
    if split == "train_val_test":
        check_splits(slices)
    _write(output / "series.csv", series.to_csv)
    _write(output / "slices.parquet", slices.to_parquet)
    facts = {"format": FORMAT, "split": split, "key_id": key_id, "patients": int(series["patient"].nunique())}
    facts |= {"series": len(series), "slices": len(slices), "rejected_files": int(rejected["files"].sum())}
    with atomic_path(output / "cohort.json") as path:
        path.write_text(json.dumps(facts, indent=1) + "\n")
    return Cohort.open(output)


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


def _check_same_key(output: Path, key_id: str) -> None:
    path = output / "cohort.json"
    if path.exists() and (found := json.loads(path.read_text())["key_id"]) != key_id:
        raise ValueError(
            f"{output} was prepared with another key (id {found}, not {key_id}): take that one, or another output."
        )


def _labels(labels: str | Path | None, folder: Path, tree: Tree, split: str) -> pd.DataFrame:
    path = resolve(labels) if labels else folder / "labels.csv"
    if not labels and split == "apply" and not path.exists():
        return pd.DataFrame()
    return read_labels(path, ({item.uid for item in tree.series} | set(tree.rejected["series_uid"])) - {""})


def _plan(tree: Tree, labels: pd.DataFrame, output: Path, split: str, key: str) -> tuple[list[Job], list[dict]]:
    """Return the series to store, and those without a phase or a kidney extent."""
    by_study: dict[str, list[Segmentation]] = defaultdict(list)
    for item in tree.segmentations:
        by_study[item.study].append(item)
    codes = _tissue_codes(tree, output)
    jobs, refused = [], []
    for series in tree.series:
        row = labels.loc[series.uid].to_dict() if series.uid in labels.index else {}
        bounds = (row.get("kidney_bottom_mm", np.nan), row.get("kidney_top_mm", np.nan))
        kidneys, tissues = _match(by_study[series.study], series)
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
        )
        if split != "apply" and not job.phase:
            refused.append(job.refuse("no phase in labels.csv"))
        elif split != "apply" and not job.extent and not kidneys:
            refused.append(job.refuse("kidney extent unknown: neither in labels.csv nor in a DICOM SEG of the study"))
        else:
            jobs.append(job)
    return jobs, refused


def _tissue_codes(tree: Tree, output: Path) -> dict[str, int]:
    zarr.open_group(output / "slices.zarr", mode="a")
    truth = [item for item in tree.segmentations if holds_tissues(item)]
    if not truth:
        return {}
    group = zarr.open_group(output / "tissues.zarr", mode="a")
    codes = tissue_codes(truth, group.attrs.get("tissues"))
    group.attrs["tissues"] = codes
    return codes


def _match(study: list[Segmentation], series: Series) -> tuple[tuple[Segmentation, ...], Segmentation | None]:
    """Return where to look for the kidneys, best first, and the segmentation of the tissues of this very series."""
    uid = series.uid.partition("#")[0]
    kidneys = [item for item in study if kidney_segments(item)]
    kidneys.sort(key=lambda item: (item.referenced_series != uid, holds_tissues(item), item.path))
    own = [item for item in study if item.referenced_series == uid and holds_tissues(item)]
    return tuple(kidneys), max(own, key=lambda item: len(item.segments), default=None)


def _store_all(jobs: list[Job], output: Path, processes: int) -> list[dict]:
    shutil.rmtree(output / ".partial", ignore_errors=True)
    results = []
    with tqdm(total=len(jobs), desc="prepare", unit="series") as bar:
        for _, result in in_parallel(store_series, jobs, processes):
            results.append(result)
            bar.update()
    shutil.rmtree(output / ".partial", ignore_errors=True)
    return results


def _delete_others(output: Path, usable: list[dict]) -> None:
    """Delete the series that an earlier run stored and this one does not use; until its tables are there, no cohort."""
    kept = {"slices.zarr": {item["series"] for item in usable}}
    kept["tissues.zarr"] = {item["series"] for item in usable if item["tissues"]}
    for group, names in kept.items():
        others = [path for path in output.glob(f"{group}/*") if path.is_dir() and path.name not in names]
        if others:
            (output / "cohort.json").unlink(missing_ok=True)
        for path in others:
            shutil.rmtree(path)
    if not kept["tissues.zarr"]:
        shutil.rmtree(output / "tissues.zarr", ignore_errors=True)


def _tables(usable: list[dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of series and of slices."""
    rank = {phase: number for number, phase in enumerate((None, *PHASES))}
    ordered = sorted(usable, key=lambda item: (item["patient"], rank[item["phase"]], item["series"]))
    counts: dict[tuple, int] = defaultdict(int)
    series, slices = [], []
    for item in ordered:
        counts[item["patient"], item["phase"]] += 1
        bottom, top = item["kidney_extent_mm"] or (np.nan, np.nan)
        z = np.array(item["z_mm"])
        common = {name: item[name] for name in ("patient", "series", "phase", "split")}
        common["reconstruction"] = counts[item["patient"], item["phase"]]
        facts = {"slices": len(z), "slice_spacing_mm": item["slice_spacing_mm"], "pixel_mm": item["pixel_mm"][0]}
        facts |= {"kidney_bottom_mm": bottom, "kidney_top_mm": top, "extent_source": item["extent_source"]}
        series.append({**common, **facts, "tissues": item["tissues"], "notes": item["notes"]})
        position = (z - bottom) / (top - bottom) if top > bottom else np.full(len(z), np.nan if np.isnan(top) else 0.5)
        position = np.clip(position, 0, 1)
        slices.append(pd.DataFrame({"slice": np.arange(len(z)), "z_mm": z, "kidney_position": position, **common}))
    columns = ["patient", "series", "slice", "z_mm", "kidney_position", "phase", "split", "reconstruction"]
    table = pd.concat(slices, ignore_index=True)[columns]
    return pd.DataFrame(series), table.astype({"phase": "str"})  # nan where there is no label


def _rejected(tree: Tree, refused: list[dict], key: str) -> pd.DataFrame:
    """Return what was not used, without paths and UIDs: series (its hash, or "-"), files, reason."""
    columns = ["series", "files", "reason"]
    names = [hashed_id(key, "series", uid) if uid else "-" for uid in tree.rejected["series_uid"]]
    single = tree.rejected.assign(series=names, files=1)[columns]
    whole = [(item["series"], len(item["job"].series.slices), item["reason"]) for item in refused]
    table = pd.concat([single, pd.DataFrame(whole, columns=columns)])
    return table.groupby(["series", "reason"], as_index=False)["files"].sum()[columns]


def _write_private(folder: Path, tree: Tree, refused: list[dict], key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    sources = [
        {
            "series": hashed_id(key, "series", item.uid),
            "patient": hashed_id(key, "patient", item.patient),
            "patient_id": item.patient,
            "study_uid": item.study,
            "series_uid": item.uid,
            "description": item.description,
            "folder": str(Path(item.slices[0].path).parent),
        }
        for item in tree.series
    ]
    _write(folder / "sources.csv", pd.DataFrame(sources).to_csv)
    whole = [(r["job"].series.slices[0].path, r["detail"] or r["reason"], r["job"].series.uid) for r in refused]
    files = pd.concat([tree.rejected, pd.DataFrame(whole, columns=["path", "reason", "series_uid"])])
    _write(folder / "rejected_files.csv", files.to_csv)


def _write(path: Path, write) -> None:
    with atomic_path(path) as temporary:
        write(temporary, index=False)
