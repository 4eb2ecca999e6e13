r"""Deletion and insertion curves: the probability of the right phase against the share of the voxels overwritten.

Deletion overwrites the voxels that a map ranks highest first; insertion starts from an image of noise and restores them
first (Samek et al. 2017; Petsiuk et al. 2018). An image of which the highest share :math:`f` was restored is the image
of which the lowest share :math:`1 - f` is overwritten. So both curves follow from two orders of overwriting, and both
orders from the masking experiment (`lib.masking.experiment`), done at one share after the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.maps.agreement import map_order
from lib.masking.controls import BLOCKS, RANDOM, RANDOM_BODY
from lib.masking.experiment import METHODS, Reading, mask_cohort
from lib.paper import PHASES
from lib.patient_statistics import RESAMPLES, balanced_mean

SLICE = ["patient", "series", "slice", "phase"]
MAP = ["method", "layer"]
AREAS = ("deletion", "insertion", "between", "control", "below_control", "above_control")
Batch = tuple[pd.DataFrame, np.ndarray, np.ndarray | None]


def read_fractions(text: str) -> list[float]:
    """Return the shares of the voxels at which a curve is measured, given with spaces between them.

    0 and 1 are added: nothing, and every voxel.

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or if they do not rise.
    """
    found = [float(word) for word in text.split()]
    if not found or not all(low < high for low, high in zip([0.0, *found], [*found, 1.0], strict=True)):
        raise ValueError(f"fractions={text!r}: expected rising shares between 0 and 1, such as '0.05 0.1 0.5'.")
    return [0.0, *found, 1.0]


class _Remembering:
    """An `Attributor` that computes the maps of a batch once, however often they are asked for."""

    def __init__(self, attributor: Attributor):
        self._attributor, self._known = attributor, {}

    def __getattr__(self, name: str):
        return getattr(self._attributor, name)

    def __call__(self, images: np.ndarray, classes: np.ndarray, methods: Sequence[str]):
        key = (images.tobytes(), classes.tobytes(), tuple(methods))
        if key not in self._known:
            self._known[key] = self._attributor(images, classes, methods)
        return self._known[key]


def measure_curves(
    model: keras.Model,
    batches: Iterable[Batch],
    attributor: Attributor,
    reading: Reading,
    fractions: Sequence[float],
    *,
    methods: Sequence[str] = METHODS,
) -> pd.DataFrame:
    """Overwrite more and more voxels in the order of each map and of the controls, and predict again.

    Parameters
    ----------
    model, attributor
        See `lib.masking.experiment.mask_cohort`.
    batches : iterable of (rows, images, body)
        They are kept in memory, with their maps.
    reading : Reading
        Choices of the masking experiment; its fraction is replaced by those of `fractions`.
    fractions : sequence of float
        As from :func:`read_fractions`: from 0 to 1.
    methods : sequence of str
        See `Attributor`.

    Returns
    -------
    DataFrame
        One row per slice, map, order and share: patient, series, slice, phase, `method`, `layer`, `region` ("top": the
        highest first, "bottom": the lowest first, "random": a control without an order), `fraction`, and
        `relative_probability` (percent of the original one, mean over the draws).

    Notes
    -----
    The noise field and the random choice among ties of a slice and draw are the same at every share, so that a larger
    share holds the voxels of a smaller one. Without any voxel overwritten the relative probability is 100; with all
    overwritten it is the same for every map.
    """
    batches, remembering = list(batches), _Remembering(attributor)
    keys = [*SLICE, *MAP, "region"]
    parts = []
    for fraction in fractions[1:-1]:
        tables = mask_cohort(model, batches, remembering, replace(reading, fraction=fraction), methods=methods)
        table = pd.concat(tables, ignore_index=True)
        parts.append(_mean_of_draws(table, keys).assign(fraction=fraction))
    everything = mask_cohort(model, batches, remembering, replace(reading, fraction=1.0), methods=methods[:1])
    last = pd.concat(everything, ignore_index=True)
    last = _mean_of_draws(last[(last["method"] == methods[0]) & (last["region"] == "top")], SLICE)
    whole = parts[0][keys]
    parts.insert(0, whole.assign(relative_probability=100.0, fraction=0.0))
    parts.append(whole.merge(last, on=SLICE, validate="many_to_one").assign(fraction=1.0))
    return pd.concat(parts, ignore_index=True).sort_values([*keys, "fraction"], ignore_index=True)


def _mean_of_draws(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return table.groupby(keys, sort=False)["relative_probability"].mean().reset_index()


def matched_control(method: str, layer: str, known: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """Return the control of a map's shape: blocks as large as the layer's cells, or random voxels for single voxels.

    `known` are the controls that were measured; random voxels of the body are preferred to those of the image.
    """
    known = set(known)
    if (BLOCKS, layer) in known:
        return BLOCKS, layer
    return RANDOM_BODY if RANDOM_BODY in known else RANDOM


def curve_areas(curves: pd.DataFrame) -> pd.DataFrame:
    r"""Return the areas under the curves of every slice and map.

    Parameters
    ----------
    curves : DataFrame
        As from :func:`measure_curves`.

    Returns
    -------
    DataFrame
        patient, series, slice, phase, `method`, `layer`, and in percent (the mean height of a curve): `deletion` and
        `insertion`, the areas of the two orders; `between`, insertion less deletion, 0 for an order that knows
        nothing; `control`, the area of the control of the same shape; `below_control`, control less deletion, and
        `above_control`, insertion less control. Each of the last four, but the control, is above 0 for a map that ranks
        high what the network needs. The disc, a control with an order of its own, has the deletion alone.

    Notes
    -----
    With the relative probability :math:`r(f)` after a share :math:`f` was overwritten, lowest first,

    .. math:: \text{insertion} = \int_0^1 r(1 - f)\,df = \int_0^1 r(f)\,df,

    by the trapezoidal rule; deletion likewise with the highest first.
    """
    wide = _wide(curves)
    area = pd.Series(np.trapezoid(wide.to_numpy(), wide.columns.to_numpy(), axis=1), index=wide.index)
    maps, lowest_first, controls = (area.xs(region, level="region") for region in ("top", "bottom", "random"))
    names = set(controls.index.droplevel(SLICE))
    own = [(*key[:4], *matched_control(*key[4:], names)) for key in maps.index]
    found = pd.DataFrame({"deletion": maps, "insertion": lowest_first.reindex(maps.index)})
    found["between"] = found["insertion"] - found["deletion"]
    found["control"] = controls.loc[own].to_numpy()
    found["below_control"] = found["control"] - found["deletion"]
    found["above_control"] = found["insertion"] - found["control"]
    return found.reset_index()


def summarise_areas(areas: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Average the areas over the slices of a patient, over patients, and over the phases.

    Returns
    -------
    DataFrame
        `phase` (a phase, or "mean", in which every phase weighs the same), `method`, `layer`, `area` (one of AREAS),
        `value`, `low`, `high` (percent; 95 % interval that resamples patients), `n_slices`, `n_patients`.
    """
    return _summary(areas, MAP, list(AREAS), "area", rng, resamples)


def summarise_curves(curves: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Average the curves like :func:`summarise_areas`, with `region` and `fraction` in place of `area`."""
    wide = _wide(curves)
    fractions = list(wide.columns)
    return _summary(wide.reset_index(), [*MAP, "region"], fractions, "fraction", rng, resamples)


def _wide(curves: pd.DataFrame) -> pd.DataFrame:
    """Return one row per curve, one column per share."""
    keys = [*SLICE, *MAP, "region"]
    return curves.pivot_table(index=keys, columns="fraction", values="relative_probability")


def _summary(table: pd.DataFrame, keys: list[str], columns: list, name: str, rng, resamples: int) -> pd.DataFrame:
    rows, groups = [], dict(iter(table.groupby(keys)))
    for key in sorted(groups, key=map_order):
        group = groups[key]
        for phase in [*(phase for phase in PHASES if phase in set(group["phase"])), "mean"]:
            chosen = group if phase == "mean" else group[group["phase"] == phase]
            known = [column for column in columns if chosen[column].notna().all()]
            values = balanced_mean(
                chosen[known].to_numpy(), chosen["patient"], chosen["phase"], rng=rng, resamples=resamples
            )
            counts = len(chosen), chosen["patient"].nunique()
            rows += [(phase, *key, column, *found, *counts) for column, found in zip(known, values, strict=True)]
    return pd.DataFrame(rows, columns=["phase", *keys, name, "value", "low", "high", "n_slices", "n_patients"])
