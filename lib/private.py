"""What names the source of a cohort: a folder that only its owner reads, and no path of it anywhere else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.files import resolve

SOURCE = "source"  # in the private folder: a link to the DICOM folder


def private_folder(path: str | Path) -> Path:
    """Return a folder of mode 0700, made so from its first moment, or narrowed where it was wider."""
    path = resolve(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    return path


def link_source(private: str | Path, dicom_folder: str | Path) -> Path:
    """Make `<private>/source` a link to the DICOM folder and return it.

    What runs notebooks records their parameters, in logs and metadata that are not private: it is given the link, so
    that no path of the source, and no odd character in one, reaches it.

    Raises
    ------
    FileNotFoundError
        If `dicom_folder` is no folder.
    """
    folder = resolve(dicom_folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"{printable(folder)} is no folder: give the one that holds the DICOM files.")
    link = private_folder(private) / SOURCE
    if not link.is_symlink() or Path(os.readlink(link)) != folder:
        temporary = link.with_name(f".{SOURCE}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder, target_is_directory=True)
        os.replace(temporary, link)
    return link


def printable(text: str | Path) -> str:
    """Return a path, or text that holds one, as it can be written: bytes that are no UTF-8 (Latin-1) as escapes."""
    return os.fspath(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@contextmanager
def only_one(folder: str | Path, doing: str) -> Iterator[None]:
    """Hold a folder for the time of the block, so that two runs never write to it at once.

    The lock ends with the process, however it ends.

    Raises
    ------
    RuntimeError
        If another process holds it.
    """
    folder = resolve(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RuntimeError(f"{doing} {printable(folder)} already: wait until that has ended.") from None
    finally:
        os.close(handle)
