"""Claims on many networks: each rule at its edges, on tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.claims.selection import MILLIONS, grid_claims, judge_none_higher, judge_signs, reference_claims
from lib.claims.table import GRID, REFERENCES, compare_with_paper, find

COUNTS = {
    "VGG16": 138_357_544, "ResNet50": 25_636_712, "InceptionV3": 23_851_784, "InceptionResNetV2": 55_873_736,
    "DenseNet201": 20_242_984,
}  # fmt: skip
KERNELS = "16 16 32 32 64"


def networks(best=None, vgg_loss=1.61, decay="plateau", rate=1e-4, ours_best=9, grid=27):
    """A grid, five references, and the paper's network beside them; `best` epochs are those of the references."""
    best = best or dict.fromkeys(COUNTS, 2)
    row = {"channels": 1, "weights": 132_181, "decay": "cosine", "learning_rate": 5e-4, "epochs": 10, "gap": 0.1,
           "cut_off": False, "batch_size": 16}  # fmt: skip
    row |= {"architecture": "phase_net", "kernels": KERNELS, "image_size": 128, "best_epoch": 9, "lowest_val_loss": 0.3}
    rows = [row | {"network": f"n{n}", "group": "grid"} for n in range(grid)]
    recipe = {"group": "references", "decay": decay, "learning_rate": rate}
    for name, epoch in best.items():
        loss = vgg_loss if name == "VGG16" else 0.5
        rows.append(row | recipe | {"network": name, "architecture": name, "kernels": "", "weights": COUNTS[name],
                                    "best_epoch": epoch, "lowest_val_loss": loss})  # fmt: skip
    beside = {"network": "beside", "learning_rate": 1e-4, "decay": "plateau", "best_epoch": ours_best}
    return pd.DataFrame([*rows, row | recipe | beside])


def grid_tests(gain=0.03, shift=0.0, spread=0.005, trend_p=0.01, higher=27, lower=0, count=27):
    rows = []
    for comparison, parts, mean in (
        ("test - val", ("single", "voting"), shift),
        ("voting - single", ("val", "test"), gain),
    ):
        for part in parts:
            for metric in ("precision", "recall", "f1", "auc"):
                p = trend_p if comparison == "voting - single" and metric != "precision" else 0.2
                rows.append((comparison, part, metric, count, mean, mean - spread, mean + spread, p, higher, lower,
                             2 * 0.5**higher if higher == count else 0.3))  # fmt: skip
    names = ["comparison", "within", "metric", "networks", "mean", "low", "high", "p", "higher", "lower", "sign_p"]
    return pd.DataFrame(rows, columns=names)


def metrics():
    rows = [("n0", "grid", split, scheme, 300 if scheme == "single" else 20, 10)
            for split in ("val", "test") for scheme in ("single", "voting")]  # fmt: skip
    return pd.DataFrame(rows, columns=["network", "group", "split", "scheme", "n", "n_patients"])


def ranking():
    return pd.DataFrame({"network": ["n1", "n0"], "auc_single": [0.95, 0.94], "auc_voting": [0.97, 0.98],
                         "rank_single": [1, 2], "rank_voting": [2, 1]})  # fmt: skip


def references(table, high=-0.01):
    """The rows of `networks` that are compared on 300 test slices of 10 patients."""
    rows = table[table["group"] == "references"].assign(
        against="beside", split="test", updates=85, n=300, n_patients=10
    )
    theirs = rows["network"] != "beside"
    return rows.assign(auc=0.9, difference=theirs * (high - 0.02), low=theirs * (high - 0.04), high=theirs * high)


def counted(counts=COUNTS):
    return pd.DataFrame(counts.items(), columns=["architecture", "weights"])


def claims(table=None, *, on=None, counts=COUNTS):
    table = networks() if table is None else table
    found = grid_claims(table, metrics(), ranking(), grid_tests() if on is None else on)
    return {finding.id: finding for finding in found + reference_claims(references(table), counted(counts))}


def test_every_claim_on_many_networks_gets_a_finding_that_the_table_of_claims_takes():
    found = claims()
    assert list(found) == ["C12", "C18", "C29", "C30", "C31", "C17", "C19", "C20", "C22", "C21"]
    table = compare_with_paper(list(found.values())).set_index("id")
    assert table.loc["C12", "verdict"] == table.loc["C18", "verdict"] == "method"
    assert (table.loc[["C17", "C19", "C20", "C21", "C22", "C29", "C30", "C31"], "verdict"] == "reproduced").all()
    assert table.loc[["C21", "C29"], ["n_slices", "n_patients"]].to_numpy().tolist() == [[300, 10]] * 2
    assert "number 1 of 2" in found["C18"].measured and "by voting n0" in found["C18"].measured


def test_the_printed_numbers_of_weights_are_cut_off_and_not_rounded():
    rounded = {name: f"{count / 1e6:.{len(MILLIONS[name].partition('.')[2])}f}" for name, count in COUNTS.items()}
    assert sum(rounded[name] != MILLIONS[name] for name in COUNTS) == 2
    assert claims()["C17"].verdict == "reproduced" and "138,357,544" in claims()["C17"].measured
    assert claims(counts=COUNTS | {"ResNet50": 25_700_000})["C17"].verdict == "not reproduced"
    assert claims(counts=COUNTS | {"InceptionV3": 23_799_999})["C17"].verdict == "not reproduced"


def test_a_smaller_grid_is_a_changed_method_and_a_single_network_tests_nothing():
    assert claims(networks(grid=9))["C12"].verdict == "method, changed"
    alone = claims(networks(grid=1))
    assert not {"C12", "C18", "C29", "C30", "C31"} & set(alone) and "C17" in alone


@pytest.mark.parametrize(("updates", "expected"), [(359, "undecided"), (360, "reproduced")])
def test_a_training_that_was_cut_off_early_cannot_show_that_nothing_more_is_learnt(updates, expected):
    """Ten epochs of 360 updates are the paper's first three."""
    table = networks()
    given = references(table).assign(updates=updates, cut_off=True)
    found = {finding.id: finding for finding in reference_claims(given, counted())}
    assert {found[id_].verdict for id_ in ("C19", "C20", "C21", "C22")} == {expected}
    better = given.assign(low=0.01, difference=0.02, high=0.03, lowest_val_loss=1.0)
    found = {finding.id: finding for finding in reference_claims(better, counted())}
    assert found["C19"].verdict == found["C21"].verdict == "not reproduced", "it can contradict"


@pytest.mark.parametrize(("loss", "expected"), [(1.605, "reproduced"), (1.59, "not reproduced")])
def test_vgg16_has_learned_below_the_loss_of_guessing(loss, expected):
    assert claims(networks(vgg_loss=loss))["C19"].verdict == expected


def test_the_references_best_epochs():
    late = dict.fromkeys(COUNTS, 2) | {"ResNet50": 4}
    assert claims(networks(best=dict.fromkeys(COUNTS, 3)))["C20"].verdict == "reproduced"
    assert claims(networks(best=late))["C20"].verdict == "not reproduced"
    slow_vgg = dict.fromkeys(COUNTS, 2) | {"VGG16": 12}
    assert claims(networks(best=slow_vgg))["C20"].verdict == "reproduced", "VGG16 is not among the four"
    assert claims(networks(decay="cosine"))["C20"].verdict == "not tested"
    assert claims(networks(best=late, ours_best=5))["C22"].verdict == "reproduced"
    assert claims(networks(best=late, ours_best=4))["C22"].verdict == "not reproduced"
    assert claims(networks(rate=1e-3))["C22"].verdict == "not tested", "another rate reaches its best elsewhere"
    fewer = claims(networks(best={"ResNet50": 2, "VGG16": 1}))
    assert "C19" in fewer and not {"C20", "C21", "C22"} & set(fewer)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(-0.02, -0.04, 0.0), (-0.1, -0.2, -0.05)], "reproduced"),
        ([(-0.02, -0.04, 0.01), (-0.1, -0.2, -0.05)], "direction only"),
        ([(0.02, -0.01, 0.05), (-0.1, -0.2, -0.05)], "undecided"),
        ([(0.02, 0.01, 0.05), (-0.1, -0.2, -0.05)], "not reproduced"),
    ],
)
def test_none_is_higher(rows, expected):
    assert judge_none_higher(pd.DataFrame(rows, columns=["difference", "low", "high"])) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((27, 27, 0, 1e-8), "reproduced"), ((27, 26, 1, 1e-6), "direction only"), ((27, 0, 27, 1e-8), "not reproduced"),
        ((27, 15, 12, 0.7), "undecided"), ((5, 5, 0, 0.0625), "undecided"), ((1, 1, 0, np.nan), "undecided"),
    ],
)  # fmt: skip
def test_signs(arguments, expected):
    assert judge_signs(*arguments) == expected


@pytest.mark.parametrize(
    ("changes", "id_", "expected"),
    [
        ({"shift": 0.01}, "C29", "reproduced"), ({"shift": 0.018}, "C29", "undecided"),
        ({"shift": -0.05}, "C29", "not reproduced"), ({"gain": 0.004}, "C30", "direction only"),
        ({"gain": -0.02}, "C30", "not reproduced"), ({"trend_p": 0.09}, "C30", "reproduced"),
        ({"trend_p": 0.11}, "C30", "direction only"), ({"higher": 14, "lower": 13}, "C31", "undecided"),
    ],
)  # fmt: skip
def test_claims_over_the_grid(changes, id_, expected):
    assert claims(on=grid_tests(**changes))[id_].verdict == expected


@pytest.mark.parametrize(("stage", "names"), [("networks", GRID), ("references", REFERENCES)])
def test_the_findings_are_the_same_from_the_written_tables(tmp_path, stage, names):
    table = networks()
    tables = (table, metrics(), ranking(), grid_tests()) if stage == "networks" else (references(table), counted())
    for name, written in zip(names, tables, strict=True):
        written.to_csv(tmp_path / name, index=False)
    read = find(stage, tmp_path / names[0], rng=np.random.default_rng(0))
    direct = {"networks": grid_claims, "references": reference_claims}[stage](*tables)
    assert [finding[:3] for finding in read] == [finding[:3] for finding in direct]
