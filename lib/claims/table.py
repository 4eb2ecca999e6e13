"""The table of all claims of the paper, with what a run measured and the verdict."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import zarr

from lib.claims.cohort import cohort_claims, network_claims
from lib.claims.findings import Finding
from lib.claims.maps import map_claims, masking_claims
from lib.claims.prediction import prediction_claims
from lib.claims.readings import default_reading_findings
from lib.claims.selection import grid_claims, reference_claims
from lib.claims.tissues import contrast_claims, sign_claims, tissue_claims
from lib.files import resolve
from lib.maps.saved import read_maps
from lib.masking.statistics import read_masking, slice_means
from lib.paper import published

TESTED = (
    *("supported", "inconclusive", "contradicted"),  # over networks
    *("reproduced", "direction only", "not reproduced", "undecided"),  # in one network
)
VERDICTS = (
    *TESTED,
    *("method", "method, changed", "not tested here"),
)
UNTESTED = {
    "grid": "needs the 27 networks of the grid",
    "references": "needs the five reference networks",
    "ablation": "needs the maps and masks of 14_sensitivity",
    "anatomy": "needs a truth of the tissues and 13_anatomy_of_maps",
    "cohort": "the cohort is not the paper's: described, not tested",
    "method": "a definition that lib adopts and tests/ checks",
    "readers": "the paper reports no agreement to compare; that of two simulated readers is in 01_prepare_cohort",
    "conjecture": "the paper conjectures it and trained no such network; a network of volumes is another study",
}
SOURCES = {  # the file that each stage of a run writes, and the notebook that makes it
    "cohort": ("cohort/slices.parquet", "01_prepare_cohort"),
    "network": ("networks/{network}/provenance.json", "02_train_network"),
    "predictions": ("networks/{network}/predictions.parquet", "02_train_network"),
    "networks": ("tables/networks.csv", "03_select_network"),
    "maps": ("maps/maps.npz", "05_compute_maps"),
    "masking": ("masking/{network}/done.json", "06_mask_voxels"),
    "tissues": ("tables/anatomy_tissues.csv", "13_anatomy_of_maps"),
    "contrasts": ("tables/anatomy_contrasts.csv", "13_anatomy_of_maps"),
    "signs": ("tables/anatomy_sign.csv", "13_anatomy_of_maps"),
    "readings": ("tables/sensitivity.csv", "14_sensitivity"),
    "references": ("tables/reference_networks.csv", "03_select_network"),
}
GRID = ("networks.csv", "network_metrics.csv", "network_ranking.csv", "network_tests.csv")  # of grid_claims
REFERENCES = ("reference_networks.csv", "reference_weights.csv")  # of reference_claims
ON_ANATOMY = {"tissues": tissue_claims, "contrasts": contrast_claims, "signs": sign_claims}
PHANTOM_ONLY = {"Oral contrast", "Sinus fat", "Urine"}  # tissues that nobody outlines in patients


def sources(run: str | Path, network: str = "top", selection: str | Path = "") -> pd.DataFrame:
    """Return which results a run has: `stage` (index), `path`, `notebook` that makes the file, `found`.

    A run that has compared no networks itself takes the comparison of the run `selection`, if one is named.
    """
    rows = {stage: (resolve(run) / path.format(network=network), made_by) for stage, (path, made_by) in SOURCES.items()}
    for stage in ("networks", "references"):
        path, made_by = SOURCES[stage]
        if selection and not rows[stage][0].exists():
            rows[stage] = (resolve(selection) / path, made_by)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["path", "notebook"])
    return table.assign(found=table["path"].map(Path.exists)).rename_axis("stage")


def of_phantoms(run: str | Path) -> bool:
    """Return whether the cohort of a run is simulated: it has a `truth.csv`, or its tissues are the phantom's."""
    run = resolve(run)
    tissues = run / "cohort/tissues.zarr"
    known = zarr.open_group(tissues, mode="r").attrs.get("tissues", {}) if tissues.exists() else {}
    return (run / "dicom/truth.csv").exists() or set(known) >= PHANTOM_ONLY


def find(stage: str, path: Path, *, rng: np.random.Generator) -> list[Finding]:
    """Return the findings on the claims from one stage of a run.

    Parameters
    ----------
    stage : str
        As in :func:`sources`.
    path : Path
        The file of the stage.
    rng : numpy.random.Generator
        For intervals on predictions, in which patients are resampled. Other stages have generators of their own.
    """
    folder = path.parent
    if stage == "cohort":
        series = folder / "series.csv"
        return cohort_claims(pd.read_parquet(path), pd.read_csv(series) if series.exists() else None)
    if stage == "network":
        standardisation = json.loads((folder / "standardisation.json").read_text())
        recipe = json.loads(path.read_text())["parameters"]
        return network_claims(folder / "model.keras", standardisation, recipe)
    if stage == "predictions":
        return prediction_claims(pd.read_parquet(path), rng=rng)
    if stage == "networks":
        return grid_claims(*(pd.read_csv(folder / name) for name in GRID))
    if stage == "references":
        return reference_claims(*(pd.read_csv(folder / name) for name in REFERENCES))
    if stage == "maps":
        return map_claims(read_maps(folder))
    if stage == "masking":
        return masking_claims(slice_means(read_masking(folder)))
    if stage == "readings":
        return default_reading_findings(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    return ON_ANATOMY[stage](pd.read_csv(path))


def compare_with_paper(findings: list[Finding], *, phantom: bool = True) -> pd.DataFrame:
    """Return the table of the paper's claims with the findings of a run.

    Parameters
    ----------
    findings : list of Finding
        Findings of any stages. If there are two on one claim, both are reported and the verdict is that of the later.
    phantom : bool
        Whether the cohort is simulated, see :func:`of_phantoms`. The table then also says which claims hold by
        construction of the phantom.

    Returns
    -------
    DataFrame
        One row per claim, C1 to C63: `id`, `where`, `claim`, `paper` (what the paper reports), `measured`, `value`,
        `low`, `high`, `n_slices`, `n_patients`, `verdict` (one of VERDICTS), `by_construction` (why the claim would
        hold in any case, or empty).

    Raises
    ------
    ValueError
        If a finding has an id that is not in the table of claims.
    """
    table = published("claims").set_index("id")
    by_phantom = table.pop("by_phantom")
    if phantom:
        both = (table["by_construction"] != "") & (by_phantom != "")
        table["by_construction"] += both.map({True: "; ", False: ""}) + by_phantom
    unknown = [finding.id for finding in findings if finding.id not in table.index]
    if unknown:
        raise ValueError(f"findings on {unknown}; lib/published/claims.csv has {table.index[0]} to {table.index[-1]}.")
    found: dict[str, Finding] = {}
    for finding in findings:
        if finding.id in found:
            finding = finding._replace(measured=f"{found[finding.id].measured}; {finding.measured}")
        found[finding.id] = finding
    rows = pd.DataFrame(found.values(), columns=Finding._fields).set_index("id").reindex(table.index)
    reasons = table["test"].map(UNTESTED).fillna("needs a stage that this run has not gone through")
    tested = rows["verdict"].isin(VERDICTS)
    said = rows["measured"].fillna("")
    rows["measured"] = said.where(tested, said.where(said == "", said + "; ") + reasons)
    rows["verdict"] = rows["verdict"].where(tested, "not tested here")
    adopted = ~tested & (table["test"] == "method")
    rows["verdict"] = rows["verdict"].mask(adopted, "method")
    rows[["n_slices", "n_patients"]] = rows[["n_slices", "n_patients"]].fillna(0).astype(int)
    columns = ["where", "claim", "paper", "measured", "value", "low", "high", "n_slices", "n_patients", "verdict"]
    return table.join(rows)[[*columns, "by_construction"]].reset_index()


def to_markdown(claims: pd.DataFrame) -> str:
    """Return the table of claims as a document in Markdown: counts, what was tested, and what was not."""
    counts = claims["verdict"].value_counts().reindex(VERDICTS).dropna().astype(int)
    lines = ["# The paper's claims, and what this run measured", ""]
    lines += [", ".join(f"{verdict}: {n}" for verdict, n in counts.items()) + ".", ""]
    for title, chosen in (
        ("Tested", claims["verdict"].isin(TESTED)),
        ("Adopted as method", claims["verdict"].str.startswith("method")),
        ("Not tested here", claims["verdict"] == "not tested here"),
    ):
        lines += [f"## {title}", "", "| | claim | the paper | here | n | verdict |", "|---|---|---|---|---|---|"]
        for row in claims[chosen].itertuples():
            n = f"{row.n_slices} ({row.n_patients})" if row.n_slices else ""
            by = f" *({row.by_construction})*" if row.by_construction else ""
            cells = (row.id, f"{row.claim} [{row.where}]", row.paper, row.measured, n, f"**{row.verdict}**{by}")
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += [
        "n: slices (patients). 95 % intervals, by resampling patients. Italics say why a claim would hold in any case."
    ]
    return "\n".join(lines) + "\n"
