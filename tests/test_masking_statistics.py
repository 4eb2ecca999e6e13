"""Tables of tests against scipy, hand counts and simulations."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.claims.findings import verdict
from lib.masking.statistics import (
    letters,
    level_tests,
    log_odds_change,
    paired_tests,
    read_masking,
    read_reading,
    slice_means,
    summarise,
)
from lib.paper import PHASES
from lib.patient_statistics import cluster_interval, compare

SALIENCY, CAM, SAM = ("saliency", "input"), ("cam", "conv6"), ("sam", "conv2b")


def masking_table(maps=(SALIENCY, CAM), draws=3, patients=6, slices=4, phases=("cm", "neph"), seed=0):
    """Masking rows in the columns of 06_mask_voxels; saliency lowers by 60 points, others by 30."""
    rng = np.random.default_rng(seed)
    rows = []
    for phase in phases:
        for patient in range(patients):
            shift = rng.normal(0, 5)
            for number in range(slices):
                for method, layer in maps:
                    for region, level in (("top", 40 if method == "saliency" else 70), ("bottom", 100)):
                        for draw in range(draws):
                            value = level + shift + rng.normal(0, 4)
                            key = ("net", f"p{patient}", f"s{patient}{phase}", number, phase, method, layer, region)
                            rows.append((*key, "image", "logit", "normal", 0.1, draw, 0.9, 0.009 * value, value))
    names = "network patient series slice phase method layer region within score fill fraction draw p_original p_masked"
    table = pd.DataFrame(rows, columns=[*names.split(), "relative_probability"])
    for when in ("original", "masked"):
        own = table[f"p_{when}"].clip(0, 1)
        for phase in PHASES:
            table[f"{when}_{phase}"] = np.where(table["phase"] == phase, own, (1 - own) / 4)
    return table


def rng():
    return np.random.default_rng(7)


def test_draws_are_averaged_within_the_slice():
    masking = masking_table()
    means = slice_means(masking)
    assert len(means) == len(masking) / 3
    assert means["draws"].eq(3).all()
    row = means.iloc[5]
    same = np.logical_and.reduce(
        [masking[k] == row[k] for k in ("method", "layer", "region", "phase", "patient", "slice")]
    )
    assert row["relative_probability"] == pytest.approx(masking.loc[same, "relative_probability"].mean())


def test_summary_counts_slices_and_patients():
    means = slice_means(masking_table())
    row = summarise(means).query("method == 'cam' and region == 'top' and phase == 'neph'").iloc[0]
    values = means.query("method == 'cam' and region == 'top' and phase == 'neph'")["relative_probability"]
    assert (row["mean"], row["sd"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (row["n_slices"], row["n_patients"]) == (24, 6)


def test_phases_come_in_the_order_of_enhancement():
    table = summarise(slice_means(masking_table(maps=(CAM,), phases=PHASES[::-1], patients=2, slices=1, draws=1)))
    assert table.query("region == 'top'")["phase"].tolist() == list(PHASES)


def test_level_tests_are_scipys_with_bonferroni():
    means = slice_means(masking_table())
    tests = level_tests(means, 100)
    assert len(tests) == 8
    for row in tests.itertuples():
        same = np.logical_and.reduce([means[k] == getattr(row, k) for k in ("method", "region", "phase")])
        values = means.loc[same, "relative_probability"]
        expected = stats.ttest_1samp(values, 100)
        assert (row.t, row.p) == pytest.approx(expected)
        assert row.p_bonferroni == pytest.approx(min(1, 8 * expected.pvalue))
        by_patient = means[same].groupby("patient")["relative_probability"].mean()
        interval = stats.ttest_1samp(by_patient, 100).confidence_interval()
        assert (row.patient_low, row.patient_high) == pytest.approx(interval)
        assert row.patient_p == pytest.approx(stats.ttest_1samp(by_patient, 100).pvalue)
    assert level_tests(means, 100, comparisons=40)["p_bonferroni"].max() == 1


def test_paired_tests_are_scipys_on_common_slices():
    means = slice_means(masking_table())
    lacking = means[~((means["method"] == "cam") & (means["patient"] == "p3"))]
    tests = paired_tests(lacking, [(SALIENCY, CAM)])
    assert tests["phase"].tolist() == ["cm", "neph"]
    keys = ["patient", "series", "slice"]
    for row in tests.itertuples():
        top = means.query("region == 'top' and phase == @row.phase and patient != 'p3'")
        first, second = (top[top["method"] == m].set_index(keys)["relative_probability"] for m in ("saliency", "cam"))
        expected = stats.ttest_rel(first, second.loc[first.index])
        assert (row.t, row.p) == pytest.approx(expected)
        assert row.wilcoxon_p == pytest.approx(stats.wilcoxon(first - second).pvalue)
        assert (row.n_slices, row.n_patients) == (20, 5)
        assert row.mean == pytest.approx((first - second).mean())
        assert row.effect_size == pytest.approx((first - second).mean() / (first - second).std(ddof=1))
        assert row.low < row.mean < row.high < 0


def test_identical_maps_have_no_difference_and_no_warning():
    means = slice_means(masking_table(maps=(CAM,)))
    twins = pd.concat([means, means.assign(method="grad_cam")])
    row = paired_tests(twins, [(CAM, ("grad_cam", "conv6"))]).iloc[0]
    assert (row["t"], row["p"], row["wilcoxon_p"], row["effect_size"]) == (0, 1, 1, 0)
    assert (row["low"], row["high"]) == (0, 0)


def test_few_or_equal_values():
    one = compare([50.0], ["a"], 100, rng=rng())
    assert np.isnan([one["t"], one["p"], one["wilcoxon_p"], one["low"], one["high"], one["patient_low"]]).all()
    assert one["mean"] == 50
    equal = compare([50.0, 50.0, 50.0], ["a", "b", "c"], 100, rng=rng())
    assert (equal["t"], equal["p"]) == (-np.inf, 0)
    single_patient = compare([50.0, 60.0, 55.0], ["a", "a", "a"], 100, rng=rng())
    assert single_patient["p"] < 0.05
    assert np.isnan([single_patient["patient_p"], single_patient["low"]]).all()


def test_cluster_interval_resamples_whole_patients():
    """Naive loop: draw patients with replacement, pool their slices."""
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(30), generator.integers(1, 9, 30))
    values = generator.normal(0, 1, 30)[clusters] + generator.normal(0, 0.2, len(clusters))
    slices = [values[clusters == c] for c in range(30)]
    naive = [np.concatenate([slices[c] for c in generator.integers(0, 30, 30)]).mean() for _ in range(4000)]
    tail = stats.norm.cdf(np.sqrt(30 / 29) * stats.t.ppf(0.025, 29))
    expected = np.quantile(naive, [tail, 1 - tail])
    found = cluster_interval(values, clusters, rng=rng(), resamples=4000)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.ptp(expected))
    naive_width = 2 * 1.96 * values.std() / np.sqrt(len(values))
    assert np.ptp(found) > 1.5 * naive_width


def test_cluster_interval_covers_with_few_patients():
    generator = np.random.default_rng(2)
    clusters = np.repeat(np.arange(8), 5)
    hits = 0
    for _ in range(400):
        values = generator.normal(0, 1, 8)[clusters] + generator.normal(0, 0.5, 40)
        low, high = cluster_interval(values, clusters, rng=generator, resamples=500)
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_same_seed_same_table():
    means = slice_means(masking_table())
    pd.testing.assert_frame_equal(level_tests(means), level_tests(means))


def test_the_change_in_log_odds_by_hand():
    table = masking_table(draws=1, patients=2)[:2]
    for phase, before, after in (("cm", 0.9, 0.5), ("neph", 0.04, 0.2), ("noncon", 0.02, 0.1), ("pyelo", 0.02, 0.1)):
        table[f"original_{phase}"], table[f"masked_{phase}"] = before, after
    table["original_cm-neph"], table["masked_cm-neph"] = 0.02, 0.1
    np.testing.assert_allclose(log_odds_change(table), np.log(0.5 / 0.5) - np.log(0.9 / 0.1))
    sure = table.assign(original_cm=np.float32(1), **{f"original_{p}": 1e-12 for p in PHASES if p != "cm"})
    np.testing.assert_allclose(log_odds_change(sure), -np.log(1 / 4e-12))


def test_letters_name_the_earlier_bars_that_differ():
    maps = [SALIENCY, CAM, SAM]
    rows = [(SALIENCY, CAM, 0.001), (SALIENCY, SAM, 0.2), (CAM, SAM, 0.04), (SAM, CAM, 0.04)]
    pairs = pd.DataFrame([("cm", *a, *b, p) for a, b, p in rows])
    pairs.columns = ["phase", "method", "layer", "other_method", "other_layer", "p_bonferroni"]
    found = letters(pairs, maps).set_index(["method", "layer"])["letters"].to_dict()
    assert found == {SALIENCY: "", CAM: "a", SAM: "b"}


def phases(*rows):
    return pd.DataFrame(rows, columns=["mean", "low", "high"])


BELOW, LEANING, ABOVE, UNKNOWN = (-20, -30, -10), (-5, -12, 2), (4, -2, 10), (np.nan, np.nan, np.nan)
TINY, WIDE, FAR = (0.5, -2, 3), (1, -9, 11), (20, 12, 30)


@pytest.mark.parametrize(
    ("rows", "kind", "expected"),
    [
        ([BELOW] * 4 + [ABOVE], "superiority", "reproduced"),
        ([BELOW] * 3 + [LEANING] * 2, "superiority", "direction only"),
        ([BELOW] * 3 + [ABOVE] * 2, "superiority", "not reproduced"),
        ([BELOW] * 3 + [UNKNOWN] * 2, "superiority", "undecided"),
        ([BELOW], "superiority", "reproduced"),
        ([BELOW] * 3 + [LEANING], "superiority", "direction only"),
        ([TINY] * 4 + [WIDE], "null", "reproduced"),
        ([TINY] * 3 + [WIDE] * 2, "null", "undecided"),
        ([TINY] * 3 + [FAR] * 2, "null", "not reproduced"),
        ([TINY] * 3 + [FAR, WIDE], "null", "undecided"),
        ([UNKNOWN] * 5, "null", "undecided"),
    ],
)
def test_verdicts(rows, kind, expected):
    assert verdict(phases(*rows), kind) == expected


def test_verdict_against_a_level_and_a_direction():
    assert verdict(phases((104, 101, 107)), "superiority", direction=1, reference=100) == "reproduced"
    assert verdict(phases((0.01, -0.015, 0.019)), "null", margin=0.02) == "reproduced"
    touching = phases((96, 88, 100 - 1e-6))
    assert verdict(touching, "superiority", reference=100) == "direction only", (
        "it ends at no difference but for rounding"
    )
    with pytest.raises(ValueError, match="expected 'superiority' or 'null'"):
        verdict(phases(BELOW), "better")


READING = {"within": "image", "score": "logit", "fill": "normal", "fraction": 0.1}


def finish(folder, reading=READING):
    (folder / "done.json").write_text(json.dumps({"parameters": reading}))


def test_a_run_knows_its_reading(tmp_path):
    table = masking_table(draws=1, patients=2)
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match=r"done\.json is missing: run 06_mask_voxels first"):
        read_masking(tmp_path)
    finish(tmp_path)
    assert len(read_masking(tmp_path)) == len(table) and read_reading(tmp_path) == READING
    table.assign(fill="uniform", patient="other").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"says fill='normal', the shards \['normal', 'uniform'\]"):
        read_masking(tmp_path)
    table.assign(network="second").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"mixes the networks \['net', 'second'\]"):
        read_masking(tmp_path)


def test_one_interval_for_one_number_whatever_else_is_asked_for():
    means = slice_means(masking_table(maps=(SALIENCY, CAM, SAM)))
    alone = level_tests(means[means["method"] == "cam"])
    among = level_tests(means).query("method == 'cam'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.drop(columns="p_bonferroni"), among.drop(columns="p_bonferroni"))
    pair = (SALIENCY, CAM)
    both = paired_tests(means, [(SAM, CAM), pair]).query("method == 'saliency'").reset_index(drop=True)
    pd.testing.assert_frame_equal(
        paired_tests(means, [pair]).drop(columns="p_bonferroni"), both.drop(columns="p_bonferroni")
    )


def test_bad_tables():
    table = masking_table(draws=1)
    table.loc[3, "relative_probability"] = np.nan
    with pytest.raises(ValueError, match=r"not finite in 1 rows, first in .*'patient': 'p0'"):
        slice_means(table)
    with pytest.raises(ValueError, match="no slice was masked"):
        slice_means(table.iloc[:0])
    means = slice_means(masking_table(draws=1))
    with pytest.raises(ValueError, match=r"no map \('sam', 'conv2b'\).*it holds \[\('cam', 'conv6'\)"):
        paired_tests(means, [(SAM, CAM)])
    apart = pd.concat([means[means["method"] == "cam"], means[means["method"] == "saliency"].assign(slice=99)])
    with pytest.raises(ValueError, match="no slice was masked with both"):
        paired_tests(apart, [(SALIENCY, CAM)])
