"""Radiographs as DICOM: what is written is read back, is the same each time, and passes a validator."""

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from lib.xray.dicom_files import chest_image, dental_image, mask_segmentation, write


def _examples():
    rng = np.random.default_rng(0)
    grey = rng.random((40, 60)).astype(np.float32)
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:30] = True
    chest = chest_image(grey, 0.8, 7, female=True, age=51.3)
    plate = dental_image(grey, 0.064, 7, view="bitewing", side="left")
    return grey, mask, {
        "chest": chest,
        "chest_masks": mask_segmentation(chest, {"Pneumothorax": mask, "Chest tube": ~mask}),
        "plate": plate,
        "plate_masks": mask_segmentation(plate, {"Artifact": mask, "Teeth": np.zeros_like(mask)}),
    }  # fmt: skip


def test_pixels_and_masks_come_back(tmp_path):
    grey, mask, files = _examples()
    for name, dataset in files.items():
        write(tmp_path / f"{name}.dcm", dataset)
    chest = dcmread(tmp_path / "chest.dcm")
    assert np.abs(chest.pixel_array / 4095 - grey).max() <= 0.5 / 4095 + 1e-6
    assert (chest.Modality, chest.ViewPosition, chest.BitsStored, chest.ImagerPixelSpacing[0]) == ("DX", "PA", 12, 0.8)
    assert dcmread(tmp_path / "plate.dcm").Modality == "IO"
    seg = hd.seg.segread(tmp_path / "chest_masks.dcm")
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["Pneumothorax", "Chest tube"]
    frames = np.atleast_3d(seg.pixel_array.T).T.astype(bool)
    assert (frames[0] == mask).all() and (frames[1] == ~mask).all()
    plates = hd.seg.segread(tmp_path / "plate_masks.dcm")
    assert [segment.SegmentLabel for segment in plates.SegmentSequence] == ["Artifact"]  # an empty mask is left out
    referenced = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    assert referenced == chest.SOPInstanceUID


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for run in "ab":
        for name, dataset in _examples()[2].items():
            write(tmp_path / run / f"{name}.dcm", dataset)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_empty_and_unknown_masks_are_told():
    chest = _examples()[2]["chest"]
    with pytest.raises(ValueError, match="nothing to write"):
        mask_segmentation(chest, {"Pneumothorax": np.zeros((40, 60), bool)})
    with pytest.raises(ValueError, match="there are Pneumothorax"):
        mask_segmentation(chest, {"Nodule": np.ones((40, 60), bool)})


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian: dicom3tools)")
def test_a_validator_finds_nothing(tmp_path):
    for name, dataset in _examples()[2].items():
        write(tmp_path / f"{name}.dcm", dataset)
        told = subprocess.run(["dciodvfy", tmp_path / f"{name}.dcm"], capture_output=True, text=True)
        assert "Error" not in told.stderr + told.stdout, told.stderr
