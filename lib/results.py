"""The published results in the README: tables in Markdown, made from the published tables and from nothing else."""

import re
from pathlib import Path

import pandas as pd

from lib.claims.networks import OUTCOMES
from lib.claims.table import VERDICTS
from lib.files import ROOT
from lib.masking.networks import MASK, over_networks
from lib.metrics import phase_table
from lib.paper import LAYERS, PHASES, published
from lib.titles import LAYER_TITLES, PHASE_TITLES

TABLE_1 = {"single": "table1_slices", "voting": "table1_volumes"}
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
TEXTS = ("atlas", "architectures", "dental")  # tables of 20, 21, 22 begin so
TEXTS_BEGIN, TEXTS_END = "<!-- texts: begin -->", "<!-- texts: end -->"
MASKS = (  # what is masked, as the README names it: method, layer, region
    ("the highest of saliency", "saliency", "input", "top"),
    ("the highest of guided backprop", "guided_backprop", "input", "top"),
    ("the highest of CAM", "cam", "conv6", "top"),
    ("the highest of Grad-CAM at 6", "grad_cam", "conv6", "top"),
    ("the highest of Grad-CAM at 3b", "grad_cam", "conv3b", "top"),
    *((f"the highest of SAM at {LAYER_TITLES[x]}", "sam", x, "top") for x in LAYERS[:4]),
    ("*control:* random voxels of the body", "random_body", "-", "random"),
    ("*control:* random blocks of the body, as large as cells of 6", "blocks", "conv6", "random"),
    ("*control:* what CAM marks on another patient in the same phase", "cam", "conv6", "other_patient"),
)


def results(tables: Path = ROOT / "tables") -> str:
    """Return the README's tables of results.

    Parameters
    ----------
    tables : Path
        Folder of published tables: headline.csv, table1_slices.csv, masking_networks.csv and claims.csv; seeds.csv and
        claims_over_networks.csv where there are several networks.
    """
    parts = [_prediction(tables), _masking(tables), _verdicts(tables)]
    if (tables / "seeds.csv").exists() and len(pd.read_csv(tables / "seeds.csv")) > 1:
        parts.insert(0, _over_networks(tables))
    return "\n\n".join(parts)


def update(readme: Path, tables: Path) -> None:
    """Write the results between the two marks of a README.

    Raises
    ------
    ValueError
        If the marks are not there.
    """
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{readme} lacks {BEGIN} or {END}: where are the results to go?")
    text = _between(text, BEGIN, END, results(tables))
    if TEXTS_BEGIN in text:
        text = _between(text, TEXTS_BEGIN, TEXTS_END, texts(tables))
    readme.write_text(text)


def _between(text: str, begin: str, end: str, block: str) -> str:
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{block}\n{end}", text, flags=re.DOTALL)


def shown(readme: Path, begin: str = BEGIN, end: str = END) -> str:
    """Return the results that a README shows between two marks."""
    return readme.read_text().partition(begin)[2].partition(end)[0].strip()


def texts(tables: Path = ROOT / "tables") -> str:
    """Return the README's tables on the related texts: how good the networks are, and the verdict on each claim.

    Parameters
    ----------
    tables : Path
        Folder of published tables: four_studies.csv, and architectures_networks.csv and dental_networks.csv where they
        are.
    """
    if not (tables / "four_studies.csv").exists():
        return "No results are published yet: `make texts` makes them, after `make figures`."
    claims = pd.read_csv(tables / "four_studies.csv", keep_default_na=False)
    parts = [pd.read_csv(file).set_index("id") for name in TEXTS if (file := tables / f"{name}_verdicts.csv").exists()]
    parts = pd.concat(parts) if parts else pd.DataFrame(columns=["parts", "supported", "contradicted"])
    lines = ["| | claim | known from | verdict | parts: supported, contradicted |", "|---|---|---|---|---|"]
    for row in claims[claims["id"].str.match("[AQM]")].sort_values("id", key=lambda i: i.map(_place)).itertuples():
        counted = parts.loc[row.id] if row.id in parts.index else None
        told = "" if counted is None else f"{counted.parts}: {counted.supported}, {counted.contradicted}"
        lines.append(f"| {row.id} | {row.claim} | {row.source} | {row.verdict} | {told} |")
    aucs = []
    for name, finding in (("architectures", "pneumothorax"), ("dental", "spoiled dental plates")):
        if (tables / f"{name}_networks.csv").exists():
            networks = pd.read_csv(tables / f"{name}_networks.csv")
            aucs.append(f"{finding}: {_listed(networks.groupby('network', sort=False)['auc'].mean())}")
    return "\n".join([*lines, "", f"Area under the ROC curve, {'; '.join(aucs)}."] if aucs else lines)


def _place(name: str) -> int:
    """Return where a claim of the texts stands: 20, 21, 22, and by number."""
    return "AQM".index(name[0]) * 100 + int(name[1:])


def _listed(values: pd.Series) -> str:
    return ", ".join(f"{str(name).replace('_', ' ')} {value:.2f}" for name, value in values.items())


def _prediction(tables: Path) -> str:
    ours, theirs = pd.read_csv(tables / "headline.csv").set_index("scheme"), published("headline").set_index("scheme")
    f1 = {name: phase_table(_matrix(tables, name))["f1"] for name in TABLE_1.values()}
    paper_f1 = {name: phase_table(published(name))["f1"] for name in TABLE_1.values()}
    rows = [
        ("macro F1, every phase weighing the same", [f"{t.f1[s]:.3f}" for s in ours.index for t in (ours, theirs)]),
        (
            f"F1 by phase, from Table 1: {', '.join(PHASE_TITLES.values())}",
            [", ".join(f"{t[TABLE_1[s]][p]:.2f}" for p in PHASES) for s in ours.index for t in (f1, paper_f1)],
        ),
        ("ROC AUC, mean over the phases", [f"{t.roc_auc[s]:.3f}" for s in ours.index for t in (ours, theirs)]),
    ]
    lines = ["| | here, single slices | paper | here, voting | paper |", "|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {name} | {' | '.join(values)} |" for name, values in rows])


def _over_networks(tables: Path) -> str:
    networks, parts = pd.read_csv(tables / "seeds.csv"), pd.read_csv(tables / "claims_over_networks.csv")
    spread = [f"{networks[name].min():.3f} to {networks[name].max():.3f}" for name in ("f1_slices", "f1_voting")]
    text = f"{len(networks)} networks that differ by their seed alone: F1 {spread[0]} on slices, {spread[1]} by voting."
    heading = f"| claim | the paper says | its comparisons of two masks, over {len(networks)} networks |"
    lines = [f"{text} The claims on masking:", "", heading]
    lines.append("|---|---|---|")
    claims = published("claims").set_index("id")["claim"]
    for claim, rows in parts.groupby("claim", sort=False):
        counts = rows["outcome"].value_counts().reindex(OUTCOMES, fill_value=0)
        shown = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        if len(rows) > 1:
            shown = f"all {shown}" if counts.max() == len(rows) else f"of {len(rows)}: {shown}"
        lines.append(f"| {claim} | {claims[claim]} | {shown} |")
    return "\n".join(lines)


def _matrix(tables: Path, name: str) -> pd.DataFrame:
    """Read a confusion matrix, rows predicted and columns labelled."""
    return pd.read_csv(tables / f"{name}.csv", index_col="predicted")


def _masking(tables: Path) -> str:
    """Return what masking leaves, the mean over the networks; the range is of the networks' means over the phases."""
    rows = over_networks(pd.read_csv(tables / "masking_networks.csv")).set_index([*MASK, "phase"]).sort_index()
    phases = [phase for phase in PHASES if phase in rows.index.get_level_values("phase")]
    several = rows["networks"].max() > 1
    lines = [f"| a tenth of the voxels is masked: | {' | '.join(PHASE_TITLES[p] for p in phases)} | mean |"]
    lines.append("|---|" + "---|" * (len(phases) + 1))
    for name, *which in MASKS:
        if (*which, "mean") in rows.index:
            row = rows.loc[tuple(which)]
            spread = f" ({row.lowest['mean']:.0f} to {row.highest['mean']:.0f})" if several else ""
            values = [*(_percent(row.value[phase]) for phase in phases), _percent(row.value["mean"]) + spread]
            lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def _percent(value: float) -> str:
    return "not measured" if pd.isna(value) else f"{value:.0f}\N{NO-BREAK SPACE}%"


def _verdicts(tables: Path) -> str:
    claims = pd.read_csv(tables / "claims.csv", keep_default_na=False)
    lines = ["| verdict | claims |", "|---|---|"]
    for verdict in (verdict for verdict in VERDICTS if verdict in set(claims["verdict"])):
        lines.append(f"| {verdict} | {', '.join(claims.loc[claims['verdict'] == verdict, 'id'])} |")
    return "\n".join(lines)
