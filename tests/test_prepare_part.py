"""A cohort prepared in parts: the same bytes as by one job, whatever the parts, and what is stored already stays."""

import json
import shutil

import numpy as np
import pytest
from conftest import GAS_HU, KIDNEY_HU, abdomen

from lib.preparation import prepare_cohort
from lib.prepare_part import FOLDER, gather_parts, main, prepare_part

KEY = "a key for tests"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def archive(write_series, write_segmentation, tmp_path):
    """Five patients, one with true tissues, one whose slices show no body."""
    for number in range(5):
        hu = np.full((32, 32), -1000, np.int16) if number == 2 else None
        uid = write_series(f"P{number}", z=(0, 5), size=32, pixel_mm=12.0, hu=hu)
        folder = tmp_path / "dicom" / f"P{number}" / uid
        image = abdomen(32, 12.0)
        if number == 0:
            codes = np.stack([np.select([image == KIDNEY_HU, image == GAS_HU], [1, 2], 0)] * 2)
            write_segmentation(folder, codes, ["kidney", "gas"])
    return tmp_path / "dicom"


def test_parts_give_the_same_store_as_one_job(archive, tmp_path, parts=3):
    straight = prepare_cohort(
        archive, tmp_path / "one", key=KEY, split="apply", processes=1, private=tmp_path / "private_one"
    )
    counted = [
        prepare_part(archive, tmp_path / "many", part, parts, key=KEY, split="apply", processes=1)
        for part in reversed(range(parts))
    ]
    assert sum(counted) == 5 and max(counted) < 5
    assert not (tmp_path / "many" / "slices.zarr").exists()
    assert gather_parts(tmp_path / "many", parts) == len(straight.slices["series"].unique()) == 4
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "many" / "slices.zarr").glob("*/zarr.json")}
    prepare_cohort(archive, tmp_path / "many", key=KEY, split="apply", processes=1, private=tmp_path / "private_many")
    assert {path: path.stat().st_mtime_ns for path in before} == before, "nothing was stored a second time"
    assert contents(tmp_path / "many") == contents(tmp_path / "one")
    assert contents(tmp_path / "private_many") == contents(tmp_path / "private_one")


def test_a_part_leaves_alone_what_the_cohort_holds_and_adds_what_arrived(archive, write_series, tmp_path):
    prepare_cohort(archive, tmp_path / "many", key=KEY, split="apply", processes=1)
    write_series("new", size=32, pixel_mm=12.0)
    for part in range(2):
        prepare_part(archive, tmp_path / "many", part, 2, key=KEY, split="apply", processes=1)
    stored = {path.parent.name for path in (tmp_path / "many" / FOLDER).glob("*/slices.zarr/*/zarr.json")}
    assert len(stored) == 1 and gather_parts(tmp_path / "many", 2) == 1
    prepare_cohort(archive, tmp_path / "many", key=KEY, split="apply", processes=1)
    prepare_cohort(archive, tmp_path / "one", key=KEY, split="apply", processes=1)
    assert contents(tmp_path / "many") == contents(tmp_path / "one")


def test_the_commands_take_the_parameters_of_the_notebook(archive, tmp_path, capsys):
    given = {"dicom_folder": str(archive), "cohort": str(tmp_path / "c"), "private": str(tmp_path / "private")}
    given |= {"split": "apply", "source": "dicom", "processes": 1}
    for part in ("0", "1", "gather"):
        assert main([part, "2", "--parameters", json.dumps(given)]) == 0
    assert "4 series of 2 parts are in one store" in capsys.readouterr().out
    assert (tmp_path / "private" / "key").exists()
    assert main(["2", "2", "--parameters", json.dumps(given)]) == 2
    assert "part 2 of 2: expected 0 to 1" in capsys.readouterr().err
    shutil.rmtree(archive)
    assert main(["0", "2", "--parameters", json.dumps(given)]) == 2
