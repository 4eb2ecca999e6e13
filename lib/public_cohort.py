"""A public cohort of renal CT, planned offline from the index of the NCI Imaging Data Commons."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from lib.files import atomic_path, resolve
from lib.paper import PHASES

COLLECTIONS = ("c4kc_kits", "tcga_kirc", "tcga_kirp", "tcga_kich", "tcga_blca", "cptac_ccrcc")
LEAST_IMAGES = 20  # fewer are scouts, dose reports, key images and reformats of a detail
USUAL_IMAGES = 90  # of several reconstructions of a phase the one nearest to this many images is taken
KIDNEY_RESULTS = ("rcc_aid", "bamf_aimi_annotations")  # analysis results whose segmentations here hold kidneys
INDEX_COLUMNS = [
    "collection_id", "analysis_result_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "SeriesNumber", "SeriesDescription", "instanceCount", "series_size_MB", "license_short_name", "source_DOI",
]  # fmt: skip
NOT_AXIAL = re.compile(
    r"\bcor(onal|onals)?\b|\bsag(ittal|ittals)?\b|\bmpr\b|reformat|\bmips?\b|\b3d recon|for 3d|vitrea|volume render|"
    r"\bvr\b|\bcurved\b|snapshot|\bspo +(cor|sag)|virtual"
)
ELSEWHERE = re.compile(
    r"\blungs?\b|\bchest\b|thora|klatk|\bhead\b|brain|\bneck\b|\bbladder\b|\bbone|hires|hi res|mediast"
)
ABDOMEN = re.compile(r"abd|a/p|c/a/p|c-a-p|\bcap\b|\bap\b|kidney|renal|liver|brzus|pel")
SHARP = re.compile(r"\b[bi][678]\df\b")  # kernels of one manufacturer for lung and bone: B60f to B80f, I70f
C4KC_LATE = re.compile(r"^late$")  # C4KC-KiTS names its delayed phase so; elsewhere "late" is "late arterial"
RCC_AID = re.compile(r"RCC-AID .*, *(\w+), *CT series (\d+)", re.IGNORECASE)
RCC_AID_PHASES = {"arterial": "cm", "delayed": "pyelo"}  # its "venous" does not part cm-neph from neph


def read_index(collections: tuple[str, ...] = COLLECTIONS) -> pd.DataFrame:
    """Read the rows of some collections from the index that idc-index brings with it; nothing is downloaded.

    Raises
    ------
    ModuleNotFoundError
        If idc-index is not installed.
    """
    found = find_spec("idc_index_data")
    if found is None:
        raise ModuleNotFoundError('idc-index is missing: pip install -e ".[public-data]" (80 MB, the index with it).')
    path = Path(found.origin).parent / "idc_index.parquet"
    table = pd.read_parquet(path, columns=INDEX_COLUMNS, filters=[("collection_id", "in", list(collections))])
    return table.sort_values("SeriesInstanceUID", ignore_index=True)


def phase_rules() -> pd.DataFrame:
    """Return the rules on SeriesDescription: order, phase, pattern (lower case), examples."""
    return pd.read_csv(files("lib") / "published" / "public_phases.csv")


def phases_named(description: str, collection: str = "") -> list[str]:
    """Return the phases that a SeriesDescription names, by the first rules that find any; usually one or none.

    Parameters
    ----------
    description : str
    collection : str
        Its collection: "late" means a delayed scan in C4KC-KiTS only.

    Notes
    -----
    Rules of a lower order come first: seconds after the injection say more than words ("140 sec delay" is a
    nephrographic scan), and a delay is said in addition to what a scan is for ("delay nephro" is a delayed scan).
    """
    text = " ".join(str(description).lower().replace("_", " ").split())
    if collection == "c4kc_kits" and C4KC_LATE.search(text):
        return ["pyelo"]
    named = [(order, phase) for order, phase, pattern in _compiled_rules() if pattern.search(text)]
    return list(dict.fromkeys(phase for order, phase in named if order == named[0][0]))


@cache
def _compiled_rules() -> list[tuple[int, str, re.Pattern]]:
    rules = phase_rules().sort_values("order", kind="stable")
    return [(rule.order, rule.phase, re.compile(rule.pattern)) for rule in rules.itertuples()]


def plan_cohort(index: pd.DataFrame) -> pd.DataFrame:
    """Decide about every CT series of the index.

    Parameters
    ----------
    index : DataFrame
        From `read_index`.

    Returns
    -------
    DataFrame
        One row for each CT series: the columns of the index, `phase` (or missing), `evidence` ("description" or
        "RCC-AID"), `kidney_seg` (SeriesInstanceUID of a kidney segmentation in the same study, or missing), `fate`:
        "chosen", or why not.
    """
    ct = index[index["Modality"] == "CT"].copy()
    ct["SeriesDescription"] = ct["SeriesDescription"].fillna("")
    named = [phases_named(d, c) for d, c in zip(ct["SeriesDescription"], ct["collection_id"], strict=True)]
    ct["phase"] = [phases[0] if len(phases) == 1 else None for phases in named]
    ct["evidence"] = ["description" if len(phases) == 1 else None for phases in named]
    told = _rcc_aid_phases(index)
    keys = zip(ct["StudyInstanceUID"], ct["SeriesNumber"].astype(str), strict=True)
    second = [None if phases else RCC_AID_PHASES.get(told.get(key)) for key, phases in zip(keys, named, strict=True)]
    ct["phase"] = ct["phase"].where(ct["phase"].notna(), second)
    ct["evidence"] = ct["evidence"].where(ct["evidence"].notna(), ["RCC-AID" if phase else None for phase in second])
    ct["fate"] = [_fate(row, phases) for row, phases in zip(ct.itertuples(), named, strict=True)]
    ct["kidney_seg"] = ct["StudyInstanceUID"].map(_kidney_segmentations(index))
    _choose_reconstructions(ct)
    return ct.sort_values(["collection_id", "PatientID", "StudyInstanceUID", "SeriesInstanceUID"], ignore_index=True)


def _fate(row: tuple, phases: list[str]) -> str:
    text = row.SeriesDescription.lower().replace("_", " ")
    if row.instanceCount < LEAST_IMAGES:
        return f"fewer than {LEAST_IMAGES} images"
    if NOT_AXIAL.search(text):
        return "a reformat, a projection or not axial"
    if SHARP.search(text) or (ELSEWHERE.search(text) and not ABDOMEN.search(text)):
        return "another part of the body, or a kernel for lung or bone"
    if not text:
        return "no description"
    if pd.isna(row.phase):
        return "several phases named" if phases else "no phase named"
    return "chosen"


def _rcc_aid_phases(index: pd.DataFrame) -> dict[tuple[str, str], str]:
    """Return the phase that RCC-AID's segmentations name, by study and the number of the CT series."""
    found = {}
    for row in index[index["analysis_result_id"] == "rcc_aid"].itertuples():
        if match := RCC_AID.search(str(row.SeriesDescription)):
            found[row.StudyInstanceUID, match[2]] = match[1].lower()
    return found


def _kidney_segmentations(index: pd.DataFrame) -> dict[str, str]:
    """Return one kidney segmentation for each study: the collection's own, else RCC-AID's, else BAMF's."""
    seg = index[index["Modality"] == "SEG"].copy()
    rank = {"": 0} | {name: n for n, name in enumerate(KIDNEY_RESULTS, 1)}
    seg["rank"] = seg["analysis_result_id"].fillna("").map(rank)
    seg = seg.dropna(subset="rank").sort_values(["rank", "SeriesInstanceUID"])
    return seg.drop_duplicates("StudyInstanceUID").set_index("StudyInstanceUID")["SeriesInstanceUID"].to_dict()


def _choose_reconstructions(ct: pd.DataFrame) -> None:
    """Keep one series for each study and phase, the one nearest to the usual number of images; change `fate`."""
    usable = ct[ct["fate"] == "chosen"].copy()
    usable["distance"] = (usable["instanceCount"] - USUAL_IMAGES).abs()
    usable = usable.sort_values(["distance", "SeriesInstanceUID"])
    others = usable[usable.duplicated(["StudyInstanceUID", "phase"])].index
    ct.loc[others, "fate"] = "another reconstruction of the same study and phase"


def choose_patients(planned: pd.DataFrame, patients: int) -> pd.DataFrame:
    """Return the chosen series of some patients: those with most phases and a segmentation first, then by name.

    Parameters
    ----------
    planned : DataFrame
        From `plan_cohort`.
    patients : int
        How many; 0 for all.
    """
    chosen = planned[planned["fate"] == "chosen"]
    if not patients:
        return chosen
    ranked = chosen.groupby("PatientID").agg(phases=("phase", "nunique"), seg=("kidney_seg", "count"))
    names = ranked.reset_index().sort_values(["phases", "seg", "PatientID"], ascending=[False, False, True])
    return chosen[chosen["PatientID"].isin(names["PatientID"].head(patients))]


def count_by_phase(planned: pd.DataFrame) -> pd.DataFrame:
    """Return the number of chosen series by collection and phase, with sums, and the number of patients."""
    chosen = planned[planned["fate"] == "chosen"]
    table = pd.crosstab(chosen["collection_id"], chosen["phase"]).reindex(columns=list(PHASES), fill_value=0)
    table["all"] = table.sum(axis=1)
    table["patients"] = chosen.groupby("collection_id")["PatientID"].nunique()
    table.loc["series"] = table.sum()
    by_phase = chosen.groupby("phase")["PatientID"].nunique().reindex(list(PHASES), fill_value=0)
    table.loc["patients"] = [*by_phase, chosen["PatientID"].nunique(), chosen["PatientID"].nunique()]
    return table


def count_fates(planned: pd.DataFrame) -> pd.DataFrame:
    """Return what became of every CT series, by collection: the sum is the number of CT series in the index."""
    table = pd.crosstab(planned["fate"], planned["collection_id"], margins=True, margins_name="all")
    return table.sort_values("all", ascending=False)


def sources(planned: pd.DataFrame) -> pd.DataFrame:
    """Return licence and DOI of what is taken, with series, images and gigabytes: to be cited."""
    grouped = planned[planned["fate"] == "chosen"].groupby(["collection_id", "source_DOI", "license_short_name"])
    table = grouped.agg(
        series=("SeriesInstanceUID", "size"), images=("instanceCount", "sum"), GB=("series_size_MB", "sum")
    )
    return table.assign(GB=(table["GB"] / 1000).round(1)).reset_index()


def download(chosen: pd.DataFrame, folder: str | Path) -> list[str]:
    """Download chosen series and their kidney segmentations with idc-index; go on where it stopped.

    Parameters
    ----------
    chosen : DataFrame
        From `choose_patients`.
    folder : path
        Gets <collection>/<patient>/<series>/.

    Returns
    -------
    list of str
        The series of `chosen` that are there now.

    Raises
    ------
    ConnectionError
        If the archive cannot be reached.

    Notes
    -----
    Public buckets, no account. Not tested: the machine that this was written on has no way to the archive.
    """
    from idc_index import IDCClient  # only here: it starts a database, and planning does without it

    folder = resolve(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [*chosen["SeriesInstanceUID"], *chosen["kidney_seg"].dropna().unique()]
    try:
        IDCClient().download_from_selection(
            downloadDir=str(folder),
            seriesInstanceUID=wanted,
            dirTemplate="%collection_id/%PatientID/%SeriesInstanceUID",
            use_s5cmd_sync=True,
        )
    except Exception as error:  # the client and what it calls raise anything without a network
        raise ConnectionError(f"the archive cannot be reached ({type(error).__name__}): try again later.") from error
    there = {path.name for path in folder.glob("*/*/*") if any(path.iterdir())}
    return [uid for uid in chosen["SeriesInstanceUID"] if uid in there]


def write_labels(chosen: pd.DataFrame, series: list[str], folder: str | Path) -> Path:
    """Write labels.csv for the series that are there; the kidneys' extent comes from the segmentations."""
    path = resolve(folder) / "labels.csv"
    table = chosen[chosen["SeriesInstanceUID"].isin(series)]
    with atomic_path(path) as temporary:
        table.rename(columns={"SeriesInstanceUID": "series_uid"})[["series_uid", "phase"]].to_csv(
            temporary, index=False
        )
    return path
