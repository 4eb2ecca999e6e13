"""Voting: the probabilities of single slices give one phase for a whole series."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.paper import PHASES
from lib.patient_statistics import cluster_interval

RULES = ("pandemonium", "loudest", "plurality", "sum", "product")
_DECIMALS = 12  # shares that agree to 12 decimals are a tie, so that the order of the slices cannot decide


class Vote(NamedTuple):
    """Outcome of a vote: the index of the winning phase in PHASES, and the share of every phase (sum 1)."""

    winner: int
    shares: np.ndarray


def vote(probabilities: np.ndarray, rule: str = "pandemonium") -> Vote:
    r"""Let the slices of one series vote for its phase.

    Parameters
    ----------
    probabilities : array (n, 5), in [0, 1]
        Softmax output for the slices of the series; each row sums to 1.
    rule : {"pandemonium", "loudest", "plurality", "sum", "product"}
        How votes are counted, see Notes.

    Returns
    -------
    Vote
        `winner` is an index into `lib.paper.PHASES`, `shares` (5,) float64 sums to 1.

    Raises
    ------
    ValueError
        If there is no slice, if a value is NaN or outside [0, 1], if a row does not sum to 1, or if the rule is
        unknown.

    Notes
    -----
    Let :math:`p_{sc}` be the probability of phase :math:`c` on slice :math:`s`, and let
    :math:`v_s = \operatorname{argmax}_c p_{sc}` be the phase that the slice votes for. The score of phase :math:`c` is

    - "pandemonium": :math:`\sum_{s:\,v_s = c} p_{sc}`. Each slice votes for its most probable phase, weighted by the
      probability of that phase. This is how the paper is read here.
    - "loudest": :math:`\max_{s:\,v_s = c} p_{sc}`. The most certain slice decides, as in Selfridge's model of demons of
      which the loudest is heard.
    - "plurality": :math:`\lvert\{s : v_s = c\}\rvert`, the number of slices that vote for the phase.
    - "sum": :math:`\sum_s p_{sc}`.
    - "product": :math:`\bigl(\prod_{s=1}^{n} p_{sc}\bigr)^{1/n}`. Zeros count as the smallest positive float.

    The share of a phase is its score divided by the sum of all scores. A slice with two equal maxima votes for the
    earlier phase. If the shares of two phases are equal to 12 decimals, the higher mean probability over all slices
    decides, and then the earlier phase.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.size == 0:
        raise ValueError("probabilities is empty: a vote needs at least one slice.")
    winners, shares = _count(probabilities, np.zeros(len(probabilities), dtype=int), 1, rule)
    return Vote(int(winners[0]), shares[0])


def vote_volumes(predictions: pd.DataFrame, rule: str = "pandemonium") -> pd.DataFrame:
    """Let the slices of every series vote, for all series at once.

    Parameters
    ----------
    predictions : DataFrame
        One row per slice: `series`, the five probability columns, named as in PHASES, and optionally `patient`, `phase`
        and `split` (one value per series).
    rule : str
        As in :func:`vote`.

    Returns
    -------
    DataFrame
        One row per series, in order of first appearance: `patient`, `series`, `phase` and `split` (as far as they are
        given), `slices` (number that voted), `winner` (name of the phase), `share_<phase>` (five columns, sum 1).

    Raises
    ------
    ValueError
        If a column is missing, if a series has two patients, phases or splits, or as in :func:`vote`.
    """
    missing = [name for name in ("series", *PHASES) if name not in predictions]
    if missing:
        raise ValueError(f"predictions lacks the columns {missing}; it has {list(predictions.columns)}.")
    if predictions.empty:
        raise ValueError("predictions is empty: a vote needs at least one slice.")
    codes, series = pd.factorize(predictions["series"])
    if (codes < 0).any():
        raise ValueError(f"predictions has {np.count_nonzero(codes < 0)} rows without a series.")
    described = [name for name in ("patient", "phase", "split") if name in predictions]
    grouped = predictions.groupby(codes, sort=True)
    for name in described:
        values = grouped[name].nunique(dropna=False)
        if (values > 1).any():
            found = sorted(map(str, predictions.loc[codes == values.idxmax(), name].unique()))
            raise ValueError(f"series {series[values.idxmax()]} has more than one {name}: {found}.")
    probabilities = predictions[list(PHASES)].to_numpy(dtype=np.float64)
    winners, shares = _count(probabilities, codes, len(series), rule, names=series)
    volumes = predictions.iloc[np.unique(codes, return_index=True)[1]][["series", *described]].reset_index(drop=True)
    volumes = volumes[[name for name in ("patient", "series", "phase", "split") if name in volumes]]
    volumes["slices"] = np.bincount(codes)
    volumes["winner"] = np.array(PHASES)[winners]
    return volumes.assign(**{f"share_{phase}": shares[:, i] for i, phase in enumerate(PHASES)})


def voting_curve(
    predictions: pd.DataFrame,
    sizes: Sequence[int],
    rule: str = "pandemonium",
    *,
    rng: np.random.Generator,
    draws: int = 20,
) -> pd.DataFrame:
    """Let fewer slices of every series vote, and count how often the labelled phase wins.

    Parameters
    ----------
    predictions : DataFrame
        As in :func:`vote_volumes`, with `patient`, `phase` and `slice`, the place of the slice in the series.
    sizes : sequence of int
        Numbers of slices that vote. Only series with as many slices as the largest of them are used, so that every
        number is tried on the same series.
    rule : str
        As in :func:`vote`.
    rng : numpy.random.Generator
        For the choice of the slices, and for the intervals.
    draws : int
        Number of choices per series and size.

    Returns
    -------
    DataFrame
        One row per choice and number of slices: `choice` ("neighbouring": consecutive slices that begin at a random
        place; "scattered": slices at random places of the series), `slices`, `accuracy` (share of the series whose
        labelled phase wins, mean over draws), `low` and `high` (95 % interval that resamples patients), `n_series`,
        `n_patients`.

    Raises
    ------
    ValueError
        If no series has as many slices as the largest size.
    """
    largest = max(sizes)
    ordered = predictions.sort_values(["series", "slice"])
    series = [part for _, part in ordered.groupby("series", sort=False) if len(part) >= largest]
    if not series:
        raise ValueError(f"No series has {largest} slices: the longest has {ordered['series'].value_counts().max()}.")
    patients = np.array([part["patient"].iloc[0] for part in series])
    labels = np.array([PHASES.index(part["phase"].iloc[0]) for part in series])
    probabilities = [part[list(PHASES)].to_numpy(float) for part in series]
    rows = []
    for choice in ("neighbouring", "scattered"):
        for size in sizes:
            right = np.zeros(len(series))
            groups = np.repeat(np.arange(len(series)), size)
            for _ in range(draws):
                voters = np.concatenate([table[_voters(len(table), size, choice, rng)] for table in probabilities])
                right += _count(voters, groups, len(series), rule)[0] == labels
            accuracy = right / draws
            low, high = cluster_interval(accuracy, patients, rng=rng)
            rows.append((choice, size, accuracy.mean(), low, high, len(series), len(set(patients))))
    columns = ["choice", "slices", "accuracy", "low", "high", "n_series", "n_patients"]
    return pd.DataFrame(rows, columns=columns)


def _voters(slices: int, size: int, choice: str, rng: np.random.Generator) -> np.ndarray:
    """Return the places of the slices that vote."""
    if choice == "neighbouring":
        return rng.integers(slices - size + 1) + np.arange(size)
    return rng.permutation(slices)[:size]


def _count(probabilities, groups, n_groups, rule, names=None):
    """Return the winner (n_groups,) and the shares (n_groups, 5) of each group of slices."""
    _check(probabilities, rule, groups, names)
    top = probabilities.argmax(axis=1)
    loudness = probabilities[np.arange(len(top)), top]
    cells = (groups, top)
    scores = np.zeros((n_groups, len(PHASES)))
    if rule == "pandemonium":
        np.add.at(scores, cells, loudness)
    elif rule == "loudest":
        np.maximum.at(scores, cells, loudness)
    elif rule == "plurality":
        np.add.at(scores, cells, 1.0)
    elif rule == "sum":
        np.add.at(scores, groups, probabilities)
    else:
        np.add.at(scores, groups, np.log(np.maximum(probabilities, np.finfo(float).tiny)))
        scores /= np.bincount(groups, minlength=n_groups)[:, None]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares = scores / scores.sum(axis=1, keepdims=True)
    means = np.zeros_like(shares)
    np.add.at(means, groups, probabilities)
    means /= np.bincount(groups, minlength=n_groups)[:, None]
    rounded = np.round(shares, _DECIMALS)
    tied = rounded == rounded.max(axis=1, keepdims=True)
    winners = np.where(tied, np.round(means, _DECIMALS), -1.0).argmax(axis=1)
    return winners, shares


def _check(probabilities, rule, groups, names):
    """Raise an error if the values are not a table of probabilities."""
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r}; known rules are {', '.join(RULES)}.")
    if probabilities.ndim != 2 or probabilities.shape[1] != len(PHASES):
        raise ValueError(
            f"probabilities has shape {probabilities.shape}; expected (n, {len(PHASES)}), one row per slice."
        )
    finite = np.isfinite(probabilities).all(axis=1)
    ranged = ((probabilities >= -1e-6) & (probabilities <= 1 + 1e-6)).all(axis=1)
    sums = np.abs(probabilities.sum(axis=1) - 1) <= 1e-3
    for good, fault in ((finite, "NaN or infinite"), (ranged, "outside [0, 1]"), (sums, "not summing to 1")):
        if not good.all():
            row = int(np.argmin(good))
            where = f" of series {names[groups[row]]}" if names is not None else ""
            raise ValueError(
                f"probabilities of {np.count_nonzero(~good)} slices are {fault}, first in row {row}{where}: "
                f"{probabilities[row].tolist()}; expected softmax output."
            )
