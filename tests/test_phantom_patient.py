"""Shapes against closed forms, and the anatomy against measured distributions."""

from copy import copy

import numpy as np
import pytest
from scipy import ndimage

from lib.paper import published
from lib.phantom.canvas import Canvas, Grid, Pose, Wave, Wobble, grow, ribbon, smooth_closed, unit_circle
from lib.phantom.kidneys import Kidney, draw_kidneys
from lib.phantom.measures import kidney_masks, measure_mask
from lib.phantom.patient import TISSUE_OF_PAINT, Anatomy
from lib.phantom.physiology import draw_subject
from lib.phantom.tissues import BLANKET, FASCIA, KIDNEY_TISSUES, PAINT_TISSUE, TABLE, URETER, Tissue

ANGLES = np.linspace(-np.pi, np.pi, 72, endpoint=False)


def polygon_area(points):
    following = np.roll(points, -1, axis=0)
    return 0.5 * abs((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum())


@pytest.fixture(scope="module")
def kidneys():
    rng = np.random.default_rng(5)
    return [draw_kidneys(rng, (draw_subject(rng).height_m / 1.72) ** 0.6) for _ in range(250)]


@pytest.fixture(scope="module")
def patients():
    drawn = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        drawn.append(Anatomy(rng, draw_subject(rng)))
    return drawn


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


def test_a_rolled_patient_turns_about_the_spine_and_the_table_stays():
    grid, pose = Grid(200, 1.0, -100.0, -100.0), Pose(np.radians(9), 6.0)
    for code, at in ((Tissue.LIVER, pose.place((50.0, -20.0))), (TABLE, (50.0, -20.0)), (BLANKET, (50.0, -20.0))):
        canvas = Canvas(grid, pose=pose)
        canvas.ellipse(50.0, -20.0, 20.0, 8.0, code)
        rows, columns = np.nonzero(canvas.samples() == code)
        points = np.stack([columns, rows], axis=1) * 0.5 + 0.25 - 100
        np.testing.assert_allclose(points.mean(axis=0), at, atol=0.3)
        x, y = np.linalg.eigh(np.cov(points.T))[1][:, 1]
        assert np.degrees(np.arctan(y / x)) == pytest.approx(9 if code == Tissue.LIVER else 0, abs=1)
    assert pose.place((50.0, 0.0))[1] == pytest.approx(50 * np.sin(np.radians(9)) - 6)  # the left side goes down
    points = np.random.default_rng(0).normal(0, 80, (9, 2))
    np.testing.assert_allclose(pose.undo(pose.place(points)), points)


def test_down_is_down_in_the_image():
    grid = Grid(64, 1.0, 0.0, 0.0)
    np.testing.assert_array_equal(Canvas(grid).down, [0.0, 1.0])
    pose = Pose(np.radians(-7), 3.0)
    down = Canvas(grid, pose=pose).down
    np.testing.assert_allclose(pose.place((11.0, -40.0) + 5 * down) - pose.place((11.0, -40.0)), [0, 5], atol=1e-12)


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


def mask_of(kidney, pixel=2.0, step=3.0):
    """Fill the kidney's outline plane by plane; bool (z, y, x)."""
    planes = []
    for z in np.arange(kidney.bottom - step, kidney.top + step, step):
        canvas, h = Canvas(Grid(64, pixel, kidney.x - 64, kidney.y - 64, 3)), (z - kidney.z) / kidney.half_height
        if abs(h) < 1:
            canvas.polygon(kidney.place(h, kidney.radius(h, ANGLES), ANGLES), 1)
        planes.append(canvas.samples()[1::3, 1::3] == 1)
    return np.stack(planes)


def test_a_tilted_ellipsoid_has_the_sections_of_the_closed_form():
    kidney = Kidney(np.random.default_rng(0), 1, (70.0, 0.0, 0.0))
    a, b, t = 58.0, 30.0, np.radians(27)
    kidney.half_length, kidney.half_width, kidney.half_depth, kidney.tilt = a, b, b, np.array([0.0, t])
    kidney._lean()
    h = np.sqrt((a * np.cos(t)) ** 2 + (b * np.sin(t)) ** 2)
    assert kidney.half_height == pytest.approx(h)
    assert np.linalg.norm(kidney.rise) == pytest.approx((a**2 - b**2) * np.sin(t) * np.cos(t) / h)
    np.testing.assert_allclose(np.linalg.svd(kidney.stretch)[1], [a / h, 1.0])
    upper, lower = (kidney.place(height, np.zeros(1), np.zeros(1))[0] for height in (0.8, -0.8))
    np.testing.assert_allclose(upper - lower, [0, 1.6 * np.linalg.norm(kidney.rise)], atol=1e-9)  # upper pole behind


def test_the_drawn_length_and_tilt_are_those_of_the_mask(kidneys):
    length, tilt = [], []
    for kidney in [k for pair in kidneys[:30] for k in pair]:
        found = measure_mask(mask_of(kidney), (3.0, 2.0, 2.0))
        length.append(found["long axis"] / (2 * kidney.half_length))
        drawn = np.degrees(np.arctan(np.hypot(*np.tan(kidney.tilt))))
        tilt.append(found["tilt of the long axis"] - drawn)
    assert np.mean(length) == pytest.approx(1, abs=0.03) and np.std(length) < 0.02
    assert abs(np.mean(tilt)) < 3 and np.std(tilt) < 3


def test_single_kidneys_measure_as_in_patients(kidneys):
    measured = [measure_mask(mask_of(k), (3.0, 2.0, 2.0)) for pair in kidneys[:150] for k in pair]
    for row in published("kidney_geometry").itertuples():
        if row.quantity not in measured[0]:
            continue
        values = np.array([one[row.quantity] for one in measured])
        allowed = 3 if row.unit == "degree" else 0.06 * row.mean
        assert values.mean() == pytest.approx(row.mean, abs=allowed), row.quantity
        assert 0.75 < values.std() / row.sd < 1.25, row.quantity
    each = [k for pair in kidneys for k in pair]
    assert np.mean([k.cortex for k in each]) == pytest.approx(6.6, abs=0.3)
    assert np.mean([k.parenchyma for k in each]) == pytest.approx(15.6, abs=0.5)


def test_pairs_of_kidneys_lie_as_in_patients(kidneys, patients):
    both = np.array([max(a.top, b.top) - min(a.bottom, b.bottom) for a, b in kidneys])
    assert both.mean() == pytest.approx(133, rel=0.06) and 16 < both.std() < 27
    lower = np.array([left.z - right.z for right, left in kidneys])
    assert lower.mean() == pytest.approx(6, abs=4) and 16 < lower.std() < 26
    places = np.array([[one.pose.place((k.x, k.y)) for k in one.kidneys] for one in patients])
    apart, depth = (places[:, 1] - places[:, 0]).T
    assert apart.mean() == pytest.approx(149, rel=0.05) and 15 < apart.std() < 25
    assert abs(depth.mean()) < 5 and 12 < depth.std() < 22  # of 60 patients


def test_kidneys_lie_beside_muscle_and_bone_and_not_in_them(patients):
    shares = []
    for anatomy in patients[:15]:
        grid, inside = Grid(200, 2.0, -200.0, anatomy.trunk.centre_y - 200, 1), np.zeros(2)
        for z in np.arange(anatomy.kidney_extent[0] + 3, anatomy.kidney_extent[1], 10):
            canvas, kidneys = Canvas(grid), Canvas(grid)
            anatomy.trunk.paint_frame(canvas, z)
            anatomy.trunk.paint_wall(canvas, z)
            anatomy.trunk.paint_back(canvas, z)
            for kidney in anatomy.kidneys:
                h = (z - kidney.z) / kidney.half_height
                if abs(h) < 1:
                    kidneys.polygon(kidney.place(h, kidney.radius(h, ANGLES), ANGLES), 1)
            mask = kidneys.samples() == 1
            inside += mask.sum(), (mask & (canvas.samples() != Tissue.VISCERAL_FAT)).sum()
        shares.append(inside[1] / inside[0])
    assert np.mean(shares) < 0.04 and np.max(shares) < 0.12


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


def test_patients_are_rolled_a_little_and_lie_on_the_table(patients):
    rolls = np.degrees([anatomy.pose.roll for anatomy in patients])
    assert abs(rolls.mean()) < 1.5 and 3 < rolls.std() < 5.2 and np.abs(rolls).max() <= 10
    grid = Grid(256, 2.0, -256.0, -256.0)
    for anatomy in [one for one in patients if not one.trunk.arms][:12]:
        away = Canvas(grid, pose=Pose(lift=1e4))
        anatomy.trunk.paint_frame(away, 0.0)
        table = np.isin(away.samples(), (TABLE, BLANKET))
        assert table.sum() > 500
        for pose in (anatomy.pose, anatomy._lie(np.radians(10)), anatomy._lie(np.radians(-10))):
            for z in (-40.0, 20.0):
                canvas = Canvas(grid, pose=pose)
                anatomy.trunk.paint_frame(canvas, z)
                np.testing.assert_array_equal(np.isin(canvas.samples(), (TABLE, BLANKET)), table)  # nothing covers it


def test_arms_lie_beside_the_table_and_not_in_it():
    grid, seen = Grid(400, 2.0, -400.0, -400.0), 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 8])
        anatomy = Anatomy(rng, draw_subject(rng))
        if anatomy.trunk.arms:
            seen += 1
            away, canvas = Canvas(grid, pose=Pose(lift=1e4)), Canvas(grid, pose=anatomy.pose)
            anatomy.trunk.paint_frame(away, 0.0)
            anatomy.trunk.paint_frame(canvas, 0.0)
            table = np.isin(away.samples(), (TABLE, BLANKET))
            np.testing.assert_array_equal(np.isin(canvas.samples(), (TABLE, BLANKET)), table)
    assert seen >= 3


def test_the_renal_fascia_lies_round_the_kidney_and_the_ureter_starts_at_its_pelvis(patients):
    for anatomy in patients[:8]:
        for kidney, ureter in zip(anatomy.kidneys, anatomy.vessels.ureters, strict=True):
            np.testing.assert_allclose(ureter.path[0], kidney.outlet(), atol=1e-9)
            canvas = Canvas(Grid(320, 0.5, kidney.x - 80, kidney.y - 80, 1))
            kidney.paint_fascia(canvas, kidney.z)
            fascia = canvas.samples() == FASCIA
            canvas.polygon(kidney.place(0.0, kidney.radius(0.0, ANGLES), ANGLES), Tissue.RENAL_CORTEX)
            away = ndimage.distance_transform_edt(canvas.samples() != Tissue.RENAL_CORTEX)[fascia] * 0.5
            assert np.median(away) > 5 and away.max() < 20, "mm"


def test_ureters_pass_through_no_parenchyma(patients):
    crossed = 0
    for anatomy in patients[:20]:
        for kidney, ureter in zip(anatomy.kidneys, anatomy.vessels.ureters, strict=True):
            kidney.masses = []
            for z in np.arange(kidney.bottom, kidney.z, 4):
                canvas, alone = (Canvas(Grid(160, 1.0, kidney.x - 80, kidney.y - 80)) for _ in range(2))
                kidney.paint(canvas, z)
                ureter.paint(alone, z)
                inside = np.isin(canvas.samples(), [Tissue.RENAL_CORTEX, Tissue.RENAL_MEDULLA])
                crossed += (inside & (alone.samples() == URETER)).sum() * 0.25 > 4  # mm2
    assert crossed <= 6, "of about 500 planes"


def test_infundibula_run_along_the_kidney_as_far_as_it_has_a_sinus(kidneys):
    seen = {True: [], False: []}
    for kidney in [copy(k) for pair in kidneys[:40] for k in pair]:
        kidney.masses, kidney.pyramids = [], np.empty((0, 4))  # and so no calyces
        for h in (-0.84, -0.7, 0.0, 0.7, 0.84):
            canvas = Canvas(Grid(320, 0.5, kidney.x - 80, kidney.y - 80, 1))
            kidney.paint(canvas, kidney.z + h * kidney.half_height)
            seen[np.median(kidney.sinus(h, ANGLES)) > 2].append((canvas.samples() == Tissue.URINE).any())
    assert len(seen[False]) > 20 and all(seen[True]) and not any(seen[False])


def test_masks_of_kidneys_are_rolled_as_the_patient(patient, monkeypatch):
    depth, roll = {}, np.radians(8)
    for sign in (-1, 0, 1):
        monkeypatch.setattr(patient, "pose", Pose(sign * roll))
        right, left = (np.argwhere(mask)[:, 1].mean() * 2 for mask in kidney_masks(patient, 2.0, 6.0))
        depth[sign] = left - right
    apart = patient.kidneys[1].x - patient.kidneys[0].x
    assert depth[1] - depth[-1] == pytest.approx(2 * apart * np.sin(roll), rel=0.1)
    assert depth[1] > depth[0] > depth[-1]


def test_every_tissue_is_painted_and_every_paint_is_a_tissue():
    grid, seen = Grid(256, 1.7, -218.0, -250.0), set()
    for seed in range(6):
        rng = np.random.default_rng([seed, 1])
        anatomy = Anatomy(rng, draw_subject(rng))
        for z in np.linspace(-50, 65, 7):
            seen |= set(np.unique(anatomy.paint(grid, z)))
    assert {int(t) for t in Tissue} - {Tissue.RENAL_TUMOUR, Tissue.RENAL_CYST, Tissue.METAL} <= seen
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
