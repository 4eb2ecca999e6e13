"""Claims on masking by reading: which outcomes depend on choices that the paper leaves open."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.claims.networks import OUTCOMES, contrasts, judge
from lib.map_variants import SAM_VARIANTS

OF_SAM = ("C57", "C58", "C59", "C60")  # claims that compare SAM with other maps, or its layers with each other


def with_variant(means: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Return a masking table in which a variant stands in the place of SAM.

    Parameters
    ----------
    means : DataFrame
        As from `lib.masking_tests.slice_means`.
    variant : str
        A method of the table, such as "sam_no_blur" or "hires_cam".

    Raises
    ------
    ValueError
        If the table does not hold the variant.
    """
    if variant not in set(means["method"]):
        raise ValueError(f"{variant!r} was not masked by: the table holds {', '.join(sorted(set(means['method'])))}.")
    others = means[~means["method"].isin(["sam", *SAM_VARIANTS]) | (means["method"] == variant)]
    return others.assign(method=others["method"].replace(variant, "sam"))


def reading_contrasts(
    means: Mapping[str, Mapping[str, pd.DataFrame]], variants: Mapping[str, Mapping[str, pd.DataFrame]]
) -> pd.DataFrame:
    """Measure every part of every claim, by reading and network.

    Parameters
    ----------
    means : mapping
        Reading -> network -> table as from `lib.masking_tests.slice_means`.
    variants : mapping
        Variant of SAM -> network -> table as from :func:`with_variant`. Only the claims on SAM are taken from these.

    Returns
    -------
    DataFrame
        The columns of `lib.claims.networks.contrasts` after `reading`, which is the name of a reading or of a variant.
    """
    tables = [contrasts(tables).assign(reading=name) for name, tables in means.items()]
    for name, of_networks in variants.items():
        table = contrasts(of_networks).assign(reading=name)
        tables.append(table[table["claim"].isin(OF_SAM)])
    table = pd.concat(tables, ignore_index=True)
    return table[["reading", *table.columns.drop("reading")]]


def judge_readings(table: pd.DataFrame) -> pd.DataFrame:
    """Judge every part over the networks, reading by reading: the columns of `lib.claims.networks.judge`."""
    judged = [judge(group).assign(reading=name) for name, group in table.groupby("reading", sort=False)]
    table = pd.concat(judged, ignore_index=True)
    return table[["reading", *table.columns.drop("reading")]]


def weakest_parts(parts: pd.DataFrame) -> pd.DataFrame:
    """Return the part of each claim and reading that speaks least for the paper; a claim gets the outcome of it.

    Parameters
    ----------
    parts : DataFrame
        As from :func:`judge_readings`.

    Returns
    -------
    DataFrame
        One row per claim and reading, in their order: the columns of `parts`, and `supported` and `of_parts`, how many
        parts of the claim are supported and how many it has. The part is the one with the weakest outcome; among equal
        ones the highest mean for a claimed difference, and the mean farthest from 0 for a claim of no difference.
    """
    rank = parts["outcome"].map({name: n for n, name in enumerate(OUTCOMES)}).fillna(0)
    doubt = np.where(parts["kind"] == "same", parts["mean"].abs(), parts["mean"])
    keys = ["claim", "reading"]
    counts = parts.assign(supported=parts["outcome"] == OUTCOMES[-1]).groupby(keys)["supported"].agg(["sum", "size"])
    ordered = parts.assign(_rank=rank, _doubt=-doubt).sort_values(["_rank", "_doubt"], kind="stable")
    first = ordered.groupby(keys, sort=False).head(1).sort_index().drop(columns=["_rank", "_doubt"])
    return first.join(counts.set_axis(["supported", "of_parts"], axis=1), on=keys).reset_index(drop=True)


def changed_outcomes(claims: pd.DataFrame, default: str) -> pd.DataFrame:
    """Return how often the outcome of a claim differs from that of the default reading.

    Parameters
    ----------
    claims : DataFrame
        As from :func:`weakest_parts`.
    default : str
        Name of the default reading.

    Returns
    -------
    DataFrame
        One row per claim: `default` (its outcome there), `same`, `other` and `opposite` (the number of other readings
        with the same outcome, with another one, and, among the latter, with "supported" in place of "contradicted" or
        the other way round).
    """
    wide = claims.pivot_table(index="claim", columns="reading", values="outcome", aggfunc="first")
    others, own = wide.drop(columns=default), wide[default]
    measured = others.notna()
    same = others.eq(own, axis=0)
    turned = own.map({OUTCOMES[0]: OUTCOMES[-1], OUTCOMES[-1]: OUTCOMES[0]})
    opposite = others.eq(turned, axis=0)
    counts = {"same": same, "other": measured & ~same, "opposite": opposite}
    return pd.DataFrame({"default": own} | {name: found.sum(axis=1) for name, found in counts.items()})
