"""Unlikely labels: kidneys of known attenuation, each rule, and phantoms some of whose labels are exchanged."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from lib.dicom.series import read_tree
from lib.figures.label_check import draw_label_check
from lib.figures.style import CONTROL_COLOUR
from lib.label_check import (
    ENHANCED_HU,
    EXCRETED_HU,
    Kidneys,
    _depth,
    check_labels,
    count_doubts,
    doubt,
    exchange,
    gap_limits,
    measure_kidneys,
)
from lib.paper import PHASES
from lib.phantom.cohort import write_patient

plt.switch_backend("agg")
PIXEL_MM = 1.5


def kidneys_slice(cortex, medulla, urine, size=128):
    """Two round kidneys of 50 mm: 8 mm of cortex, medulla, 8 mm of urine in a collar of fat; and their mask."""
    y, x = (np.mgrid[:size, :size] - (size - 1) / 2) * PIXEL_MM
    hu = np.where(np.hypot(y, x) < 90, 40, -1000)
    mask = np.zeros(hu.shape, bool)
    for side in (-45, 45):
        radius = np.hypot(y, x - side)
        for outer, value in ((25, cortex), (17, medulla), (6, -100), (4, urine)):
            hu[radius <= outer] = value
        mask |= radius <= 25
    return hu.astype(np.int16), mask


def test_depth_is_the_distance_from_the_border_of_a_disc_with_a_notch():
    y, x = np.mgrid[:61, :61] - 30
    radius = np.hypot(y, x)
    notched = (radius <= 25) & ~((np.abs(y) < 4) & (x > 5))
    depth, box = _depth(np.argwhere(notched), (1.0, 1.0))
    np.testing.assert_allclose(depth, 25 - radius[box], atol=1.0)
    wide, _ = _depth(np.argwhere(notched), (1.0, 2.0))
    assert wide[25, 25] == pytest.approx(25, abs=1.0), "rows are 1 mm apart, columns 2 mm"


def test_attenuation_of_known_kidneys(write_series, write_segmentation, tmp_path):
    hu, mask = kidneys_slice(200, 90, 700)
    uid = write_series("P1", hu=hu, change=spacing)
    other = write_series("P2", hu=hu, change=spacing)
    write_segmentation(tmp_path / "dicom" / "P1" / uid, np.stack([mask] * 3), ["left and right kidney"])
    tree = read_tree(tmp_path / "dicom")
    series = next(item for item in tree.series if item.uid == uid)
    found = measure_kidneys(series, tree.segmentations[0])
    assert (found.cortex_hu, found.inside_hu, found.gap_hu, found.slices) == (200, 90, 110, 3)
    assert 500 < found.pelvis_hu <= 700
    table = check_labels(tmp_path / "dicom", {uid: "cm", other: "cm", "1.2": "neph"}).set_index("series_uid")
    assert table.loc[uid, "doubt"].startswith("excreted contrast medium")
    assert table.loc[other, ["slices", "doubt", "unmeasured"]].tolist() == [
        0,
        "",
        "no kidney segmentation of this series",
    ]
    assert len(table) == 2


def spacing(dataset, _):
    dataset.PixelSpacing = [PIXEL_MM, PIXEL_MM]


def test_kidneys_that_cannot_be_measured_say_why(write_series, write_segmentation, tmp_path):
    hu, mask = kidneys_slice(200, 90, 10)
    small = np.zeros_like(mask)
    small[60:70, 60:70] = True
    line = np.zeros_like(mask)
    line[64, 10:120] = True
    labels = {}
    for patient, masks in (("none", mask & False), ("small", small), ("line", line)):
        uid = write_series(patient, hu=hu, change=spacing)
        planes = np.stack([masks if masks.any() else small] * 3)
        write_segmentation(tmp_path / "dicom" / patient / uid, planes, ["kidney" if masks.any() else "liver"])
        labels[uid] = "cm"
    uid = write_series("cut", hu=hu, change=spacing)
    path = write_segmentation(tmp_path / "dicom" / "cut" / uid, np.stack([mask] * 3), ["kidney"])
    path.write_bytes(path.read_bytes()[:-500])
    table = check_labels(tmp_path / "dicom", labels | {uid: "cm"}).set_index("patient")["unmeasured"]
    assert table["none"] == "no kidney segmentation of this series"
    assert table["small"] == table["line"] == "no section of a kidney is large enough"
    assert table["cut"].startswith("damaged")


@pytest.mark.parametrize(
    ("phase", "cortex", "inside", "pelvis", "why"),
    [
        ("noncon", 31, 30, 40, ""),
        ("noncon", 180, 120, 200, "is enhanced"),
        ("cm", 31, 30, 40, "is not enhanced"),
        ("cm", 210, 80, 240, ""),
        ("cm", 170, 168, 190, "a gap of 2 HU"),
        ("cm-neph", 180, 150, 200, ""),
        ("cm-neph", 215, 100, 240, "a gap of 115 HU"),
        ("neph", 168, 165, 190, ""),
        ("neph", 215, 140, 240, "a gap of 75 HU"),
        ("neph", 160, 160, 900, "excreted contrast medium"),
        ("pyelo", 120, 125, 900, ""),
        ("pyelo", 168, 165, 190, "no excreted contrast medium"),
        ("pyelo", 30, 30, 900, "is not enhanced"),
    ],
)
def test_each_rule(phase, cortex, inside, pelvis, why):
    told = doubt(phase, Kidneys(cortex, inside, pelvis, 9))
    assert (why in told) if why else told == ""


def test_limits_are_in_the_order_of_the_phases():
    limits = [gap_limits(phase) for phase in ("cm", "cm-neph", "neph")]
    assert sorted(limits, reverse=True) == limits and gap_limits("noncon") == (-np.inf, np.inf)
    assert 31 + 4 * 4 < ENHANCED_HU < 120 - 2 * 20 and 85 < EXCRETED_HU < 180


def test_exchanged_labels_are_others_and_as_many_as_asked_for():
    labels = pd.Series(list(PHASES) * 8, index=[f"1.{n}" for n in range(40)])
    wrong = exchange(labels, 0.3, np.random.default_rng(1))
    assert (wrong != labels).sum() == 12 and (wrong.index == labels.index).all() and set(wrong) == set(PHASES)
    table = pd.DataFrame({"known": labels, "phase": wrong, "unmeasured": "", "doubt": ""})
    table.loc[table["phase"] != table["known"], "doubt"] = "why"
    counted = count_doubts(table)
    assert counted.loc["right", ["measured", "unlikely"]].tolist() == [28, 0]
    assert counted.drop("right")[["measured", "unlikely"]].sum().tolist() == [12, 12]
    assert (counted.drop("right")["share"] == 1).all()


def test_exchanged_phases_of_a_phantom_are_noticed_and_right_ones_are_not(tmp_path):
    """Two patients of five phases, written as DICOM with SEG: no right label is doubted, no opposite one passes."""
    rows = [
        row
        for seed in (3, 4)
        for row in write_patient(
            tmp_path / "dicom", f"P{seed}", seed=seed, slices=1, placing="middle", labelling="scan_time", matrix=160,
            phases=list(PHASES),
        )
    ]  # fmt: skip
    right = {row["series_uid"]: row["true_phase"] for row in rows}
    found = check_labels(tmp_path / "dicom", right)
    assert (found["unmeasured"] == "").all() and (found["doubt"] == "").all(), found.to_string()
    opposite = {"noncon": "neph", "cm": "neph", "cm-neph": "pyelo", "neph": "noncon", "pyelo": "cm"}
    wrong = found.assign(
        doubt=[
            doubt(opposite[row.phase], Kidneys(row.cortex_hu, row.inside_hu, row.pelvis_hu, 1))
            for row in found.itertuples()
        ]
    )
    assert (wrong["doubt"] != "").all(), wrong.to_string()


def test_the_figure_shows_every_measured_series_and_crosses_the_unlikely_ones():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"phase": list(PHASES) * 4, "cortex_hu": rng.normal(150, 20, 20), "pelvis_hu": 200.0,
                          "gap_hu": rng.normal(30, 20, 20), "doubt": [""] * 17 + ["why"] * 3,
                          "unmeasured": [""] * 19 + ["because"]})  # fmt: skip
    figure = draw_label_check(table)
    for axis in figure.axes:
        drawn = {marker: [line for line in axis.lines if line.get_marker() == marker] for marker in "ox"}
        assert sum(len(line.get_xdata()) for line in drawn["o"]) == 17
        assert sum(len(line.get_xdata()) for line in drawn["x"]) == 2
        assert {to_hex(line.get_color()) for line in drawn["x"]} == {CONTROL_COLOUR}
