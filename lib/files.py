"""Paths against the repository's root, files written whole or not at all, and their hashes."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def resolve(path: str | Path) -> Path:
    """Return `path` as an absolute path; a relative one is taken against the repository's root."""
    return ROOT / Path(path).expanduser()


def require(path: str | Path, made_by: str) -> Path:
    """Return the resolved path of an input, or say which notebook makes it.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist.
    """
    path = resolve(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run {made_by} first, or `make figures` for the whole chain.")
    return path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` and rename it on success, so that no half-written file has the final name.

    Works for a file and for a folder, which replaces the old one. On any error the temporary is removed.
    """
    path = resolve(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        if temporary.is_dir() and path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)


def file_hash(path: str | Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file's content.

    Of a saved network (`.keras`) architecture and weights count, and not the date that Keras writes beside them: the
    same network saved again keeps its hash.
    """
    if Path(path).suffix != ".keras":
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in sorted(set(archive.namelist()) - {"metadata.json"}):
            digest.update(name.encode() + archive.read(name))
    return digest.hexdigest()[:16]
