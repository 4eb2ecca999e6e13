"""Which networks are trained for remove and retrain, and what is left of their accuracy."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.masking.controls import BLOCKS, BRIGHTNESS, DISC, RANDOM
from lib.patient_statistics import RESAMPLES, balanced_mean

Name = tuple[str, str]  # method and layer
NOTHING: Name = ("nothing", "-")  # the slices as they are
ORDERS: tuple[Name, ...] = (DISC, BRIGHTNESS)  # controls with an order of their own, of no network
REPEATS = 3  # fewer show nothing, whatever the patients say


def summarise_retrained(
    predictions: pd.DataFrame, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return the accuracy on test slices after each removal, and its difference from the control.

    Parameters
    ----------
    predictions : DataFrame
        One row per test slice and network: `repeat`, `method`, `layer`, `fraction` (0 for NOTHING), patient, series,
        slice, phase, predicted.
    rng, resamples
        See `lib.patient_statistics.balanced_mean`.

    Returns
    -------
    DataFrame
        One row per map or control and fraction: `method`, `layer`, `fraction`, `accuracy`, `low`, `high` (per cent,
        every phase weighs the same; 95 % interval that resamples patients), `lowest`, `highest` (of the repeats),
        `difference`, `difference_low`, `difference_high` (accuracy minus that of the control with cells as large, in
        points; empty for controls), `lower` and `higher` (repeats in which it is below and above 0), `repeats`,
        `shown`: "worse" or "better" than the control where the interval excludes 0 and all of `REPEATS` or more
        repeats agree; the interval knows patients, and the repeats how much trainings differ. Otherwise empty.
    """
    right = predictions.assign(right=100.0 * (predictions["phase"] == predictions["predicted"]))
    slices, names = ["patient", "phase", "series", "slice"], ["method", "layer", "fraction"]
    wide = right.pivot_table(index=slices, columns=[*names, "repeat"], values="right")
    patients, phases = (wide.index.get_level_values(level) for level in slices[:2])

    def mean(values: np.ndarray) -> np.ndarray:
        return balanced_mean(values, patients, phases, rng=rng, resamples=resamples)

    rows = []
    for method, layer, fraction in predictions[names].drop_duplicates().itertuples(index=False):
        own = wide[method, layer, fraction]
        accuracy, single = mean(own.mean(axis=1).to_numpy()[:, None])[0], mean(own.to_numpy())[:, 0]
        facts = (method, layer, fraction, *accuracy, single.min(), single.max())
        control = (*control_of((method, layer)), fraction)
        if is_control((method, layer)):
            facts += (np.nan, np.nan, np.nan, 0, 0)
        else:
            less = own - wide[control]
            single = mean(less.to_numpy())[:, 0]
            facts += (*mean(less.mean(axis=1).to_numpy()[:, None])[0], (single < 0).sum(), (single > 0).sum())
        rows.append((*facts, own.shape[1]))
    columns = [*names, "accuracy", "low", "high", "lowest", "highest"]
    columns += ["difference", "difference_low", "difference_high", "lower", "higher", "repeats"]
    found = pd.DataFrame(rows, columns=columns)
    worse = (found["difference_high"] < 0) & (found["lower"] == found["repeats"])
    better = (found["difference_low"] > 0) & (found["higher"] == found["repeats"])
    shown = np.select([found["repeats"] < REPEATS, worse, better], ["", "worse", "better"], "")
    return found.assign(shown=shown)


def control_of(name: Name) -> Name:
    """Return the control with cells as large as the map's: random voxels at the input, otherwise blocks."""
    return RANDOM if name[1] == "input" else (BLOCKS, name[1])


def is_control(name: Name) -> bool:
    """Return whether a name is that of a control, or of no removal, and not of a map."""
    return name[0] == BLOCKS or name in (NOTHING, RANDOM, *ORDERS)


def names_of(text: str) -> list[Name]:
    """Return methods and layers, given as "saliency/input grad_cam/conv4b", followed by their controls and `ORDERS`.

    Raises
    ------
    ValueError
        If a name has no layer, occurs twice, or is that of a control.
    """
    found = [tuple(word.partition("/")[::2]) for word in text.split()]
    fit = all(layer and not is_control((method, layer)) for method, layer in found)
    if not found or not fit or len(set(found)) < len(found):
        raise ValueError(f"maps={text!r}: expected methods with layers, such as 'saliency/input grad_cam/conv4b'.")
    return [*found, *dict.fromkeys(control_of(name) for name in found), *ORDERS]


def layers_of(names: Sequence[Name]) -> list[str]:
    """Return the layers that an `Attributor` is asked for."""
    return list(dict.fromkeys(layer for method, layer in names if layer not in ("input", "-")))
