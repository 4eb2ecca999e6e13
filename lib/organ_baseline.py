"""The phase from HU of organs that are measured in the image, without a network."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.tree import DecisionTreeClassifier

from lib.cohort import Cohort, slice_weights
from lib.metrics import confusion, f1_scores, macro, matrices_of, phase_table
from lib.patient_statistics import RESAMPLES, bootstrap_interval, resample_clusters

ORGANS = ("aorta", "renal cortex", "renal medulla", "urine", "vena cava", "renal vein", "liver")
CONTRASTS = (("renal cortex", "renal medulla"), ("aorta", "vena cava"))  # the contrasts that a radiologist compares
LEAVES = (6, 12, 24, 48)  # numbers of leaves among which the decision tree's is chosen


def measure_organs(
    cohort: Cohort, rows: pd.DataFrame, organs: Sequence[str] = ORGANS, min_voxels: int = 10
) -> pd.DataFrame:
    """Measure the HU of organs in the image, at the places that are known from the true tissues.

    Parameters
    ----------
    cohort : Cohort
        Cohort whose true tissues are known.
    rows : DataFrame
        `series` and `slice`.
    organs : sequence of str
        Tissues, named as in the cohort; case and underscores do not matter.
    min_voxels : int
        An organ that has fewer voxels on a slice is recorded as missing there.

    Returns
    -------
    DataFrame
        One row per row of `rows`: the mean HU of each organ in the image as it is stored (blur and noise included), NaN
        where it is missing; and the differences of CONTRASTS, such as "renal cortex - renal medulla".

    Raises
    ------
    ValueError
        If an organ is not a tissue of the cohort.
    """
    codes = {name.lower().replace("_", " "): code for name, code in cohort.tissues.items()}
    missing = [organ for organ in organs if organ not in codes]
    if missing:
        known = ", ".join(sorted(codes)) or "none: it has no truth of the tissues (DICOM SEG beside the CT)"
        raise ValueError(f"organs {missing} are no tissues of {cohort.path}; its tissues are {known}.")
    wanted = [codes[organ] for organ in organs]
    parts = []
    for _, stack in rows.groupby("series", sort=False):
        images = zip(cohort.read_hu(stack), cohort.read_tissues(stack), strict=True)
        means = [_means(hu, tissues, min_voxels)[wanted] for hu, tissues in images]
        parts.append(pd.DataFrame(means, index=stack.index, columns=list(organs)))
    table = pd.concat(parts).loc[rows.index] if parts else pd.DataFrame(columns=list(organs), dtype=float)
    for first, second in CONTRASTS:
        if {first, second} <= set(organs):
            table[f"{first} - {second}"] = table[first] - table[second]
    return table


def fit_rulers(features: pd.DataFrame, slices: pd.DataFrame, *, seed: int = 0, folds: int = 4) -> dict:
    """Fit a decision tree, whose size is chosen by cross-validation over patients, and boosted trees.

    Parameters
    ----------
    features : DataFrame
        As from :func:`measure_organs`. Both classifiers treat a missing organ (NaN) as a separate branch.
    slices : DataFrame
        `patient` and `phase` of the training split, rows as in `features`. Phases have the same weight, and so have the
        patients within a phase, as in the training of the network.
    seed : int
        Seed of both classifiers.
    folds : int
        Number of folds of the cross-validation.

    Returns
    -------
    dict of str to fitted classifier
        "decision tree" and "boosted trees".
    """
    weights = slice_weights(slices)
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=seed)
    sizes = GridSearchCV(tree, {"max_leaf_nodes": LEAVES}, scoring="f1_macro", cv=GroupKFold(folds))
    sizes.fit(features, slices["phase"], groups=slices["patient"], sample_weight=weights)
    boosted = HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=6, early_stopping=False, random_state=seed)
    boosted.fit(features, slices["phase"], sample_weight=weights)
    return {"decision tree": sizes.best_estimator_, "boosted trees": boosted}


def compare_rulers(
    slices: pd.DataFrame,
    predictions: Mapping[str, np.ndarray],
    against: str,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compare several predictions of the same slices.

    Parameters
    ----------
    slices : DataFrame
        `patient` and `phase` (the label).
    predictions : dict of str to array of str (n,)
        Predicted phases by name.
    against : str
        Name of the prediction that is subtracted from the others.
    rng, resamples
        For 95 % intervals, in which patients are resampled.

    Returns
    -------
    DataFrame
        One row per prediction and phase, and one for the "mean" over the phases: `classifier`, `phase`, `precision`,
        `recall`, `f1`, `f1_difference` (minus that of `against`), `low`, `high` (its interval), `n_slices`,
        `n_patients`.
    """
    labels, patients = slices["phase"].to_numpy(), slices["patient"].to_numpy()
    names, codes = np.unique(patients, return_inverse=True)
    drawn = resample_clusters(len(names), rng=rng, resamples=resamples)
    observed = np.ones((1, len(names)))
    counts = {name: matrices_of(labels, predicted, codes, len(names)) for name, predicted in predictions.items()}
    reference = [_f1(weights, counts[against]) for weights in (observed, drawn)]
    rows = []
    for name, predicted in predictions.items():
        table = phase_table(confusion(labels, predicted))[["precision", "recall", "f1"]]
        mean = macro(labels, predicted)
        table.loc["mean"] = [mean[column] for column in table]
        shift, shifts = (
            _f1(weights, counts[name]) - base for weights, base in zip((observed, drawn), reference, strict=True)
        )
        bounds = [bootstrap_interval(column, len(names)) for column in shifts.T]
        for place, (phase, row) in enumerate(table.iterrows()):
            here = np.ones(len(labels), bool) if phase == "mean" else labels == phase
            n = here.sum(), len(np.unique(patients[here]))
            rows.append((name, phase, *row, shift[0, place], *bounds[place], *n))
    columns = ["classifier", "phase", "precision", "recall", "f1", "f1_difference", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "n_slices", "n_patients"])


def _means(hu: np.ndarray, tissues: np.ndarray, min_voxels: int) -> np.ndarray:
    """Return the mean HU of each tissue code (256,), NaN if there are too few voxels."""
    inside = np.isfinite(hu)
    count = np.bincount(tissues[inside], minlength=256)
    total = np.bincount(tissues[inside], hu[inside].astype(float), minlength=256)
    return np.where(count >= max(min_voxels, 1), total / np.maximum(count, 1), np.nan)


def _f1(weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return F1 by phase and their mean (resamples, 6) of the patients' matrices, summed with weights."""
    f1 = f1_scores(np.einsum("rp,pij->rij", weights, matrices))
    return np.column_stack([f1, np.nanmean(f1, axis=1)])
