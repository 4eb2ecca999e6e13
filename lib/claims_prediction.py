"""The paper's claims about prediction, tested on a run's predictions."""

import numpy as np
import pandas as pd
from scipy import stats

from lib.inference import Finding, bootstrap_interval, resample_clusters, verdict
from lib.metrics import adjacent_errors, auc_table, confusion, headline, phase_table
from lib.paper import PHASE_TITLES, PHASES, published
from lib.voting import vote_volumes

MARGIN = 0.02  # within which two metrics count as the same
FIGURES = ("precision", "recall", "f1")
AUC_ORDER = ("noncon", "cm", "pyelo", "neph", "cm-neph")


def prediction_claims(predictions: pd.DataFrame, *, rng: np.random.Generator) -> list[Finding]:
    """Test the claims on single slices and on voting: C23 to C28 and C32 to C34.

    Parameters
    ----------
    predictions : DataFrame
        `predictions.parquet`: val and test slices. Without labelled test slices there is nothing to find.
    rng : numpy.random.Generator
        For intervals by resampling patients.
    """
    slices = predictions[(predictions["split"] == "test") & predictions["phase"].isin(PHASES)]
    if slices.empty:
        return []
    volumes = vote_volumes(slices).rename(columns={"winner": "predicted"})
    single, voting = _Scheme(slices, list(PHASES), rng), _Scheme(volumes, [f"share_{phase}" for phase in PHASES], rng)
    theirs = published("headline").set_index("scheme")
    return [
        single.same("C23", {name: theirs.loc["single", name] for name in FIGURES}, f", AUC {single.auc['mean']:.3f}"),
        voting.same("C24", {name: theirs.loc["voting", name] for name in FIGURES}, f", AUC {voting.auc['mean']:.3f}"),
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
    """Predictions of slices, or of volumes by voting, with resamples of the patients."""

    def __init__(self, table: pd.DataFrame, scores: list[str], rng: np.random.Generator):
        self.table = table
        self.patients, names = pd.factorize(table["patient"])
        self.n, self.what = len(names), "slices" if scores == list(PHASES) else "volumes"
        self.weights = resample_clusters(self.n, rng=rng)
        counts = np.zeros((self.n, 5, 5))
        cells = (table[name].map(PHASES.index).to_numpy() for name in ("predicted", "phase"))
        np.add.at(counts, (self.patients, *cells), 1)
        self.matrix = confusion(table["phase"], table["predicted"])
        self.values = _figures(counts.sum(axis=0))
        self.resampled = _figures((self.weights @ counts.reshape(self.n, 25)).reshape(-1, 5, 5))
        self.auc = auc_table(table["phase"], table[scores].to_numpy())["roc_auc"]

    def finding(self, id_: str, measured: str, judged: str, rows: pd.DataFrame) -> Finding:
        numbers = rows["mean"].mean(), rows["low"].min(), rows["high"].max()
        return Finding(id_, measured, judged, *numbers, len(self.table), self.n)

    def interval(self, name: str) -> dict[str, float]:
        """Return a figure with its 95 % interval."""
        low, high = bootstrap_interval(self.resampled[name], self.n)
        return {"mean": float(self.values[name]), "low": low, "high": high}

    def mean(self, values: pd.Series, chosen: pd.Series) -> tuple[float, np.ndarray]:
        """Return the mean over chosen rows, and in each resample; NaN without rows."""
        patients = self.patients[chosen.to_numpy()]
        sums, counts = np.bincount(patients, values[chosen], self.n), np.bincount(patients, None, self.n)
        return float(_divide(sums.sum(), counts.sum())), _divide(self.weights @ sums, self.weights @ counts)

    def same(self, id_: str, paper: dict[str, float], after: str = "") -> Finding:
        """Judge whether figures equal the paper's to within .02."""
        rows = pd.DataFrame({name: self.interval(name) for name in paper}).T
        text = ", ".join(f"{_title(name)} {r['mean']:.3f} [{r.low:.3f}, {r.high:.3f}]" for name, r in rows.iterrows())
        judged = verdict(rows.sub(pd.Series(paper), axis=0), "null", margin=MARGIN)
        return self.finding(id_, f"{self.what}: {text}{after}", judged, rows)

    def auc_order(self, id_: str, voting: pd.Series) -> Finding:
        """Judge the order by AUC with Spearman's rho: 1 reproduced, .6 or more direction only; it takes all phases."""
        rho = stats.spearmanr([self.auc[phase] for phase in AUC_ORDER], range(5, 0, -1)).statistic
        judged = "reproduced" if rho > 0.999 else "direction only" if rho >= 0.6 else "not reproduced"
        judged = "undecided" if np.isnan(rho) else judged
        text = ", ".join(f"{PHASE_TITLES[phase]} {self.auc[phase]:.3f} ({voting[phase]:.3f})" for phase in AUC_ORDER)
        return Finding(id_, f"{text} (voting); rho {rho:.1f}", judged, rho, n_slices=len(self.table), n_patients=self.n)

    def adjacent(self, id_: str, after: str) -> Finding:
        """Judge whether more errors fall into a neighbouring phase than the half that chance would put there."""
        row = pd.DataFrame([self.interval("adjacent")])
        text = (
            f"slices {100 * row['mean'][0]:.0f} % [{100 * row['low'][0]:.0f}, {100 * row['high'][0]:.0f}] of the errors"
        )
        judged = verdict(row, "superiority", direction=1, reference=0.5)
        return self.finding(id_, f"{text} (cyclic){after}", judged, row)

    def middle(self, id_: str) -> Finding:
        """Judge whether CM-neph and neph have a lower recall than the other phases."""
        row = pd.DataFrame([self.interval("middle")])
        text = ", ".join(f"{PHASE_TITLES[phase]} {self.values[f'recall {phase}']:.3f}" for phase in PHASES)
        return self.finding(id_, f"recall {text}", verdict(row, "superiority"), row)

    def confidence(self, id_: str) -> Finding:
        """Judge by phase whether wrong slices have a lower highest probability than right ones."""
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
    """Give this network's share in the claims that go over the grid; they are not tested by it."""
    validation = predictions[predictions["split"] == "val"]
    val = headline(validation["phase"], validation["predicted"])["f1"] if len(validation) else np.nan
    gains = ", ".join(f"{name} {voting.values[name] - single.values[name]:+.3f}" for name in FIGURES)
    because = "one network of the grid: "
    return [
        Finding("C29", f"{because}F1 {val:.3f} validation, {single.values['f1']:.3f} test", "not tested"),
        Finding("C30", f"{because}voting minus single {gains}", "not tested"),
        Finding("C31", f"{because}voting minus single {gains.split(',')[0]}", "not tested"),
    ]


def _figures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the decoded headline (`metrics.headline`) and others of confusion matrices (..., predicted, labelled)."""
    labelled = counts.sum(axis=-2)
    balanced = _divide(counts, labelled[..., None, :])
    recall = np.diagonal(balanced, axis1=-2, axis2=-1)
    predicted = np.nansum(balanced, axis=-1)
    precision = np.nan_to_num(_divide(recall, predicted))
    prevalence = 1 / np.maximum((labelled > 0).sum(axis=-1), 1)[..., None]
    exact = np.diagonal(counts, axis1=-2, axis2=-1)
    steps = (np.arange(5)[:, None] - np.arange(5)) % 5
    near, wrong = (counts[..., np.isin(steps, kind)].sum(axis=-1) for kind in ((1, 4), (1, 2, 3, 4)))
    plain = _divide(2 * exact, counts.sum(axis=-1) + labelled)
    return {
        "precision": _mean(precision * recall + (1 - recall) * prevalence),
        "recall": _mean(recall),
        "f1": _mean(_divide(2 * recall, predicted + 1)),
        "accuracy": exact.sum(axis=-1) / counts.sum(axis=(-2, -1)),
        "adjacent": _divide(near, wrong),
        "middle": _mean(recall[..., 2:4]) - _mean(recall[..., [0, 1, 4]]),
        **{f"recall {phase}": recall[..., i] for i, phase in enumerate(PHASES)},
        **{phase: plain[..., i] for i, phase in enumerate(PHASES)},
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN."""
    return _divide(np.nansum(values, axis=-1), np.isfinite(values).sum(axis=-1))


def _divide(part, whole):
    """Divide; NaN where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, dtype=float), np.asarray(whole, dtype=float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _title(name: str) -> str:
    return PHASE_TITLES.get(name, "F1" if name == "f1" else name)
