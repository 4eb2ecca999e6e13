"""Levels of masking over networks: by hand, and the interval of scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_claims_networks import slice_table

from lib.masking.networks import ORDER, among, network_levels, over_networks, t_interval
from lib.paper import PHASES

SALIENCY = "method == 'saliency' and region == 'top'"
LEVELS = {("saliency", "input", "top"): 20.0, ("random_body", "-", "random"): 45.0}


def test_a_level_is_the_mean_over_patients_of_the_means_over_their_slices():
    table = slice_table(LEVELS)
    chosen = table.query(f"{SALIENCY} and phase == 'cm'")
    expected = chosen.groupby("patient")["relative_probability"].mean().mean()
    found = network_levels({"one": table}).query(SALIENCY).set_index("phase")
    assert found.loc["cm", "value"] == pytest.approx(expected)
    assert list(dict.fromkeys(network_levels({"one": table})["method"]))[:4] == list(ORDER[:4])
    assert found.loc["mean", "value"] == pytest.approx(found.loc[list(PHASES), "value"].mean())


def test_the_control_is_subtracted_slice_by_slice_and_controls_have_none():
    table = slice_table(LEVELS)
    gone = table["slice"].eq(0) & table["patient"].eq("p3") & table["method"].eq("random_body")
    found = network_levels({"one": table[~gone]}).query("phase == 'neph'").set_index("method")
    both = (
        table[~gone]
        .query("phase == 'neph'")
        .pivot_table(index=["patient", "slice"], columns=["method", "region"], values="relative_probability")
    )
    expected = (both["saliency", "top"] - both["random_body", "random"]).groupby("patient").mean().mean()
    saliency = found.query("region == 'top'").loc["saliency"]
    assert saliency["less_control"] == pytest.approx(expected)
    assert np.isnan(found.loc["random_body", "less_control"])


def test_the_interval_is_that_of_scipy_and_needs_two_networks():
    means = {f"n{k}": slice_table(LEVELS | {("saliency", "input", "top"): 10.0 * k}, k) for k in range(4)}
    levels = network_levels(means)
    row = over_networks(levels).query(f"{SALIENCY} and phase == 'mean'").iloc[0]
    values = levels.query(f"{SALIENCY} and phase == 'mean'")["value"]
    np.testing.assert_allclose([row.low, row.high], stats.t.interval(0.95, 3, values.mean(), stats.sem(values)))
    assert (row.networks, row.lowest, row.highest) == (4, values.min(), values.max())
    less = over_networks(levels, "less_control")
    assert set(less["region"]) == {"top"} and set(less["phase"]) == {*PHASES, "mean"}
    assert np.isnan(t_interval(pd.Series([3.0]))[1:]).all() and t_interval(pd.Series([3.0]))[0] == 3.0


def test_a_network_has_its_place_among_published_ones():
    published = network_levels(
        {f"n{k}": slice_table(LEVELS | {("saliency", "input", "top"): 10.0 * k}, k) for k in range(4)}
    )
    levels = network_levels({"new": slice_table(LEVELS | {("saliency", "input", "top"): 15.0}, 9)})
    place = among(levels, published).set_index("method")
    theirs = published.query(f"{SALIENCY} and phase == 'mean'")["value"]
    row = place.loc["saliency"]
    assert row["value"] == pytest.approx(levels.query(f"{SALIENCY} and phase == 'mean'")["value"].item())
    assert (row["lowest"], row["highest"], row["lower"], row["networks"]) == (theirs.min(), theirs.max(), 2, 4)
    assert set(place["region"]) == {"top", "random"}
    with pytest.raises(ValueError, match="4 networks; expected one"):
        among(published, published)
