"""The phantom scanned again: identical where nothing moves, and changed where, and only where, an organ was moved."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from lib.atlas.interventions import (
    CODES,
    EVERYTHING,
    ORGANS,
    Rerendering,
    causal_weights,
    network_input,
    organ_effects,
    organ_sums,
    phantom_truth,
)
from lib.cohort import Cohort, Standardisation
from lib.phantom.cohort import PHANTOM_KEY, write_patient
from lib.phantom.study import Scan
from lib.phantom.texture import Texture
from lib.phantom.tissues import Tissue
from lib.preparation import prepare_cohort

PHASES = ["noncon", "cm", "pyelo"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One patient, three phases, two slices each, as DICOM and as a cohort."""
    folder = tmp_path_factory.mktemp("phantom")
    plan = {"seed": 11, "slices": 2, "placing": "spread", "matrix": 96, "phases": PHASES}
    rows = write_patient(folder / "dicom", "PHANTOM00001", **plan)
    table = pd.DataFrame(rows)
    for name in ("truth.csv", "labels.csv"):
        table.to_csv(folder / "dicom" / name, index=False)
    prepare_cohort(folder / "dicom", folder / "cohort", key=PHANTOM_KEY, split="apply", processes=1)
    return phantom_truth(folder / "dicom"), Cohort.open(folder / "cohort")


@pytest.fixture(scope="module")
def rendering(written):
    truth, _ = written
    return Rerendering(truth[truth["intended_phase"] == "cm"].iloc[0], 1)


def test_a_slice_scanned_again_is_the_stored_one(written):
    """Through DICOM, the reader and the store: equal to the last HU in the body, and the same network input."""
    truth, cohort = written
    standardisation = Standardisation(-20.0, 140.0, 48)
    assert set(truth.index) == set(cohort.slices["series"])
    for row in cohort.slices.index:
        place = cohort.slices.loc[row]
        again = Rerendering(truth.loc[place["series"]], int(place["slice"]))
        hu, codes = again.image()
        body = cohort.read_body([row])[0]
        np.testing.assert_array_equal(hu[body], cohort.read_hu([row])[0][body])
        np.testing.assert_array_equal(codes[body], cohort.read_tissues([row])[0][body])
        expected = cohort.read([row], standardisation)[0]
        np.testing.assert_allclose(network_input(hu[None], body, standardisation)[0], expected, atol=1e-6)


def test_moving_an_organ_to_its_own_phase_changes_nothing(rendering):
    np.testing.assert_array_equal(rendering.image(CODES["liver"], "cm")[0], rendering.image()[0])
    np.testing.assert_array_equal(rendering.image((), "pyelo")[0], rendering.image()[0])


def test_moving_everything_is_a_scan_at_the_other_time(rendering):
    found, _ = rendering.image([int(t) for t in Tissue], "pyelo")
    examination = rendering.examination
    scan = Scan("cm", rendering.time("pyelo"), rendering.breath)
    expected, _ = rendering.scanner.image(
        rendering.step,
        examination._hounsfield(scan, rendering.protocol.kvp),
        partial(examination._rng, "noise", "cm"),
        rendering.breath,
        Texture(examination._rng("texture"), scan.time),
    )
    np.testing.assert_array_equal(found, expected)
    organs = [code for organ in ORGANS for code in CODES[organ]]
    np.testing.assert_array_equal(rendering.image(organs, "pyelo")[0], expected)


@pytest.mark.parametrize("organ", ["liver", "kidney cortex", "spleen"])
def test_only_the_organ_and_its_blurred_edge_change(rendering, organ):
    original, codes = rendering.image()
    moved, same = rendering.image(CODES[organ], "noncon")
    inside = np.isin(codes, CODES[organ])
    np.testing.assert_array_equal(same, codes)
    change = moved.astype(int) - original
    assert np.abs(change[~binary_dilation(inside, iterations=4)]).max() <= 1
    assert np.median(change[inside]) < -20, "contrast medium goes away"


def test_the_physiology_decides_by_how_much(rendering):
    """In the middle of the liver the change is the difference of the HU that the kinetics give."""
    original, codes = rendering.image()
    middle = binary_erosion(codes == Tissue.LIVER, iterations=4)
    moved, _ = rendering.image(CODES["liver"], "noncon")
    body, kvp = rendering.examination.physiology, rendering.protocol.kvp
    hu = [body.hounsfield(rendering.time(phase), kvp) for phase in ("noncon", "cm")]
    expected = hu[0][Tissue.LIVER] - hu[1][Tissue.LIVER]
    assert abs((moved.astype(float) - original)[middle].mean() - expected) < 1


def test_effects_are_the_falls_of_the_score(rendering):
    """The score is the mean HU over the liver: it falls where the liver is moved, by what the liver lost."""
    codes = rendering.image()[1]
    liver = codes == Tissue.LIVER

    def scores(images):
        return np.stack([images[:, liver, 0].mean(axis=1), np.zeros(len(images))], axis=1)

    table = organ_effects(rendering, lambda hu: hu[..., None].astype(float), scores, 0)
    assert set(table["moved_to"]) == {"noncon", "cm-neph", "neph", "pyelo"}
    of_liver = table[table["organ"] == "liver"].set_index("moved_to")["fall"]
    moved = rendering.image(CODES["liver"], "neph")[0][liver].mean()
    assert of_liver["neph"] == pytest.approx(rendering.image()[0][liver].mean() - moved)
    weights = causal_weights(table.assign(image=0)).set_index("organ")
    assert weights["weight"].idxmax() == "liver" and EVERYTHING not in weights.index
    assert weights.loc["liver", "weight"] == pytest.approx(of_liver.abs().mean())
    assert weights.loc["muscle", "weight"] < 0.1 * weights.loc["liver", "weight"]


def test_sums_over_organs():
    codes = np.array([[Tissue.LIVER, Tissue.LIVER], [Tissue.SPLEEN, Tissue.OUTSIDE]])
    found = organ_sums(np.array([[1.0, -3.0], [2.0, 100.0]]), codes).set_index("organ")
    assert found.loc["liver"].tolist() == [4, -2, 2] and found.loc["spleen"].tolist() == [2, 2, 1] and len(found) == 2


def test_every_tissue_is_in_one_group_and_other_cohorts_are_refused(tmp_path):
    codes = [code for members in CODES.values() for code in members]
    still = {Tissue.OUTSIDE, Tissue.SUBCUTANEOUS_FAT, Tissue.VISCERAL_FAT}
    assert sorted(codes) == sorted(set(map(int, Tissue)) - set(map(int, still)))
    with pytest.raises(FileNotFoundError, match="only the phantom"):
        phantom_truth(tmp_path)
