"""The simulated reader who labels scans: scan times, labels, and the agreement of two readers."""

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score

from lib.metrics import confusion, phase_table
from lib.paper import PHASES
from lib.phantom.physiology import Physiology

# Median, spread (lognormal) and limits of the scan time after the start of the injection, s.
SCAN_TIMES = {
    "cm": (36.0, 0.17, 24.0, 52.0),
    "cm-neph": (63.0, 0.11, 48.0, 80.0),
    "neph": (103.0, 0.14, 76.0, 150.0),
    "pyelo": (310.0, 0.36, 175.0, 720.0),
}
# Times at which one phase passes into the next, s, and the index of the reader at these times in the median patient.
TURNS = {"cm": 49.0, "cm-neph": 80.0}
INDEX_AT_TURN = {"cm": 0.161, "cm-neph": 0.725}
READER_ERROR = 0.085  # SD at which two readers agree with a kappa of .86, as radiologists do on these phases
VISIBLE_BLOOD = 18.0  # smallest enhancement of the aorta that the reader sees, HU
VISIBLE_URINE = 60.0  # smallest enhancement of urine that the reader calls excretion, HU
TIMED_PYELO = 160.0  # limit of the pyelographic phase if the scan time alone decides, s


def draw_scan_time(rng: np.random.Generator, phase: str) -> float | None:
    """Draw the time of a scan that is meant to show a phase, in s after the start of the injection (None: before)."""
    if phase == "noncon":
        return None
    median, spread, low, high = SCAN_TIMES[phase]
    return float(np.clip(median * np.exp(rng.normal(0, spread)), low, high))


def maturity(rise: dict[str, float]) -> float:
    r"""Return the index by which the reader judges the phase, from about 0.1 (arterial) to 1 (nephrographic).

    Parameters
    ----------
    rise : dict of float
        Enhancement of the organs in `lib.phantom.kinetics.ORGANS`, HU.

    Notes
    -----
    With the enhancement :math:`E` of each organ,

    .. math:: 0.6 \left(\frac{E_\text{medulla}}{E_\text{cortex}}\right)^2
        + 0.2 \left(\frac{E_\text{hepatic vein}}{E_\text{aorta}}\right)^2
        + 0.2 \left(\frac{E_\text{liver}}{E_\text{spleen}}\right)^2.

    Denominators are at least 1 HU, and the last two ratios at most 1.1. The ratios are squared since they level off
    toward 1, where a reader still sees small differences.
    """
    kidney = rise["medulla"] / max(rise["cortex"], 1.0)
    veins = min(rise["hepatic_vein"] / max(rise["aorta"], 1.0), 1.1)
    liver = min(rise["liver"] / max(rise["spleen"], 1.0), 1.1)
    return 0.6 * kidney**2 + 0.2 * veins**2 + 0.2 * liver**2


def read_phase(
    physiology: Physiology, time: float | None, rng: np.random.Generator | None = None, error: float = READER_ERROR
) -> str:
    """Return the phase that the reader gives to a scan.

    Parameters
    ----------
    physiology : Physiology
    time : float or None
        Time after the start of the injection, s; None before it.
    rng : numpy.random.Generator, optional
        Draws the error of the reader; None for a reader without error.
    error : float
        SD of the error of `maturity`. The error of the logarithm of the enhancement of urine has ten times this SD.

    Returns
    -------
    str
        One of `lib.paper.PHASES`.
    """
    slip = (0.0, 0.0) if rng is None else rng.normal(0, 1, 2) * (error, 10 * error)
    if time is None:
        return "noncon"
    rise = physiology.enhancement(time)
    if rise["aorta"] < VISIBLE_BLOOD:
        return "noncon"
    if physiology.urine(time) * np.exp(slip[1]) > VISIBLE_URINE:
        return "pyelo"
    index = maturity(rise) + slip[0]
    return "cm" if index < INDEX_AT_TURN["cm"] else "cm-neph" if index < INDEX_AT_TURN["cm-neph"] else "neph"


def phase_by_time(time: float | None) -> str:
    """Return the phase that follows from the scan time alone."""
    if time is None:
        return "noncon"
    limits = (TURNS["cm"], TURNS["cm-neph"], TIMED_PYELO)
    return PHASES[1 + int(np.searchsorted(limits, time, side="right"))]


def draw_phases(rng: np.random.Generator) -> list[str]:
    """Draw the phases that an examination is meant to show: one to five, two on average, in the order of the scans."""
    count = 1 + int(rng.choice(5, p=[0.40, 0.33, 0.16, 0.08, 0.03]))
    chosen = rng.choice(len(PHASES), count, replace=False)
    return [PHASES[k] for k in sorted(chosen)]


def label_ceiling(truth: pd.DataFrame) -> pd.DataFrame:
    """Return the metrics of a perfect observer, whose labels are those of a reader without error.

    Parameters
    ----------
    truth : DataFrame
        `truth.csv` of a cohort, with the columns `label` and `true_phase`.

    Returns
    -------
    DataFrame
        Index phase; columns `n`, `precision`, `recall`, `f1`.
    """
    table = phase_table(confusion(truth["label"], truth["true_phase"]))[["precision", "recall", "f1"]].fillna(0.0)
    table.insert(0, "n", truth["label"].value_counts().reindex(PHASES, fill_value=0))
    return table


def reader_agreement(truth: pd.DataFrame) -> float:
    """Return Cohen's kappa between the labels of a cohort and those of a second reader with the same error.

    Parameters
    ----------
    truth : DataFrame
        `truth.csv` of a cohort, with the columns `label` and `second_reader`. A second reconstruction counts as a
        separate series.
    """
    return float(cohen_kappa_score(truth["label"], truth["second_reader"]))
