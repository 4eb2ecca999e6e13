"""Maps of several sources on the same slices, with maps whose agreement is known."""

import json

import numpy as np
import pandas as pd
import pytest

from lib.maps.agreement import (
    CONTENT_FREE,
    MAP,
    equal_but_for_the_seed,
    measure_agreement,
    summarise_agreement,
    without_content,
)
from lib.resampling import resample

SIZE = 32


@pytest.fixture
def batch():
    rows = pd.DataFrame({"patient": ["a", "a", "b"], "series": ["1", "1", "2"], "slice": [0, 1, 0]})
    body = np.zeros((3, SIZE, SIZE), bool)
    body[:, 8:24, 4:28] = True
    images = np.random.default_rng(0).standard_normal((3, SIZE, SIZE, 1)).astype("float32")
    return rows.assign(phase=["cm", "cm", "neph"]), images, body


def maps(seed, cells=8):
    rng = np.random.default_rng(seed)
    fine, coarse = rng.standard_normal((3, SIZE, SIZE)), rng.random((3, cells, cells))
    return {("saliency", "input"): fine.astype("float32"), ("sam", "conv2b"): coarse.astype("float32")}


def source(found):
    return lambda images, body, classes: found


def agreement(batch, sources, reference=None, **keywords):
    return pd.concat(measure_agreement([batch], sources, reference=reference, **keywords), ignore_index=True)


def test_a_map_turned_upside_down_is_the_same_by_absolute_value_and_the_reverse_by_sign(batch):
    turned = {name: -values for name, values in maps(1).items()}
    table = agreement(batch, {("one", 0): source(maps(1)), ("other", 0): source(turned)}, ("one", 0))
    assert set(map(tuple, table[MAP].drop_duplicates().to_numpy())) == {
        ("saliency", "input", "absolute"), ("saliency", "input", "signed"), ("sam", "conv2b", "absolute")
    }  # fmt: skip
    by_ranking = table.groupby("ranking")[["rank_correlation", "overlap"]].mean()
    np.testing.assert_allclose(by_ranking.loc["absolute"], 1, atol=1e-6)
    np.testing.assert_allclose(by_ranking.loc["signed"], (-1, 0), atol=1e-6)


def test_what_lies_in_the_air_does_not_count_unless_asked_for(batch):
    other = maps(1)
    other["saliency", "input"] = np.where(batch[2], other["saliency", "input"], 9).astype("float32")
    sources = {("one", 0): source(maps(1)), ("other", 0): source(other)}
    body, image = (agreement(batch, sources, ("one", 0), within=within) for within in ("body", "image"))
    saliency = body.method == "saliency"
    np.testing.assert_allclose(body[saliency].rank_correlation, 1, atol=1e-6)
    assert (image[saliency].rank_correlation < 0.9).all()
    with pytest.raises(ValueError, match="within='air' is not known"):
        agreement(batch, sources, within="air")


def test_a_map_without_content_comes_to_every_grid_by_area_means(batch):
    fields = {(name, "-"): np.random.default_rng(n).random((3, SIZE, SIZE)) for n, name in enumerate(CONTENT_FREE)}
    edges = fields["edges", "-"]
    coarse = {("sam", "conv2b"): np.stack([resample(one, 8) for one in edges]), ("saliency", "input"): edges}
    sources = {("one", 0): source(coarse)} | without_content(lambda images, body: fields)
    table = agreement(batch, sources, ("one", 0)).groupby(["second", "method"]).rank_correlation.mean()
    np.testing.assert_allclose(table["edges"], 1, atol=1e-6)
    assert set(table.index.get_level_values("second")) == set(CONTENT_FREE)
    assert (table.drop("edges").abs() < 0.3).all() and set(agreement(batch, sources, ("one", 0)).ranking) == {
        "absolute"
    }


def test_every_pair_is_compared_once(batch):
    table = agreement(batch, {(name, 0): source(maps(seed)) for seed, name in enumerate("xyz")})
    pairs = table[["first", "second"]].drop_duplicates()
    assert set(map(tuple, pairs.to_numpy())) == {("x", "y"), ("x", "z"), ("y", "z")}
    assert len(table) == 3 * 3 * 3  # pairs, slices, maps and rankings
    one = agreement(batch, {("x", 0): source(maps(0)), ("z", 0): source(maps(2))}, ("x", 0))
    same = table[(table["first"] == "x") & (table.second == "z")].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, same)


def test_slices_of_a_patient_and_draws_are_averaged_before_patients_and_phases(batch):
    others = {("noise", seed): source(maps(seed)) for seed in (2, 3)}
    table = agreement(batch, {("one", 0): source(maps(1)), **others}, ("one", 0))
    table["overlap"] = table["slice"] + 10 * table.patient.eq("b")  # cm of a: 0 and 1; neph of b: 10
    found = summarise_agreement(table, ["second"], rng=np.random.default_rng(0), resamples=50)
    sam = found[(found.method == "sam") & (found.measure == "overlap")].set_index("phase")
    assert sam["mean"].to_dict() == {"cm": 0.5, "neph": 10.0, "mean": 5.25}
    assert sam.n_slices.to_dict() == {"cm": 2, "neph": 1, "mean": 3} and sam.n_patients["mean"] == 2


def write_network(folder, seed=1, kernels="16 32", mean=0.0, inputs="c0", finished=True):
    folder.mkdir(parents=True)
    record = {"parameters": {"seed": seed, "kernels": kernels, "computed_in": f"{seed}"}, "inputs": {"slices": inputs}}
    (folder / "provenance.json").write_text(json.dumps(record))
    (folder / "standardisation.json").write_text(json.dumps({"mean": mean}))
    if finished:
        (folder / "model.keras").write_text("")


def test_networks_are_equal_but_for_the_seed(tmp_path):
    write_network(tmp_path / "top")
    write_network(tmp_path / "seed02", seed=2)
    write_network(tmp_path / "again", seed=1)
    write_network(tmp_path / "wide", seed=3, kernels="32 64")
    write_network(tmp_path / "shifted", seed=4, mean=1.0)
    write_network(tmp_path / "elsewhere", seed=5, inputs="c1")
    write_network(tmp_path / "training", seed=6, finished=False)
    (tmp_path / "notes").mkdir()
    found = equal_but_for_the_seed(tmp_path / "top", tmp_path)
    assert [path.name for path in found] == ["seed02", "top"]
    (tmp_path / "top/provenance.json").unlink()
    assert equal_but_for_the_seed(tmp_path / "top", tmp_path) == [tmp_path / "top"]
