"""The claims of the paper and of the related texts side by side, from the tables that a run has left."""

from pathlib import Path

import pandas as pd

from lib.claims.networks import claim_outcomes
from lib.files import resolve
from lib.paper import published

PAPER = "Philbrick 2018"
TABLES = {  # what is read of a run, and the command that makes it
    "claims": ("claims.csv", "make figures"),
    "networks": ("tables/claims_over_networks.csv", "make figures, or make study for several networks"),
    "atlas": ("tables/atlas_verdicts.csv", "make texts"),
    "methods": ("tables/atlas.csv", "make texts"),
    "interventions": ("tables/atlas_interventions.csv", "make texts"),
    "effects": ("tables/atlas_effects.csv", "make texts"),
    "architectures": ("tables/architectures_verdicts.csv", "make texts"),
    "chest_networks": ("tables/architectures_networks.csv", "make texts"),
    "chest_nulls": ("tables/architectures_nulls.csv", "make texts"),
    "dental": ("tables/dental_verdicts.csv", "make texts"),
    "dental_networks": ("tables/dental_networks.csv", "make texts"),
    "dental_layers": ("tables/dental_layers.csv", "make texts"),
}
TEXTS = ("atlas", "architectures", "dental")


def read_tables(*runs: str | Path) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """Return the tables of runs that are there, by name, and what each is, whether it was found, and who makes it.

    Parameters
    ----------
    *runs : path
        Such as runs/quick, or "." for what is published; a table is that of the first run that has it.

    Returns
    -------
    tables : dict of str to DataFrame
        By the names of `TABLES`.
    found : DataFrame
        Index: the names; `path` (of the file where there is one), `found`, `made_by`.
    """
    rows = {}
    for name, (path, made_by) in TABLES.items():
        places = [place for run in runs for place in (resolve(run) / path, resolve(run) / "tables" / Path(path).name)]
        there = [place for place in places if place.exists()]
        rows[name] = (there[0] if there else path, bool(there), made_by)
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["path", "found", "made_by"])
    return {name: pd.read_csv(found.loc[name, "path"]) for name in found.index[found["found"]]}, found


def four_studies(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the claims of four studies by the question that they answer, with the verdicts of a run.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Of :func:`read_tables`; what is missing leaves its claims "not tested here".

    Returns
    -------
    DataFrame
        `question`, `study`, `id`, `claim`, `source`, `unit` (what an interval resamples or counts), `verdict`.

    Notes
    -----
    A claim of the paper gets its outcome over networks where the run has two or more, else the verdict on the one
    network. A claim of another text has the verdict that its notebook gave.
    """
    ours = published("text_claims").set_index("id")
    paper = published("claims").set_index("id")
    verdicts, units = {}, {}
    if "claims" in tables:
        verdicts |= tables["claims"].set_index("id")["verdict"].to_dict()
        units |= dict.fromkeys(verdicts, "patients, one network")
    if "networks" in tables:
        several = claim_outcomes(tables["networks"].fillna({"outcome": ""}))  # a single network has no outcome
        verdicts |= several.to_dict()
        units |= dict.fromkeys(several.index, "networks")
    for name in TEXTS:
        if name in tables:
            verdicts |= tables[name].set_index("id")["verdict"].to_dict()
    units |= {name: "plates" if name[0] == "M" else "patients" for name in ours.index}
    rows = []
    for question, claims in published("study_questions").itertuples(index=False):
        for name in claims.split():
            of_paper = name in paper.index
            study, source = (PAPER, "full text") if of_paper else ours.loc[name, ["text", "source"]]
            claim = (paper if of_paper else ours).loc[name, "claim"]
            verdict = verdicts.get(name, "not tested here")
            rows.append((question, study, name, claim, source, units.get(name, "patients"), verdict))
    return pd.DataFrame(rows, columns=["question", "study", "id", "claim", "source", "unit", "verdict"])
