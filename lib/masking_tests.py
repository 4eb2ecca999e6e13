"""From masked probabilities to tests: on slices as in the paper, and by patient as they should be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.paper import PHASES
from lib.patient_statistics import RESAMPLES, compare

KEYS = ["method", "layer", "region", "phase"]
SLICE = ["patient", "series", "slice"]
ALPHA = 0.05
Map = tuple[str, str]


def read_masking(
    path: str | Path, *, within: str = "image", score: str = "logit", fill: str = "normal", fraction: float = 0.1
) -> pd.DataFrame:
    """Read the masking shards of one reading.

    Parameters
    ----------
    path : path
        Folder of parquet shards, or one shard.
    within, score, fill : str
        Which voxels were eligible, what was differentiated, what was written over them.
    fraction : float
        Share of the voxels that was overwritten.

    Returns
    -------
    DataFrame
        One row a slice, map, region and draw.

    Raises
    ------
    FileNotFoundError
        If there is no shard.
    ValueError
        If the reading is not in the shards (the ones that are get listed), two networks are mixed, or a relative
        probability is not finite.
    """
    path = Path(path)
    shards = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{path} holds no parquet file: run 06_mask_voxels first.")
    masking = pd.concat([pd.read_parquet(shard) for shard in shards], ignore_index=True)
    masking = masking.astype({name: object for name in masking.select_dtypes("category")})
    wanted = {"within": within, "score": score, "fill": fill}
    keep = np.isclose(masking["fraction"], fraction)
    for name, value in wanted.items():
        keep &= (masking[name] == value).to_numpy()
    if not keep.any():
        readings = masking[[*wanted, "fraction"]].drop_duplicates().to_dict("records")
        raise ValueError(f"{path} has no rows for {wanted | {'fraction': fraction}}; it has {readings}.")
    masking = masking[keep]
    networks = sorted(masking["network"].unique())
    if len(networks) > 1:
        raise ValueError(f"{path} mixes the networks {networks}; expected one.")
    return masking.reset_index(drop=True)


def slice_means(masking: pd.DataFrame) -> pd.DataFrame:
    """Average the draws: one relative probability (percent) a slice, map and region.

    Returns
    -------
    DataFrame
        `method`, `layer`, `region`, `phase`, `patient`, `series`, `slice`, `relative_probability`, `draws`; sorted.

    Raises
    ------
    ValueError
        If there is no row, or a relative probability is NaN or infinite.
    """
    if masking.empty:
        raise ValueError("masking is empty: no slice was masked.")
    bad = ~np.isfinite(masking["relative_probability"].to_numpy(dtype=float))
    if bad.any():
        first = masking.loc[bad, [*KEYS, *SLICE]].iloc[0].to_dict()
        raise ValueError(
            f"relative_probability is not finite in {bad.sum()} rows, first in {first}; run 06_mask_voxels again."
        )
    grouped = masking.astype({"relative_probability": float}).groupby([*KEYS, *SLICE], observed=True, sort=True)
    return grouped["relative_probability"].agg(relative_probability="mean", draws="size").reset_index()


def summarise(means: pd.DataFrame) -> pd.DataFrame:
    """Describe each map, region and phase: `mean`, `sd` (percent), `n_slices`, `n_patients`; phases in order.

    The standard deviation is that of a sample (n - 1), NaN for one slice.
    """
    grouped = means.groupby(KEYS, observed=True)
    table = grouped["relative_probability"].agg(mean="mean", sd="std", n_slices="size")
    return _in_order(table.join(grouped["patient"].nunique().rename("n_patients")).reset_index())


def level_tests(
    means: pd.DataFrame,
    reference: float = 100.0,
    *,
    rng: np.random.Generator,
    comparisons: int | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Test every map, region and phase against a level.

    Parameters
    ----------
    means : DataFrame
        As from :func:`slice_means`, cut down to the bars of one figure.
    reference : float
        Level in percent.
    rng : numpy.random.Generator
        For the bootstrap.
    comparisons : int, optional
        Tests in the figure, for Bonferroni; as many as there are rows by default.
    resamples : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        `method`, `layer`, `region`, `phase`, what :func:`lib.patient_statistics.compare` returns, `p_bonferroni`.
    """
    rows = []
    for group, bar in means.groupby(KEYS, observed=True, sort=True):
        key = dict(zip(KEYS, group, strict=True))
        values = bar["relative_probability"].to_numpy()
        rows.append(key | compare(values, bar["patient"].to_numpy(), reference, rng=rng, resamples=resamples))
    return _bonferroni(_in_order(pd.DataFrame(rows)), comparisons)


def paired_tests(
    means: pd.DataFrame,
    pairs: Sequence[tuple[Map, Map]],
    *,
    rng: np.random.Generator,
    region: str = "top",
    comparisons: int | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Test maps against each other on the same slices.

    Parameters
    ----------
    means : DataFrame
        As from :func:`slice_means`.
    pairs : sequence of ((method, layer), (method, layer))
        What to compare; differences are first minus second: a negative one says that the first is more specific.
    rng, comparisons, resamples
        As in :func:`level_tests`.
    region : str
        Region masked.

    Returns
    -------
    DataFrame
        One row per pair and phase: `phase`, `method`, `layer`, `other_method`, `other_layer`, what
        :func:`lib.patient_statistics.compare` returns (of the difference, in points), `p_bonferroni`. Slices that
        only one of the two has are left out.

    Raises
    ------
    ValueError
        If a map is not in the table, or no slice has both.
    """
    chosen = means[means["region"] == region]
    wide = chosen.pivot_table(
        index=["phase", *SLICE], columns=["method", "layer"], values="relative_probability", observed=True
    )
    rows = []
    for first, second in pairs:
        for name in (first, second):
            if tuple(name) not in wide:
                raise ValueError(f"masking holds no map {tuple(name)} with region {region!r}; it holds {list(wide)}.")
        difference = (wide[tuple(first)] - wide[tuple(second)]).dropna()
        if difference.empty:
            raise ValueError(f"no slice was masked with both {tuple(first)} and {tuple(second)}.")
        for phase in (phase for phase in PHASES if phase in difference.index.get_level_values("phase")):
            values = difference.xs(phase, level="phase")
            key = dict(
                zip(("phase", "method", "layer", "other_method", "other_layer"), (phase, *first, *second), strict=True)
            )
            patients = values.index.get_level_values("patient").to_numpy()
            rows.append(key | compare(values.to_numpy(), patients, 0.0, rng=rng, resamples=resamples))
    return _bonferroni(pd.DataFrame(rows), comparisons)


def letters(pairs: pd.DataFrame, maps: Sequence[Map], *, alpha: float = ALPHA) -> pd.DataFrame:
    """Letter the bars of a figure as the paper does.

    Parameters
    ----------
    pairs : DataFrame
        As from :func:`paired_tests`.
    maps : sequence of (method, layer)
        The bars in order; the first is "a", the second "b", and so on.
    alpha : float
        Level for `p_bonferroni`.

    Returns
    -------
    DataFrame
        `phase`, `method`, `layer`, `letters`: the letters of the earlier bars from which this one differs.
    """
    order = {tuple(name): i for i, name in enumerate(maps)}
    found = {(phase, name): set() for phase in pairs["phase"].unique() for name in order}
    for row in pairs.itertuples():
        ends = sorted((order[row.method, row.layer], order[row.other_method, row.other_layer]))
        if row.p_bonferroni < alpha:
            found[row.phase, tuple(maps[ends[1]])].add("abcdefghijklmnopqrstuvwxyz"[ends[0]])
    rows = [(phase, *name, "".join(sorted(value))) for (phase, name), value in found.items()]
    return pd.DataFrame(rows, columns=["phase", "method", "layer", "letters"])


def _bonferroni(table: pd.DataFrame, comparisons: int | None) -> pd.DataFrame:
    """Add `p_bonferroni`."""
    return table.assign(p_bonferroni=np.minimum(1.0, table["p"] * (comparisons or len(table))))


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by map and region, then by phase in the order of enhancement."""
    rank = table["phase"].map({phase: i for i, phase in enumerate(PHASES)})
    return (
        table.assign(_rank=rank)
        .sort_values(["method", "layer", "region", "_rank"])
        .drop(columns="_rank")
        .reset_index(drop=True)
    )
