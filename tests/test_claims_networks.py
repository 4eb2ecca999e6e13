"""Claims over networks: contrasts by hand, intervals of scipy, outcomes by the rule."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.claims.networks import CLAIMS, claim_outcomes, contrasts, judge, network_findings, outcome
from lib.figures.networks import draw_over_networks
from lib.paper import LAYERS, PHASES

MASKS = sorted({mask for parts, _ in CLAIMS.values() for part in parts for mask in (part.first, part.second) if mask})


def slice_table(levels, seed=0, patients=8, noise=3.0):
    """Slice means of a network: `levels` gives what masking leaves, by mask; all else leaves 60 %."""
    rng = np.random.default_rng(seed)
    controls = [("random_body", "-", "random"), *(("blocks", layer, "random") for layer in LAYERS)]
    rows = []
    for phase in PHASES:
        for patient in range(patients):
            for number in range(1 + patient % 3):
                for mask in [*MASKS, *controls]:
                    value = levels.get(mask, 60.0) + rng.normal(0, noise)
                    odds = -1.0 if mask in controls else -3.0
                    rows.append((phase, f"p{patient}", f"s{patient}{phase}", number, *mask, value, odds))
    names = ["phase", "patient", "series", "slice", "method", "layer", "region", "relative_probability", "log_odds"]
    return pd.DataFrame(rows, columns=names)


def test_a_contrast_is_the_mean_over_patients_of_the_means_over_their_slices():
    table = slice_table({("saliency", "input", "top"): 20.0})
    part = "claim == 'C52' and part == 'saliency input - cam conv6' and phase == 'neph'"
    found = contrasts({"one": table}).query(part)
    chosen = table[(table["phase"] == "neph") & (table["region"] == "top")].set_index(["patient", "slice"])
    of = {name: chosen[chosen["method"] == name]["relative_probability"] for name in ("saliency", "cam")}
    expected = np.mean([(of["saliency"].loc[f"p{k}"] - of["cam"].loc[f"p{k}"]).mean() for k in range(8)])
    assert found["value"].item() == pytest.approx(expected)
    assert found["passes"].item() and found["log_odds"].item() == pytest.approx(0.0)


def test_log_odds_of_a_mask_against_100_are_those_less_its_matched_control():
    found = contrasts({"one": slice_table({})}).query("claim == 'C50'")
    np.testing.assert_allclose(found["log_odds"], -2.0)


def test_phases_that_the_paper_excepts_are_left_out():
    found = contrasts({"one": slice_table({})}).query("claim in ('C57', 'C58')")
    phases = found.groupby(["claim", "part"])["phase"].agg(set)
    assert "noncon" not in phases["C57", "sam conv4b - grad_cam conv4b"]
    assert "noncon" in phases["C57", "sam conv2b - grad_cam conv2b"]
    assert "noncon" not in phases["C58", "sam conv5b - grad_cam conv5b"]


def test_the_interval_is_scipys_over_networks_and_not_over_slices():
    shifts = (-30.0, -20.0, -40.0, -28.0)
    means = {f"n{k}": slice_table({("saliency", "input", "top"): 60 + s}, k) for k, s in enumerate(shifts)}
    table = contrasts(means)
    row = judge(table).query("claim == 'C52' and part == 'saliency input - cam conv6'").iloc[0]
    chosen = table.query("claim == 'C52' and part == 'saliency input - cam conv6'")
    values = chosen.groupby("network")["value"].mean()
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    np.testing.assert_allclose([row.low, row.high], expected)
    assert (row.networks, row.cells, row.of, row.outcome) == (4, 20, 20, "supported")
    assert row.phases_passing == 5


@pytest.mark.parametrize(
    ("low", "high", "kind", "expected"),
    [
        (-9, -2, "lower", "supported"), (-9, -0.5, "lower", "inconclusive"), (2, 9, "lower", "contradicted"),
        (0.5, 9, "lower", "inconclusive"), (-4, 4.9, "same", "supported"), (-4, 5.1, "same", "inconclusive"),
        (5.1, 9, "same", "contradicted"), (-9, -6, "same", "contradicted"), (np.nan, np.nan, "same", ""),
    ],
)  # fmt: skip
def test_outcomes(low, high, kind, expected):
    assert outcome(low, high, kind) == expected


def test_a_claim_has_the_outcome_of_its_weakest_part_and_one_network_gives_none():
    means = {f"n{k}": slice_table({("saliency", "input", "top"): 20, ("cam", "conv6", "top"): 0}, k) for k in range(3)}
    parts = judge(contrasts(means))
    assert dict(zip(*parts.query("claim == 'C52'")[["part", "outcome"]].to_numpy().T, strict=True)) == {
        "saliency input - guided_backprop input": "supported",
        "saliency input - cam conv6": "contradicted",
        "saliency input - grad_cam conv6": "supported",
    }
    assert claim_outcomes(parts)["C52"] == "contradicted" and claim_outcomes(parts)["C50"] == "supported"
    alone = judge(contrasts({"one": slice_table({})}))
    assert set(alone["outcome"]) == {""} and claim_outcomes(alone).empty


def test_masks_that_were_not_measured_leave_their_parts_out():
    table = slice_table({}).query("method != 'cam'")
    found = contrasts({"one": table})
    assert "C54" not in set(found["claim"]) and "C52" in set(found["claim"])
    assert "saliency input - cam conv6" not in set(found["part"])


@pytest.mark.parametrize("networks", [1, 3])
def test_the_figure_shows_every_part_with_its_networks_interval_and_outcome(networks):
    table = contrasts({f"n{k}": slice_table({("saliency", "input", "top"): 20.0 + k}, k) for k in range(networks)})
    parts = judge(table)
    panel = draw_over_networks(table, parts).axes[0]
    assert len(panel.get_yticklabels()) == len(parts)
    words = [text.get_text() for text in panel.texts]
    assert [word.partition(",")[0] for word in words] == (
        list(parts["outcome"]) if networks > 1 else [f"{a} of {b}" for a, b in zip(parts.cells, parts.of, strict=True)]
    )
    points, interval, mean = panel.lines[:3]
    of = table[(table["claim"] == parts.claim[0]) & (table["part"] == parts.part[0])]
    assert sorted(points.get_xdata()) == sorted(of.groupby("network")["value"].mean())
    assert mean.get_xdata()[0] == parts["mean"][0]
    if networks > 1:
        assert list(interval.get_xdata()) == [parts.low[0], parts.high[0]]


def test_a_map_that_costs_no_more_than_random_voxels_of_the_body_does_not_support_c61():
    """It lowers the probability, but so does any tenth of the body."""
    means = {f"n{k}": slice_table({("saliency", "input", "top"): 20.0}, k) for k in range(3)}
    outcomes = judge(contrasts(means)).query("claim == 'C61'").set_index("part")["outcome"]
    assert outcomes["saliency input - random_body"] == "supported"
    assert outcomes["cam conv6 - random_body"] == "inconclusive"


def test_the_finding_over_networks_is_that_of_the_weakest_part():
    levels = {("saliency", "input", "top"): 20.0, ("cam", "conv6", "top"): 10.0}
    means = {f"n{k}": slice_table(levels, k, noise=0.5) for k in range(4)}
    finding = {found.id: found for found in network_findings(judge(contrasts(means)))}["C52"]
    assert finding.verdict == "contradicted"
    said = "over 4 networks: 2 of 3 comparisons supported; the weakest, Saliency − CAM, 6: "
    assert finding.measured.startswith(said)
    assert finding.low < finding.value < finding.high and finding.value == pytest.approx(10, abs=1)
    assert network_findings(judge(contrasts({"one": means["n0"]}))) == []
