"""The tables of a prepared cohort: series, slices, what was rejected; and in private/ what they are called outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.dicom.errors import Rejected
from lib.dicom.series import Tree
from lib.files import atomic_path
from lib.labels import hashed_id
from lib.paper import PHASES
from lib.private import printable, private_folder
from lib.store import Job, Refused, Stored

Outcome = tuple[Job, Stored | Refused]
DOUBTS = {"narrow": "a narrow body", "lung": "much lung", "bone": "much bone"}  # of lib.body_region


def cohort_tables(outcomes: list[tuple[Job, Stored]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of series and of slices; nothing in them names the source."""
    rank = {phase: number for number, phase in enumerate((None, *PHASES))}
    ordered = sorted(outcomes, key=lambda item: (item[0].patient, rank[item[0].phase], item[0].id))
    counts: dict[tuple, int] = defaultdict(int)
    series, slices = [], []
    for job, stored in ordered:
        facts = stored.facts
        counts[job.patient, job.phase] += 1
        bottom, top = facts["kidney_extent_mm"] or (np.nan, np.nan)
        z = np.array(facts["z_mm"])
        common = {"patient": job.patient, "series": job.id, "phase": job.phase, "split": job.split}
        common["reconstruction"] = counts[job.patient, job.phase]
        of_series = {"slices": len(z), "slice_spacing_mm": facts["slice_spacing_mm"], "pixel_mm": facts["pixel_mm"][0]}
        of_series |= {"kidney_bottom_mm": bottom, "kidney_top_mm": top, "extent_source": facts["extent_source"]}
        of_series |= {"tissues": facts["tissues"], "notes": facts["notes"], "warning": region_warning(facts["doubts"])}
        series.append({**common, **of_series})
        position = (z - bottom) / (top - bottom) if top > bottom else np.full(len(z), np.nan if np.isnan(top) else 0.5)
        of_slices = {"slice": np.arange(len(z)), "z_mm": z, "kidney_position": np.clip(position, 0, 1)}
        slices.append(pd.DataFrame({**of_slices, **common, "doubts": facts["doubts"]}))
    columns = ["patient", "series", "slice", "z_mm", "kidney_position", "phase", "split", "reconstruction", "doubts"]
    table = pd.concat(slices, ignore_index=True)[columns]
    return pd.DataFrame(series), table.astype({"phase": "str", "doubts": "str"})  # nan where there is no label


def region_warning(doubts: list[str]) -> str:
    """Return one sentence where slices of a series cannot lie at the kidneys' height (see `lib.body_region`), or ""."""
    doubted = [doubt for doubt in doubts if doubt]
    if not doubted:
        return ""
    kinds = ", ".join(DOUBTS[word] for word in DOUBTS if any(word in doubt.split(" and ") for doubt in doubted))
    return f"{len(doubted)} of {len(doubts)} slices look like no abdomen at the kidneys' height ({kinds})"


def rejected_table(tree: Tree, outcomes: list[Outcome], key: str) -> pd.DataFrame:
    """Return what was not used, without paths and UIDs: series (its hash, or "-"), files, reason."""
    columns = ["series", "files", "reason"]
    names = [hashed_id(key, "series", uid) if uid else "-" for uid in tree.rejected["series_uid"]]
    single = tree.rejected.assign(series=names, files=1)[columns]
    whole = []
    for job, outcome in outcomes:
        if isinstance(outcome, Refused):
            whole.append((job.id, len(job.series.slices), outcome.reason))
        elif outcome.lost:
            whole.append((job.id, len(outcome.lost), "pixels cannot be decoded"))
    table = pd.concat([single, pd.DataFrame(whole, columns=columns)])
    return table.groupby(["series", "reason"], as_index=False)["files"].sum()[columns]


def write_private_tables(folder: Path, tree: Tree, outcomes: list[Outcome], key: str) -> None:
    """Write sources.csv, source_files.csv and rejected_files.csv, which name patients, UIDs and files."""
    private_folder(folder)
    sources = [
        {
            "series": hashed_id(key, "series", item.uid),
            "patient": hashed_id(key, "patient", item.patient),
            "patient_id": item.patient,
            "study_uid": item.study,
            "series_uid": item.instance_uid,
            "description": item.description,
            "folder": printable(Path(item.slices[0].path).parent),
        }
        for item in tree.series
    ]
    write_table(folder / "sources.csv", pd.DataFrame(sources).to_csv)
    files = []
    for job, outcome in outcomes:
        places = outcome.facts["sources"] if isinstance(outcome, Stored) else []
        for number, place in enumerate(places):
            item = job.series.slices[place]
            files.append((job.id, number, printable(item.path), -1 if item.frame is None else item.frame))
    columns = ["series", "slice", "file", "frame"]
    write_table(folder / "source_files.csv", pd.DataFrame(files, columns=columns).to_csv)
    rejected = [tree.rejected]
    for job, outcome in outcomes:
        names = (job.series.patient, job.series.study, job.series.instance_uid)
        if isinstance(outcome, Refused) and not outcome.lost:
            path, detail = job.series.slices[0].path, outcome.detail or outcome.reason
            rejected.append(pd.DataFrame([Rejected(printable(path), printable(detail), *names)]))
        lost = [Rejected(printable(path), printable(why), *names) for path, why in outcome.lost]
        rejected.append(pd.DataFrame(lost, columns=Rejected._fields))
    write_table(folder / "rejected_files.csv", pd.concat(rejected, ignore_index=True).to_csv)


def write_table(path: Path, write: Callable) -> None:
    """Write a table whole, or not at all, by one of its `to_` methods."""
    with atomic_path(path) as temporary:
        write(temporary, index=False)
