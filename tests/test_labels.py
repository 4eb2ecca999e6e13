import stat

import pytest

from lib.labels import read_labels, secret_key

KNOWN = {"1.2", "1.3"}
TEXT = "series_uid,phase\n1.2,neph\n1.3,cm\n"


def test_an_own_cohort_has_a_random_key_that_stays_and_that_only_its_owner_reads(tmp_path):
    key = secret_key(tmp_path / "private")
    assert secret_key(tmp_path / "private") == key != secret_key(tmp_path / "other")
    assert len(key) == 32
    assert stat.S_IMODE((tmp_path / "private" / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


def test_a_private_folder_that_was_open_is_closed(tmp_path):
    (tmp_path / "private").mkdir(mode=0o755)
    secret_key(tmp_path / "private")
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o700


WRITTEN = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with a mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, the other byte order": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "Windows-1252": "series_uid,phase,Prüfer\n1.2,neph,Müller\n1.3,cm,\n".encode("cp1252"),
    "semicolons": TEXT.replace(",", ";").encode(),
    "tabs": TEXT.replace(",", "\t").encode(),
    "line ends of Windows": TEXT.replace("\n", "\r\n").encode(),
    "no last line end": TEXT.rstrip().encode(),
    "quotes, blanks and empty lines": b'"series_uid", phase\n\n 1.2 ,"neph"\n"1.3",cm\n,\n',
    "a remark with a comma and a line end": b'series_uid,phase,remark\n1.2,neph,"a, b\nc"\n1.3,cm,\n',
}


@pytest.mark.parametrize("name", WRITTEN)
def test_tables_as_spreadsheets_write_them(tmp_path, name):
    (tmp_path / "labels.csv").write_bytes(WRITTEN[name])
    assert read_labels(tmp_path / "labels.csv", KNOWN)["phase"].to_dict() == {"1.2": "neph", "1.3": "cm"}


WRONG = {
    "a workbook": (b"PK\x03\x04....", "is an Excel workbook, not a CSV: save it as 'CSV UTF-8'"),
    "an old workbook": (b"\xd0\xcf\x11\xe0....", "is an Excel workbook"),
    "nothing": (b"", "is empty: write a first line series_uid,phase"),
    "blank lines": (b"\n \n,,\n", "is empty"),
    "binary": (b"series_uid\x00\x00,phase\n", "is no text in UTF-8, UTF-16 or Windows-1252"),
    "a quotation mark without its partner": (
        b'series_uid,phase\n"1.2,neph\n1.3,cm\n',
        r"labels.csv, line \d: unexpected end of data. Look for a quotation mark without its partner",
    ),
    "two columns of phases": (
        b"series_uid,phase,phase\n1.2,neph,cm\n",
        "labels.csv has two columns phase: remove one",
    ),
    "more cells than columns": (
        b"series_uid,phase\n1.2,neph,late,\n",
        "line 2: 4 cells under 2 columns; put text that has commas in quotation marks",
    ),
    "a line after one of two lines": (
        b'series_uid,phase,remark\n1.2,neph,"a\nb"\n1.9,cm,\n',
        "line 4: series '1.9' is not in the DICOM folder",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_with_file_and_remedy(tmp_path, name):
    content, message = WRONG[name]
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_labels(tmp_path / "labels.csv", KNOWN)
    assert "labels.csv" in str(error.value)
