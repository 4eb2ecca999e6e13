"""What a cohort is told from outside: labels.csv, and the key that names and splits the patients."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import atomic_path, resolve
from lib.paper import PHASES

LABEL_COLUMNS = ("series_uid", "phase", "kidney_bottom_mm", "kidney_top_mm")
SPLITS = ("train", "val", "test")


def read_labels(path: str | Path, known_series: Collection[str]) -> pd.DataFrame:
    """Read labels.csv.

    Parameters
    ----------
    path : path
        CSV with a column series_uid and any of phase, kidney_bottom_mm and kidney_top_mm (mm, as in the DICOM
        positions). Cells may be empty; other columns are passed over.
    known_series : collection of str
        The series that exist.

    Returns
    -------
    pandas.DataFrame
        Indexed by series_uid; phase (None where empty), kidney_bottom_mm, kidney_top_mm (nan where empty).

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the line, what stands there, and what may stand there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: write series_uid,phase for each series.")
    table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8-sig")
    table.columns = [str(name).strip() for name in table.columns]
    if "series_uid" not in table.columns:
        raise ValueError(f"{path} has no column series_uid; it has {', '.join(table.columns)}.")
    table = table.reindex(columns=LABEL_COLUMNS, fill_value="").apply(lambda column: column.str.strip())
    seen: dict[str, int] = {}
    for line, row in enumerate(table.itertuples(index=False), 2):
        where = f"{path}, line {line}"
        if not any(row):
            continue
        if row.series_uid not in known_series:
            raise ValueError(
                f"{where}: series {row.series_uid!r} is not in the DICOM folder, which holds {len(known_series)}. "
                "Correct the SeriesInstanceUID or remove the line."
            )
        if row.series_uid in seen:
            raise ValueError(f"{where}: series {row.series_uid!r} stands in line {seen[row.series_uid]} already.")
        seen[row.series_uid] = line
        if row.phase and row.phase not in PHASES:
            raise ValueError(f"{where}: unknown phase {row.phase!r}; allowed are {', '.join(PHASES)}, or nothing.")
        _check_extent(where, row.kidney_bottom_mm, row.kidney_top_mm)
    table = table[table["series_uid"] != ""].set_index("series_uid")
    for name in ("kidney_bottom_mm", "kidney_top_mm"):
        table[name] = pd.to_numeric(table[name].where(table[name] != "", np.nan))
    table["phase"] = table["phase"].astype(object).where(table["phase"] != "", None)
    return table


def _check_extent(where: str, bottom: str, top: str) -> None:
    values = []
    for name, cell in (("kidney_bottom_mm", bottom), ("kidney_top_mm", top)):
        try:
            values += [float(cell)] if cell else []
        except ValueError:
            raise ValueError(f"{where}: {name} is {cell!r}; expected a number in mm, or nothing.") from None
    if len(values) == 1:
        raise ValueError(f"{where}: kidney_bottom_mm and kidney_top_mm come together; one of them is empty.")
    if values and not (np.isfinite(values).all() and values[0] <= values[1]):
        raise ValueError(f"{where}: kidney_bottom_mm {bottom} and kidney_top_mm {top}: expected bottom <= top.")


def keyed_hash(key: str, kind: str, name: str) -> str:
    """Return 64 hex digits that stand for `name`; without the key nobody gets from one to the other."""
    return hmac.new(key.encode(), f"{kind}:{name}".encode(), hashlib.sha256).hexdigest()


def hashed_id(key: str, kind: str, name: str) -> str:
    """Return the id of a "patient" or a "series" in a cohort: 12 hex digits."""
    return keyed_hash(key, kind, name)[:12]


def secret_key(private: str | Path) -> str:
    """Return the key of somebody's own cohort: random, made once, kept in `<private>/key` (mode 0600).

    Parameters
    ----------
    private : path
        Folder that is never passed on (mode 0700).
    """
    file = resolve(private) / "key"
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(16))
    return file.read_text()


def split_of(patient_id: str, key: str) -> str:
    """Return the split of a patient: a function of PatientID and key alone, so that nobody moves.

    Parameters
    ----------
    patient_id : str
        PatientID as in the DICOM files.
    key : str
        The cohort's key.

    Returns
    -------
    {"train", "val", "test"}
        With probabilities 0.64, 0.16 and 0.20.
    """
    place = int(keyed_hash(key, "split", patient_id)[:13], 16) / 16**13
    return "train" if place < 0.64 else "val" if place < 0.80 else "test"
