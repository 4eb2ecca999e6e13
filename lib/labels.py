"""What a cohort is told from outside: labels.csv, and the key that names and splits the patients."""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import hmac
import io
import secrets
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from lib.files import atomic_path
from lib.paper import PHASES
from lib.private import private_folder

LABEL_COLUMNS = ("series_uid", "phase", "kidney_bottom_mm", "kidney_top_mm")
SPLITS = ("train", "val", "test")


def read_labels(path: str | Path, known_series: Collection[str]) -> pd.DataFrame:
    """Read labels.csv.

    Parameters
    ----------
    path : path
        CSV with a column series_uid and any of phase, kidney_bottom_mm and kidney_top_mm (mm, as in the DICOM
        positions). Cells may be empty; other columns are passed over. In UTF-8, UTF-16 or Windows-1252, with commas,
        semicolons or tabs.
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
    lines, table = _read_table(path)
    if "series_uid" not in table.columns:
        raise ValueError(f"{path} has no column series_uid; it has {', '.join(table.columns)}.")
    if twice := sorted({name for name in LABEL_COLUMNS if list(table.columns).count(name) > 1}):
        raise ValueError(f"{path} has two columns {' and '.join(twice)}: remove one, it is open which counts.")
    table = table.reindex(columns=LABEL_COLUMNS, fill_value="").apply(lambda column: column.str.strip())
    seen: dict[str, int] = {}
    for line, row in zip(lines, table.itertuples(index=False), strict=True):
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


def _read_table(path: Path) -> tuple[list[int], pd.DataFrame]:
    """Return the rows as text, and the line in which each ends."""
    rows = csv.reader(io.StringIO(text := _decode(path), newline=""), delimiter=_delimiter(text), strict=True)
    found = []
    try:
        for row in rows:
            found.append((rows.line_num, row))
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {rows.line_num}: {error}. Look for a quotation mark without its partner in the lines before."
        ) from None
    if not any(cell.strip() for _, row in found for cell in row):
        raise ValueError(f"{path} is empty: write a first line series_uid,phase and a line for each series.")
    (_, header), *body = found
    header = [name.strip() for name in header]
    for line, row in body:
        if any(cell.strip() for cell in row[len(header) :]):
            cells = f"{len(row)} cells under {len(header)} columns"
            raise ValueError(f"{path}, line {line}: {cells}; put text that has commas in quotation marks.")
    cells = [(row + [""] * len(header))[: len(header)] for _, row in body]
    return [line for line, _ in body], pd.DataFrame(cells, columns=header, dtype=object)


def _decode(path: Path) -> str:
    """Return the text of a CSV, in the encodings that Excel writes."""
    content = path.read_bytes()
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise ValueError(f"{path} is an Excel workbook, not a CSV: save it as 'CSV UTF-8' and give that.")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text:
                return text
    raise ValueError(f"{path} is no text in UTF-8, UTF-16 or Windows-1252: save it as 'CSV UTF-8'.")


def _delimiter(text: str) -> str:
    """Return the character that parts the columns of the first line; Excel takes ";" where "," parts decimals."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


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
    file = private_folder(private) / "key"
    if not file.exists():
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
