"""Gut and the liver's vessels: tubes that continue, levels that are flat, calibers that obey Murray."""

import numpy as np
import pytest
from scipy import ndimage

from lib.phantom.bowel import COLLAPSED, Gut, paint_gas, runs, walks
from lib.phantom.canvas import Canvas, Grid, unit_circle
from lib.phantom.liver import draw_liver_vessels
from lib.phantom.patient import Anatomy
from lib.phantom.physiology import draw_subject
from lib.phantom.tissues import Tissue

GRID = Grid(240, 0.5, -60.0, -60.0)


def tube(stations, filling=Tissue.BOWEL_FLUID, gas=0.0, **more):
    n = len(stations)
    return Gut(stations, np.full(n, 12.0), [filling] * n, np.full(n, gas), 2.0, **more)


def painted(gut, z=0.0):
    canvas = Canvas(GRID)
    gut.paint_outside(canvas, z, Tissue.BOWEL_WALL)
    gut.paint_inside(canvas, z)
    return canvas.samples()


def area(samples, *tissues):
    return np.isin(samples, tissues).sum() * 0.25**2


@pytest.fixture(scope="module")
def anatomies():
    drawn = []
    for seed in range(8):
        rng = np.random.default_rng([seed, 7])
        drawn.append(Anatomy(rng, draw_subject(rng)))
    return drawn


def test_a_tube_across_the_plane_is_a_disc_and_along_it_a_band():
    across = painted(tube([(0, 0, -60), (0, 0, 0), (0, 0, 60)]))
    assert area(across, Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID) == pytest.approx(np.pi * 12**2, rel=0.05)
    assert area(across, Tissue.BOWEL_FLUID) == pytest.approx(np.pi * 10**2, rel=0.05)
    along = painted(tube([(-30, 0, 0), (0, 0, 0), (30, 0, 0)]))
    assert area(along, Tissue.BOWEL_WALL, Tissue.BOWEL_FLUID) == pytest.approx(60 * 24 + np.pi * 12**2, rel=0.05)
    assert not painted(tube([(-30, 0, 0), (30, 0, 0)]), z=12.5).any()


def test_collapsed_gut_is_thinner_and_has_no_lumen():
    samples = painted(tube([(-30, 0, 0), (0, 0, 0), (30, 0, 0)], COLLAPSED))
    assert set(np.unique(samples)) == {0, Tissue.BOWEL_WALL}
    assert area(samples, Tissue.BOWEL_WALL) < 0.7 * (60 * 24 + np.pi * 12**2)


def test_haustra_narrow_the_colon_and_folds_its_lumen_only():
    stations = [(-50, 0, 0), (0, 0, 0), (50, 0, 0)]
    widths = {}
    for name, more in {"plain": {}, "haustra": {"haustra": 0.25}, "folds": {"folds": (2, 0.25)}}.items():
        samples = painted(tube(stations, **more))[:, 60:-60]
        widths[name] = [(np.isin(samples, codes).sum(axis=0) * 0.25) for codes in ([Tissue.BOWEL_FLUID], [25, 26])]
    lumen, outside = np.array(widths["plain"])
    assert np.ptp(outside) < 0.6 and outside.mean() == pytest.approx(24, abs=0.6)
    assert np.ptp(widths["haustra"][1]) > 2.0, "sacculations show"
    np.testing.assert_allclose(widths["folds"][1], outside, atol=0.6)
    fluid = widths["folds"][0]
    every = 0.25 * np.diff(np.flatnonzero(np.diff((fluid < 0.85 * lumen.max()).astype(int)) == 1))
    assert fluid.max() == pytest.approx(lumen.max(), abs=0.6)
    assert fluid.min() == pytest.approx(0.75 * lumen.max(), abs=0.8), "a fold from either side"
    assert every.min() > 4.5 and every.max() < 6.6, "two spheres"


def test_the_colon_s_folds_stand_where_it_is_narrow_and_none_stands_where_none_was_asked_for():
    stations = [(-80, 0, 0), (-20, 0, 0), (40, 0, 0), (100, 0, 0)]
    colon = tube(stations, haustra=0.3, folds=(12, 0.25))
    narrow = np.flatnonzero(colon.folded)
    assert len(narrow) > 4 and (np.diff(narrow) == 12).all()
    assert colon.radius[narrow[1:-1]].max() < colon.radius[narrow[1:-1] + 6].min()
    assert not tube(stations).folded.any()


def test_folds_of_an_oblique_loop_hang_on_its_wall():
    gut = tube([(-60, 0, -30), (0, 0, 0), (60, 0, 30)], folds=(2, 0.3))
    for z in (-6.0, 0.0, 5.0):
        samples = painted(gut, z)
        assert ndimage.label(samples == Tissue.BOWEL_WALL, np.ones((3, 3)))[1] <= 2, (
            "the wall in one or two pieces, and no fold on its own"
        )


@pytest.mark.parametrize("turn", [0.0, 0.15, -0.1])
def test_gas_lies_in_front_of_a_level_that_gravity_keeps_flat(turn):
    gut = tube([(-30, 4, 0), (0, 0, 0), (30, 4, 0)], gas=0.4)
    canvas = Canvas(GRID)
    canvas.down = np.array([np.sin(turn), np.cos(turn)])  # gravity as a rolled patient has it
    gut.paint_outside(canvas, 0.0, Tissue.BOWEL_WALL)
    gut.paint_inside(canvas, 0.0)
    rows, columns = np.nonzero(canvas.samples() == Tissue.BOWEL_GAS)
    wet_rows, wet_columns = np.nonzero(canvas.samples() == Tissue.BOWEL_FLUID)
    depth, wet = (
        (np.stack([c, r], axis=1) * 0.25 - 60) @ canvas.down for r, c in ((rows, columns), (wet_rows, wet_columns))
    )
    assert len(depth) > 500 and len(wet) > 500
    assert depth.max() <= wet.min() + 0.75, "no gas below fluid, along the whole loop"


def test_gas_fills_nothing_of_what_lies_below_its_level():
    canvas = Canvas(GRID)
    paint_gas(canvas, unit_circle(60) * 10, -11.0)
    assert not canvas.samples().any()
    paint_gas(canvas, unit_circle(60) * 10, 0.0)
    assert area(canvas.samples(), Tissue.BOWEL_GAS) == pytest.approx(0.5 * np.pi * 100, rel=0.06)


def test_walks_visit_every_place_at_most_once_in_short_steps():
    places = np.random.default_rng(0).uniform(-80, 80, (150, 3))
    found = walks(places, np.zeros(3))
    every = np.concatenate(found)
    assert len(set(every)) == len(every) > 130
    for walk in found:
        steps = np.diff(places[walk], axis=0) * (1, 1, 1.25)
        assert np.hypot.reduce(steps, axis=1).max() <= 46.0 + 1e-9


def test_runs_are_uniform_numbers_that_last():
    rng = np.random.default_rng(1)
    values = rng.random(20000)[runs(rng, 20000, 0.25)]
    assert np.mean(np.diff(values) == 0) == pytest.approx(0.75, abs=0.02)
    assert values.mean() == pytest.approx(0.5, abs=0.02) and values.std() == pytest.approx(12**-0.5, abs=0.02)


def test_the_colon_is_one_piece_and_the_bowel_fills_the_front(anatomies):
    shares = []
    for anatomy in anatomies:
        bowel = anatomy.abdomen.bowel
        assert len(bowel.colon) == 1
        assert np.hypot.reduce(np.diff(bowel.colon[0].path, axis=0), axis=1).max() < 2.9
        canvas = Canvas(Grid(256, 1.7, -218.0, anatomy.trunk.centre_y - 218))
        bowel.paint_small(canvas, -20.0)
        bowel.paint_large(canvas, -20.0)
        empty = np.isin(canvas.samples(), [Tissue.VISCERAL_FAT, Tissue.OUTSIDE, Tissue.ARTERY, Tissue.PORTAL_VEIN])
        room = 2 * bowel.width * (anatomy.trunk.centre_y + bowel.depth)
        shares.append((~empty).sum() * 0.85**2 / room)
    assert 0.25 < np.mean(shares) < 0.75 and min(shares) > 0.12


def test_the_stomach_has_one_level_of_fluid_in_every_slice_of_a_rolled_patient(anatomies, monkeypatch):
    seen = 0
    for anatomy in anatomies:
        bowel, levels = anatomy.abdomen.bowel, []
        monkeypatch.setattr(bowel, "colon", [])
        body = bowel.stomach[-1]
        for z in body.centre[2] + np.linspace(-0.6, 0.6, 5) * body.half[2]:
            canvas = Canvas(Grid(512, 0.85, -218.0, anatomy.trunk.centre_y - 218, 1), pose=anatomy.pose)
            bowel.paint_large(canvas, z)
            samples = canvas.samples()
            fluid = np.isin(samples, [Tissue.BOWEL_FLUID, Tissue.ORAL_CONTRAST])
            rows = np.nonzero((samples[:-1] == Tissue.BOWEL_GAS) & fluid[1:])[0]
            if len(rows) > 30:
                levels.append(np.median(rows))
        if len(levels) > 1:
            seen += 1
            assert np.ptp(levels) <= 2, "rows"
    assert seen >= 4


def test_the_portal_vein_enters_the_liver_and_the_liver_holds_its_vessels(anatomies):
    for anatomy in anatomies:
        liver, (portal, join) = anatomy.abdomen.liver, (anatomy.vessels.portal, anatomy.vessels.join)
        assert portal.path[0] == pytest.approx(join)
        assert portal.path[-1, 1:] == pytest.approx(liver.hilum[1:])
        assert portal.path[-1, 0] == pytest.approx(min(liver.hilum[0], join[0] - 15)), "to the right"
        grid = Grid(256, 1.7, -218.0, anatomy.trunk.centre_y - 218)
        veins = 0
        for z in (0.0, 30.0, 60.0):
            canvas, alone = Canvas(grid), Canvas(grid)
            liver.paint(canvas, z)
            if not (canvas.samples() == Tissue.LIVER).any():
                continue
            liver._paint_vessels(alone, z)
            painted = np.isin(alone.samples(), [Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN])
            organ = np.isin(canvas.samples(), [Tissue.LIVER, Tissue.GALLBLADDER, Tissue.VISCERAL_FAT])
            rim = ndimage.binary_dilation(organ, iterations=8)  # 7 mm: at the hilum they are on their way in
            assert (painted & ~rim).sum() < 0.01 * painted.sum()
            veins += painted.sum()
        assert veins > 100


def test_the_liver_s_vessels_fork_from_two_trunks_and_share_their_caliber_by_murray_s_law():
    start, stop, radius, code = draw_liver_vessels(np.random.default_rng(3))
    assert set(code) == {Tissue.PORTAL_VEIN, Tissue.HEPATIC_VEIN}
    joined = 0
    for k in range(len(start)):
        children = np.flatnonzero((start == stop[k]).all(axis=1))
        if len(children) == 2:
            joined += 1
            assert (code[children] == code[k]).all()
            assert (radius[children] ** 3).sum() == pytest.approx((0.95 * radius[k]) ** 3, rel=1e-9)
        else:
            assert len(children) in (0, 1)
    assert joined > 50
    roots = {tuple(point) for point in start} - {tuple(point) for point in stop}
    assert len(roots) == 2
