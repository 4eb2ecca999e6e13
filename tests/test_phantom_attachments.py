"""Metal on and in the phantom: in every phase, where it should lie, with streaks, and nowhere if not asked for."""

import numpy as np
import pandas as pd
import pytest

from lib.cohort import Cohort
from lib.dicom import find_series, read_volume
from lib.maps.tissue_shares import NAMES, OTHER, group_codes
from lib.phantom import attachments as metal
from lib.phantom.canvas import Canvas, Grid, Pose
from lib.phantom.cohort import PHANTOM_KEY, write_cohort, write_patient
from lib.phantom.metal_streaks import MetalStreaks
from lib.phantom.patient import Anatomy
from lib.phantom.physiology import draw_subject
from lib.phantom.study import Examination
from lib.phantom.tissues import GEL, PLASTIC, Tissue
from lib.preparation import prepare_cohort

METAL = int(Tissue.METAL)


@pytest.fixture(scope="module")
def examinations():
    return [Examination(f"P{seed}", seed, 2, "spread", 128, attachments=True) for seed in range(40)]


@pytest.fixture
def wearer(examinations):
    return next(one for one in examinations if one.anatomy.attachments.electrodes)


def painted(anatomy, z, grid=None, breath=0.0):
    return anatomy.paint(grid or Grid(256, 2.0, -256.0, anatomy.trunk.centre_y - 256.0), z, breath)


def test_attachments_change_nothing_else_of_the_patient(wearer):
    plain = Examination(wearer.patient_id, wearer.seed, 2, "spread", 128)
    assert plain.anatomy.attachments is None
    assert plain.protocol == wearer.protocol and plain.physiology.baseline == wearer.physiology.baseline
    electrode = wearer.anatomy.attachments.electrodes[0]
    with_it, without = painted(wearer.anatomy, electrode.z), painted(plain.anatomy, electrode.z)
    changed = with_it != without
    assert set(np.unique(with_it[changed])) <= {METAL, GEL, PLASTIC}
    assert METAL in with_it and METAL not in without
    np.testing.assert_array_equal(with_it[~changed], without[~changed])


def test_an_electrode_lies_on_the_skin_and_ends_where_it_should(wearer):
    anatomy = wearer.anatomy
    anatomy.pose = Pose()
    (electrode,) = anatomy.attachments.electrodes[:1]
    anatomy.attachments.electrodes, anatomy.attachments.clips = [electrode], []
    grid = Grid(512, 1.0, -256.0, anatomy.trunk.centre_y - 256.0)

    def places(z, *codes):
        rows, columns = np.nonzero(np.isin(painted(anatomy, z, grid), codes))
        return np.stack([columns, rows], axis=1) * 0.5 + 0.25 + (grid.left_mm, grid.top_mm)

    at, _, outward = electrode._frame(electrode.place, electrode.z)
    gel = places(electrode.z, GEL, PLASTIC, METAL)
    height = (gel - at) @ outward
    assert height.min() > -electrode.pressed - 0.8 and height.max() < 3.0 + electrode.snap[1] + 0.8 - electrode.pressed
    width = np.ptp((gel - at) @ (outward[1], -outward[0]))
    assert width == pytest.approx(2 * electrode.gel, abs=1.5)
    snap = places(electrode.z, METAL)
    assert np.ptp((snap - at) @ (outward[1], -outward[0])) == pytest.approx(2 * electrode.snap[0], abs=1.2)
    assert not len(places(electrode.z - electrode.gel - 0.1, GEL, PLASTIC, METAL)), "the wire leads toward the head"
    wire = places(electrode.z + 40, METAL)
    assert 1 <= len(wire) <= 60 and not len(places(electrode.z + 40, GEL))
    skin = anatomy.trunk.contours(electrode.z + 40)[0]
    assert np.hypot(*(wire[:, None] - skin).transpose(2, 0, 1)).min() < 12


def test_a_clip_has_its_length_in_every_direction():
    rng = np.random.default_rng(3)
    grid = Grid(80, 0.5, -20.0, -20.0)
    clip = metal.Clip(rng, np.zeros(3))
    for direction in ((1.0, 0, 0), (0, 0, 1.0), (0.6, 0, 0.8)):
        clip.direction, clip.length, clip.apart = np.array(direction), 8.0, 1.5
        heights = np.arange(-8, 8.01, 0.5)
        volume = []
        for z in heights:
            canvas = Canvas(grid)
            clip.paint(canvas, z)
            volume.append(canvas.samples() == METAL)
        z, _, x = np.nonzero(volume)
        points = np.stack([x * 0.25, z * 0.5], axis=1)
        assert np.ptp(points @ (direction[0], direction[2])) == pytest.approx(8.0, abs=2.0), direction


def test_clips_lie_where_a_gallbladder_was_and_move_with_the_breath(examinations):
    held = [one.anatomy for one in examinations if one.anatomy.attachments.clips]
    operated = [a for a in held if not a.abdomen.liver.gallbladder and len(a.attachments.clips) < 5]
    assert operated
    for anatomy in operated:
        bed = anatomy.abdomen.liver.gallbladder_bed()
        assert all(np.abs(clip.centre - bed).max() < 20 for clip in anatomy.attachments.clips)
    for anatomy in held:
        aortic = anatomy.abdomen.liver.gallbladder
        for clip in anatomy.attachments.clips if aortic else ():
            away = np.hypot(*(clip.centre[:2] - anatomy.vessels.aorta_centre(clip.centre[2])))
            assert away > anatomy.vessels.aorta_radius
    anatomy = operated[0]
    anatomy.attachments.electrodes = []
    z = anatomy.attachments.clips[0].centre[2]
    assert (painted(anatomy, z) == METAL).any()
    assert not (painted(anatomy, z, breath=60.0) == METAL).any()


def test_metal_is_in_every_phase_alike(tmp_path, wearer):
    """Otherwise it would reveal the phase: before the injection as often and as bright as after it."""
    phases = ["noncon", "cm", "pyelo"]
    rows = write_patient(
        tmp_path, wearer.patient_id, seed=wearer.seed, slices=6, placing="whole", matrix=96, phases=phases,
        attachments=True,
    )  # fmt: skip
    series = {item.uid: item for item in find_series(tmp_path)[0]}
    brightest = {}
    for row in rows:
        hu = read_volume(series[row["series_uid"]]).hu
        brightest[row["intended_phase"]] = float(hu.max())
        assert row["attachments"] is True
    assert set(brightest) == set(phases) and min(brightest.values()) > 1500


def test_shares_of_patients_with_metal(examinations):
    """No patient's phases are looked at when metal is drawn, and neither all nor none have any."""
    worn = [bool(one.anatomy.attachments.electrodes) for one in examinations]
    assert 0.3 < np.mean(worn) < 0.8
    assert 0 < np.mean([bool(one.anatomy.attachments.clips) for one in examinations]) < 0.5


def test_the_truth_of_the_tissues_says_where_metal_is(tmp_path, examinations):
    def crossed(one):
        bottom, top = one.anatomy.kidney_extent
        return any(bottom + 10 < electrode.z < top - 10 for electrode in one.anatomy.attachments.electrodes)

    seed = next(one.seed for one in examinations if crossed(one))
    write_patient(
        tmp_path / "dicom", "P", seed=seed, slices=45, placing="whole", matrix=128, phases=["noncon"], attachments=True
    )
    prepare_cohort(tmp_path / "dicom", tmp_path / "cohort", key=PHANTOM_KEY, split="apply", processes=1)
    prepared = Cohort.open(tmp_path / "cohort")
    code = {name.lower(): code for name, code in prepared.tissues.items()}["metal"]
    tissues, hu = prepared.read_tissues(prepared.slices), prepared.read_hu(prepared.slices)
    assert np.median(hu[tissues == code]) > 800
    assert NAMES[group_codes(prepared.tissues)[code]] == OTHER


def test_a_cohort_with_metal_is_not_taken_for_one_without(tmp_path):
    plan = [("A", 3, 1, "middle")]
    write_cohort(tmp_path / "plain", plan, processes=1, matrix=64)
    assert "attachments" not in pd.read_csv(tmp_path / "plain/truth.csv")
    with pytest.raises(ValueError, match="attachments=False, but attachments=True"):
        write_cohort(tmp_path / "plain", plan, processes=1, matrix=64, attachments=True)
    write_cohort(tmp_path / "worn", plan, processes=1, matrix=64, attachments=True)
    with pytest.raises(ValueError, match="attachments=True, but attachments=False"):
        write_cohort(tmp_path / "worn", plan, processes=1, matrix=64)


@pytest.fixture(scope="module")
def trunk():
    rng = np.random.default_rng(4)
    return Anatomy(rng, draw_subject(rng))


def streaks_of(trunk, matrix=128, pixel=2.5):
    side = matrix * pixel / 2
    centre = trunk.pose.place((0.0, trunk.trunk.centre_y))
    return MetalStreaks(Grid(matrix, pixel, centre[0] - side, centre[1] - side), trunk, 0.36)


def test_projections_and_their_reconstruction_are_those_of_a_disc(trunk):
    """Closed forms: a disc of radius r has the chord 2 sqrt(r^2 - s^2) at distance s, and 1 inside comes back."""
    streaks = streaks_of(trunk)
    y, x = (np.mgrid[:128, :128] + 0.5 - 64) * 2.5
    at, radius = np.array([30.0, -50.0]), 20.0
    fine = np.hypot(x - at[0], y - at[1])
    image = np.clip((radius - fine) / 2.5 + 0.5, 0, 1)
    lengths = streaks.project(image)
    off = streaks.place - (streaks.ray @ at)[:, None]
    chord = 2 * np.sqrt(np.maximum(radius**2 - off**2, 0))
    assert np.abs(lengths - chord)[np.abs(off) < 0.8 * radius].mean() < 0.03 * 2 * radius
    np.testing.assert_allclose(lengths.sum(axis=1) * 2.5, np.pi * radius**2, rtol=0.01)
    streaks.filter = np.fft.rfftfreq(2 * streaks.bins, 2.5)
    again = streaks._backproject(lengths)
    assert again[fine < 0.7 * radius].mean() == pytest.approx(1.0, abs=0.05)
    assert np.abs(again[fine > 1.5 * radius]).mean() < 0.03


def test_streaks_join_two_pieces_of_metal_and_vanish_without(trunk):
    streaks = streaks_of(trunk)
    image = np.zeros((128, 128))
    assert not streaks(image, np.random.default_rng(0)).any()
    image[63:65, 34:36] = image[63:65, 92:94] = 1.0
    found = np.mean([streaks(image, np.random.default_rng(k)) for k in range(4)], axis=0)
    between, beside = found[62:66, 50:78], found[40:44, 50:78]
    assert between.mean() < -10 and between.mean() < beside.mean() - 10, (between.mean(), beside.mean())
    far = np.abs(found[20:110, 20:110])
    assert 1 < far.mean() < 100


def test_a_lone_wire_in_air_makes_no_streaks(trunk):
    """Rays that cross no body are as hard in every direction, so that only the metal itself is misread."""
    streaks = streaks_of(trunk)
    streaks.semi_axes = np.array([1e-6, 1e-6])
    image = np.zeros((128, 128))
    image[30:32, 60:62] = 1.0
    error = streaks._error(streaks.project(image), np.random.default_rng(0))
    assert np.abs(error).max() < 1.0
    found = streaks._backproject(error)
    assert np.abs(found[80:, :]).max() * 1000 / 0.0195 < 25
