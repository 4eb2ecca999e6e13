"""CT slices with a metal streak, a ring and a couch: where each lies, and that all else is the same."""

import numpy as np
import pytest

from lib.phantom.spoiled_slices import CHANGED_HU, KINDS, SpoiledSlice, from_bank, show, slices, spoiled_slices


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return slices(range(70_000, 70_002), tmp_path_factory.mktemp("ct") / "slices.npz", bank=1)


@pytest.fixture(scope="module")
def spoiled(held):
    return spoiled_slices(held, 2, (0.7, 1.4), seed=1)


def test_metal_and_ring_lie_in_the_body_and_the_couch_outside(held, spoiled):
    for image, kind, plate in zip(spoiled["signal"], spoiled["kind"], spoiled["plate"], strict=True):
        body, added = held["body"][plate], image - held["signal"][plate]
        there, elsewhere = (~body, body) if kind == "couch" else (body, ~body)
        assert np.abs(added[there]).max() > CHANGED_HU and not added[elsewhere].any()
        assert (np.abs(added) > CHANGED_HU)[~held["field"][plate]].sum() == 0 or kind == "couch"


def test_masks_are_what_changed_and_grow_with_the_artifact(held, spoiled):
    added = spoiled["signal"] - held["signal"][spoiled["plate"]]
    np.testing.assert_array_equal(spoiled["mask"], np.abs(added) > CHANGED_HU)
    area = spoiled["mask"].sum(axis=(1, 2))
    assert (area[spoiled["size"] == 1.4] > area[spoiled["size"] == 0.7]).all()
    assert len(area) == 2 * len(KINDS) * 2 * 2


def test_metal_is_brighter_than_bone_and_its_streaks_are_dark_and_bright(held, spoiled):
    metal = (spoiled["kind"] == "metal streak") & (spoiled["size"] == 1.4)
    added = spoiled["signal"][metal] - held["signal"][spoiled["plate"][metal]]
    assert (spoiled["signal"][metal].max(axis=(1, 2)) > 1500).all()
    assert (added.min(axis=(1, 2)) < -CHANGED_HU).all()


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
    assert inside.any(axis=(1, 2)).all() and held["body"][inside].all()
    grey = show(held["signal"][0], held["field"][0])
    assert grey.min() == 0 and grey.max() <= 1


def test_an_unknown_artifact_is_refused(held):
    with pytest.raises(ValueError, match="metal streak, ring, couch"):
        SpoiledSlice(70_000).artifact("ghost", np.random.default_rng(0), held["signal"][0], held["body"][0])
