"""Rules that choose the slices to be shown, masked or compared; no slice is chosen by eye."""

import numpy as np
import pandas as pd

from lib.paper import PHASES


def eligible_slices(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the correctly classified test slices, or all slices of an unlabelled cohort.

    Parameters
    ----------
    predictions : DataFrame
        Columns `patient`, `series`, `slice`, `phase`, `split`, `predicted`, and one column of probabilities per phase.

    Returns
    -------
    DataFrame
        With `probability`, that of the phase whose score the maps explain. In a cohort without labels, `phase` is the
        predicted phase.

    Raises
    ------
    ValueError
        If no slice is left.
    """
    chosen = predictions[predictions["split"].isin(["test", "apply"])]
    labelled = chosen["phase"].isin(PHASES)
    chosen = chosen.assign(phase=chosen["phase"].where(labelled, chosen["predicted"]))
    chosen = chosen[chosen["phase"] == chosen["predicted"]].reset_index(drop=True)
    if chosen.empty:
        raise ValueError(
            f"None of the {len(predictions)} predicted slices is a correctly classified test slice: nothing to explain."
        )
    columns = chosen["phase"].map(PHASES.index)
    return chosen.assign(probability=chosen[list(PHASES)].to_numpy()[range(len(chosen)), columns])


def representative_slices(predictions: pd.DataFrame, *, by: str = "phase", middle: float = 0.15) -> pd.DataFrame:
    r"""Return one slice per phase: the one of median confidence among the eligible slices of the middle of the kidneys.

    Parameters
    ----------
    predictions : DataFrame
        As in `eligible_slices`, with `kidney_position` in [0, 1].
    by : {"phase", "series"}
        Whether one slice is chosen per phase or per series.
    middle : float
        Slices whose kidney position is within 0.5 ± `middle` count as middle ones. If there are none, or if no position
        is known, all slices are considered.

    Returns
    -------
    DataFrame
        One row per phase in the paper's order, or one per series.

    Notes
    -----
    With the probabilities :math:`p_{(1)} \le \dots \le p_{(n)}` of the :math:`n` slices considered, the slice of
    :math:`p_{(\lceil n / 2 \rceil)}` is chosen: the median, and for an even number the less confident of the two in the
    middle.
    """
    chosen = eligible_slices(predictions)
    chosen = chosen.assign(central=(chosen["kidney_position"] - 0.5).abs() <= middle)
    rows = []
    for _, group in chosen.groupby(by, sort=False):
        group = group[group["central"]] if group["central"].any() else group
        group = group.sort_values(["probability", "series", "slice"], kind="stable")
        rows.append(group.iloc[(len(group) - 1) // 2])
    table = pd.DataFrame(rows).drop(columns="central")
    return table.sort_values("phase", key=lambda phase: phase.map(PHASES.index), kind="stable", ignore_index=True)


def slices_to_mask(predictions: pd.DataFrame, per_phase: int, seed: int) -> pd.DataFrame:
    """Return a random sample of the eligible slices, spread over as many patients as possible.

    Parameters
    ----------
    predictions : DataFrame
        As in `eligible_slices`.
    per_phase : int
        Largest number of slices per phase; 0 takes all, as in the paper.
    seed : int
        Seed of the sample.

    Returns
    -------
    DataFrame
        In the order of series and slice. A second slice of a patient is taken only if every patient of the phase has
        one in the sample already.
    """
    chosen = eligible_slices(predictions)
    if not per_phase:
        return chosen
    shuffled = chosen.sample(frac=1, random_state=np.random.default_rng(seed))
    turn = shuffled.groupby(["phase", "patient"]).cumcount()
    shuffled = shuffled.assign(turn=turn).sort_values("turn", kind="stable")
    taken = shuffled.groupby("phase").head(per_phase).drop(columns="turn")
    return taken.sort_values(["series", "slice"], ignore_index=True)


def other_patients(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Choose for every slice a slice of another patient in the same phase, whose maps serve as a control.

    Parameters
    ----------
    rows : DataFrame
        `patient`, `series`, `slice`, `phase`.
    seed : int

    Returns
    -------
    DataFrame
        `series` and `slice` of the other slice, with the index of `rows`; NaN if a phase has a single patient.

    Notes
    -----
    The slices of a phase are arranged in a ring in random order. Each slice is given the next slice in the ring that
    belongs to another patient. The result depends on the set of slices and the seed, and not on the order of the rows.
    """
    found = pd.DataFrame(index=rows.index, columns=["series", "slice"], dtype=object)
    for phase, group in rows.groupby("phase", sort=False):
        if group["patient"].nunique() < 2:
            continue
        ring = group.sort_values(["series", "slice"]).sample(
            frac=1, random_state=np.random.default_rng([seed, PHASES.index(phase)])
        )
        patients = ring["patient"].to_numpy()
        for at, index in enumerate(ring.index):
            step = next(k for k in range(1, len(ring)) if patients[(at + k) % len(ring)] != patients[at])
            found.loc[index] = ring[["series", "slice"]].iloc[(at + step) % len(ring)].to_numpy()
    return found


def middle_slices(slices: pd.DataFrame) -> pd.DataFrame:
    """Return one slice per phase: the one nearest to the middle of its kidneys.

    Parameters
    ----------
    slices : DataFrame
        `Cohort.slices`: `phase`, and `kidney_position` in [0, 1].

    Returns
    -------
    DataFrame
        One row per phase in the paper's order; a single slice if the cohort has no labels.
    """
    nearest = slices.assign(distance=(slices["kidney_position"] - 0.5).abs()).sort_values("distance", kind="stable")
    chosen = nearest.drop_duplicates("phase").drop(columns="distance")
    return chosen.sort_values("phase", key=lambda phase: phase.map({p: k for k, p in enumerate(PHASES)}))
