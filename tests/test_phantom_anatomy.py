"""Shapes against closed forms, and the anatomy against measured distributions."""

import numpy as np
import pytest

from lib.phantom.anatomy import TISSUE_OF_PAINT, Anatomy
from lib.phantom.canvas import Canvas, Grid, Wave, Wobble, grow, ribbon, smooth_closed, unit_circle
from lib.phantom.kidneys import Kidney, draw_kidneys
from lib.phantom.physiology import draw_subject
from lib.phantom.tissues import KIDNEY_TISSUES, PAINT_TISSUE, Tissue

ANGLES = np.linspace(-np.pi, np.pi, 72, endpoint=False)


def polygon_area(points):
    following = np.roll(points, -1, axis=0)
    return 0.5 * abs((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum())


@pytest.fixture(scope="module")
def kidneys():
    rng = np.random.default_rng(5)
    return [draw_kidneys(rng, (draw_subject(rng).height_m / 1.72) ** 0.6) for _ in range(250)]


@pytest.fixture(scope="module")
def patient():
    rng = np.random.default_rng(2)
    return Anatomy(rng, draw_subject(rng))


def test_painted_areas_are_those_of_the_shapes():
    grid = Grid(256, 0.8, -100.0, -100.0)
    for radius, at in ((8.0, (3.3, -7.1)), (40.0, (0.4, 0.2))):
        canvas = Canvas(grid)
        canvas.polygon(unit_circle(120) * radius + at, 7)
        painted = (canvas.samples() == 7).sum() * (0.8 / 2) ** 2
        assert np.sqrt(painted / np.pi) == pytest.approx(radius + 0.3 * 0.4, abs=0.12)  # a fraction of a sample larger
        rows, columns = np.nonzero(canvas.samples() == 7)
        centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) * 0.4 - 100
        np.testing.assert_allclose(centre, at, atol=0.06)


def test_grow_moves_a_circle_by_its_distance_whichever_way_it_runs():
    circle = unit_circle(90) * 20
    for contour in (circle, circle[::-1]):
        np.testing.assert_allclose(np.hypot(*grow(contour, 3.0).T), 23.0, rtol=1e-6)
        np.testing.assert_allclose(np.hypot(*grow(contour, -3.0).T), 17.0, rtol=1e-6)


def test_ribbon_is_as_wide_as_asked():
    path = np.stack([np.linspace(0, 50, 20), np.zeros(20)], axis=1)
    outline = ribbon(path, 4.0)
    assert np.ptp(outline[:, 1]) == pytest.approx(8.0)
    assert polygon_area(outline) == pytest.approx(50 * 8 + 2 * 0.5 * 8 * 3.2, rel=1e-6)


def test_smooth_closed_passes_through_its_control_points():
    square = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], float)
    np.testing.assert_allclose(smooth_closed(square, 40)[::10], square, atol=1e-9)


def test_waves_have_the_asked_spread_and_wobbles_the_mean_of_one():
    rng = np.random.default_rng(0)
    values = [Wave(rng, 2.0)(z) for z in rng.uniform(-500, 500, 4000)]
    assert np.std(values) == pytest.approx(2.0, rel=0.1) and abs(np.mean(values)) < 0.15
    assert Wobble(rng, 0.05)(ANGLES, 3.0).mean() == pytest.approx(1.0, abs=1e-9)


def test_kidney_size_tilt_and_place_follow_the_measured_distributions(kidneys):
    # KiTS23 lesion-free kidneys and Glodny 2009; mean and tolerance, then SD range.
    each = [k for pair in kidneys for k in pair]
    extent = np.array([k.top - k.bottom for k in each])
    assert extent.mean() == pytest.approx(110, abs=4) and 8 < extent.std() < 15
    both = np.array([max(a.top, b.top) - min(a.bottom, b.bottom) for a, b in kidneys])
    assert both.mean() == pytest.approx(133, abs=6) and 15 < both.std() < 24
    apart = np.array([left.x - right.x for right, left in kidneys])
    assert apart.mean() == pytest.approx(149, abs=4) and 15 < apart.std() < 22
    lower = np.array([left.z - right.z for right, left in kidneys])
    assert lower.mean() == pytest.approx(6, abs=3) and 17 < lower.std() < 26
    tilt = np.degrees(np.arctan(np.array([np.hypot(k.lean_x, k.lean_y) for k in each])))
    assert tilt.mean() == pytest.approx(27, abs=4)
    assert np.mean([k.cortex for k in each]) == pytest.approx(6.6, abs=0.3)
    assert np.mean([k.parenchyma for k in each]) == pytest.approx(15.6, abs=0.5)


def test_kidney_sections_have_the_measured_area_and_volume(kidneys):
    areas, volumes = [], []
    for kidney in [k for pair in kidneys[:80] for k in pair]:
        heights = np.linspace(-0.99, 0.99, 41)
        area = [polygon_area(kidney.place(h, kidney.radius(h, ANGLES), ANGLES)) for h in heights]
        areas.append(max(area))
        volumes.append(np.trapezoid(area, heights * kidney.half_height) / 1000)
    assert np.mean(areas) == pytest.approx(2860, rel=0.08) and 480 < np.std(areas) < 760
    assert np.mean(volumes) == pytest.approx(211, rel=0.10) and 42 < np.std(volumes) < 72


def test_calyces_show_in_most_of_the_middle_of_a_kidney(kidneys):
    seen = []
    for kidney in [k for pair in kidneys[:12] for k in pair]:
        grid = Grid(160, 1.0, kidney.x - 80, kidney.y - 80)
        for h in np.linspace(-0.8, 0.8, 9):
            canvas = Canvas(grid)
            kidney.paint(canvas, kidney.z + h * kidney.half_height)
            seen.append((canvas.samples() == Tissue.URINE).sum() * 0.25 > 15)  # mm2
    assert np.mean(seen) > 0.9


def test_nothing_of_a_kidney_lies_beyond_its_extent(kidneys):
    for right, left in kidneys[:20]:
        for kidney in (right, left):
            kidney.masses = []
            for z in (kidney.bottom - 0.5, kidney.top + 0.5):
                canvas = Canvas(Grid(64, 3.0, kidney.x - 96, kidney.y - 96))
                kidney.paint(canvas, z)
                assert not np.isin(canvas.samples(), KIDNEY_TISSUES).any()


def test_every_tissue_is_painted_and_every_paint_is_a_tissue():
    grid, seen = Grid(256, 1.7, -218.0, -250.0), set()
    for seed in range(6):
        rng = np.random.default_rng([seed, 1])
        anatomy = Anatomy(rng, draw_subject(rng))
        for z in np.linspace(-50, 65, 7):
            seen |= set(np.unique(anatomy.paint(grid, z)))
    assert {int(t) for t in Tissue} - {Tissue.RENAL_TUMOUR, Tissue.RENAL_CYST} <= seen
    assert seen <= {int(t) for t in Tissue} | set(PAINT_TISSUE)
    assert TISSUE_OF_PAINT[sorted(PAINT_TISSUE)].tolist() == [int(PAINT_TISSUE[k]) for k in sorted(PAINT_TISSUE)]


def test_neighbouring_slices_differ_little(patient):
    grid = Grid(256, 1.6, -205.0, patient.trunk.centre_y - 205)
    for z in (-30.0, 0.0, 30.0):
        here, near, far = (TISSUE_OF_PAINT[patient.paint(grid, z + dz)] for dz in (0, 1, 15))
        body = here > 0
        assert ((here != near) & body).mean() < 0.06
        assert (here != near).sum() < 0.4 * (here != far).sum()


def test_the_right_side_is_on_the_left_of_the_image_and_the_back_below(patient):
    grid = Grid(128, 3.2, -205.0, patient.trunk.centre_y - 205)
    right, left = patient.kidneys
    tissues = TISSUE_OF_PAINT[patient.paint(grid, 0.5 * (max(right.bottom, left.bottom) + 40) + 20)]
    columns = {t: np.nonzero(tissues == t)[1].mean() for t in (Tissue.LIVER, Tissue.AORTA, Tissue.VENA_CAVA)}
    rows = {t: np.nonzero(tissues == t)[0].mean() for t in (Tissue.SPINAL_CANAL, Tissue.AORTA)}
    assert columns[Tissue.LIVER] < columns[Tissue.VENA_CAVA] < columns[Tissue.AORTA]
    assert rows[Tissue.AORTA] < rows[Tissue.SPINAL_CANAL]


def test_a_kidney_of_known_size_has_that_length():
    kidney = Kidney(np.random.default_rng(0), 1, (75.0, -5.0, 10.0))
    assert kidney.top + kidney.bottom == pytest.approx(20.0)
    assert kidney.bottom < 10 < kidney.top
