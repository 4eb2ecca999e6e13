"""Dental plates and their seventeen artifacts: identities, growth, sizes of enamel, the same bytes each time."""

import numpy as np
import pytest

from lib.xray.dental import LOWER_MM, PIXEL_MM, Mouth, plate_outline, show
from lib.xray.plate_artifacts import KINDS, WHOLE_PLATE, Grid, spoil
from lib.xray.teeth import draw_tooth, draw_tooth_chords


@pytest.fixture(scope="module")
def plate():
    return Mouth(3).expose()


def test_a_seed_gives_the_same_bytes_and_a_repeat_other_noise(plate):
    again, repeat = Mouth(3).expose(), Mouth(3).expose(noise=1)
    assert again.signal.tobytes() == plate.signal.tobytes()
    difference = np.log(repeat.signal / plate.signal)[plate.plate]
    assert 0 < difference.std() < 0.12 and abs(difference.mean()) < 0.005
    assert (repeat.teeth == plate.teeth).all()


def test_enamel_over_four_lower_teeth_is_ten_millimetres():
    """Stroud 1998: about 10 mm on the mesial and distal sides of four mandibular teeth."""
    rng, totals = np.random.default_rng(0), []
    for _ in range(30):
        total = 0.0
        for molar, width in LOWER_MM[:4]:
            tooth = draw_tooth(rng, 0.0, 0.0, 1, molar, width)
            x, y = np.meshgrid(np.arange(-1, width + 1, 0.02), [tooth.y + 0.5 * tooth.crown])
            parts = draw_tooth_chords(tooth.__class__(**{**tooth.__dict__, "lean": 0.0, "treatment": ()}), x, y)
            inner = parts["dentine"][0] > 1e-6
            outer = parts["crown"][0] > 1e-6
            total += (outer.sum() - inner.sum()) * 0.02
        totals.append(total)
    assert np.mean(totals) == pytest.approx(10, abs=1.5)


def test_hard_tissue_is_white_and_air_black(plate):
    grey = show(plate.signal, plate.plate)
    enamel = plate.crowns & (plate.distance_mm < -0.4) & (plate.distance_mm > -1.0)
    beyond = (plate.distance_mm > 0.6) & plate.plate
    assert np.median(grey[enamel]) > np.median(grey[beyond]) + 0.2
    assert not grey[~plate.plate].any()
    corners = plate_outline(484, 640, PIXEL_MM)
    assert 0.97 < corners.mean() < 0.999 and not corners[0, 0] and corners[2, 320]


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_without_strength_is_no_artifact(plate, kind):
    same, mask = spoil(plate.signal, kind, np.random.default_rng(0), pixel_mm=PIXEL_MM, strength=0.0)
    assert (same == plate.signal).all() and not mask.any()


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_changes_its_mask_and_grows(plate, kind):
    masks = []
    for strength in (0.4, 0.7, 1.0):
        spoiled, mask = spoil(plate.signal, kind, np.random.default_rng(1), pixel_mm=PIXEL_MM, strength=strength,
                              centre=(20.0, 10.0))  # fmt: skip
        assert (np.abs(spoiled / plate.signal - 1)[~mask] <= 0.05 + 1e-5).all()
        assert spoiled.min() > 0
        masks.append(mask)
    assert masks[-1].any()
    assert masks[0].sum() <= masks[1].sum() <= masks[2].sum()
    if kind not in WHOLE_PLATE:
        assert masks[-1].mean() < 0.06
        assert not (masks[0] & ~masks[2]).any()


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in (*WHOLE_PLATE, "bent corner", "peeled edge", "scanner line")]
)
def test_an_artifact_lies_where_it_is_put_and_size_enlarges_it(plate, kind):
    areas = []
    for size in (0.7, 1.5):
        _, mask = spoil(plate.signal, kind, np.random.default_rng(2), pixel_mm=PIXEL_MM, centre=(27.0, 20.0), size=size)
        rows, columns = np.nonzero(mask)
        assert np.hypot(columns.mean() * PIXEL_MM - 27, rows.mean() * PIXEL_MM - 20) < 3.0
        areas.append(mask.sum())
    assert areas[1] > areas[0]


def test_a_stroke_covers_its_area():
    grid = Grid(200, 300, 0.1)
    cover = grid.stroke(np.array([(5.0, 5.0), (20.0, 12.0)]), 0.8)
    assert cover.sum() * 0.01 == pytest.approx(0.8 * np.hypot(15, 7) + np.pi * 0.16, rel=0.02)


def test_unknown_names_are_told(plate):
    with pytest.raises(ValueError, match="hairline scratch, scratch bundle"):
        spoil(plate.signal, "smear", np.random.default_rng(0), pixel_mm=PIXEL_MM)
    with pytest.raises(ValueError, match="bitewing, periapical"):
        Mouth(1, view="panoramic")


def test_a_periapical_plate_shows_one_jaw_with_its_roots():
    mouth = Mouth(5, view="periapical")
    assert len({tooth.jaw for tooth in mouth.teeth}) == 1
    plate = mouth.expose()
    roots = plate.teeth & ~plate.crowns
    assert roots.sum() > 0.7 * plate.crowns.sum()
