"""The masking experiment by many readings of the paper: which readings there are, and masking by each of them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path

import keras
import pandas as pd

from lib.cohort import Cohort, Standardisation
from lib.files import atomic_path, file_hash, require, resolve
from lib.maps.variants import MapVariants
from lib.masking.experiment import Reading, mask_cohort
from lib.masking.statistics import read_masking, slice_means
from lib.paper import LAYERS
from lib.provenance import begin, write_sidecar
from lib.slice_choice import slices_to_mask

AXES = ("fill", "score", "within", "fraction")
CODE = ("lib/masking/experiment.py", "lib/maps/variants.py", "lib/slice_choice.py", "lib/cohort.py")


def reading_name(reading: Reading) -> str:
    """Return a name for a reading that may be a folder's: "normal-logit-image-0.1"."""
    return "-".join(f"{getattr(reading, axis):g}" if axis == "fraction" else getattr(reading, axis) for axis in AXES)


def design_readings(
    choices: dict[str, Sequence], *, corners: bool = True, draws: int = 2, seed: int = 0
) -> dict[str, Reading]:
    """Return the readings that are compared, by name; the first is the default.

    Parameters
    ----------
    choices : dict of str to sequence
        The choices of every axis ("fill", "score", "within", "fraction"). The first choice of each is the default.
    corners : bool
        Whether axes are also changed together.
    draws, seed : int
        As in `lib.masking.experiment.Reading`.

    Returns
    -------
    dict of str to Reading
        First the default, then every other choice alone. With `corners`, there follow all combinations in which each
        axis has its first or its last choice, those that are there already left out.

    Raises
    ------
    ValueError
        If an axis is missing, is not known or has no choice, or if a choice is none of
        `lib.masking.experiment.Reading`.

    Examples
    --------
    >>> axes = {"fill": ["normal", "zero"], "score": ["logit"], "within": ["image", "body"], "fraction": [0.1]}
    >>> list(design_readings(axes))
    ['normal-logit-image-0.1', 'zero-logit-image-0.1', 'normal-logit-body-0.1', 'zero-logit-body-0.1']
    """
    if set(choices) != set(AXES) or not all(map(len, choices.values())):
        raise ValueError(f"choices is {choices}, expected at least one choice for each of {', '.join(AXES)}.")
    default = Reading(**{axis: choices[axis][0] for axis in AXES}, draws=draws, seed=seed)
    found = [default] + [replace(default, **{axis: choice}) for axis in AXES for choice in choices[axis][1:]]
    if corners:
        ends = ([choices[axis][0], choices[axis][-1]] for axis in AXES)
        found += [replace(default, **dict(zip(AXES, corner, strict=True))) for corner in product(*ends)]
    return {reading_name(reading): reading for reading in found}


def what_differs(reading: Reading, default: Reading) -> dict[str, object]:
    """Return the choices in which a reading differs from the default, by axis."""
    return {axis: getattr(reading, axis) for axis in AXES if getattr(reading, axis) != getattr(default, axis)}


class ReadNetwork:
    """A trained network and the slices on which it is masked, by one reading after the other.

    Parameters
    ----------
    folder : path
        Of 02_train_network: `model.keras`, `standardisation.json` and `predictions.parquet`.
    cohort : Cohort
    per_phase : int
        Largest number of correctly classified test slices per phase; 0 takes all.
    seed : int
        Of the sample of slices.
    """

    def __init__(self, folder: str | Path, cohort: Cohort, *, per_phase: int, seed: int):
        self.folder, self.cohort = resolve(folder), cohort
        self.model_file, self.predictions = (
            require(self.folder / name, "02_train_network") for name in ("model.keras", "predictions.parquet")
        )
        self.sample = {"per_phase": per_phase, "sample_seed": seed}
        self.chosen = slices_to_mask(pd.read_parquet(self.predictions), per_phase, seed)
        self._variants: dict[str, MapVariants] = {}

    @cached_property
    def _model(self) -> keras.Model:
        return keras.models.load_model(self.model_file)

    def _maps(self, score: str) -> MapVariants:
        """Return the maps of a score, which are compiled once for all readings that use it."""
        if score not in self._variants:
            self._variants[score] = MapVariants(self._model, LAYERS, score=score)
        return self._variants[score]

    def mask(self, folder: str | Path, reading: Reading, methods: Sequence[str], *, batch_size: int = 8) -> Path:
        """Mask the slices by one reading, and return the folder with what was measured.

        Parameters
        ----------
        folder : path
            Where the measurements go, in the form of 06_mask_voxels (see `lib.masking.statistics.read_masking`). What
            is there already is kept, if the network, the slices, the reading, the methods and the code are the same:
            an interrupted run goes on after its last batch.
        reading : Reading
        methods : sequence of str
            Maps and variants, see `lib.maps.variants.MapVariants`.
        batch_size : int
            Slices whose maps are computed at once.
        """
        work = reading.facts() | self.sample | {"methods": list(methods), "batch_size": batch_size}
        inputs = (self.model_file, self.predictions)
        folder = begin(folder, parameters=work, inputs=inputs, code=CODE)
        if (folder / "done.json").exists():
            return folder
        parts = {start: folder / f"part-{start:06d}.parquet" for start in range(0, len(self.chosen), batch_size)}
        waiting = {start: part for start, part in parts.items() if not part.exists()}
        todo = pd.concat([self.chosen[:0], *(self.chosen[start : start + batch_size] for start in waiting)])
        standardisation = Standardisation.load(self.folder / "standardisation.json")
        batches = self.cohort.batches(todo, standardisation, batch_size=batch_size)
        name, maps = file_hash(self.model_file), self._maps(reading.score)
        measured = mask_cohort(self._model, batches, maps, reading, methods=methods, network=name)
        for part, table in zip(waiting.values(), measured, strict=True):
            with atomic_path(part) as file:
                table.to_parquet(file)
        facts = {"parameters": reading.facts(), "inputs": inputs, "slices": len(self.chosen)}
        write_sidecar(folder / "done", notebook="14_sensitivity", **facts)
        return folder


def reading_means(folder: str | Path) -> pd.DataFrame:
    """Read what was measured by one reading, and average over its draws (see `lib.masking.statistics.slice_means`).

    Where only voxels of the body are ranked and overwritten, the control "random" chooses among these. It is renamed
    to "random_body", which it is.
    """
    masking = read_masking(folder)
    if set(masking["within"]) == {"body"}:
        masking["method"] = masking["method"].replace("random", "random_body")
    return slice_means(masking)
