"""Statistics by patient, since slices of one patient are not independent of each other."""

from zlib import crc32

import numpy as np
from scipy import stats

RESAMPLES = 2000


def named_generator(*names: object) -> np.random.Generator:
    """Return a random generator that follows from names, so that a number gets the same interval in every table."""
    return np.random.default_rng(crc32(" ".join(map(str, names)).encode()))


def compare(
    values: np.ndarray, patients: np.ndarray, reference: float, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, float]:
    r"""Test whether values, or paired differences, differ from a reference.

    Parameters
    ----------
    values : array (n,)
        One value per slice.
    patients : array (n,)
        The patient of each slice.
    reference : float
        Mean under the null hypothesis, in the unit of `values`.
    rng : numpy.random.Generator
        For the bootstrap.
    resamples : int
        Number of bootstrap resamples.

    Returns
    -------
    dict
        `mean`, `sd`, `n_slices`, `n_patients`.

        If slices are taken as independent, as in the paper: `t`, `p`, `wilcoxon_p`, `effect_size`.

        If only patients are taken as independent: `low` and `high`, the 95 % interval of the mean over slices (see
        :func:`cluster_interval`), and `patient_mean`, `patient_low`, `patient_high` and `patient_p`, a t test of the
        means of the patients.

    Notes
    -----
    Tests are two-sided. With :math:`n` values of mean :math:`\bar x` and standard deviation :math:`s`, and the
    reference :math:`\mu_0`,

    .. math:: t = \frac{\bar x - \mu_0}{s / \sqrt n}, \qquad \text{effect size} = \frac{\bar x - \mu_0}{s}.

    With fewer than two values, t, p and the interval are NaN. If all values are the same, t is 0 and p is 1 where they
    equal the reference, as for two identical maps; elsewhere t is infinite and p is 0.
    """
    values, patients = np.asarray(values, dtype=float), np.asarray(patients)
    names, codes = np.unique(patients, return_inverse=True)
    by_patient = np.bincount(codes, values) / np.bincount(codes)
    t, p = _t_test(values, reference)
    low, high = cluster_interval(values, codes, rng=rng, resamples=resamples)
    patient_sd = by_patient.std(ddof=1) if len(names) > 1 else np.nan
    half = stats.t.ppf(0.975, max(len(names) - 1, 1)) * patient_sd / np.sqrt(len(names))
    sd = values.std(ddof=1) if len(values) > 1 else np.nan
    shift = values.mean() - reference
    return {
        "mean": values.mean(),
        "sd": sd,
        "n_slices": len(values),
        "n_patients": len(names),
        "t": t,
        "p": p,
        "wilcoxon_p": _wilcoxon(values - reference),
        "effect_size": 0.0 if np.isclose(shift, 0, atol=1e-12) else shift / sd if sd > 0 else np.nan,
        "low": low,
        "high": high,
        "patient_mean": by_patient.mean(),
        "patient_low": by_patient.mean() - half,
        "patient_high": by_patient.mean() + half,
        "patient_p": _t_test(by_patient, reference)[1],
    }


def cluster_interval(
    values: np.ndarray, clusters: np.ndarray, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[float, float]:
    r"""Return a 95 % bootstrap interval of the mean of `values` in which whole patients are resampled.

    Parameters
    ----------
    values, clusters : array (n,)
        Values, and the patient of each.
    rng : numpy.random.Generator
        Draws the resamples.
    resamples : int
        Number of resamples.

    Returns
    -------
    low, high : float
        In the unit of `values`; NaN if there are fewer than two patients.

    Notes
    -----
    In each resample, :math:`n` patients are drawn with replacement. If patient :math:`i` is drawn :math:`w_i` times and
    has :math:`m_i` slices with the sum :math:`S_i`, the mean of the resample is

    .. math:: \bar x^* = \frac{\sum_i w_i S_i}{\sum_i w_i m_i}.

    The interval runs from the :math:`\alpha'` to the :math:`1 - \alpha'` quantile of these means, with

    .. math:: \alpha' = \Phi\left( \sqrt{\frac{n}{n - 1}}\; t_{n-1,\,0.025} \right),

    where :math:`\Phi` is the normal distribution function and :math:`t_{n-1,\,0.025}` the quantile of Student's t with
    :math:`n - 1` degrees of freedom. This expanded percentile interval is wider than the usual one if patients are few
    (Hesterberg, The American Statistician 2015;69:371).
    """
    names, codes = np.unique(clusters, return_inverse=True)
    weights = resample_clusters(len(names), rng=rng, resamples=resamples)
    means = (weights @ np.bincount(codes, np.asarray(values, dtype=float))) / (weights @ np.bincount(codes))
    return bootstrap_interval(means, len(names))


def resample_clusters(n: int, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> np.ndarray:
    """Return how often each of n patients was drawn in each resample, (resamples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)


def bootstrap_interval(statistics: np.ndarray, n: int) -> tuple[float, float]:
    """Return the expanded 95 % percentile interval of a statistic that was computed in resamples of n patients.

    It is NaN with fewer than two patients. Resamples in which the statistic is not defined (NaN) are left out. The
    equation is given at :func:`cluster_interval`.
    """
    if n < 2 or np.isnan(statistics).all():
        return np.nan, np.nan
    tail = stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    low, high = np.nanquantile(statistics, [tail, 1 - tail])
    return float(low), float(high)


def balanced_mean(
    values: np.ndarray,
    patients: np.ndarray,
    phases: np.ndarray,
    *,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Average over the slices of a patient in a phase, over patients, and over phases, with bootstrap intervals.

    Parameters
    ----------
    values : array (n, m)
        One row per slice, one column per quantity.
    patients, phases : array (n,)
        The patient and the phase of each slice.
    rng, resamples
        Of the bootstrap, in which whole patients are resampled, with all their phases.

    Returns
    -------
    float array (m, 3)
        Mean, and the 95 % interval (see :func:`bootstrap_interval`) of each quantity. Every phase weighs the same,
        and within a phase every patient. A phase that no patient of a resample has is left out of it.
    """
    values = np.asarray(values, dtype=float)
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    kinds, phase = np.unique(np.asarray(phases), return_inverse=True)
    drawn = resample_clusters(len(names), rng=rng, resamples=resamples)
    weights = np.vstack([np.ones(len(names)), drawn])  # the first row is the sample itself
    slices = np.zeros((len(kinds), len(names)))
    np.add.at(slices, (phase, patient), 1)
    sums = np.zeros((*slices.shape, values.shape[1]))
    np.add.at(sums, (phase, patient), values)
    means = sums / np.maximum(slices, 1)[..., None]
    patients_drawn = weights @ (slices > 0).T
    by_phase = np.einsum("rn,knm->rkm", weights, means, optimize=True) / np.maximum(patients_drawn, 1)[..., None]
    statistics = by_phase.sum(axis=1) / (patients_drawn > 0).sum(axis=1)[:, None]
    return np.array([(one[0], *bootstrap_interval(one[1:], len(names))) for one in statistics.T])


def _t_test(values: np.ndarray, reference: float) -> tuple[float, float]:
    """Return t and the two-sided p of a one-sample t test; `compare` describes few or equal values."""
    if len(values) < 2:
        return np.nan, np.nan
    shift, sd = values.mean() - reference, values.std(ddof=1)
    if sd <= 1e-12 * max(1.0, np.abs(values).max()):
        same = np.isclose(shift, 0, atol=1e-12)
        return (0.0, 1.0) if same else (np.inf * np.sign(shift), 0.0)
    t = shift / (sd / np.sqrt(len(values)))
    return float(t), float(2 * stats.t.sf(abs(t), len(values) - 1))


def _wilcoxon(values: np.ndarray) -> float:
    """Return p of Wilcoxon's signed-rank test: 1 if nothing differs, NaN if there are fewer than two values."""
    if len(values) < 2:
        return np.nan
    return float(stats.wilcoxon(values).pvalue) if np.any(values) else 1.0
