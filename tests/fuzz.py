"""Mutated DICOM files: bytes flipped, cut, swapped, lengths blown up, attributes replaced by nonsense.

python tests/fuzz.py 10000        # as pytest -m slow does; prints what it found
"""

from __future__ import annotations

import io
import os
import resource
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from conftest import abdomen, ct_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from lib.dicom.errors import DicomError
from lib.dicom.series import SliceReader, read_tree

SYNTAXES = [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless, JPEGLSLossless]
NONSENSE = [0, 1, 0x7F, 0xFF, 0x80, 0x5C, 0x2F]
NUMBERS = ["", "0", "-1", "1e-9", "1e300", "nan", "inf", "2000000000", "1\\2\\3\\4\\5\\6\\7", "x"]
FIELDS = ["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"]
FIELDS += ["SamplesPerPixel", "NumberOfFrames"]
TEXTS = ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"]
TEXTS += ["RescaleIntercept", "InstanceNumber"]
UNIQUE = b"1.3.000000"  # stands for a series of its own in each mutant
FRAMES_SECONDS = 30  # the longest that one mutant may take on a busy machine


def seeds(size: int = 64) -> list[bytes]:
    """Healthy files, one for each transfer syntax."""
    files = []
    for number, syntax in enumerate(SYNTAXES):
        dataset = ct_dataset(abdomen(size), number, patient="P", study="1.2", series=UNIQUE.decode(), number=number)
        if syntax is not None and syntax.is_encapsulated:
            dataset.compress(syntax)
        elif syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return files


def mutant(files: list[bytes], rng: np.random.Generator) -> bytes:
    """Return one file with one to eight faults of one kind."""
    content = files[rng.integers(len(files))].replace(UNIQUE, b"1.3.%06d" % rng.integers(10**6))
    content = bytearray(content)
    kind = rng.integers(7)
    places = rng.integers(0, len(content), rng.integers(1, 9))
    header = rng.integers(128, min(len(content), 1400), len(places))
    if kind == 0:  # bits
        for place in places:
            content[place] ^= 1 << rng.integers(8)
    elif kind == 1:  # bytes of the header
        for place in header:
            content[place] = rng.choice(NONSENSE)
    elif kind == 2:  # cut
        del content[places[0] :]
    elif kind == 3:  # lengths and counts
        for place in header:
            content[place : place + 4] = struct.pack(
                "<L", rng.choice([0, 1, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE])
            )
    elif kind == 4:  # a piece twice, or gone
        start, end = sorted(rng.integers(128, len(content), 2))
        content[start:end] = content[start:end] * 2 if rng.integers(2) else b""
    elif kind == 5:  # the codestream
        middle = len(content) // 3
        for place in rng.integers(middle, len(content), 20):
            content[place] = rng.integers(256)
    else:
        return _nonsense(rng)
    return bytes(content)


def _nonsense(rng: np.random.Generator) -> bytes:
    """Return a file whose header says nonsense in one attribute, in a well-formed way."""
    dataset = ct_dataset(abdomen(64), 0, patient="P", study="1.2", series=f"1.4.{rng.integers(10**6)}", number=1)
    if rng.integers(2):
        dataset.add_new(rng.choice(FIELDS), "US" if rng.integers(2) else "IS", int(rng.choice([0, 1, 2, 255, 65535])))
    else:
        element = dataset[str(rng.choice(TEXTS))]
        del dataset[element.tag]
        dataset.add_new(element.tag, "LO", str(rng.choice(NUMBERS)))
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class Outside(Exception):
    """A file outside the folder was read."""


def watch(folder: Path) -> None:
    """Raise `Outside` when something of this process opens a DICOM file beyond `folder` (by an audit hook)."""
    inside = str(folder.resolve())

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str) and ".dcm" in arguments[0]:
            path = os.path.realpath(arguments[0])
            if watching and not path.startswith(inside) and "site-packages" not in path:
                raise Outside(path)

    watching = [True]
    sys.addaudithook(hook)
    stop.append(watching.clear)


stop: list = []


def run(count: int, seed: int, batch: int = 50) -> dict:
    """Read `count` mutants, and in each batch a healthy file beside them; return what happened.

    Raises
    ------
    AssertionError
        If a healthy file is lost, a mutant takes too long, or memory grows by more than a gigabyte.
    """
    rng, files, told = np.random.default_rng(seed), seeds(), Counter()
    before, slowest, reader = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0, SliceReader()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watch(folder)
        try:
            for start in range(0, count, batch):
                for number in range(min(batch, count - start)):
                    (folder / f"{number:03d}.dcm").write_bytes(mutant(files, rng))
                healthy = ct_dataset(abdomen(64), 0, patient="healthy", study="1.8", series="1.9", number=1)
                healthy.save_as(folder / "healthy.dcm", enforce_file_format=True)
                begun = time.monotonic()
                tree = read_tree(folder)
                told.update(reason.partition(":")[0] for reason in tree.rejected["reason"])
                for series in tree.series:
                    for item in series.slices:
                        try:
                            hu = reader.read(item)
                        except DicomError:
                            told["pixels cannot be decoded"] += 1
                            continue
                        told["read"] += 1
                        if item.patient == "healthy" and item.path.endswith("healthy.dcm"):
                            np.testing.assert_array_equal(hu, abdomen(64))
                            told["healthy"] += 1
                slowest = max(slowest, (time.monotonic() - begun) / batch)
                assert time.monotonic() - begun < FRAMES_SECONDS * batch
                shutil.rmtree(folder)
                folder.mkdir()
        finally:
            stop.pop()()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    assert told["healthy"] == -(-count // batch), told
    assert grown < 1024, f"{grown:.0f} MiB more memory"
    return {"mutants": count, "grown_MiB": round(grown), "children_MiB": round(child), "s_each": slowest, **told}


if __name__ == "__main__":
    begun = time.monotonic()
    result = run(int(sys.argv[1]), seed=int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    print(f"{time.monotonic() - begun:.0f} s", *(f"{value:>8}  {key}" for key, value in result.items()), sep="\n")
