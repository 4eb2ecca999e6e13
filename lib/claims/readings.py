"""Claims on masking by reading: which outcomes depend on choices that the paper leaves open."""

from collections.abc import Mapping

import pandas as pd

from lib.claims.findings import Finding
from lib.claims.networks import OUTCOMES, contrast_words, contrasts, judge, network_findings, weakest_parts
from lib.maps.variants import SAM_VARIANTS

ONLY_HERE = ("C41", "C62")  # claims on masks that only 14_sensitivity makes
OF_SAM = ("C57", "C58", "C59", "C60")  # claims that compare SAM with other maps, or its layers with each other


def with_variant(means: pd.DataFrame, variant: str) -> pd.DataFrame:
    """Return a masking table in which a variant stands in the place of SAM.

    Parameters
    ----------
    means : DataFrame
        As from `lib.masking.statistics.slice_means`.
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
        Reading -> network -> table as from `lib.masking.statistics.slice_means`.
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


def default_reading_findings(parts: pd.DataFrame) -> list[Finding]:
    """Return the findings on C41 and C62 by the default reading.

    Parameters
    ----------
    parts : DataFrame
        As from :func:`judge_readings`, with the default reading first; `outcome` is missing if there is one network.
    """
    default = parts[(parts["reading"] == parts["reading"].iloc[0]) & parts["claim"].isin(ONLY_HERE)]
    default = default.assign(outcome=default["outcome"].fillna("")).drop(columns="reading")
    if (default["outcome"] != "").any():
        return network_findings(default)
    rows = weakest_parts(default).itertuples()
    return [Finding(row.claim, f"one network: {contrast_words(row)}", "undecided", row.mean) for row in rows]
