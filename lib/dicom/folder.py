"""The files of a folder, each once, and what in it cannot be looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lib.dicom.errors import Rejected


def list_files(folder: Path) -> tuple[list[str], list[Rejected]]:
    """List the files below a folder that may be DICOM.

    Links are followed, each folder is entered once. CSV files and hidden ones (a name on the path starts with a dot)
    are listed or reported where they are DICOM, and passed over otherwise.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    names : list of str
        Relative to `folder`, sorted.
    rejected : list of Rejected
        Folders that cannot be entered or are linked twice, broken links, hidden DICOM files, pipes and devices.
    """
    names, rejected = [], []
    for path, reason in _walk(folder, set()):
        name = os.path.relpath(path, folder)
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if reason:
            rejected.append(Rejected(path, reason))
        elif hidden and _is_dicom(path):
            rejected.append(Rejected(path, "hidden: a name on its path starts with a dot"))
        elif not hidden and (not name.lower().endswith(".csv") or _is_dicom(path)):
            names.append(name)
    return sorted(names), rejected


def _walk(folder: str | Path, entered: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield (path, "") for each file, and (path, reason) for what cannot be looked at; never recurse without end."""
    todo = [str(folder)]
    while todo:
        here = todo.pop()
        try:
            facts = os.stat(here)
            if (facts.st_dev, facts.st_ino) in entered:
                yield here, "a folder that is read already under another name"
                continue
            entered.add((facts.st_dev, facts.st_ino))
            with os.scandir(here) as found:
                entries = sorted(found, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            yield here, f"folder cannot be entered: {error.strerror}"
            continue
        for entry in reversed(entries):
            try:
                mode = entry.stat().st_mode
            except OSError as error:
                yield entry.path, f"link or file cannot be followed: {error.strerror}"
                continue
            if stat.S_ISREG(mode):
                yield entry.path, ""
            elif not stat.S_ISDIR(mode):
                yield entry.path, "a pipe or a device, not a file"
        todo += [entry.path for entry in entries if _is_folder(entry)]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_dicom(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
