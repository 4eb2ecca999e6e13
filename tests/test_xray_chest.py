"""Chest radiographs: pneumothorax against Collins, masks, pairs, scatter fractions, the same bytes each time."""

import numpy as np
import pytest

from lib.xray.beam import beam
from lib.xray.chest import Chest, with_size
from lib.xray.chest_study import chests, joined
from lib.xray.detector import scattered
from lib.xray.geometry import View
from lib.xray.pneumothorax import move_points
from lib.xray.thorax import Hemithorax, lung_of


@pytest.fixture(scope="module")
def pair():
    return [Chest(4).radiograph(128, pneumothorax=with_) for with_ in (True, False)]


def test_a_seed_gives_the_same_bytes(pair):
    again = Chest(4).radiograph(128, pneumothorax=True)
    assert again.grey.tobytes() == pair[0].grey.tobytes() and again.facts == pair[0].facts
    assert Chest(5).radiograph(128).grey.tobytes() != pair[1].grey.tobytes()


def test_states_of_a_patient_differ_by_what_they_name(tmp_path):
    states = {"neither": (False, 0.0), "tube": (False, 1.0), "both": (True, 1.0)}
    found = chests(range(3, 5), tmp_path / "held.npz", states, pixels=96)
    assert [found[name]["label"].tolist() for name in states] == [[0, 0], [0, 0], [1, 1]]
    assert found["tube"]["tube"].any(axis=(1, 2)).all() and not found["neither"]["tube"].any()
    assert found["both"]["gap"].any(axis=(1, 2)).all() and not found["tube"]["gap"].any()
    change = np.abs(found["tube"]["grey"].astype(float) - found["neither"]["grey"])
    assert change[found["tube"]["tube"]].mean() > 10 * change[~found["tube"]["tube"]].mean()
    again = Chest(4).radiograph(96, pneumothorax=True, chest_tube=True)  # not after other states of the same patient
    assert np.array_equal(found["both"]["grey"][1], again.grey.astype(np.float16))
    first = (tmp_path / "held.npz").stat().st_mtime_ns
    chests(range(3, 5), tmp_path / "held.npz", states, pixels=96)
    assert (tmp_path / "held.npz").stat().st_mtime_ns == first
    assert joined(found["neither"], found["both"])["label"].tolist() == [0, 0, 1, 1]


def test_masks_lie_in_each_other(pair):
    with_, without = pair
    assert with_.gap.any() and not without.gap.any() and not without.air.any()
    assert not (with_.gap & ~with_.air).any()
    assert (with_.air & ~with_.lungs).sum() <= 0.002 * with_.air.sum()
    assert with_.gap.sum() < with_.air.sum()
    half = with_.gap[:, :64].sum(), with_.gap[:, 64:].sum()
    assert (half[0] == 0) if with_.facts["side"] == "left" else (half[1] == 0)


def test_a_pair_is_the_same_patient(pair):
    with_, without = pair
    there = np.zeros(with_.grey.shape, bool)
    there[:, : 64 - 14] = with_.facts["side"] == "left"
    there[:, 64 + 14 :] = with_.facts["side"] == "right"
    other_side = np.abs(with_.grey - without.grey)[there].mean()
    assert other_side < 0.02 < np.abs(with_.grey - without.grey)[with_.gap].mean()
    assert with_.grey[with_.gap].mean() < without.grey[with_.gap].mean()  # air is black


def test_lung_and_air_fill_the_cavity_and_the_lung_keeps_its_mass():
    chest, view = Chest(4), View(96)
    thick = [chest.line_integrals(view, with_) for with_ in (True, False)]
    for _, soft in thick:
        assert 0 <= soft["lost"] < 1
    side = slice(48 + 8, None) if chest.pneumothorax.side > 0 else slice(0, 48 - 8)
    rows = slice(20, 60)
    mass = [t["water"][rows, side].sum() for t, _ in thick]
    assert mass[0] == pytest.approx(mass[1], rel=0.04)  # what the lung lost in room, it gained in density


@pytest.mark.slow
def test_size_follows_collins():
    points = []
    for seed in range(24):
        chest = Chest(seed)
        _, soft = chest.line_integrals(View(48), True)
        points.append((chest.pneumothorax.gap.sum_cm, 100 * soft["lost"]))
    x, y = np.array(points).T
    slope, offset = np.polyfit(x, y, 1)
    assert slope == pytest.approx(4.7, abs=0.5)  # Collins 1995: % = 4.2 + 4.7 (A + B + C), cm
    assert np.abs(slope * x + offset - (4.2 + 4.7 * x)).max() < 8
    assert np.corrcoef(x, y)[0, 1] > 0.94


def test_a_larger_gap_is_a_larger_mask():
    shares = [with_size(Chest(4), size).radiograph(64, pneumothorax=True).facts["gap_share"] for size in (0.5, 1, 2)]
    assert shares[0] < shares[1] < shares[2]


def test_scatter_fractions_are_those_measured_without_a_grid():
    chest, view = Chest(1), View(96)
    thickness, soft = chest.line_integrals(view, False)
    primary = beam("chest").transmission(thickness)
    tissue = thickness["water"] + 1.6 * thickness["hydroxyapatite"]
    scatter = scattered(primary, tissue, view.pixel_mm)
    share = scatter / (scatter + primary)
    middle = share[44:60, 46:51].mean()
    assert 0.87 < middle < 0.95  # Niklason 1981: about .9
    assert 0.5 < np.median(share[soft["masks"]["lungs"] & (tissue < 13)]) < 0.72


def test_vessels_move_with_the_lung_and_stay_in_it():
    chest = Chest(4)
    case = chest.pneumothorax
    cavity = Hemithorax(chest.habitus, case.side)
    lung = lung_of(cavity, case.gap)
    rng = np.random.default_rng(0)
    points = rng.uniform([25, -70, -60], [130, 70, 120], (4000, 3)) * [case.side, 1, 1]
    points = points[Hemithorax(chest.habitus, case.side, inset=9.0).contains(points)]
    moved = move_points(points, cavity, lung)
    assert len(points) > 300
    assert lung.contains(moved).mean() > 0.97
    assert lung.contains(points).mean() < lung.contains(moved).mean()
    assert (np.abs(moved[:, 0]) <= np.abs(points[:, 0]) + 1e-6).all()


def test_a_tube_lies_on_the_side_of_the_pneumothorax_and_is_white():
    chest = Chest(12)
    with_, without = (chest.radiograph(256, pneumothorax=True, chest_tube=tube) for tube in (True, False))
    assert with_.tube.any() and not without.tube.any()
    columns = np.flatnonzero(with_.tube.any(axis=0))
    assert (columns > 128).mean() == (1.0 if chest.pneumothorax.side > 0 else 0.0)
    stripe = (with_.grey - without.grey)[with_.tube]
    assert np.quantile(stripe, 0.9) > 0.05


@pytest.mark.slow
def test_sizes_are_those_of_a_public_set():
    """SIIM-ACR: 1.4 % of the image on average, median .8 %, .13 to 4.4 % in nine of ten."""
    shares = [100 * Chest(seed).line_integrals(View(64), True)[1]["masks"]["gap"].mean() for seed in range(40)]
    assert np.mean(shares) == pytest.approx(1.4, abs=0.45)
    assert np.median(shares) == pytest.approx(0.85, abs=0.35)
