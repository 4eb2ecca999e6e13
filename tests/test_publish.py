import json

import pytest

from lib.files import file_hash
from lib.publish import publish


@pytest.fixture
def run(tmp_path):
    for name, text in {"figures/fig1.png": "drawn", "tables/table2.csv": "a,b\n", "claims.csv": "id\nC1\n"}.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    return tmp_path / "run"


def test_figures_and_tables_are_replaced_and_listed(run, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_text("old")
    written = publish(run, tmp_path)
    assert {file.relative_to(tmp_path).as_posix() for file in written} == {
        "figures/fig1.png", "tables/table2.csv", "tables/claims.csv",
    }  # fmt: skip
    assert not (tmp_path / "figures" / "old.png").exists()
    manifest = json.loads((tmp_path / "figures/manifest.json").read_text())
    assert manifest["files"] == {"fig1.png": file_hash(run / "figures/fig1.png")}


def test_an_unfinished_run_and_a_large_file_are_refused_and_nothing_is_lost(run, tmp_path):
    publish(run, tmp_path)
    (run / "figures/fig2.png").write_bytes(bytes(1_100_000))
    with pytest.raises(ValueError, match=r"fig2.png: 1.1 MB"):
        publish(run, tmp_path)
    (run / "claims.csv").unlink()
    with pytest.raises(FileNotFoundError, match="finish the run first"):
        publish(run, tmp_path)
    assert (tmp_path / "figures/fig1.png").exists()


def test_no_patient_is_published(run, tmp_path):
    (run / "figures/phantom_beside_real.png").write_text("real slices")
    assert "phantom_beside_real.png" not in {file.name for file in publish(run, tmp_path)}
    (run / "private").mkdir()
    (run / "private/key").write_text("secret")
    with pytest.raises(PermissionError, match="somebody's CT"):
        publish(run, tmp_path)
