"""CT slices with a metal streak, a ring and a couch: where each lies, and that all else is the same."""

import numpy as np
import pytest

from lib.phantom.spoiled_slices import CHANGED, KINDS, SpoiledSlice, from_bank, show, slices, spoiled_slices


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return slices(range(70_000, 70_002), tmp_path_factory.mktemp("ct") / "slices.npz", bank=1)


@pytest.fixture(scope="module")
def spoiled(held):
    return spoiled_slices(held, 2, (0.7, 1.4), seed=1)


def test_metal_and_ring_lie_in_the_body_and_the_couch_outside(held, spoiled):
    for n, kind in enumerate(spoiled["kind"]):
        body, field, mask = held["field"][spoiled["plate"][n]], spoiled["field"][n], spoiled["mask"][n]
        added = spoiled["signal"][n] - held["signal"][spoiled["plate"][n]]
        there, elsewhere = (~body, body) if kind == "couch" else (body, ~body)
        assert np.abs(added[there]).max() > 20 and not added[elsewhere].any()
        assert mask.any() and field[mask].all() and np.array_equal(field, body) == (kind != "couch")
        if kind == "couch":
            assert np.nonzero(mask)[0].mean() > np.nonzero(body)[0].mean() + 30  # below the body


def test_masks_are_what_changed_and_grow_with_the_artifact(held, spoiled):
    change = show(spoiled["signal"], None) - show(held["signal"][spoiled["plate"]], None)
    np.testing.assert_array_equal(spoiled["mask"], np.abs(change) > CHANGED)
    area = spoiled["mask"].sum(axis=(1, 2))
    assert (area[spoiled["size"] == 1.4] > area[spoiled["size"] == 0.7]).all()
    assert len(area) == 2 * len(KINDS) * 2 * 2


def test_a_ring_lies_around_the_axis_and_sizes_share_a_place(spoiled):
    rings = spoiled["kind"] == "ring"
    for mask in spoiled["mask"][rings]:
        y, x = (np.nonzero(mask)[axis] - 127.5 for axis in (0, 1))
        assert np.hypot(y, x).std() < 3 and np.hypot(y, x).mean() > 8
    metal = spoiled["kind"] == "metal streak"
    brightest = spoiled["signal"][metal].reshape(metal.sum(), -1).argmax(axis=1).reshape(-1, 2)
    near = np.abs(np.diff(np.stack(np.unravel_index(brightest, (256, 256))), axis=-1))
    assert (near <= 3).all()


def test_metal_is_brighter_than_bone_and_its_streaks_are_dark_and_bright(held, spoiled):
    metal = (spoiled["kind"] == "metal streak") & (spoiled["size"] == 1.4)
    added = spoiled["signal"][metal] - held["signal"][spoiled["plate"][metal]]
    assert (spoiled["signal"][metal].max(axis=(1, 2)) > 1500).all()
    assert (added.min(axis=(1, 2)) < -20).all()


def test_another_exposure_differs_in_noise_alone():
    piece = SpoiledSlice(70_000)
    (first, tissues), (again, same), (other, there) = piece.expose(0), piece.expose(0), piece.expose(1)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(tissues, there)
    np.testing.assert_array_equal(tissues, same)
    inside = tissues > 0
    assert abs((other - first)[inside].mean()) < 2 < (other - first)[inside].std() < 100


def test_slices_are_kept_and_others_are_made_anew(held, tmp_path, monkeypatch):
    path = tmp_path / "slices.npz"
    made = slices(range(70_000, 70_001), path, bank=1)
    np.testing.assert_array_equal(made["artifacts"][0], held["artifacts"][0])
    asked = []
    monkeypatch.setattr("lib.phantom.spoiled_slices.in_parallel", lambda _, jobs, __: asked.append(jobs) or iter(()))
    assert slices(range(70_000, 70_001), path, bank=1)["signal"].shape == made["signal"].shape and not asked
    with pytest.raises(KeyError):
        slices(range(70_000, 70_001), path, bank=2)
    assert asked == [[(70_000, 0, 2)]]


def test_a_bank_gives_any_artifact_at_a_strength(held):
    rng = np.random.default_rng(0)
    assert np.array_equal(from_bank(held, 0, rng, 0.0), held["signal"][0])
    drawn = {float((from_bank(held, 0, rng, 1.0) - held["signal"][0]).sum()) for _ in range(40)}
    assert len(drawn) == len(KINDS)


def test_kidneys_are_where_the_distance_is_negative_and_greys_are_clipped(held):
    inside = held["distance_mm"] < 0
    assert inside.any(axis=(1, 2)).all() and held["field"][inside].all()
    assert show(np.array([-1000, -200, 150, 500, 3000]), None).tolist() == [0, 0, 0.5, 1, 1]


def test_an_unknown_artifact_is_refused(held):
    with pytest.raises(ValueError, match="metal streak, ring, couch"):
        SpoiledSlice(70_000).artifact("ghost", np.random.default_rng(0), held["signal"][0], held["field"][0])
