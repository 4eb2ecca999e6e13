"""Tissues against tissues and maps against maps, on shares that are written down."""

import numpy as np
import pandas as pd
import pytest

from lib.maps.tissue_contrasts import AGAINST, BODY, SETS, contrast_maps, contrast_tissues
from lib.maps.tissue_shares import NAMES

SALIENCY, GUIDED = ("saliency", "input"), ("guided_backprop", "input")


def rng():
    return np.random.default_rng(7)


def row(method, layer, patient, series, half_mass=np.nan, phase="cm", **shares):
    known = {name.replace("_", " "): share for name, share in shares.items()}
    assert set(known) <= set(NAMES)
    key = {"phase": phase, "patient": patient, "series": series, "slice": 0, "method": method, "layer": layer}
    return key | {"half_mass": half_mass} | dict.fromkeys(NAMES, 0.0) | known


def two_patients():
    """Kidney and aorta are a tenth of the image each, liver two and fat one; the map marks half of both organs."""
    rows = []
    for patient, cortex, liver in (("p", 0.5, 0.2), ("q", 0.3, 0.6)):
        rows.append(
            row("image", "-", patient, f"s{patient}", kidney_cortex=0.1, aorta=0.1, liver=0.2, fat=0.1, outside=0.5)
        )
        rows.append(
            row(
                *SALIENCY,
                patient,
                f"s{patient}",
                0.2,
                kidney_cortex=cortex,
                liver=liver,
                outside=0.8 - cortex - liver,
                aorta=0.2,
            )
        )
        rows.append(
            row(*GUIDED, patient, f"s{patient}", 0.1 if patient == "p" else 0.05, kidney_cortex=0.6, outside=0.4)
        )
    return pd.DataFrame(rows)


def test_sets_part_the_body():
    assert set(SETS["kidney and vessels"]) == set(SETS["kidney"]) | set(SETS["vessels"])
    assert {name for names in SETS.values() for name in names} <= set(BODY)
    assert "outside" not in BODY
    assert sorted(SETS["kidney and vessels"] + SETS["rest of the body"]) == sorted(BODY)
    parts = ("kidney and vessels", "bone and muscle", "rest without bone and muscle")
    assert sorted(name for part in parts for name in SETS[part]) == sorted(BODY)
    assert {name for pair in AGAINST for name in pair} == set(SETS)


def test_times_by_hand():
    table = contrast_tissues(two_patients(), rng=rng()).set_index(["method", "tissue", "against"])
    seen = table.loc[("saliency", "kidney and vessels", "rest of the body")]
    assert seen["share"] == pytest.approx((0.7 + 0.5) / 2)
    assert seen["area"] == pytest.approx(0.2)
    assert seen["times"] == pytest.approx((1.2 / 0.4) / (0.8 / 0.6))
    assert (seen["n_slices"], seen["n_patients"]) == (2, 2)
    assert seen["low"] == pytest.approx((1.0 / 0.4) / (1.2 / 0.6)), "the patient q alone"
    assert seen["high"] == pytest.approx((1.4 / 0.4) / (0.4 / 0.6)), "the patient p alone"
    less = table.loc[("saliency", "kidney and vessels", "muscle and liver")]
    assert less["times"] == pytest.approx((1.2 / 0.4) / (0.8 / 0.4))
    assert table.loc[("saliency", "vessels", "rest of the body"), "times"] == pytest.approx((0.4 / 0.2) / (0.8 / 0.6))
    assert np.isnan(table.loc[("saliency", "bone and muscle", "rest without bone and muscle"), "times"]), "none there"
    assert np.isinf(table.loc[("guided_backprop", "kidney", "rest of the body"), "times"]), "the rest is never marked"


def test_a_blind_map_has_times_of_one_whatever_the_air():
    generator = np.random.default_rng(0)
    rows = []
    for n in range(12):
        areas = generator.dirichlet(np.ones(len(NAMES)))
        key = {"phase": "neph", "patient": f"p{n // 2}", "series": f"s{n}", "slice": 0, "half_mass": 0.5}
        air = np.where(np.array(NAMES) == "outside", 0.0, areas)  # marks the body alone, evenly
        for which, values in ((("image", "-"), areas), (SALIENCY, areas), (GUIDED, 0.3 * air)):
            rows.append(
                key | dict(zip(("method", "layer"), which, strict=True)) | dict(zip(NAMES, values, strict=True))
            )
    table = contrast_tissues(pd.DataFrame(rows), rng=rng(), resamples=200)
    np.testing.assert_allclose(table[["times", "low", "high"]], 1)


def test_maps_are_compared_on_the_same_slices():
    pairs = [("half_mass", GUIDED, SALIENCY), ("kidney", GUIDED, SALIENCY), ("outside", GUIDED, ("sam", "conv6"))]
    table = contrast_maps(two_patients(), rng=rng(), pairs=pairs).set_index("measure")
    assert list(table.index) == ["half_mass", "kidney"], "a map that was not measured is left out"
    mass = table.loc["half_mass"]
    assert (mass["value"], mass["other"], mass["mean"]) == pytest.approx((0.075, 0.2, -0.125))
    assert (mass["low"], mass["high"]) == pytest.approx((-0.15, -0.1)), "the two patients"
    assert table.loc["kidney", "mean"] == pytest.approx((0.1 + 0.3) / 2)


def test_a_map_of_zeros_has_no_half_mass():
    shares = two_patients()
    shares.loc[(shares["patient"] == "q") & (shares["method"] == "saliency"), "half_mass"] = np.nan
    table = contrast_maps(shares, rng=rng()).set_index("measure")
    assert (table.loc["half_mass", "n_slices"], table.loc["kidney cortex", "n_slices"]) == (1, 2)
    assert np.isnan(table.loc["half_mass", "low"]), "one patient has no interval"
