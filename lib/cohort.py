"""The prepared cohort: reads its slices as network input, Hounsfield units, body masks and tissue codes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import zarr
from tqdm import tqdm

from lib.files import atomic_path, require, resolve
from lib.paper import PHASES
from lib.resampling import OUTSIDE, resample, resample_codes, resample_hu

Rows = pd.DataFrame | np.ndarray | list


@dataclass(frozen=True)
class Standardisation:
    """How slices become network input; it is saved with the weights of a network.

    Attributes
    ----------
    mean, sd : float
        Mean and SD in HU of the voxels inside the body, over the training split at `image_size`.
    image_size : int
        Height and width of the input.
    outside : float
        Input value outside the body, after standardisation.
    channels : int
        1, or 3 for a slice with its two neighbours.
    """

    mean: float
    sd: float
    image_size: int
    outside: float = 0.0
    channels: int = 1

    def __post_init__(self):
        if not (np.isfinite([self.mean, self.sd, self.outside]).all() and self.sd > 0):
            raise ValueError(f"A standardisation needs finite numbers and sd > 0, found {self}.")
        if self.channels % 2 != 1:
            raise ValueError(f"channels={self.channels}: expected 1 or 3, so that the slice is in the middle.")

    def save(self, path: str | Path) -> None:
        """Write to a JSON file."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Standardisation:
        """Read from a JSON file."""
        return cls(**json.loads(resolve(path).read_text()))


class Cohort:
    """A prepared cohort, read slice by slice.

    In every method, `rows` is either a part of the table `slices` or a list of positions in it.
    """

    def __init__(self, path: Path, slices: pd.DataFrame, facts: dict):
        self.path = path
        self.slices = slices
        self.facts = facts
        self._array = lru_cache(maxsize=None)(self._open)

    @classmethod
    def open(cls, path: str | Path) -> Cohort:
        """Open the cohort in a folder.

        Raises
        ------
        FileNotFoundError
            If the folder holds no prepared cohort.
        """
        path = resolve(path)
        facts = json.loads(require(path / "cohort.json", "notebooks/01_prepare_cohort").read_text())
        return cls(path, pd.read_parquet(path / "slices.parquet"), facts)

    @property
    def tissues(self) -> dict[str, int]:
        """Codes of the tissues by name; empty if the true tissues are not known."""
        path = self.path / "tissues.zarr"
        return dict(zarr.open_group(path, mode="r").attrs["tissues"]) if path.exists() else {}

    def read(
        self, rows: Rows, standardisation: Standardisation, image_size: int | None = None, channels: int | None = None
    ) -> np.ndarray:
        """Read slices as network input.

        Parameters
        ----------
        rows : DataFrame or sequence of int
            The slices.
        standardisation : Standardisation
            Mean, SD, the value outside the body, and the default of image size and channels.
        image_size, channels : int, optional
            Used in place of those of the standardisation.

        Returns
        -------
        float32 array (n, image_size, image_size, channels)
            (HU - mean) / sd inside the body, and `outside` elsewhere. Images are made smaller by area means and larger
            by linear interpolation. Three channels are the slice below, the slice itself and the slice above; at an end
            of the stack, or beside a gap, the slice itself replaces the missing neighbour.
        """
        size = image_size or standardisation.image_size
        channels = channels or standardisation.channels

        def image(series: str, index: int) -> np.ndarray:
            return _input(self._array("slices", series)[index], standardisation, size)

        if channels == 1:
            return np.stack(self._map(image, *self._places(rows)))[..., None] if len(rows) else _empty(size, channels)
        series, stacks = self._neighbours(rows, channels)
        unique = sorted({(s, i) for s, stack in zip(series, stacks, strict=True) for i in stack})
        read = dict(zip(unique, self._map(image, *zip(*unique, strict=True)), strict=True)) if unique else {}
        images = [np.stack([read[s, i] for i in stack], axis=-1) for s, stack in zip(series, stacks, strict=True)]
        return np.stack(images) if images else _empty(size, channels)

    def read_hu(self, rows: Rows, image_size: int | None = None) -> np.ndarray:
        """Return Hounsfield units, float32 (n, H, W), NaN outside the body; at another size, means over the body.

        With `image_size=None`, all slices must have the same size.
        """

        def image(series: str, index: int) -> np.ndarray:
            return resample_hu(self._array("slices", series)[index], image_size)

        return self._stack(image, rows)

    def read_body(self, rows: Rows, image_size: int | None = None) -> np.ndarray:
        """Return body masks, bool (n, H, W); at another size, a pixel is body if at least half of its area is."""

        def image(series: str, index: int) -> np.ndarray:
            return _body(self._array("slices", series)[index], image_size)

        return self._stack(image, rows)

    def read_tissues(self, rows: Rows, image_size: int | None = None) -> np.ndarray:
        """Return tissue codes (see `tissues`), uint8 (n, H, W), 0 outside; at another size, those at pixel centres."""

        def image(series: str, index: int) -> np.ndarray:
            codes = self._array("tissues", series)[index]
            return codes if image_size is None else resample_codes(codes, image_size)

        return self._stack(image, rows)

    def standardise(self, image_size: int, channels: int = 1, outside: float = 0.0) -> Standardisation:
        """Measure mean and SD of the voxels inside the body over the training split.

        Notes
        -----
        The paper reports -23.3 and 144.1 HU. At smaller image sizes the SD is smaller, since area means have less
        noise.
        """
        rows = self.slices[self.slices["split"] == "train"]
        if rows.empty:
            raise ValueError(f"{self.path} has no training split: take the standardisation.json of a trained network.")

        def sums(series: str, index: int) -> np.ndarray:
            hu = resample_hu(self._array("slices", series)[index], image_size)
            inside = hu[~np.isnan(hu)].astype(np.float64)
            return np.array([len(inside), inside.sum(), (inside**2).sum()])

        total = np.zeros(3)
        for start in tqdm(range(0, len(rows), 256), desc="standardise", unit="256 slices", leave=False):
            total += np.sum(self._map(sums, *self._places(rows.iloc[start : start + 256])), axis=0)
        mean = total[1] / total[0]
        sd = np.sqrt(total[2] / total[0] - mean**2)
        return Standardisation(float(mean), float(sd), image_size, outside, channels)

    def batches(
        self, rows: Rows, standardisation: Standardisation, image_size: int | None = None, batch_size: int = 32
    ) -> Iterator[tuple[pd.DataFrame, np.ndarray, np.ndarray]]:
        """Yield rows, images as from `read`, and body masks at that size; the next batch is read in advance."""
        table = self._table(rows)
        size = image_size or standardisation.image_size

        def both(series: str, index: int) -> tuple[np.ndarray, np.ndarray]:
            stored = self._array("slices", series)[index]
            return _input(stored, standardisation, size), _body(stored, size)

        def load(start: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
            chunk = table.iloc[start : start + batch_size]
            if standardisation.channels > 1:
                return chunk, self.read(chunk, standardisation, size), self.read_body(chunk, size)
            images, body = map(np.stack, zip(*self._map(both, *self._places(chunk)), strict=True))
            return chunk, images[..., None], body

        with ThreadPoolExecutor(1) as reader:
            starts = iter(range(0, len(table), batch_size))
            ahead = reader.submit(load, next(starts)) if len(table) else None
            while ahead:
                following = next(starts, None)
                batch, ahead = ahead.result(), None if following is None else reader.submit(load, following)
                yield batch

    def _open(self, name: str, series: str) -> zarr.Array:
        path = self.path / f"{name}.zarr" / series
        if not path.exists():
            what = "tissue truth" if name == "tissues" else "slices"
            raise FileNotFoundError(f"series {series} has no {what} in {self.path}.")
        return zarr.open_array(path, mode="r")

    def _table(self, rows: Rows) -> pd.DataFrame:
        return rows if isinstance(rows, pd.DataFrame) else self.slices.iloc[np.asarray(rows)]

    def _places(self, rows: Rows) -> tuple[list[str], list[int]]:
        table = self._table(rows)
        return table["series"].tolist(), table["slice"].tolist()

    def _neighbours(self, rows: Rows, channels: int) -> tuple[list[str], list[list[int]]]:
        names, indices = self._places(rows)
        stacks = []
        for name, index in zip(names, indices, strict=True):
            attributes = self._array("slices", name).attrs
            z, spacing = attributes["z_mm"], attributes["slice_spacing_mm"]
            stack = [index]
            for step in (-1, 1):
                here = index
                for _ in range(channels // 2):
                    near = here + step
                    if 0 <= near < len(z) and abs(z[near] - z[here]) <= 1.5 * spacing:
                        here = near
                    stack = [here, *stack] if step < 0 else [*stack, here]
            stacks.append(stack)
        return names, stacks

    def _map(self, function: Callable, series: list[str], indices: list[int]) -> list:
        if len(series) < 4:
            return [function(s, i) for s, i in zip(series, indices, strict=True)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(function, series, indices))

    def _stack(self, function: Callable, rows: Rows) -> np.ndarray:
        series, indices = self._places(rows)
        images = self._map(function, series, indices)
        shapes = sorted({image.shape for image in images})
        if len(shapes) != 1:
            raise ValueError(f"{len(images)} slices of sizes {shapes}: choose slices of one size, or give image_size.")
        return np.stack(images)


def slice_weights(slices: pd.DataFrame) -> np.ndarray:
    r"""Return training weights that balance the phases, and the patients within a phase.

    Parameters
    ----------
    slices : DataFrame
        With the columns `patient` and `phase`.

    Returns
    -------
    float64 array (n,)
        Their mean is 1 if all phases are present.

    Notes
    -----
    The weight of a slice of patient :math:`p` in phase :math:`k` is

    .. math:: w_{pk} = \frac{N}{5\, P_k\, n_{pk}},

    where :math:`N` is the number of slices, :math:`P_k` the number of patients who have phase :math:`k`, and
    :math:`n_{pk}` the number of slices of patient :math:`p` in that phase. Each phase then has the total weight
    :math:`N / 5`, and within a phase each patient has the same.
    """
    if slices["phase"].isna().any():
        missing = int(slices["phase"].isna().sum())
        raise ValueError(f"{missing} of {len(slices)} slices have no phase, and so no weight: leave them out.")
    groups = slices.groupby(["phase", "patient"])["patient"]
    patients = slices.groupby("phase")["patient"].transform("nunique").to_numpy(float)
    return len(slices) / (len(PHASES) * patients * groups.transform("size").to_numpy(float))


def _input(stored: np.ndarray, standardisation: Standardisation, size: int) -> np.ndarray:
    scaled = (stored - np.float32(standardisation.mean)) * np.float32(1 / standardisation.sd)
    scaled[stored == OUTSIDE] = standardisation.outside
    return resample(scaled, size, standardisation.outside)


def _body(stored: np.ndarray, size: int | None) -> np.ndarray:
    body = stored != OUTSIDE
    return body if size is None else resample(body.astype(np.float32), size) >= 0.5


def _empty(size: int, channels: int) -> np.ndarray:
    return np.empty((0, size, size, channels), np.float32)
