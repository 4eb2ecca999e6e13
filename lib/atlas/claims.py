"""The claims of the review on interpretation methods, as we read them, and how they are judged."""

import itertools

import numpy as np
import pandas as pd

from lib.atlas.measures import rank_correlation
from lib.claims.texts import judge, statements
from lib.patient_statistics import bootstrap_interval, cluster_interval, named_generator, resample_clusters

CLAIMS = statements("A")
REPEATS = 500  # of bootstraps that need a loop


def interval(values: pd.Series, patients: pd.Series, *names: str) -> tuple[float, float, float]:
    """Return mean and 95 % interval that resamples patients, without missing values."""
    held = values.notna()
    values, patients = values[held].to_numpy(float), patients[held].to_numpy()
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    low, high = cluster_interval(values, patients, rng=named_generator("atlas", *names))
    return float(values.mean()), float(low), float(high)


def interval_of(statistic, patients: np.ndarray, *names: str) -> tuple[float, float, float]:
    """Return a statistic of slices and its interval; `statistic(rows)` takes row numbers, some of them repeated."""
    known, codes = np.unique(patients, return_inverse=True)
    rows_of = [np.flatnonzero(codes == k) for k in range(len(known))]
    counts = resample_clusters(len(known), rng=named_generator("atlas", *names), resamples=REPEATS).astype(int)
    draws = [np.concatenate([np.tile(rows_of[k], n) for k, n in enumerate(drawn) if n]) for drawn in counts]
    found = np.array([statistic(rows) for rows in draws])
    low, high = bootstrap_interval(found, len(known))
    return float(statistic(np.arange(len(patients)))), low, high


def structure_claims(embeddings: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """Return A1 and A2, on what the network has learned.

    Parameters
    ----------
    embeddings : DataFrame
        A row for each slice: `patient`, `order` (the phase's place in time, 0 to 4), `pc1` (first component of the
        features), and whether the neighbours agree in the `pixels`' two components, the `features`' and in `tsne`.
    probes : DataFrame
        A row for each slice: `patient`, and whether a linear classifier is right on the `latents` of the autoencoder,
        and on as many components of `pca`.

    Notes
    -----
    A1: neighbours agree more often in two dimensions of the features (components, t-SNE) than of the pixels, and the
    size of Spearman's correlation of the first component with the order of the phases is above .8. A2: the probe is
    right more often than chance (.2), and more often than on components.
    """
    who, rows = embeddings["patient"], []
    for name in ("features", "tsne"):
        gain = embeddings[name].astype(float) - embeddings["pixels"].astype(float)
        rows.append(("A1", f"neighbours that agree: {name} less pixels", *interval(gain, who, "A1", name), 0.0))
    pc1, order = embeddings["pc1"].to_numpy(), embeddings["order"].to_numpy()
    found = interval_of(lambda n: abs(rank_correlation(pc1[n], order[n])), who.to_numpy(), "A1", "order")
    rows.append(("A1", "correlation of the first component with the order of the phases", *found, 0.8))
    right = probes["latents"].astype(float)
    rows.append(("A2", "probe on latents: share right", *interval(right, probes["patient"], "A2", "right"), 0.2))
    gain = right - probes["pca"].astype(float)
    rows.append(
        ("A2", "probe on latents less probe on components", *interval(gain, probes["patient"], "A2", "gain"), 0)
    )
    judged = [(*row[:5], judge(row[3], row[4], above=row[5])) for row in rows]
    return _table([(c, "-", *rest) for c, *rest in judged])


def map_claims(quality: pd.DataFrame, correlations: pd.DataFrame) -> pd.DataFrame:
    """Return A3 to A9, on maps; of A4 to A9 a part for each method.

    Parameters
    ----------
    quality : DataFrame
        A row for each method and slice: `method`, `image`, `patient`, and what was measured, missing where it was not:
        `runner_up` and `across` (A4), `random` and `pairs` (A5), `deletion` and `deletion_control` (A6), `enrichment`
        (A7), `repeat` and `repeat_random` (A8), `rank` and `rank_uniform` (A9).
    correlations : DataFrame
        As from :func:`lib.atlas.measures.agreement`, with `patient`.

    Notes
    -----
    A3: the median over pairs of methods of the mean correlation is below .5. A4: the correlation of a slice's maps of
    two classes is below that of maps of one class on two slices. A5: the similarity to the map of a network with random
    weights is below that of two slices' maps. A6: the area under the deletion curve is below that of another patient's
    map. A7: enrichment is above 1. A8: maps of two trained networks correlate more than with those of an untrained one.
    A9: the correlation with the interventions is above that of a uniform map. Intervals resample patients.
    """
    rows = []
    wide = correlations.pivot_table(index="image", columns=["one", "other"], values="correlation")
    who = correlations.drop_duplicates("image").set_index("image")["patient"].loc[wide.index].to_numpy()
    values = wide.to_numpy(float)
    median = interval_of(lambda n: float(np.nanmedian(np.nanmean(values[n], axis=0))), who, "A3")
    rows.append(("A3", "all", "median correlation of two methods", *median, judge(*median[1:], below=0.5)))
    parts = (  # claim, what is measured, column, what it is compared with, side
        ("A4", "same slice, two classes, less same class, two slices", "runner_up", "across", "below"),
        ("A5", "similarity to random weights less that of two slices", "random", "pairs", "below"),
        ("A6", "area under deletion less that of another patient's map", "deletion", "deletion_control", "below"),
        ("A7", "enrichment of kidneys and vessels", "enrichment", None, "above"),
        ("A8", "correlation with another network less with an untrained one", "repeat", "repeat_random", "above"),
        ("A9", "correlation with interventions less that of a uniform map", "rank", "rank_uniform", "above"),
    )
    for (claim, measured, column, control, side), method in itertools.product(parts, quality["method"].unique()):
        part = quality[quality["method"] == method]
        if column not in part or part[column].isna().all():
            continue
        difference = part[column] - (part[control] if control else 0)
        found = interval(difference, part["patient"], claim, method)
        limit = {side: 1.0 if control is None else 0.0}
        rows.append((claim, method, measured, *found, judge(*found[1:], **limit)))
    return _table(rows)


def _table(rows: list[tuple]) -> pd.DataFrame:
    columns = ["id", "method", "measured", "value", "low", "high", "verdict"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(1, "claim", table["id"].map(CLAIMS))
    return table
