"""Compressed frames decoded in a process of its own: a codec that crashes, hangs or swells costs one frame."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import JPEG2000, JPEG2000Lossless

from lib.dicom.attributes import lenient, with_syntax
from lib.dicom.errors import DicomError
from lib.dicom.limits import DECODE_SECONDS, MAX_DECODER

PIXEL_TAGS = ["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"]
PIXEL_TAGS += ["PhotometricInterpretation", "NumberOfFrames", "PlanarConfiguration", "PixelData", "ExtendedOffsetTable"]
PIXEL_TAGS += ["ExtendedOffsetTableLengths", "SOPClassUID"]

FASTER = dict.fromkeys((JPEG2000, JPEG2000Lossless), "pylibjpeg")  # than pydicom's first choice, by a quarter
TOO_LONG, CRASHED = "the decoder took too long", "the decoder crashed"


class OpenFile:
    """The file whose frames were decoded last, so that a multi-frame file is read once."""

    def __init__(self):
        self._path, self._dataset = None, None

    def frame(self, path: str, frame: int | None) -> np.ndarray:
        """Return a frame as stored."""
        with lenient():
            dataset = self._open(path)
            syntax = dataset.file_meta.TransferSyntaxUID
            fast = FASTER.get(syntax, "")
            plugin = fast if fast and fast in get_decoder(syntax).available_plugins else ""
            return pixel_array(dataset, index=frame or 0, decoding_plugin=plugin)  # one frame, whatever lies behind it

    def _open(self, path: str) -> Dataset:
        if path != self._path:
            self._dataset = None  # before the next file comes into memory
            self._dataset = with_syntax(dcmread(path, specific_tags=PIXEL_TAGS, force=True))
            self._path = path
        return self._dataset


class Decoder:
    """Decodes frames in a child process, which is started at the first frame and anew after a crash.

    The child ends with `close`, and with its parent however that ends.
    """

    def __init__(self, seconds: float = DECODE_SECONDS):
        self._seconds = seconds
        self._child, self._connection = None, None

    def frame(self, path: str, frame: int | None) -> np.ndarray:
        """Return a frame as stored.

        Raises
        ------
        DicomError
            If the decoder refuses it, crashes, or takes longer than `seconds`.
        """
        if self._child is None:
            self._start()
        try:
            self._connection.send((path, frame))
            result = self._connection.recv() if self._connection.poll(self._seconds) else TOO_LONG
        except (EOFError, OSError):
            result = CRASHED
        except BaseException:  # Ctrl-C: the answer that nobody waits for must not be taken for the next one's
            self.close()
            raise
        if isinstance(result, str):
            if result in (TOO_LONG, CRASHED):
                self.close()
            raise DicomError(result)
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._connection, theirs = context.Pipe()
        self._child = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._child.start()
        theirs.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.join()
            self._connection.close()
            self._child, self._connection = None, None


@cache
def shared_decoder() -> Decoder:
    """Return the decoder of this process: its child starts once, at the first compressed frame."""
    return Decoder()


def _serve(connection: Connection) -> None:
    """Answer each (path, frame) with its pixels, or with a text that says why there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the parent ends this process
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # what codecs print may hold parts of the file
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MAX_DECODER
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    opened = OpenFile()
    while True:
        try:
            path, frame = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = opened.frame(path, frame)
        except BaseException as error:  # a panic of a decoder written in Rust is no Exception
            answer, opened = f"{type(error).__name__}: {error}", OpenFile()
        connection.send(answer)
