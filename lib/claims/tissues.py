"""The paper's claims about the tissues that maps mark, tested on the tables of 13_anatomy_of_maps.

These need the true tissues. A claim of several parts has the verdict of its weakest part, and every part is reported. A
part is judged phase by phase, by the rule of `lib.claims.findings.verdict`. If it is about several maps or layers, the
one closest to no difference counts.
"""

import numpy as np
import pandas as pd

from lib.claims.findings import Finding, verdict, words_by_phase
from lib.maps.tissue_contrasts import DEEP
from lib.maps.tissue_shares import EXPECTED_SIGN
from lib.paper import FINAL_MAPS, LAYERS, PHASES
from lib.titles import LAYER_TITLES, PHASE_TITLES

SALIENCY, GUIDED, CAM, GRAD_CAM = FINAL_MAPS
NAMED, REST, PLAIN_REST = "kidney and vessels", "rest of the body", "rest without bone and muscle"
BOWEL = ("bowel", "rest without bowel")
SHALLOW_SAMS = [("sam", layer) for layer in LAYERS[:3]]
WEAKEST_FIRST = ("not reproduced", "undecided", "direction only", "reproduced")


def tissue_claims(tissues: pd.DataFrame) -> list[Finding]:
    """Test the claims on the tissues that maps mark: C46, C49 and C56.

    Parameters
    ----------
    tissues : DataFrame
        `tables/anatomy_tissues.csv`, see `lib.maps.tissue_contrasts.contrast_tissues`. If the map of a claim was not
        measured, there is no finding on this claim.

    Notes
    -----
    The share of a map that lies in an organ says little, since large organs have large shares. The tissues that the
    paper names are therefore compared with the others by enrichment: how many times as densely does the map's highest
    tenth mark them? That saliency marks the digestive tract in the pyelographic phase is reported with C46, and not
    judged.
    """

    def times(maps, tissue, against):
        chosen = pd.MultiIndex.from_frame(tissues[["method", "layer"]]).isin(maps)
        rows = tissues[chosen & (tissues["tissue"] == tissue) & (tissues["against"] == against)]
        return rows.rename(columns={"times": "mean"})

    found = []
    seen, less = times([SALIENCY], NAMED, REST), times([SALIENCY], NAMED, "muscle and liver")
    if len(seen):
        alone = ", ".join(f"{part} alone {_range(times([SALIENCY], part, REST))}" for part in ("kidney", "vessels"))
        what = f"enrichment of {NAMED} over the {REST}, saliency: {_closest(seen)}"
        text = f"{what}; {alone}; over muscle and liver {_range(less)}{_bowel(times([SALIENCY], *BOWEL))}"
        found.append(_finding("C46", text, seen, [_judge(seen, 1, 1.0), _judge(less, 1, 1.0)]))
    coarse = times([CAM, GRAD_CAM], NAMED, PLAIN_REST)
    frame = times([CAM, GRAD_CAM], "bone and muscle", PLAIN_REST)
    if len(coarse):
        judged = [_judge(rows, 1, 1.0) for rows in (coarse, frame)]
        what = f"enrichment over the other tissues, the lower of CAM and Grad-CAM, {NAMED}: {_closest(coarse)}"
        text = f"{what} ({judged[0]}); bone and muscle: {_closest(frame)} ({judged[1]})"
        found.append(_finding("C49", text, coarse, judged))
    fine = times(SHALLOW_SAMS, NAMED, REST)
    if len(fine):
        by_layer = ", ".join(f"{LAYER_TITLES[layer]} {_range(rows)}" for layer, rows in fine.groupby("layer"))
        what = f"enrichment of {NAMED} over the {REST}, the lowest of SAM at 2b, 3b, 4b: {_closest(fine)}"
        text = f"{what}; by layer: {by_layer}"
        found.append(_finding("C56", text, fine, [_judge(fine, 1, 1.0)]))
    return found


def contrast_claims(contrasts: pd.DataFrame) -> list[Finding]:
    """Test the claims that compare maps on the same slices: C47 and C55.

    Parameters
    ----------
    contrasts : DataFrame
        `tables/anatomy_contrasts.csv`, see `lib.maps.tissue_contrasts.contrast_maps`. If the map of a claim was not
        measured, there is no finding on this claim.

    Notes
    -----
    C55 is judged by the organs: a map that marks air has a smaller share of its highest tenth in them. The share
    outside the body is reported and not judged, since the paper says that it may occur and not that it occurs in every
    phase.
    """
    contrasts = contrasts.assign(**{name: 100 * contrasts[name] for name in ("value", "other", "mean", "low", "high")})

    def pairs(which, measure):
        first = (contrasts["method"] == which[0]) & (contrasts["layer"] == which[1])
        return contrasts[first & (contrasts["measure"] == measure)]

    found = []
    mass, cortex = pairs(GUIDED, "half_mass"), pairs(GUIDED, "kidney cortex")
    if len(mass) and len(cortex):
        judged = [_judge(mass, -1, 0.0), _judge(cortex, 1, 0.0)]
        what = f"voxels that hold half of guided backprop minus those of saliency, points: {_closest(mass, -1)}"
        text = f"{what} ({judged[0]}); cortex in the highest tenth: {_closest(cortex)} ({judged[1]})"
        found.append(_finding("C47", text, mass, judged))
    organs, outside = pairs(DEEP, NAMED), pairs(DEEP, "outside")
    if len(organs) and len(outside):
        level = outside.groupby("phase")["other"].max()
        air = ", ".join(f"{PHASE_TITLES[phase]} {level[phase]:.0f}" for phase in PHASES if phase in level)
        what = f"{NAMED} in Grad-CAM's highest tenth, 5b minus the higher of 2b and 3b, points: {_closest(organs)}"
        text = f"{what}; outside the body at 2b or 3b, %: {air}, at 5b at most {outside['value'].max():.0f}"
        found.append(_finding("C55", text, organs, [_judge(organs, 1, 0.0)]))
    return found


def sign_claims(signs: pd.DataFrame) -> list[Finding]:
    """Test the claim on the signs of the saliency that the paper names: C48.

    Parameters
    ----------
    signs : DataFrame
        `tables/anatomy_sign.csv`, see `lib.maps.tissue_shares.summarise_signs`.

    Notes
    -----
    The paper names four cases, two tissues in each of two phases, and all four have to hold. The verdict is
    "reproduced" if each interval of the mean signed saliency excludes 0 on the paper's side, "direction only" if each
    mean lies on that side, "undecided" if a case was not measured, and otherwise "not reproduced".
    """
    cases = pd.MultiIndex.from_tuples(EXPECTED_SIGN, names=["phase", "tissue"])
    rows = signs.set_index(["phase", "tissue"]).reindex(cases)
    wanted = np.array(list(EXPECTED_SIGN.values()))
    ends = np.sort(rows[["low", "high"]].mul(wanted, axis=0).to_numpy(), axis=1)
    as_claimed = pd.DataFrame({"mean": wanted * rows["mean_signed"], "low": ends[:, 0], "high": ends[:, 1]})
    parts = [
        f"{PHASE_TITLES[phase]} {tissue} {_patients(row)} ({'high' if sign > 0 else 'low'} wanted)"
        for (phase, tissue), sign, row in zip(cases, wanted, rows.itertuples(), strict=True)
    ]
    slices = rows["n_slices"].groupby(level="phase").max().sum()
    patients = rows["n_patients"].max()
    measured = f"patients whose score rises where the tissue is brighter: {', '.join(parts)}"
    judged = verdict(as_claimed, "superiority", direction=1)
    return [Finding("C48", measured, judged, n_slices=_count(slices), n_patients=_count(patients))]


def _finding(id_: str, measured: str, rows: pd.DataFrame, parts: list[str]) -> Finding:
    """Return a finding with the weakest verdict; its number of patients is that of the phase with the most."""
    phases = rows.groupby("phase")
    bounds = phases["mean"].mean().mean(), rows["low"].min(), rows["high"].max()
    counts = int(phases["n_slices"].max().sum()), int(rows["n_patients"].max())
    return Finding(id_, measured, min(parts, key=WEAKEST_FIRST.index), *bounds, *counts)


def _judge(rows: pd.DataFrame, direction: int, reference: float) -> str:
    """Judge by phase a condition that has to hold in every row."""
    phases = rows.groupby("phase")
    last = pd.Series.min if direction > 0 else pd.Series.max
    bounds = {name: phases[name].agg(lambda values: last(values, skipna=False)) for name in ("mean", "low", "high")}
    return verdict(pd.DataFrame(bounds), "superiority", direction=direction, reference=reference)


def _closest(rows: pd.DataFrame, direction: int = 1) -> str:
    """Report the row of each phase that is closest to no difference, or furthest on the opposite side."""
    known = rows.dropna(subset="mean").groupby("phase")["mean"]
    return words_by_phase(rows.loc[known.idxmin() if direction > 0 else known.idxmax()])


def _range(rows: pd.DataFrame) -> str:
    return f"{rows['mean'].min():.1f} to {rows['mean'].max():.1f}"


def _bowel(rows: pd.DataFrame) -> str:
    """Report the digestive tract, which the paper describes in the last phase; it is not judged."""
    rows = rows[(rows["phase"] == "pyelo") & rows["mean"].notna()]
    return f"; bowel over the other unnamed tissues: {_closest(rows)}" if len(rows) else ""


def _patients(row) -> str:
    return f"{100 * row.positive:.0f} %" if np.isfinite(row.mean_signed) else "not measured"


def _count(number: float) -> int:
    return int(number) if np.isfinite(number) else 0
