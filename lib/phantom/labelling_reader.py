"""When each phase is scanned, what a reader calls it, and how well two readers agree."""

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
# Times at which one phase passes into the next, s, and the reader's index there in the median patient.
TURNS = {"cm": 49.0, "cm-neph": 80.0}
INDEX_AT_TURN = {"cm": 0.161, "cm-neph": 0.725}
READER_ERROR = 0.085  # SD at which two readers agree with a kappa of .86, as radiologists do on these phases
VISIBLE_BLOOD = 18.0  # enhancement of the aorta that a reader sees, HU
VISIBLE_URINE = 60.0  # enhancement of urine that a reader calls excretion, HU
TIMED_PYELO = 160.0  # labelling by time alone


def draw_scan_time(rng: np.random.Generator, phase: str) -> float | None:
    """Draw the time of a scan that is meant to show a phase, s after the start of the injection; None before it."""
    if phase == "noncon":
        return None
    median, spread, low, high = SCAN_TIMES[phase]
    return float(np.clip(median * np.exp(rng.normal(0, spread)), low, high))


def maturity(rise: dict[str, float]) -> float:
    """Return the reader's index of how far the nephrogram has come, about 0.1 (arterial) to 1 (nephrographic).

    Parameters
    ----------
    rise : dict of float
        Enhancement of organs, HU (`lib.phantom.kinetics.ORGANS`).

    Notes
    -----
    The medulla against the cortex decides (60 %); the hepatic veins against the aorta (20 %) and the liver against the
    spleen (20 %) support it. Each ratio is squared: it levels off toward 1, where a reader sees small differences.
    """
    kidney = rise["medulla"] / max(rise["cortex"], 1.0)
    veins = min(rise["hepatic_vein"] / max(rise["aorta"], 1.0), 1.1)
    liver = min(rise["liver"] / max(rise["spleen"], 1.0), 1.1)
    return 0.6 * kidney**2 + 0.2 * veins**2 + 0.2 * liver**2


def read_phase(
    physiology: Physiology, time: float | None, rng: np.random.Generator | None = None, error: float = READER_ERROR
) -> str:
    """Return what a reader calls a scan.

    Parameters
    ----------
    physiology : Physiology
    time : float or None
        s after the start of the injection; None before it.
    rng : numpy.random.Generator, optional
        Source of the reader's error; None for a reader without one.
    error : float
        SD of the error of `maturity`; that of the logarithm of the urine's enhancement is ten times as large.

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
    """Draw the phases that a patient's examination is meant to show: one to five, two on average, in scanning order."""
    count = 1 + int(rng.choice(5, p=[0.40, 0.33, 0.16, 0.08, 0.03]))
    chosen = rng.choice(len(PHASES), count, replace=False)
    return [PHASES[k] for k in sorted(chosen)]


def label_ceiling(truth: pd.DataFrame) -> pd.DataFrame:
    """Return how well a perfect observer of the phantom can do: labels against what a reader without error says.

    Parameters
    ----------
    truth : DataFrame
        `truth.csv` of a cohort: columns label and true_phase.

    Returns
    -------
    DataFrame
        Index phase; columns n, precision, recall, f1.
    """
    table = phase_table(confusion(truth["label"], truth["true_phase"]))[["precision", "recall", "f1"]].fillna(0.0)
    table.insert(0, "n", truth["label"].value_counts().reindex(PHASES, fill_value=0))
    return table


def reader_agreement(truth: pd.DataFrame) -> float:
    """Return Cohen's kappa between the labels of a cohort and what a second reader with the same error calls each scan.

    Parameters
    ----------
    truth : DataFrame
        `truth.csv` of a cohort: columns label and second_reader. Second reconstructions count as series of their own.
    """
    return float(cohen_kappa_score(truth["label"], truth["second_reader"]))
