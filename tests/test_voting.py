"""Voting rules against hand-counted votes, a naive loop and invariants."""

import numpy as np
import pandas as pd
import pytest

from lib.paper import PHASES
from lib.voting import RULES, vote, vote_volumes, voting_curve

# Three slices: two lukewarm votes for cm, one certain vote for neph.
SLICES = np.array([[0.0, 0.4, 0.3, 0.3, 0.0], [0.0, 0.5, 0.2, 0.3, 0.0], [0.05, 0.0, 0.0, 0.95, 0.0]])


def random_slices(rng, n):
    return rng.dirichlet(np.full(5, 0.4), size=n)


@pytest.mark.parametrize(
    ("rule", "winner", "scores"),
    [
        ("pandemonium", 3, [0, 0.9, 0, 0.95, 0]),
        ("loudest", 3, [0, 0.5, 0, 0.95, 0]),
        ("plurality", 1, [0, 2, 0, 1, 0]),
        ("sum", 3, [0.05, 0.9, 0.5, 1.55, 0]),
    ],
)
def test_hand_counted(rule, winner, scores):
    found = vote(SLICES, rule)
    assert found.winner == winner
    np.testing.assert_allclose(found.shares, np.array(scores) / np.sum(scores), atol=1e-15)


def test_product_is_the_geometric_mean():
    slices = np.array([[0.1, 0.2, 0.3, 0.2, 0.2], [0.4, 0.1, 0.1, 0.2, 0.2]])
    geometric = np.sqrt(slices[0] * slices[1])
    found = vote(slices, "product")
    np.testing.assert_allclose(found.shares, geometric / geometric.sum(), rtol=1e-12)
    assert found.winner == 0


def test_product_lets_one_slice_veto():
    slices = np.array([[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.0, 1.0, 0, 0, 0]])
    assert vote(slices, "product").winner == 1
    assert vote(slices, "pandemonium").winner == 0


@pytest.mark.parametrize("rule", RULES)
def test_one_slice_wins_its_own_vote(rule):
    rng = np.random.default_rng(1)
    for row in random_slices(rng, 20):
        assert vote(row[None], rule).winner == row.argmax()


@pytest.mark.parametrize("rule", RULES)
def test_order_of_slices_does_not_matter(rule):
    rng = np.random.default_rng(2)
    for _ in range(50):
        slices = np.round(random_slices(rng, 6), 1)
        slices[:, 0] = 1 - slices[:, 1:].sum(axis=1)
        slices = np.clip(slices, 0, None)
        slices /= slices.sum(axis=1, keepdims=True)
        results = {vote(rng.permutation(slices), rule).winner for _ in range(5)}
        assert len(results) == 1


def test_tie_goes_to_the_higher_mean_probability_then_the_earlier_phase():
    slices = np.array([[0.4, 0.1, 0.3, 0.2, 0.0], [0.3, 0.1, 0.4, 0.2, 0.0]])
    assert vote(slices, "plurality").winner == 0
    slices = np.array([[0.40, 0.1, 0.35, 0.15, 0.0], [0.25, 0.1, 0.40, 0.25, 0.0]])
    assert vote(slices, "plurality").winner == 2
    assert vote(slices, "pandemonium").winner == 2


def naive(probabilities, rule):
    scores = [0.0] * 5
    for row in probabilities:
        top = max(range(5), key=lambda c: row[c])
        if rule == "pandemonium":
            scores[top] += row[top]
        elif rule == "loudest":
            scores[top] = max(scores[top], row[top])
        elif rule == "plurality":
            scores[top] += 1
        elif rule == "sum":
            scores = [s + p for s, p in zip(scores, row, strict=True)]
    if rule == "product":
        scores = [float(np.prod(probabilities[:, c]) ** (1 / len(probabilities))) for c in range(5)]
    return np.array(scores) / sum(scores)


@pytest.mark.parametrize("rule", RULES)
def test_volumes_equal_a_loop_over_interleaved_series(rule):
    rng = np.random.default_rng(3)
    series = rng.permutation(np.repeat(["aa", "bb", "cc", "dd"], [1, 4, 7, 20]))
    table = pd.DataFrame(random_slices(rng, len(series)), columns=PHASES).assign(series=series)
    table["patient"] = table["series"].map({"aa": "p", "bb": "p", "cc": "q", "dd": "r"})
    table["phase"] = table["series"].map({"aa": "cm", "bb": "neph", "cc": "cm", "dd": "pyelo"})
    volumes = vote_volumes(table, rule).set_index("series")
    assert list(volumes.index) == list(dict.fromkeys(series))
    for name, rows in table.groupby("series"):
        probabilities = rows[list(PHASES)].to_numpy()
        expected = naive(probabilities, rule)
        shares = volumes.loc[name, [f"share_{phase}" for phase in PHASES]].to_numpy(float)
        np.testing.assert_allclose(shares, expected, rtol=1e-9, atol=1e-15)
        assert volumes.loc[name, "winner"] == PHASES[vote(probabilities, rule).winner]
        if np.count_nonzero(np.isclose(expected, expected.max())) == 1:
            assert volumes.loc[name, "winner"] == PHASES[expected.argmax()]
        assert volumes.loc[name, "slices"] == len(rows)
        assert volumes.loc[name, "patient"] == rows["patient"].iloc[0]
        assert volumes.loc[name, "phase"] == rows["phase"].iloc[0]


def test_float32_softmax_is_accepted():
    slices = random_slices(np.random.default_rng(4), 100).astype(np.float32)
    assert vote(slices).shares.sum() == pytest.approx(1)


def test_unlabelled_series_vote_too():
    table = pd.DataFrame(SLICES, columns=PHASES).assign(series="aa", patient="p", phase=None)
    assert vote_volumes(table)["winner"].tolist() == ["neph"]


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (np.empty((0, 5)), "empty"),
        (np.full((2, 4), 0.25), r"shape \(2, 4\)"),
        (np.array([[0.2] * 5, [np.nan] * 5]), "1 slices are NaN.*row 1"),
        (np.array([[0.5, 0.4, 0.4, 0, 0]]), "not summing to 1"),
        (np.array([[1.5, -0.5, 0, 0, 0]]), "outside"),
    ],
)
def test_bad_probabilities(slices, message):
    with pytest.raises(ValueError, match=message):
        vote(slices)


def test_bad_tables():
    table = pd.DataFrame(SLICES, columns=PHASES).assign(series=["aa", "aa", "bb"], patient=["p", "q", "p"])
    with pytest.raises(ValueError, match=r"series aa has more than one patient: \['p', 'q'\]"):
        vote_volumes(table)
    with pytest.raises(ValueError, match="known rules are pandemonium"):
        vote(SLICES, "borda")
    with pytest.raises(ValueError, match=r"lacks the columns \['neph'\]"):
        vote_volumes(table.drop(columns="neph"))
    broken = table.assign(patient="p", cm=[0.4, 0.5, np.nan])
    with pytest.raises(ValueError, match="row 2 of series bb"):
        vote_volumes(broken)


def test_a_vote_of_one_slice_is_as_accurate_as_slices_and_a_vote_of_all_as_accurate_as_the_series():
    rng = np.random.default_rng(5)
    table = pd.DataFrame(random_slices(rng, 240), columns=list(PHASES))
    table["series"] = np.repeat([f"{k:02x}" for k in range(40)], 6)
    table["patient"] = np.repeat(np.arange(20), 12)
    table["slice"] = np.tile(rng.permutation(6), 40)
    table["phase"] = np.repeat(rng.choice(PHASES, 40), 6)
    curve = voting_curve(table, [1, 6], rng=rng, draws=400).set_index(["choice", "slices"])
    single = (table[list(PHASES)].idxmax(axis=1) == table["phase"]).mean()
    whole = vote_volumes(table)
    for choice in ("neighbouring", "scattered"):
        assert abs(curve.accuracy[choice, 1] - single) < 0.02
        assert curve.accuracy[choice, 6] == (whole["winner"] == whole["phase"]).mean()
    assert (curve.low <= curve.accuracy).all() and (curve.accuracy <= curve.high).all()


def test_neighbouring_slices_that_err_together_are_outvoted_only_by_scattered_ones():
    right, wrong = np.eye(5)[0], np.eye(5)[1]
    table = pd.DataFrame([wrong] * 4 + [right] * 8, columns=list(PHASES))
    table = table.assign(series="0a", patient="p", slice=range(12), phase=PHASES[0])
    curve = voting_curve(table, [3, 12], rng=np.random.default_rng(0), draws=2000).set_index(["choice", "slices"])
    assert abs(curve.accuracy["neighbouring", 3] - 7 / 10) < 0.04  # starts 0, 1 and 2 have two wrong slices or three
    assert abs(curve.accuracy["scattered", 3] - 168 / 220) < 0.04  # 56 triples of right slices, 28 * 4 with one wrong
    assert (curve.accuracy[:, 12] == 1).all()


def test_series_that_are_too_short_for_the_longest_vote_are_named():
    table = pd.DataFrame(np.tile(np.eye(5)[0], (3, 1)), columns=list(PHASES))
    table = table.assign(series="0a", patient="p", slice=range(3), phase=PHASES[0])
    with pytest.raises(ValueError, match="the longest has 3"):
        voting_curve(table, [1, 5], rng=np.random.default_rng(0))
