import json
import stat
import time

import keras
import pytest

from lib.files import ROOT, atomic_path, file_hash, require, resolve
from lib.networks import phase_net
from lib.provenance import begin, code_hashes, modules_used, write_sidecar


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
    assert "lib/figures/maps.py" not in used and "lib/titles.py" not in used


def test_a_module_of_a_folder_brings_the_folders_own_code():
    used = {str(path) for path in modules_used("lib/store.py")}
    assert {"lib/store.py", "lib/body_mask.py", "lib/dicom/__init__.py", "lib/dicom/series.py"} <= used


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Two modules of a project of its own, one of which imports the other."""
    for name in ("files", "provenance"):
        monkeypatch.setattr(f"lib.{name}.ROOT", tmp_path)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/work.py").write_text("from lib.tools import tool\n")
    (tmp_path / "lib/tools.py").write_text('"""Tools."""\n\n\ndef tool():\n    return 1\n')
    return tmp_path


def test_what_a_module_does_counts_and_what_it_says_about_it_does_not(project):
    tools, before = project / "lib/tools.py", code_hashes("lib/work.py")
    assert set(before) == {"lib/work.py", "lib/tools.py"}
    tools.write_text('"""Better words."""\n\ndef tool():\n    """Return one."""\n    return 1  # one\n')
    assert code_hashes("lib/work.py") == before
    tools.write_text("def tool():\n    return 2\n")
    after = code_hashes("lib/work.py")
    assert after["lib/tools.py"] != before["lib/tools.py"] and after["lib/work.py"] == before["lib/work.py"]


def test_an_edit_of_a_module_that_is_used_begins_the_work_anew(project, capsys):
    def again():
        return begin(project / "done", parameters={}, code=("lib/work.py",))

    (again() / "half").write_text("done")
    assert (again() / "half").exists()
    (project / "lib/tools.py").write_text("def tool():\n    return 2\n")
    assert not (again() / "half").exists()
    assert "code.lib/tools.py changed" in capsys.readouterr().out


def test_the_same_network_saved_again_keeps_its_hash(tmp_path):
    keras.utils.set_random_seed(1)
    network = phase_net(32)
    for name in ("one", "two"):
        network.save(tmp_path / f"{name}.keras")
        time.sleep(1.1)  # Keras writes the second in which it saved
    assert (tmp_path / "one.keras").read_bytes() != (tmp_path / "two.keras").read_bytes()
    assert file_hash(tmp_path / "one.keras") == file_hash(tmp_path / "two.keras")
    weights = network.get_weights()
    network.set_weights([weights[0] + 1e-6, *weights[1:]])
    network.save(tmp_path / "other.keras")
    assert file_hash(tmp_path / "other.keras") != file_hash(tmp_path / "one.keras")


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
