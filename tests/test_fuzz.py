"""Damaged files by the hundred: none ends a run, hangs it, swells it, or makes it read elsewhere."""

import io
import struct

import fuzz
import numpy as np
import pytest
from conftest import abdomen, ct_dataset
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from lib.dicom.errors import DicomError
from lib.dicom.headers import CTSlice, Rejected
from lib.dicom.series import SliceReader, read_tree
from lib.labels import read_labels


def test_five_hundred_mutants():
    told = fuzz.run(500, seed=1)
    assert told["read"] > 50 and len(told) > 15, told  # mutants are neither all dead nor all healthy


@pytest.mark.slow
def test_ten_thousand_mutants():
    fuzz.run(10_000, seed=2)


VALUES = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.floats().map(str),
    st.text(max_size=12),
    st.lists(st.floats(-1e4, 1e4).map(lambda value: f"{value:.4g}"), max_size=7).map("\\".join),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keyword=st.sampled_from([*fuzz.FIELDS, *fuzz.TEXTS, "Modality", "ImageType", "SeriesInstanceUID"]), value=VALUES)
def test_any_value_in_an_attribute_is_read_or_refused(tmp_path_factory, keyword, value):
    """Whatever stands in one attribute: a CT slice within the limits, or one rejected file with a reason."""
    folder = tmp_path_factory.mktemp("any")
    dataset = ct_dataset(abdomen(32), 0, patient="P", study="1.2", series="1.3", number=1)
    if keyword in dataset:
        del dataset[keyword]
    raw = value.encode("utf-8", "replace")
    raw += b" " * (len(raw) % 2)
    tag = Tag(keyword)  # as bytes, which pydicom writes as they are
    dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)
    buffer = io.BytesIO()
    try:
        dataset.save_as(buffer, enforce_file_format=True)
    except (TypeError, ValueError):  # pydicom writes pixels by some attributes, and cannot by every value
        reject()
    (folder / "any.dcm").write_bytes(buffer.getvalue())
    tree = read_tree(folder)
    slices = [item for series in tree.series for item in series.slices]
    assert len(slices) + len(tree.rejected) == 1
    assert tuple(tree.rejected.columns) == Rejected._fields
    for item in slices:
        assert isinstance(item, CTSlice) and np.isfinite(item.z) and min(item.spacing_mm) >= 0.05
        try:
            hu = SliceReader().read(item)
        except DicomError:
            continue
        assert hu.dtype == np.int16 and hu.min() >= -1024


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_labels_are_read_or_refused_by_name(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "labels.csv"
    path.write_bytes(content)
    try:
        read_labels(path, {"1.2"})
    except ValueError as error:
        assert "labels.csv" in str(error)


def test_the_watch_sees_a_file_that_is_read_elsewhere(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.dcm").write_bytes(struct.pack("<L", 0))
    fuzz.watch(tmp_path / "inside")
    try:
        with pytest.raises(fuzz.Outside):
            (tmp_path / "outside.dcm").read_bytes()
    finally:
        fuzz.stop.pop()()
    (tmp_path / "outside.dcm").read_bytes()
