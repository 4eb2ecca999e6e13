"""Maps as DICOM: on the right pixels, valid by dciodvfy, unchanged by a real server."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import jupytext
import numpy as np
import pytest
from conftest import REAL_CT, abdomen
from pydicom import dcmread
from pydicom.uid import generate_uid

from lib.dicom.errors import DicomError
from lib.dicom.export import WARNING, Method, capture, on_image, parametric_map, read_explained
from lib.dicom.geometry import Turn
from lib.figures.burned_text import burn_text
from lib.figures.display import overlay, to_range
from lib.files import ROOT

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
METHOD = Method("grad_cam", "conv5b", "neph")


def the_file(tmp_path, uid):
    return next((tmp_path / "dicom" / "P1" / uid).iterdir())


def objects(path, values):
    explained = read_explained(path)
    values_object = parametric_map(explained, values, METHOD, series_uid=generate_uid(), number=1)
    shape = explained.item.turn.pair(explained.item.rows, explained.item.columns)
    heat = to_range(on_image(values, explained.item))
    picture = burn_text(overlay(np.zeros(shape), heat), [WARNING, METHOD.describe()])
    return values_object, capture(explained, picture, METHOD, series_uid=generate_uid(), number=1)


@pytest.mark.parametrize("turn", [Turn(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)])
def test_stored_undoes_the_turn(turn):
    image = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(turn.stored(turn.image(image)), image)


ORIENTATIONS = {
    "as it is": ([1, 0, 0, 0, 1, 0], lambda a: a),
    "rows from behind": ([1, 0, 0, 0, -1, 0], lambda a: a[::-1]),
    "transposed, from the left": ([0, 1, 0, -1, 0, 0], lambda a: a.T[::-1]),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_map_lies_on_the_stored_pixels_and_names_them(write_series, tmp_path, name):
    """The map is 1 on the patient's right front quarter: on the stored image it must lie where that was stored."""
    orientation, stored = ORIENTATIONS[name]
    uid = write_series(z=(0,), change=lambda d, i: setattr(d, "ImageOrientationPatient", orientation))
    quarter = np.zeros((4, 4), np.float32)
    quarter[:2, :2] = 1
    path = the_file(tmp_path, uid)
    source = dcmread(path)
    values, picture = objects(path, quarter)
    expected = stored(np.pad(np.ones((36, 36)), ((0, 60), (0, 60))))  # inside the quarter, away from its border
    pixels = values.pixel_array
    assert pixels.dtype == np.float32 and pixels.shape == (96, 96)
    assert (pixels[expected == 1] == 1).all() and pixels.mean() == pytest.approx(0.25, abs=0.01)
    reference = values.SharedFunctionalGroupsSequence[0].get("DerivationImageSequence") or (
        values.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
    )
    assert reference[0].SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    for made in (values, picture):
        assert made.StudyInstanceUID == source.StudyInstanceUID and made.PatientID == source.PatientID
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert "grad_cam conv5b for neph" in made.SeriesDescription and WARNING in made.SeriesDescription
    assert values.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_a_rectangular_slice_is_covered_as_the_network_saw_it(write_series, tmp_path):
    """The network saw the slice padded to a square: rows 12 to 36 of 48."""
    uid = write_series(z=(0,), hu=np.zeros((24, 48), np.int16))
    values = np.repeat(np.arange(48, dtype=np.float32)[:, None], 48, axis=1)
    item = read_explained(the_file(tmp_path, uid)).item
    np.testing.assert_array_equal(on_image(values, item)[:, 0], np.arange(12, 36))


def test_the_warning_is_in_the_pixels():
    blank = np.zeros((96, 96, 3), np.uint8)
    assert (burn_text(blank, [WARNING])[:12] > 100).any() and not (burn_text(blank, [WARNING])[40:]).any()


def test_what_cannot_be_named_is_not_written(write_series, tmp_path):
    uid = write_series(z=(0,), change=lambda d, i: delattr(d, "FrameOfReferenceUID"))
    with pytest.raises(DicomError, match="FrameOfReferenceUID missing: a map could not name the slice"):
        read_explained(the_file(tmp_path, uid))


def test_the_notebook_writes_the_maps_of_a_run_into_private_and_nothing_of_an_earlier_export(write_series, tmp_path):
    """Notebook 18 on a run of one series, run cell by cell in this process; and without it there is a plain error."""
    uid, rng, run = write_series(z=(0, 5)), np.random.default_rng(0), tmp_path / "run"
    for folder in ("maps", "private", "private/dicom_maps"):
        (run / folder).mkdir(parents=True)
    (run / "private" / "dicom_maps" / "earlier.dcm").touch()
    maps = {
        ("cam", "conv6"): (4, 4),
        ("sam", "conv2b"): (16, 16),
        ("sam", "conv6"): (4, 4),
        ("saliency", "input"): (32, 32),
    }
    arrays = {
        f"s/{method}/{layer}": rng.normal(size=shape).astype(np.float32) for (method, layer), shape in maps.items()
    }
    image = {"s/image": abdomen().astype(np.float32), "s/input": np.zeros((32, 32), np.float32)}
    np.savez(run / "maps" / "maps.npz", **image, **arrays)
    (run / "maps" / "slices.csv").write_text("phase,series,slice,name\nneph,a1,1,s\n")
    files = sorted((tmp_path / "dicom").rglob("*.dcm"))
    lines = [f"a1,{number},{file},-1" for number, file in enumerate(files)]
    (run / "private" / "source_files.csv").write_text("\n".join(["series,slice,file,frame", *lines]) + "\n")
    run_cells("18_export_maps_to_dicom", maps=str(run / "maps"), private=str(run / "private"))
    folder = run / "private" / "dicom_maps"
    assert (run / "private").stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    made = {path.name: dcmread(path) for path in folder.glob("*.dcm")}
    assert sorted(made) == [f"a1-0001-{m}-conv6-{k}.dcm" for m in ("cam", "sam") for k in ("map", "picture")]
    source = dcmread(files[1])
    for dataset in made.values():
        assert (dataset.StudyInstanceUID, dataset.PatientID) == (source.StudyInstanceUID, source.PatientID)
        assert re.fullmatch(r"(CAM|SAM) layer 6 for Neph\. Research\. Not for diagnosis\.", dataset.SeriesDescription)
        assert WARNING in dataset.SeriesDescription and uid not in dataset.SeriesInstanceUID
        assert f'"{source.SOPInstanceUID}"' in dataset.to_json()  # as the source image
    assert (folder / "written.csv").read_text().splitlines()[1:] == ["s,cam,conv6,written", "s,sam,conv6,written"]


def run_cells(name, **parameters):
    """Run the code cells of a notebook in this process, with other values for parameters."""
    space = {"__name__": name}
    for cell in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            assert parameters.keys() <= space.keys()
            space |= parameters


def errors(path):
    told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
    return [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
def test_dciodvfy_finds_no_error(write_series, tmp_path):
    path = the_file(tmp_path, write_series(z=(0,)))
    for number, made in enumerate(objects(path, np.random.default_rng(0).random((8, 8)))):
        made.save_as(tmp_path / f"{number}.dcm")
        assert errors(tmp_path / f"{number}.dcm") == []


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)")
@pytest.mark.skipif(not REAL_CT.exists(), reason=f"{REAL_CT} is absent: four real CT slices")
def test_dciodvfy_finds_no_error_of_ours_on_real_slices(tmp_path):
    """What is wrong in the source's own header stays wrong: only errors that the source has not count."""
    for path in sorted(REAL_CT.glob("*.dcm")):
        inherited = set(errors(path))
        for number, made in enumerate(objects(path, np.random.default_rng(0).random((8, 8)))):
            made.save_as(tmp_path / f"{number}.dcm")
            assert set(errors(tmp_path / f"{number}.dcm")) - inherited == set(), path.name


@pytest.fixture
def orthanc(tmp_path):
    """A DICOMweb server with an empty store, on free ports of this machine."""
    ports = []
    for _ in range(2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    store = str(tmp_path / "orthanc")
    settings = {
        "StorageDirectory": store, "IndexDirectory": store, "HttpPort": ports[0],
        "DicomPort": ports[1], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "Plugins": [str(PLUGIN)],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with open(tmp_path / "orthanc.log", "w") as log:
        server = subprocess.Popen(["Orthanc", str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{ports[0]}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{address}/system", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        else:
            pytest.fail((tmp_path / "orthanc.log").read_text()[-2000:])
        yield f"{address}/dicom-web"
    finally:
        server.kill()
        server.wait()


def multipart(parts):
    boundary = uuid.uuid4().hex
    body = b"".join(
        b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (boundary.encode(), part) for part in parts
    )
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return body + b"--%b--\r\n" % boundary.encode(), kind


@pytest.mark.skipif(shutil.which("Orthanc") is None or not PLUGIN.exists(),
                    reason="Orthanc is not installed (Debian: orthanc, orthanc-dicomweb)")  # fmt: skip
def test_a_round_trip_through_a_dicomweb_server(write_series, tmp_path, orthanc):
    path = the_file(tmp_path, write_series(z=(0,), hu=abdomen()))
    sent = {}
    for number, made in enumerate(objects(path, np.random.default_rng(0).random((8, 8)))):
        made.save_as(tmp_path / f"{number}.dcm")
        sent[made.SOPInstanceUID] = tmp_path / f"{number}.dcm"
    source = dcmread(path)
    sent[source.SOPInstanceUID] = path
    body, kind = multipart([file.read_bytes() for file in sent.values()])
    urllib.request.urlopen(urllib.request.Request(f"{orthanc}/studies", body, {"Content-Type": kind}), timeout=60)
    with urllib.request.urlopen(f"{orthanc}/studies/{source.StudyInstanceUID}/series", timeout=60) as answer:
        assert {item["00080060"]["Value"][0] for item in json.load(answer)} == {"CT", "OT"}
    for uid, file in sent.items():
        made = dcmread(file)
        where = f"{orthanc}/studies/{made.StudyInstanceUID}/series/{made.SeriesInstanceUID}/instances/{uid}"
        accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        with urllib.request.urlopen(urllib.request.Request(where, headers=accept), timeout=60) as answer:
            content = answer.read()
        start = content.index(b"\r\n\r\n") + 4
        (tmp_path / "back.dcm").write_bytes(content[start : content.rindex(b"\r\n--")])
        back = dcmread(tmp_path / "back.dcm")
        assert back == made
        np.testing.assert_array_equal(back.pixel_array, made.pixel_array)
