"""The ground truth by intervention: the same phantom slice scanned again with one organ as it is in another phase.

Nothing else changes: patient, breath, scanner and noise are those of the slice, so that the change of a class score is
what the network owes to that organ.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from lib.cohort import Standardisation
from lib.files import resolve
from lib.labels import hashed_id
from lib.maps.tissue_shares import GROUPS, NAMES, OUTSIDE
from lib.paper import PHASES
from lib.phantom.cohort import PHANTOM_KEY
from lib.phantom.labelling_reader import draw_scan_time
from lib.phantom.patient import TISSUE_OF_PAINT
from lib.phantom.scanner import Scanner, sharper
from lib.phantom.study import Examination, Scan, slice_steps
from lib.phantom.texture import Texture
from lib.phantom.tissues import Tissue
from lib.resampling import resample

STILL = ("fat", OUTSIDE)  # groups that contrast medium never reaches
ORGANS = tuple(name for name in NAMES if name not in STILL)
CODES = {  # tissue codes of each organ
    organ: tuple(int(t) for t in Tissue if t.name.lower().replace("_", " ") in GROUPS[organ]) for organ in ORGANS
}
EVERYTHING = "everything"


def phantom_truth(dicom_folder: str | Path, key: str = PHANTOM_KEY) -> pd.DataFrame:
    """Return what is known of the phantom's series, by their id in the cohort.

    Parameters
    ----------
    dicom_folder : path
        Where 01_prepare_cohort wrote the phantom's DICOM, with truth.csv.
    key : str
        Key of the cohort's ids.

    Raises
    ------
    FileNotFoundError
        If there is no truth.csv: another cohort than the phantom cannot be scanned again.
    """
    path = resolve(dicom_folder) / "truth.csv"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing: only the phantom, of which every property is known, can be scanned again. "
            "01_prepare_cohort writes it for source='phantom'."
        )
    truth = pd.read_csv(path, dtype={"patient": str})
    return truth.set_index(truth["series_uid"].map(lambda uid: hashed_id(key, "series", uid)))


class Rerendering:
    """One slice of the phantom, ready to be scanned again.

    Parameters
    ----------
    truth : mapping
        The row of :func:`phantom_truth` of its series.
    index : int
        Place of the slice in the series, from below.
    """

    def __init__(self, truth: Mapping, index: int):
        names = ("patient", "seed", "slices", "placing", "matrix")
        self.examination = Examination(*(truth[name] for name in names))
        self.phase, draw = truth["intended_phase"], self.examination._rng
        self.protocol = self.examination.protocol
        if int(truth["reconstruction"]):
            self.protocol = sharper(self.protocol)
        self.breath = float(np.clip(draw("breath", self.phase).normal(0, 3), -8, 8))
        low, high = (edge + self.breath for edge in self.examination.anatomy.kidney_extent)
        plan = (self.protocol.spacing_mm, int(truth["slices"]), truth["placing"])
        self.step = int(slice_steps(draw("slices", self.phase), low, high, *plan)[index])
        self.scanner = Scanner(self.protocol, self.examination.anatomy, int(truth["matrix"]))
        painted = lru_cache(maxsize=8)(self.examination.anatomy.paint)  # anatomy is the same in every scan
        self.scanner.anatomy = SimpleNamespace(paint=painted)

    def time(self, phase: str) -> float | None:
        """Return the time at which this patient is scanned for a phase, s after the injection; None before it."""
        return draw_scan_time(self.examination._rng("scan", phase), phase)

    def image(self, tissues: Sequence[int] = (), phase: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scan the slice with some tissues as they are at another phase.

        Parameters
        ----------
        tissues : sequence of int
            Tissue codes that are moved.
        phase : str, optional
            The phase that they are moved to.

        Returns
        -------
        hu : int16 array (matrix, matrix)
        codes : uint8 array (matrix, matrix)
            Tissue codes.
        """
        draw, own = self.examination._rng, self.time(self.phase)
        other = own if phase is None else self.time(phase)
        moved = np.isin(TISSUE_OF_PAINT, list(tissues))
        enhanced = [self._hounsfield(time) for time in (own, other)]
        textures = [Texture(draw("texture"), time) for time in (own, other)]

        def hounsfield(z: float) -> np.ndarray:
            return np.where(moved, enhanced[1](z), enhanced[0](z)).astype(np.float32)

        def texture(hu: np.ndarray, codes: np.ndarray, grid, z: float) -> None:
            there = hu.copy()
            textures[0](hu, codes, grid, z)
            textures[1](there, codes, grid, z)
            np.copyto(hu, there, where=np.isin(codes, list(tissues)))

        noise = partial(draw, "noise", self.phase)
        return self.scanner.image(self.step, hounsfield, noise, self.breath, texture)

    def _hounsfield(self, time: float | None) -> Callable[[float], np.ndarray]:
        return self.examination._hounsfield(Scan(self.phase, time, self.breath), self.protocol.kvp)


def network_input(hu: np.ndarray, body: np.ndarray, standardisation: Standardisation) -> np.ndarray:
    """Return images in HU (n, H, W) as a network takes them, float32 (n, size, size, 1).

    Parameters
    ----------
    hu : int array (n, H, W)
    body : bool array (H, W)
        The body as the cohort found it; the same for all images.
    standardisation : Standardisation
        That of the network.
    """
    scaled = (hu - np.float32(standardisation.mean)) * np.float32(1 / standardisation.sd)
    scaled = np.where(body, scaled, np.float32(standardisation.outside)).astype(np.float32)
    size, outside = standardisation.image_size, standardisation.outside
    return np.stack([resample(image, size, outside) for image in scaled])[..., None]


def organ_effects(
    rendering: Rerendering,
    to_input: Callable[[np.ndarray], np.ndarray],
    scores: Callable[[np.ndarray], np.ndarray],
    chosen: int,
    organs: Sequence[str] = ORGANS,
) -> pd.DataFrame:
    r"""Measure what a class score owes to each organ.

    Parameters
    ----------
    rendering : Rerendering
    to_input : callable
        From images in HU (n, H, W) to network input.
    scores : callable
        From network input to class scores (n, 5).
    chosen : int
        The class whose score is followed.
    organs : sequence of str
        Names of `ORGANS`.

    Returns
    -------
    DataFrame
        `organ` (and `EVERYTHING`: all organs at once), `moved_to` (a phase), `fall` (the score of the slice less that
        of the slice with this organ moved), `voxels` (of the organ, in the slice as scanned).

    Notes
    -----
    With the image :math:`x` and the image :math:`x_{o \to t}` in which organ :math:`o` has the attenuation and texture
    of phase :math:`t`, the fall is :math:`y_c(x) - y_c(x_{o \to t})`.
    """
    original, codes = rendering.image()
    everything = tuple(code for organ in organs for code in CODES[organ])
    rows, images = [], [original]
    for organ in (*organs, EVERYTHING):
        members = everything if organ == EVERYTHING else CODES[organ]
        voxels = int(np.isin(codes, members).sum())
        for phase in PHASES:
            if phase != rendering.phase and voxels:
                images.append(rendering.image(members, phase)[0])
                rows.append((organ, phase, voxels))
    parts = [np.stack(images[start : start + 16]) for start in range(0, len(images), 16)]
    found = np.concatenate([scores(to_input(part))[:, chosen] for part in parts])
    table = pd.DataFrame(rows, columns=["organ", "moved_to", "voxels"])
    return table.assign(fall=found[0] - found[1:])


def causal_weights(effects: pd.DataFrame) -> pd.DataFrame:
    """Return each organ's weight in each slice: `weight`, the mean size of the falls, and `fall`, their mean.

    Parameters
    ----------
    effects : DataFrame
        Rows of :func:`organ_effects` with `image`, the number of the slice.
    """
    organs = effects[effects["organ"] != EVERYTHING]
    weights = organs.assign(weight=organs["fall"].abs()).groupby(["image", "organ"], sort=False)
    return weights[["weight", "fall", "voxels"]].mean().reset_index()


def organ_sums(heat: np.ndarray, codes: np.ndarray) -> pd.DataFrame:
    """Return what a map (H, W) gives to each organ: `organ`, `size` (absolute sum), `signed` (sum), `pixels`."""
    rows = []
    for organ in ORGANS:
        inside = heat[np.isin(codes, CODES[organ])].astype(float)
        if inside.size:
            rows.append((organ, np.abs(inside).sum(), inside.sum(), inside.size))
    return pd.DataFrame(rows, columns=["organ", "size", "signed", "pixels"])
