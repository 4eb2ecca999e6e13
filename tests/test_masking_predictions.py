"""Where masked images go: shares and differences against loops over the rows."""

import numpy as np
import pandas as pd
import pytest

from lib.masking.predictions import compare_orders, less_controls, predicted_after
from lib.masking.statistics import slice_means
from lib.paper import PHASES

MASKS = [
    ("saliency", "input", "top"), ("sam", "conv3b", "top"), ("sam", "conv3b", "bottom"), ("cam", "conv6", "top"),
    ("random_body", "-", "random"), ("blocks", "conv3b", "random"), ("blocks", "conv6", "random"),
]  # fmt: skip
MAPS = [mask[:2] for mask in MASKS if mask[2] == "top"]


@pytest.fixture(scope="module")
def masking():
    """Rows of 6 slices of 3 patients per phase, two draws each, with random probabilities."""
    rng, rows = np.random.default_rng(4), []
    for phase in PHASES:
        for number in range(6):
            before = rng.dirichlet(np.ones(5))
            for mask in MASKS:
                for draw in range(2):
                    after = rng.dirichlet(np.ones(5))
                    own = PHASES.index(phase)
                    share = 100 * after[own] / before[own]
                    rows.append((f"p{number // 2}", "ab", number, phase, *mask, draw, share, *before, *after))
    names = ["patient", "series", "slice", "phase", "method", "layer", "region", "draw", "relative_probability"]
    names += [f"{when}_{phase}" for when in ("original", "masked") for phase in PHASES]
    return pd.DataFrame(rows, columns=names)


def test_shares_are_counts_of_the_highest_probability(masking):
    shares = predicted_after(masking).set_index(["method", "layer", "region", "phase", "predicted"])
    for mask in MASKS:
        for phase in PHASES:
            count = dict.fromkeys(PHASES, 0)
            for _, row in masking.iterrows():
                if (row["method"], row["layer"], row["region"]) == mask and row["phase"] == phase:
                    count[max(PHASES, key=lambda name: row[f"masked_{name}"])] += 1
            for predicted, n in count.items():
                found = shares.loc[(*mask, phase, predicted)]
                assert found["share"] == pytest.approx(n / 12)
                assert (found["n_slices"], found["n_patients"]) == (6, 3)


@pytest.mark.parametrize("measure", ["relative_probability", "log_odds"])
def test_a_cost_less_its_control_is_the_mean_difference_of_the_slices(masking, measure):
    means = slice_means(masking)
    found = less_controls(means, MAPS).set_index(["method", "layer", "measure", "less_control", "phase"])["value"]
    control = {"input": ("random_body", "-"), "conv3b": ("blocks", "conv3b"), "conv6": ("blocks", "conv6")}

    def mean(method, layer, region, phase):
        wanted = (means["method"] == method) & (means["layer"] == layer) & (means["phase"] == phase)
        return means.loc[wanted & (means["region"] == region), measure].mean()

    for method, layer in MAPS:
        own = [mean(method, layer, "top", phase) for phase in PHASES]
        less = [value - mean(*control[layer], "random", phase) for value, phase in zip(own, PHASES, strict=True)]
        for expected, is_less in ((own, False), (less, True)):
            np.testing.assert_allclose(found[method, layer, measure, is_less].loc[list(PHASES)], expected)
            assert found[method, layer, measure, is_less, "mean"] == pytest.approx(np.mean(expected))


def test_a_control_that_was_not_measured_leaves_its_rows_out(masking):
    means = slice_means(masking[~((masking["method"] == "blocks") & (masking["layer"] == "conv6"))])
    found = less_controls(means, MAPS)
    assert set(found.loc[found["method"] == "cam", "less_control"]) == {False}
    assert set(found.loc[found["method"] == "sam", "less_control"]) == {False, True}


def test_the_order_of_the_maps_in_two_networks(masking):
    first = less_controls(slice_means(masking), MAPS)
    orders, agreement = compare_orders(first, first)
    assert (agreement["rho"] == 1).all() and (orders["first_rank"] == orders["second_rank"]).all()
    turned = first.assign(value=-first["value"])
    orders, agreement = compare_orders(first, turned)
    np.testing.assert_allclose(agreement["rho"], -1)
    assert list(orders["first_rank"] + orders["second_rank"]) == [4, 4, 4]
    second = first.assign(value=np.random.default_rng(0).permutation(first["value"]))
    _, agreement = compare_orders(first, second)
    chosen = [table.query("measure == 'log_odds' and less_control and phase == 'neph'") for table in (first, second)]
    ranks = [table["value"].rank().to_numpy() for table in chosen]
    rho = 1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (3 * 8)
    row = agreement.query("measure == 'log_odds' and less_control and phase == 'neph'")
    assert row["rho"].item() == pytest.approx(rho) and row["maps"].item() == 3
