"""Metrics of how well phases are predicted, and a check of the paper's own tables."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, recall_score, roc_auc_score, roc_curve
from sklearn.utils.class_weight import compute_sample_weight

from lib.paper import PHASES, published

COLUMNS = ("precision", "precision_within_one", "recall", "recall_within_one", "f1")


def confusion(labels, predictions) -> pd.DataFrame:
    """Count predictions by label, arranged as in the paper.

    Parameters
    ----------
    labels, predictions : array-like of str (n,)
        Phases, as in `lib.paper.PHASES`.

    Returns
    -------
    DataFrame (5, 5) of int
        Rows are predicted and columns are labelled phases. scikit-learn has them the other way round.

    Raises
    ------
    ValueError
        If there is nothing to count, if the lengths differ, or if a value is not a phase.
    """
    labels, predictions = _phases(labels, "labels"), _phases(predictions, "predictions")
    if len(labels) != len(predictions):
        raise ValueError(f"labels has {len(labels)} values and predictions {len(predictions)}; expected as many.")
    counts = np.zeros((len(PHASES), len(PHASES)), dtype=int)
    np.add.at(counts, (predictions, labels), 1)
    return pd.DataFrame(counts, pd.Index(PHASES, name="predicted"), pd.Index(PHASES, name="labelled"))


def expand(matrix: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and predictions (n,) whose confusion matrix is `matrix`."""
    counts = _counts(matrix)
    rows, columns = np.indices(counts.shape)
    names = np.array(PHASES)
    return names[np.repeat(columns, counts.ravel())], names[np.repeat(rows, counts.ravel())]


def phase_table(matrix: pd.DataFrame) -> pd.DataFrame:
    r"""Return precision, recall and F1 by phase, exact and within one phase.

    Parameters
    ----------
    matrix : DataFrame (5, 5)
        Counts as from :func:`confusion`.

    Returns
    -------
    DataFrame
        Index phase; columns `precision`, `precision_within_one`, `recall`, `recall_within_one`, `f1` in [0, 1].
        Precision is NaN for a phase that was never predicted. Recall and F1 are NaN for a phase that was never
        labelled.

    Notes
    -----
    Let :math:`N_{ij}` be the number of samples that are predicted as phase :math:`i` and labelled with phase :math:`j`.
    Then

    .. math:: P_k = \frac{N_{kk}}{\sum_j N_{kj}}, \qquad R_k = \frac{N_{kk}}{\sum_i N_{ik}}, \qquad
        F_k = \frac{2 P_k R_k}{P_k + R_k}.

    "Within one phase" also counts the neighbouring phases as correct. The order is taken as cyclic, with the unenhanced
    beside the pyelographic phase. Two cells of Table 2 decide this: they are .991, as Table 1 gives with a cyclic
    order. A linear order gives .979 and .980.
    """
    counts = _counts(matrix)
    near = np.isin((np.arange(5)[:, None] - np.arange(5)) % 5, (0, 1, 4))
    true, predicted, labelled = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    within = np.where(near, counts, 0)
    columns = (
        _ratio(true, predicted),
        _ratio(within.sum(axis=1), predicted),
        _ratio(true, labelled),
        _ratio(within.sum(axis=0), labelled),
        np.where(labelled > 0, _ratio(2 * true, predicted + labelled), np.nan),
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=pd.Index(PHASES, name="phase"))


def f1_scores(matrices: np.ndarray) -> np.ndarray:
    r"""Return F1 by phase of confusion matrices.

    Parameters
    ----------
    matrices : array (..., 5, 5)
        Counts or shares; rows are predicted and columns are labelled phases.

    Returns
    -------
    float array (..., 5)
        NaN for a phase that no sample is labelled with.

    Notes
    -----
    F1 is the harmonic mean of precision and recall. With :math:`N_{ij}` samples predicted as :math:`i` and labelled
    with :math:`j`,

    .. math:: F_k = \frac{2 N_{kk}}{\sum_j N_{kj} + \sum_i N_{ik}}.
    """
    true = np.diagonal(matrices, axis1=-2, axis2=-1)
    predicted, labelled = matrices.sum(axis=-1), matrices.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(labelled > 0, 2 * true / (predicted + labelled), np.nan)


def matrices_of(labels: np.ndarray, predictions: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return one confusion matrix per group, float (count, 5, 5); rows are predicted phases.

    Parameters
    ----------
    labels, predictions : array of str (n,)
    groups : int array (n,)
        Group of each sample, from 0 to `count` - 1. If the groups are patients, the matrices can be summed over
        resampled patients.
    count : int
        Number of groups.
    """
    matrices = np.zeros((count, len(PHASES), len(PHASES)))
    cells = ([PHASES.index(phase) for phase in column] for column in (predictions, labels))
    np.add.at(matrices, (groups, *cells), 1)
    return matrices


def headline(labels, predictions) -> dict[str, float]:
    r"""Return precision, recall and F1 by the definitions that reproduce the paper's headline numbers.

    Parameters
    ----------
    labels, predictions : array-like of str (n,)
        Phases.

    Returns
    -------
    dict
        `precision`, `recall`, `f1` in [0, 1], averaged over the phases that are labelled.

    Notes
    -----
    Samples are weighted so that every labelled phase has the same total weight. With :math:`K` labelled phases, the
    weighted matrix and the metrics of phase :math:`k` are

    .. math:: B_{ij} = \frac{N_{ij}}{\sum_l N_{lj}}, \quad P_k = \frac{B_{kk}}{\sum_j B_{kj}}, \quad R_k = B_{kk}, \quad
        F_k = \frac{2 P_k R_k}{P_k + R_k}.

    Here :math:`N_{ij}` is the number of samples that are predicted as :math:`i` and labelled with :math:`j`.

    Recall and F1 are the means of :math:`R_k` and :math:`F_k` over the phases. What the paper calls precision is the
    mean of the *average precision* of predictions that are either 0 or 1,

    .. math:: \frac{1}{K} \sum_k \Bigl( P_k R_k + \frac{1 - R_k}{K} \Bigr),

    in which :math:`1 / K` is the weighted prevalence of a phase. From Table 1 these definitions give .776, .862 and
    .860, as printed in the paper. The ordinary mean of the precisions would be .859.
    """
    labels, predictions = np.asarray(labels, dtype=object), np.asarray(predictions, dtype=object)
    present = _present(confusion(labels, predictions))
    weights = compute_sample_weight("balanced", labels)
    precision = [
        average_precision_score(labels == p, (predictions == p).astype(float), sample_weight=weights) for p in present
    ]
    average = {"labels": present, "average": "macro", "sample_weight": weights, "zero_division": 0}
    return {
        "precision": float(np.mean(precision)),
        "recall": float(recall_score(labels, predictions, **average)),
        "f1": float(f1_score(labels, predictions, **average)),
    }


def macro(labels, predictions) -> dict[str, float]:
    """Return the usual metrics: `accuracy`, Cohen's `kappa`, and the means of `precision`, `recall` and `f1`.

    The means are taken over the labelled phases, without weights. A phase that was never predicted has precision 0.
    """
    matrix = confusion(labels, predictions)
    table = phase_table(matrix).loc[_present(matrix)].fillna(0.0)
    return {
        "accuracy": float(np.trace(matrix) / matrix.to_numpy().sum()),
        "kappa": float(cohen_kappa_score(labels, predictions)),
        **{name: float(table[name].mean()) for name in ("precision", "recall", "f1")},
    }


def adjacent_errors(matrix: pd.DataFrame, *, cyclic: bool = True) -> float:
    """Return the share of all errors that fall into a neighbouring phase; NaN if there are no errors."""
    counts = _counts(matrix)
    steps = np.abs(np.arange(5)[:, None] - np.arange(5))
    near = np.isin(steps, (1, 4) if cyclic else (1,))
    return float(_ratio(counts[near].sum(), counts[steps > 0].sum()))


def roc_curves(labels, scores: np.ndarray) -> pd.DataFrame:
    """Return the ROC curve of each phase against all others.

    Parameters
    ----------
    labels : array-like of str (n,)
        Phases.
    scores : array (n, 5)
        Probabilities of slices, or shares of a vote.

    Returns
    -------
    DataFrame
        `phase`, `false_positive_rate`, `true_positive_rate`, `threshold`. Phases that all samples or no samples have
        are left out.
    """
    labels, scores = _scores(labels, scores)
    curves = []
    for i, phase in enumerate(PHASES):
        if 0 < np.count_nonzero(labels == i) < len(labels):
            rates = roc_curve(labels == i, scores[:, i])
            curves.append(
                pd.DataFrame(
                    dict(zip(("false_positive_rate", "true_positive_rate", "threshold"), rates, strict=True))
                ).assign(phase=phase)
            )
    if not curves:
        raise ValueError(f"labels holds only {sorted({PHASES[i] for i in labels})}; a ROC curve needs two phases.")
    return pd.concat(curves, ignore_index=True)[["phase", "false_positive_rate", "true_positive_rate", "threshold"]]


def auc_table(labels, scores: np.ndarray) -> pd.DataFrame:
    """Area under the ROC curve of each phase against all others, plain and with phases weighing the same.

    Parameters
    ----------
    labels, scores
        As in :func:`roc_curves`.

    Returns
    -------
    DataFrame
        Index phase and "mean"; columns `roc_auc`, `roc_auc_balanced` in [0, 1], NaN where a phase has no positive or no
        negative sample. "mean" is the mean over the other phases.
    """
    labels, scores = _scores(labels, scores)
    weights = compute_sample_weight("balanced", labels)
    table = pd.DataFrame(
        np.nan, index=pd.Index([*PHASES, "mean"], name="phase"), columns=["roc_auc", "roc_auc_balanced"]
    )
    for i, phase in enumerate(PHASES):
        positive = labels == i
        if positive.any() and not positive.all():
            table.loc[phase, "roc_auc"] = roc_auc_score(positive, scores[:, i])
            table.loc[phase, "roc_auc_balanced"] = roc_auc_score(positive, scores[:, i], sample_weight=weights)
    table.loc["mean"] = table.loc[list(PHASES)].mean()
    return table


def consistent_counts(labelled: int, precision: float, f1: float, decimals: int = 3) -> list[tuple[int, int]]:
    """Find all pairs (true positives, predicted) of a phase whose precision and F1 round to the printed ones.

    Parameters
    ----------
    labelled : int
        Number of samples with the label of the phase.
    precision, f1 : float
        As printed, in [0, 1].
    decimals : int
        Number of printed decimals.

    Returns
    -------
    list of (int, int)
    """
    true = np.arange(labelled + 1)[:, None]
    predicted = np.arange(1, 4 * labelled + 1)
    half = 0.5 * 10.0**-decimals + 1e-9
    fits = np.abs(true / predicted - precision) <= half
    fits &= (np.abs(2 * true / (predicted + labelled) - f1) <= half) & (true <= predicted)
    return [(int(i), int(predicted[j])) for i, j in np.argwhere(fits)]


def audit_published() -> pd.DataFrame:
    """Recompute the paper's Table 2 from its Table 1, cell by cell.

    Returns
    -------
    DataFrame
        One row per cell: `scheme` (single, voting), `phase`, `column`, `published`, `recomputed` from Table 1, `agrees`
        (to the printed decimals, halves may be rounded up or down), `second_run` (from the only counts that fit the
        printed precision and F1 of the voting half; NaN elsewhere) and `reading`, the explanation of a cell that does
        not agree.

    Notes
    -----
    39 of 50 cells agree. The precision and F1 that are printed for voting fit exactly one pair of counts per phase. The
    five predicted counts add up to 526 volumes although nothing forces them to. They therefore come from another run,
    in which 494 of 526 volumes were correct; Table 1 has 487.
    """
    table, tables = published("table2"), {"single": published("table1_slices"), "voting": published("table1_volumes")}
    labelled = tables["voting"].sum()
    rows = []
    for cell in table.itertuples(index=False):
        ours = phase_table(tables[cell.scheme]).loc[cell.phase]
        second = {}
        if cell.scheme == "voting":
            (true, predicted), *others = consistent_counts(labelled[cell.phase], cell.precision, cell.f1)
            if others:
                raise ValueError(f"Table 2 admits several counts for {cell.phase}.")
            second = {"precision": true / predicted, "f1": 2 * true / (predicted + labelled[cell.phase])}
        for column in COLUMNS:
            rows.append(
                (cell.scheme, cell.phase, column, getattr(cell, column), ours[column], second.get(column, np.nan))
            )
    audit = pd.DataFrame(rows, columns=["scheme", "phase", "column", "published", "recomputed", "second_run"])
    audit["agrees"] = (audit["published"] - audit["recomputed"]).abs() <= 0.0005 + 1e-9
    audit["reading"] = [_reading(cell) for cell in audit.itertuples()]
    return audit[["scheme", "phase", "column", "published", "recomputed", "agrees", "second_run", "reading"]]


def _reading(cell) -> str:
    """Explain a cell of Table 2 that does not follow from Table 1."""
    if cell.agrees:
        return ""
    if (cell.scheme, cell.column) == ("single", "precision_within_one"):
        return "digit slip: .912 for .992"
    if (cell.scheme, cell.column) == ("single", "f1"):
        return "repeats the recall"
    if cell.column == "precision_within_one":
        return "repeats the recall within one phase"
    return "second voting run"


def _phases(values, name: str) -> np.ndarray:
    """Return the phases as indices into PHASES."""
    values = np.asarray(values, dtype=object).ravel()
    if values.size == 0:
        raise ValueError(f"{name} is empty: there is nothing to count.")
    index = pd.Index(PHASES).get_indexer(pd.Index(values))
    if (index < 0).any():
        unknown = sorted({str(value) for value in values[index < 0]})
        raise ValueError(f"{name} holds {unknown[:5]}, which are no phases; expected {list(PHASES)}.")
    return index


def _scores(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """Check labels and scores; return the labels as indices and the scores (n, 5)."""
    labels, scores = _phases(labels, "labels"), np.asarray(scores, dtype=float)
    if scores.shape != (len(labels), len(PHASES)):
        raise ValueError(
            f"scores has shape {scores.shape}; expected {(len(labels), len(PHASES))}, as many rows as labels."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores has NaN or infinite values in {np.count_nonzero(~np.isfinite(scores).all(axis=1))} rows."
        )
    return labels, scores


def _counts(matrix) -> np.ndarray:
    """Return a confusion matrix as an array of counts with the phases in order."""
    if isinstance(matrix, pd.DataFrame):
        if set(matrix.index) != set(PHASES) or set(matrix.columns) != set(PHASES):
            raise ValueError(
                f"matrix has rows {list(matrix.index)} and columns {list(matrix.columns)}; expected {list(PHASES)}."
            )
        matrix = matrix.loc[list(PHASES), list(PHASES)]
    return np.asarray(matrix, dtype=int)


def _present(matrix) -> list[str]:
    """Return the phases that occur among the labels."""
    return [phase for phase, n in zip(PHASES, _counts(matrix).sum(axis=0), strict=True) if n]


def _ratio(part, whole):
    """Divide; NaN where the whole is 0."""
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
