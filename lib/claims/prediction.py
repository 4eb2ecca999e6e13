"""The paper's claims about prediction, tested on the predictions of a run."""

from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from lib.claims.findings import Finding, verdict
from lib.metrics import adjacent_errors, auc_table, confusion, f1_scores, headline, matrices_of, phase_table
from lib.paper import PHASES, published
from lib.patient_statistics import bootstrap_interval, resample_clusters
from lib.titles import PHASE_TITLES
from lib.voting import vote_volumes

MARGIN = 0.02  # two metrics that differ by less count as the same
FIGURES = ("precision", "recall", "f1")
HEADLINE = {"precision": "precision", "recall": "recall", "f1": "f1", "auc": "roc_auc"}  # ours, and published
AUC_ORDER = ("noncon", "cm", "pyelo", "neph", "cm-neph")


def prediction_claims(predictions: pd.DataFrame, *, rng: np.random.Generator) -> list[Finding]:
    """Test the claims on single slices and on voting: C23 to C28 and C32 to C34.

    Parameters
    ----------
    predictions : DataFrame
        `predictions.parquet`: validation and test slices. Without labelled test slices there are no findings.
    rng : numpy.random.Generator
        For intervals, in which patients are resampled.
    """
    slices = predictions[(predictions["split"] == "test") & predictions["phase"].isin(PHASES)]
    if slices.empty:
        return []
    volumes = vote_volumes(slices).rename(columns={"winner": "predicted"})
    single, voting = _Scheme(slices, list(PHASES), rng), _Scheme(volumes, [f"share_{phase}" for phase in PHASES], rng)
    theirs = published("headline").set_index("scheme")
    return [
        single.headline("C23", theirs.loc["single"]),
        voting.headline("C24", theirs.loc["voting"]),
        single.same("C25", {"accuracy": 10746 / 12165}),
        voting.same("C26", {"accuracy": 487 / 526}),
        single.same("C27", dict(phase_table(published("table1_slices"))["f1"])),
        single.auc_order("C28", voting.auc),
        single.adjacent("C32", f"; volumes {100 * adjacent_errors(voting.matrix):.0f} %"),
        single.middle("C33"),
        single.confidence("C34"),
        *_one_network(predictions, single, voting),
    ]


class _Scheme:
    """Predictions of slices, or of volumes by voting, with bootstrap resamples of the patients."""

    def __init__(self, table: pd.DataFrame, scores: list[str], rng: np.random.Generator):
        self.table = table
        self.patients, names = pd.factorize(table["patient"])
        self.n, self.what = len(names), "slices" if scores == list(PHASES) else "volumes"
        self.weights = resample_clusters(self.n, rng=rng)
        counts = matrices_of(table["phase"], table["predicted"], self.patients, self.n)
        self.matrix = confusion(table["phase"], table["predicted"])
        self.values = _figures(counts.sum(axis=0))
        self.resampled = _figures((self.weights @ counts.reshape(self.n, 25)).reshape(-1, 5, 5))
        areas = auc_table(table["phase"], table[scores].to_numpy())
        self.auc, self.balanced_auc = areas["roc_auc"], areas["roc_auc_balanced"]["mean"]
        drawn = [
            resampled_auc(table[score].to_numpy(), (table["phase"] == phase).to_numpy(), self.patients, self.weights)
            for phase, score in zip(PHASES, scores, strict=True)
        ]
        self.values["auc"], self.resampled["auc"] = self.auc["mean"], _mean(np.stack(drawn, axis=-1))
        self.auc_drawn = dict(zip(PHASES, drawn, strict=True))

    def finding(self, id_: str, measured: str, judged: str, rows: pd.DataFrame) -> Finding:
        numbers = rows["mean"].mean(), rows["low"].min(), rows["high"].max()
        return Finding(id_, measured, judged, *numbers, len(self.table), self.n)

    def interval(self, name: str) -> dict[str, float]:
        """Return a metric with its 95 % interval."""
        low, high = bootstrap_interval(self.resampled[name], self.n)
        return {"mean": float(self.values[name]), "low": low, "high": high}

    def mean(self, values: pd.Series, chosen: pd.Series) -> tuple[float, np.ndarray]:
        """Return the mean over chosen rows, and the mean in each resample; NaN if there are no rows."""
        patients = self.patients[chosen.to_numpy()]
        sums, counts = np.bincount(patients, values[chosen], self.n), np.bincount(patients, None, self.n)
        return float(_divide(sums.sum(), counts.sum())), _divide(self.weights @ sums, self.weights @ counts)

    def same(self, id_: str, paper: dict[str, float], after: str = "") -> Finding:
        """Judge whether metrics agree with the paper's to within .02."""
        rows = pd.DataFrame({name: self.interval(name) for name in paper}).T
        text = ", ".join(f"{_title(name)} {r['mean']:.3f} [{r.low:.3f}, {r.high:.3f}]" for name, r in rows.iterrows())
        judged = verdict(rows.sub(pd.Series(paper), axis=0), "null", margin=MARGIN)
        return self.finding(id_, f"{self.what}: {text}{after}", judged, rows)

    def headline(self, id_: str, paper: pd.Series) -> Finding:
        """Judge the four headline metrics; the AUC is the plain mean over the phases, as in Table 2."""
        theirs = {ours: paper[name] for ours, name in HEADLINE.items()}
        return self.same(id_, theirs, f" (plain mean; phases weighing the same {self.balanced_auc:.3f})")

    def auc_order(self, id_: str, voting: pd.Series) -> Finding:
        """Judge the order of the five phases by AUC.

        It is "reproduced" if the 95 % interval of each difference between neighbours in the order excludes 0, and
        "direction only" if Spearman's rho with the paper's order is .6 or more.
        """
        rho = stats.spearmanr([self.auc[phase] for phase in AUC_ORDER], range(5, 0, -1)).statistic
        close = []
        for first, second in pairwise(AUC_ORDER):
            low, _ = bootstrap_interval(self.auc_drawn[first] - self.auc_drawn[second], self.n)
            if not low > 0:
                close.append(f"{PHASE_TITLES[first]} above {PHASE_TITLES[second]}")
        judged = "not reproduced" if rho < 0.6 else "direction only" if close else "reproduced"
        judged = "undecided" if np.isnan(rho) else judged
        text = ", ".join(f"{PHASE_TITLES[phase]} {self.auc[phase]:.3f} ({voting[phase]:.3f})" for phase in AUC_ORDER)
        text = f"{text} (voting); rho {rho:.1f}; not shown: {', '.join(close) or 'none'}"
        return Finding(id_, text, judged, rho, n_slices=len(self.table), n_patients=self.n)

    def adjacent(self, id_: str, after: str) -> Finding:
        """Judge whether more than half of the errors, the share by chance, fall into a neighbouring phase."""
        row = pd.DataFrame([self.interval("adjacent")])
        text = (
            f"slices {100 * row['mean'][0]:.0f} % [{100 * row['low'][0]:.0f}, {100 * row['high'][0]:.0f}] of the errors"
        )
        judged = verdict(row, "superiority", direction=1, reference=0.5)
        return self.finding(id_, f"{text} (cyclic){after}", judged, row)

    def middle(self, id_: str) -> Finding:
        """Judge whether CM-neph and neph have the two lowest recalls: the higher is below the lowest other recall."""
        row = pd.DataFrame([self.interval("middle")])
        text = ", ".join(f"{PHASE_TITLES[phase]} {self.values[f'recall {phase}']:.3f}" for phase in PHASES)
        gap = f"{row['mean'][0]:.3f} [{row['low'][0]:.3f}, {row['high'][0]:.3f}]"
        text = f"recall {text}; the higher of the two minus the lowest other {gap}"
        return self.finding(id_, text, verdict(row, "superiority"), row)

    def confidence(self, id_: str) -> Finding:
        """Judge by phase whether misclassified slices have a lower highest probability than correct ones."""
        top, right = self.table[list(PHASES)].max(axis=1), self.table["phase"] == self.table["predicted"]
        rows = {}
        for phase in PHASES:
            labelled = self.table["phase"] == phase
            wrong, wrong_drawn = self.mean(top, labelled & ~right)
            correct, correct_drawn = self.mean(top, labelled & right)
            low, high = np.nan, np.nan
            if np.isfinite(wrong - correct):
                low, high = bootstrap_interval(wrong_drawn - correct_drawn, self.n)
            rows[phase] = {"mean": wrong - correct, "low": low, "high": high}
        rows = pd.DataFrame(rows).T
        known = rows.dropna(subset="mean").iterrows()
        text = "; ".join(f"{PHASE_TITLES[p]} {r['mean']:.2f} [{r.low:.2f}, {r.high:.2f}]" for p, r in known)
        return self.finding(id_, f"highest probability, wrong minus right: {text}", verdict(rows, "superiority"), rows)


def _one_network(predictions: pd.DataFrame, single: _Scheme, voting: _Scheme) -> list[Finding]:
    """Report this network for the claims on the whole grid of networks, which one network cannot test."""
    validation = predictions[predictions["split"] == "val"]
    val = headline(validation["phase"], validation["predicted"])["f1"] if len(validation) else np.nan
    gains = ", ".join(f"{name} {voting.values[name] - single.values[name]:+.3f}" for name in FIGURES)
    because = "one network of the grid: "
    return [
        Finding("C29", f"{because}F1 {val:.3f} validation, {single.values['f1']:.3f} test", "not tested"),
        Finding("C30", f"{because}voting minus single {gains}", "not tested"),
        Finding("C31", f"{because}voting minus single {gains.split(',')[0]}", "not tested"),
    ]


def resampled_auc(scores: np.ndarray, positive: np.ndarray, patients: np.ndarray, weights: np.ndarray) -> np.ndarray:
    r"""Return the area under the ROC curve in resamples of the patients.

    Parameters
    ----------
    scores : array (n,)
        A higher score means that a sample is more likely to be positive.
    positive : bool array (n,)
    patients : int array (n,)
        Patient of each sample, numbered from 0.
    weights : array (resamples, patients)
        How often each patient was drawn, see `lib.patient_statistics.resample_clusters`.

    Returns
    -------
    array (resamples,)
        NaN if a resample holds no positive or no negative sample.

    Notes
    -----
    The area is the share of pairs of a positive and a negative sample in which the positive one has the higher score;
    ties count half. Let :math:`W_{ij}` be the number of such pairs with the positive sample from patient :math:`i` and
    the negative one from patient :math:`j`, and let :math:`n^+_i` and :math:`n^-_j` be the numbers of positive and
    negative samples. In a resample that draws patient :math:`i` :math:`w_i` times, the area is

    .. math:: \frac{\sum_{ij} w_i w_j W_{ij}}{\sum_i w_i n^+_i \, \sum_j w_j n^-_j}.
    """
    n = weights.shape[1]
    wins = np.empty((n, n))  # pairs won by (patient of the positive, patient of the negative)
    for patient in range(n):
        negative = np.sort(scores[~positive & (patients == patient)])
        sides = (np.searchsorted(negative, scores[positive], side) for side in ("left", "right"))
        wins[:, patient] = np.bincount(patients[positive], sum(sides) / 2, n)
    pairs = np.prod([weights @ np.bincount(patients[which], minlength=n) for which in (positive, ~positive)], axis=0)
    return _divide(((weights @ wins) * weights).sum(axis=1), pairs)


def _figures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the headline metrics (`metrics.headline`) and others of confusion matrices (..., predicted, labelled)."""
    labelled = counts.sum(axis=-2)
    balanced = _divide(counts, labelled[..., None, :])
    recall = np.diagonal(balanced, axis1=-2, axis2=-1)
    predicted = np.nansum(balanced, axis=-1)
    precision = np.nan_to_num(_divide(recall, predicted))
    prevalence = 1 / np.maximum((labelled > 0).sum(axis=-1), 1)[..., None]
    exact = np.diagonal(counts, axis1=-2, axis2=-1)
    steps = (np.arange(5)[:, None] - np.arange(5)) % 5
    near, wrong = (counts[..., np.isin(steps, kind)].sum(axis=-1) for kind in ((1, 4), (1, 2, 3, 4)))
    plain = f1_scores(counts)
    return {
        "precision": _mean(precision * recall + (1 - recall) * prevalence),
        "recall": _mean(recall),
        "f1": _mean(f1_scores(np.nan_to_num(balanced))),
        "accuracy": exact.sum(axis=-1) / counts.sum(axis=(-2, -1)),
        "adjacent": _divide(near, wrong),
        "middle": np.fmax.reduce(recall[..., 2:4], axis=-1) - np.fmin.reduce(recall[..., [0, 1, 4]], axis=-1),
        **{f"recall {phase}": recall[..., i] for i, phase in enumerate(PHASES)},
        **{phase: plain[..., i] for i, phase in enumerate(PHASES)},
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis, without NaN."""
    return _divide(np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1))


def _divide(part, whole):
    """Divide; NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=float), np.asarray(whole, dtype=float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _title(name: str) -> str:
    return PHASE_TITLES.get(name, name.upper() if name in ("f1", "auc") else name)
