"""Claims about where maps lie, on tables whose verdicts are known."""

import numpy as np
import pandas as pd
import pytest

from lib.claims.table import compare_with_paper, find, sources
from lib.claims.tissues import contrast_claims, sign_claims, tissue_claims
from lib.maps.tissue_contrasts import AGAINST, MAP_PAIRS
from lib.paper import FINAL_MAPS, LAYERS, PHASES

MAPS = (*FINAL_MAPS, *(("sam", layer) for layer in LAYERS[:3]))


def tissues(times=2.0, spread=0.5):
    """Every map marks every first set `times` times as often, in every phase."""
    rows = [(phase, *which, *sets, times) for phase in PHASES for which in MAPS for sets in AGAINST]
    table = pd.DataFrame(rows, columns=["phase", "method", "layer", "tissue", "against", "times"])
    return table.assign(low=times - spread, high=times + spread, n_slices=10, n_patients=6)


def change(table, value, spread=0.5, **where):
    """Return the table with other numbers where columns have values."""
    chosen = np.logical_and.reduce([table[name].isin(np.atleast_1d(wanted)) for name, wanted in where.items()])
    assert chosen.any()
    table = table.copy()
    middle = "times" if "times" in table else "mean"
    table.loc[chosen, [middle, "low", "high"]] = [value, value - spread, value + spread]
    return table


def verdicts(findings):
    return {finding.id: finding.verdict for finding in findings}


def test_enriched_tissues_reproduce_the_paper():
    found = {finding.id: finding for finding in tissue_claims(tissues())}
    assert verdicts(found.values()) == dict.fromkeys(("C46", "C49", "C56"), "reproduced")
    seen = found["C46"]
    assert (seen.value, seen.low, seen.high, seen.n_slices, seen.n_patients) == (2.0, 1.5, 2.5, 50, 6)
    assert "saliency: Noncon 2.0 [1.5, 2.5]; CM 2.0" in seen.measured
    assert "kidney alone 2.0 to 2.0, vessels alone 2.0 to 2.0; over muscle and liver 2.0 to 2.0;" in seen.measured
    assert seen.measured.endswith("bowel over the other unnamed tissues: Pyelo 2.0 [1.5, 2.5]")
    blind = {f.id: f for f in tissue_claims(change(tissues(), 0.5, tissue="bowel"))}["C46"]
    assert blind.verdict == "reproduced", "the bowel is told and not judged"


@pytest.mark.parametrize(
    ("times", "judged"), [(1.2, "direction only"), (1.0, "not reproduced"), (0.3, "not reproduced")]
)
def test_one_is_no_difference(times, judged):
    assert set(verdicts(tissue_claims(tissues(times))).values()) == {judged}


def test_four_phases_of_five_are_enough_and_three_are_not():
    one = change(tissues(), 0.5, phase="noncon")
    assert set(verdicts(tissue_claims(one)).values()) == {"reproduced"}
    two = change(one, 1.2, phase="cm")
    assert set(verdicts(tissue_claims(two)).values()) == {"direction only"}
    three = change(two, 0.5, phase="cm")
    assert set(verdicts(tissue_claims(three)).values()) == {"not reproduced"}


def test_the_weakest_part_counts():
    liver = change(tissues(), 1.2, tissue="kidney and vessels", against="muscle and liver")
    assert verdicts(tissue_claims(liver)) == {"C46": "direction only", "C49": "reproduced", "C56": "reproduced"}
    bone = change(tissues(), 0.6, tissue="bone and muscle")
    found = {finding.id: finding for finding in tissue_claims(bone)}
    assert verdicts(found.values()) == {"C46": "reproduced", "C49": "not reproduced", "C56": "reproduced"}
    assert "Pyelo 2.0 [1.5, 2.5] (reproduced); bone and muscle: Noncon 0.6" in found["C49"].measured


def test_the_lowest_map_and_layer_count():
    table = change(tissues(), 1.1, method="grad_cam", layer="conv6", tissue="kidney and vessels")
    table = change(table, 0.7, method="sam", layer="conv3b", phase=PHASES[:3])
    found = {finding.id: finding for finding in tissue_claims(table)}
    assert verdicts(found.values()) == {"C46": "reproduced", "C49": "direction only", "C56": "not reproduced"}
    assert "2b, 3b, 4b: Noncon 0.7 [0.2, 1.2]" in found["C56"].measured
    assert found["C56"].measured.endswith("by layer: 2b 2.0 to 2.0, 3b 0.7 to 2.0, 4b 2.0 to 2.0")


def test_one_patient_has_a_direction_only():
    table = tissues().assign(low=np.nan, high=np.nan, n_patients=1)
    found = tissue_claims(table)
    assert set(verdicts(found).values()) == {"direction only"}
    assert "Noncon 2.0 [one patient]" in found[0].measured


def test_organs_that_are_not_on_the_slices_leave_it_undecided():
    table = change(tissues(), np.nan, phase=["noncon", "cm"])
    assert set(verdicts(tissue_claims(table)).values()) == {"undecided"}


def test_maps_that_were_not_measured_give_no_finding():
    table = tissues()
    assert verdicts(tissue_claims(table[table["method"] == "sam"])) == {"C56": "reproduced"}


def contrasts():
    """What the paper would find: differences in shares, each twice as large as its interval is wide on a side."""
    signs = {"half_mass": -1, "kidney cortex": 1, "kidney and vessels": 1, "outside": -1}
    rows = [
        (phase, measure, *first, *second, 0.2, 0.2 - 0.1 * signs[measure], 0.1 * signs[measure])
        for phase in PHASES
        for measure, first, second in MAP_PAIRS
    ]
    names = ["phase", "measure", "method", "layer", "other_method", "other_layer", "value", "other", "mean"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(low=table["mean"] - 0.05, high=table["mean"] + 0.05, n_slices=10, n_patients=6)


def test_contrasts_of_maps():
    found = {finding.id: finding for finding in contrast_claims(contrasts())}
    assert verdicts(found.values()) == {"C47": "reproduced", "C55": "reproduced"}
    assert (found["C47"].value, found["C47"].low, found["C47"].high) == pytest.approx((-10, -15, -5))
    assert "points: Noncon -10.0 [-15.0, -5.0]" in found["C47"].measured
    assert "points: Noncon 10.0 [5.0, 15.0]" in found["C55"].measured
    assert found["C55"].measured.endswith("CM-neph 30, Neph 30, Pyelo 30, at 5b at most 20")


def test_guided_backprop_needs_both_parts():
    table = change(contrasts(), 0.01, 0.05, measure="kidney cortex")
    assert verdicts(contrast_claims(table)) == {"C47": "direction only", "C55": "reproduced"}
    table = change(table, 0.1, 0.05, measure="half_mass")
    assert verdicts(contrast_claims(table))["C47"] == "not reproduced"


def test_deep_grad_cam_has_to_beat_both_shallow_layers():
    table = change(contrasts(), -0.1, 0.05, measure="kidney and vessels", other_layer="conv2b")
    found = {finding.id: finding for finding in contrast_claims(table)}
    assert found["C55"].verdict == "not reproduced"
    assert "points: Noncon -10.0 [-15.0, -5.0]" in found["C55"].measured
    table = change(contrasts(), 0.0, 0.0, measure="outside")
    assert verdicts(contrast_claims(table))["C55"] == "reproduced", "air is told and not judged"


def signs(**means):
    """Mean signed saliency with an interval of 1 on each side, in the order of the paper's four cases."""
    cases = [("noncon", "aorta"), ("noncon", "vena cava"), ("cm", "kidney cortex"), ("cm", "kidney medulla")]
    values = dict(zip(cases, means.get("values", (-2.0, -3.0, 4.0, -2.0)), strict=True)) | {("neph", "aorta"): 9.0}
    rows = [(*case, mean, mean - 1, mean + 1, float(mean > 0), 10, 8) for case, mean in values.items()]
    names = ["phase", "tissue", "mean_signed", "low", "high", "positive", "n_slices", "n_patients"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize(
    ("values", "judged"),
    [
        ((-2.0, -3.0, 4.0, -2.0), "reproduced"),
        ((-2.0, -3.0, 4.0, -0.5), "direction only"),
        ((-2.0, -3.0, 4.0, 2.0), "not reproduced"),
        ((2.0, 3.0, -4.0, 2.0), "not reproduced"),
    ],
)
def test_all_four_signs_have_to_hold(values, judged):
    (finding,) = sign_claims(signs(values=values))
    assert (finding.id, finding.verdict, finding.n_slices, finding.n_patients) == ("C48", judged, 20, 8)
    assert "Noncon aorta" in finding.measured and "CM kidney medulla" in finding.measured


def test_a_sign_that_was_not_measured_leaves_it_undecided():
    table = signs()
    (finding,) = sign_claims(table[table["phase"] != "noncon"])
    assert finding.verdict == "undecided"
    assert "Noncon aorta not measured (low wanted), " in finding.measured
    assert finding.n_slices == 10
    assert sign_claims(table[table["phase"] == "neph"])[0].n_slices == 0


def test_tables_of_a_run_are_found_one_by_one(tmp_path):
    (tmp_path / "tables").mkdir()
    pd.DataFrame({"share": [0.5]}).to_csv(tmp_path / "tables/anatomy.csv", index=False)
    assert not sources(tmp_path)["found"].any()
    untested = compare_with_paper([]).set_index("id").loc[["C46", "C49", "C56"]]
    assert set(untested["verdict"]) == {"not tested here"}
    assert set(untested["measured"]) == {"needs a truth of the tissues and 13_anatomy_of_maps"}
    made = {"tissues": tissues(), "contrasts": contrasts(), "sign": signs()}
    for name, table in made.items():
        table.to_csv(tmp_path / f"tables/anatomy_{name}.csv", index=False)
    left = sources(tmp_path)
    stages = list(left.index[left["found"]])
    assert stages == ["tissues", "contrasts", "signs"]
    found = [f for stage in stages for f in find(stage, left.loc[stage, "path"], rng=np.random.default_rng(0))]
    table = compare_with_paper(found).set_index("id")
    assert (table.loc[["C46", "C47", "C48", "C49", "C55", "C56"], "verdict"] == "reproduced").all()
