import json
import stat

import pytest

from lib.files import ROOT, atomic_path, require, resolve
from lib.provenance import begin, modules_used, write_sidecar


def test_relative_paths_are_taken_against_the_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert resolve("runs/x") == ROOT / "runs/x"
    assert resolve(tmp_path) == tmp_path


def test_a_missing_input_names_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing is missing: run 05_compute_maps first"):
        require(tmp_path / "nothing", "05_compute_maps")


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a" / "table.csv"
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) & stat.S_IRUSR


def test_a_folder_replaces_the_old_one(tmp_path):
    for content in ("old", "new"):
        with atomic_path(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["new"]


def test_a_sidecar_says_what_made_a_file(tmp_path):
    (tmp_path / "in.csv").write_text("a\n")
    sidecar = write_sidecar(
        tmp_path / "out.png", notebook="07", parameters={"cmap": "rainbow"}, inputs=(tmp_path / "in.csv",), seed=3
    )
    record = json.loads(sidecar.read_text())
    assert sidecar.name == "out.png.json" and record["seed"] == 3 and record["parameters"] == {"cmap": "rainbow"}
    assert record["inputs"] == {"in.csv": "87428fc522803d31"}
    assert {"commit", "dirty", "packages", "machine"} <= record.keys()


def test_modules_are_followed_through_imports():
    used = {str(path) for path in modules_used(ROOT / "notebooks/02_train_network.py")}
    assert {"lib/training.py", "lib/cohort.py", "lib/paper.py", "lib/provenance.py"} <= used
    assert "lib/figures/maps.py" not in used


def test_interrupted_work_is_kept_only_if_it_is_the_same(tmp_path, capsys):
    table = tmp_path / "in.csv"
    table.write_text("a\n")

    def again(epochs=3):
        return begin(tmp_path / "work", parameters={"epochs": epochs}, inputs=(table,), code=("lib/training.py",))

    (again() / "half").write_text("done")
    assert (again() / "half").exists()
    table.write_text("b\n")
    assert not (again() / "half").exists()
    assert "inputs.in.csv changed" in capsys.readouterr().out
    (again() / "half").write_text("done")
    assert not (again(epochs=4) / "half").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_not_emptied(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scan.dcm").write_text("precious")
    with pytest.raises(FileExistsError, match="was not begun here"):
        begin(tmp_path / "mine", parameters={})
    assert (tmp_path / "mine" / "scan.dcm").exists()
