import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from lib.claims.findings import Finding
from lib.claims.table import compare_with_paper
from lib.cohort import Standardisation
from lib.files import file_hash
from lib.masking.statistics import read_masking
from lib.networks import load_pretrained, phase_net
from lib.paper import PHASES
from lib.provenance import commit
from lib.publish import publish, publish_claims
from lib.results import BEGIN, END, shown


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.publish.commit", lambda *without: {"commit": "abc", "dirty": False})
    monkeypatch.setattr("lib.results.results", lambda tables: f"from {tables.name}")
    (tmp_path / "README.md").write_text(f"Title\n{BEGIN}\nold\n{END}\nMore\n")
    for name, text in {"figures/fig1.png": "drawn", "tables/table2.csv": "a,b\n", "claims.csv": "id\nC1\n"}.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    return tmp_path / "run"


def test_figures_and_tables_are_replaced_and_listed(run, tmp_path):
    (run / "figures/old.png").write_text("old")
    publish(run, tmp_path)
    (run / "figures/old.png").unlink()
    written = publish(run, tmp_path)
    assert {file.relative_to(tmp_path).as_posix() for file in written} == {
        "figures/fig1.png", "tables/table2.csv", "tables/claims.csv",
    }  # fmt: skip
    assert not (tmp_path / "figures" / "old.png").exists()
    assert shown(tmp_path / "README.md") == "from tables" and (tmp_path / "README.md").read_text().endswith("More\n")
    manifest = json.loads((tmp_path / "figures/manifest.json").read_text())
    fig1 = {"run": "run", "commit": "abc", "dirty": False, "hash": file_hash(run / "figures/fig1.png")}
    assert manifest == {"fig1.png": fig1}


def test_another_run_publishes_what_is_named_and_leaves_the_rest(run, tmp_path):
    publish(run, tmp_path)
    for name in ("fig1", "fig2"):
        (tmp_path / "run512/figures").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"run512/figures/{name}.png").write_text("of 512 pixels")
    assert publish(tmp_path / "run512", tmp_path, ["fig1"]) == [tmp_path / "figures/fig1.png"]
    manifest = json.loads((tmp_path / "figures/manifest.json").read_text())
    assert set(manifest) == {"fig1.png"} and manifest["fig1.png"]["run"] == "run512"
    assert (tmp_path / "figures/fig1.png").read_text() == "of 512 pixels"
    assert (tmp_path / "tables/table2.csv").exists()
    with pytest.raises(FileNotFoundError, match="neither a figure nor a table called fig9"):
        publish(tmp_path / "run512", tmp_path, ["fig9"])


def test_claims_that_another_run_tests_take_the_place_of_the_published_ones_alone(run, tmp_path):
    """The study has tested C17 and not C21; the other run has C17 otherwise and C21."""
    study = compare_with_paper([Finding("C17", "of the study", "reproduced", 0.1)])
    other = compare_with_paper([Finding("C17", "of the other", "not reproduced"),
                                Finding("C21", "2.50", "reproduced", 0.25, n_slices=7, n_patients=3)])  # fmt: skip
    study.to_csv(run / "claims.csv", index=False)
    publish(run, tmp_path)
    before = pd.read_csv(tmp_path / "tables/claims.csv", dtype=str).set_index("id")
    (tmp_path / "other").mkdir()
    other.to_csv(tmp_path / "other/claims.csv", index=False)
    publish_claims(tmp_path / "other", ["C21"], tmp_path)
    after = pd.read_csv(tmp_path / "tables/claims.csv", dtype=str).set_index("id")
    assert after.loc["C21", ["measured", "verdict", "n_slices"]].tolist() == ["2.50", "reproduced", "7"]
    pd.testing.assert_frame_equal(after.drop("C21"), before.drop("C21"))
    assert "| 2.50 | 7 (3) | **reproduced** |" in (tmp_path / "tables/claims.md").read_text()
    manifest = json.loads((tmp_path / "tables/manifest.json").read_text())
    assert manifest["claims.csv"]["run"] == "run" and manifest["claims.csv"]["claims_of_other_runs"] == {
        "C21": {"run": "other", "commit": "abc", "dirty": False}
    }
    assert manifest["claims.csv"]["hash"] == file_hash(tmp_path / "tables/claims.csv")
    compare_with_paper([]).to_csv(tmp_path / "other/claims.csv", index=False)
    with pytest.raises(ValueError, match=r"has not tested C17, C99\."):
        publish_claims(tmp_path / "other", ["C22", "C17", "C99"], tmp_path)
    with pytest.raises(FileNotFoundError, match="finish the run first"):
        publish_claims(tmp_path / "nowhere", ["C21"], tmp_path)


def test_the_texts_alone_are_a_run_that_leaves_the_study_in_place(run, tmp_path):
    publish(run, tmp_path)
    for name in ("figures/atlas_maps.png", "tables/four_studies.csv"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("of the texts")
    publish(tmp_path / "texts", tmp_path)
    assert {file.name for file in (tmp_path / "figures").glob("*.png")} == {"atlas_maps.png", "fig1.png"}
    assert {file.name for file in (tmp_path / "tables").glob("*.csv")} == {
        "claims.csv", "four_studies.csv", "table2.csv",
    }  # fmt: skip
    publish(run, tmp_path)
    assert (tmp_path / "figures/atlas_maps.png").exists()


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


def test_a_tree_that_differs_from_its_commit_publishes_nothing(run, tmp_path, monkeypatch):
    publish(run, tmp_path)
    (run / "figures/fig1.png").write_text("drawn anew")
    monkeypatch.setattr("lib.publish.commit", lambda *without: {"commit": "abc", "dirty": True})
    with pytest.raises(ValueError, match="differ from the last commit: commit them first"):
        publish(run, tmp_path)
    assert (tmp_path / "figures/fig1.png").read_text() == "drawn"


def test_differences_count_but_in_the_published_folders(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr("lib.provenance.ROOT", tmp_path)
    for name in ("lib/a.py", "figures/fig1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("as committed")
    git("init"), git("add", "."), git("commit", "-m", "first")
    (tmp_path / "figures/fig1.png").write_text("drawn")
    assert commit("figures")["dirty"] is False and commit()["dirty"] is True
    (tmp_path / "lib/a.py").write_text("changed")
    assert commit("figures")["dirty"] is True


def test_networks_are_shipped_with_a_card_that_says_what_they_reach(run, tmp_path):
    phases = list(PHASES)
    rows = pd.DataFrame({"phase": phases * 4, "split": ["train"] * 5 + ["test"] * 15, "slice": range(20)})
    rows = rows.assign(patient=[f"p{k // 5}" for k in range(20)], series=[f"{k:02x}" for k in range(20)])
    (run / "cohort").mkdir()
    rows.to_parquet(run / "cohort/slices.parquet")
    network = run / "networks" / "seed01"
    network.mkdir(parents=True)
    right = pd.DataFrame(np.eye(5)[[phases.index(phase) for phase in rows.phase]], columns=phases)
    rows.join(right).assign(predicted=rows.phase).to_parquet(network / "predictions.parquet")
    masked = run / "masking/seed01"
    masked.mkdir(parents=True)
    reading = {"within": "image", "score": "logit", "fill": "normal", "fraction": 0.1}
    (masked / "done.json").write_text(json.dumps({"parameters": reading}))
    for part in range(2):
        shard = pd.DataFrame({**reading, "network": "abc", "relative_probability": [100 / 3 + part]}, index=[0])
        shard.to_parquet(masked / f"part-{part}.parquet")
    history = {"epoch": [1, 2, 3], "val_loss": [0.1, 0.4, 0.7], "stage": [1, 2, 2]}
    pd.DataFrame(history).to_csv(network / "history.csv", index=False)
    Standardisation(30.0, 120.0, 64).save(network / "standardisation.json")
    (network / "provenance.json").write_text(json.dumps({"parameters": {"start_from": ""}}))
    phase_net(64).save(network / "model.keras")
    pd.DataFrame({"network": ["seed01"]}).to_csv(run / "tables/seeds.csv", index=False)
    (run / "networks/VGG16").mkdir()  # a member of another comparison, which is not shipped
    (run / "networks/VGG16/model.keras").write_bytes(bytes(2_000_000))
    written = {file.name for file in publish(run, tmp_path)}
    assert {"model.keras", "standardisation.json", "history.csv", "README.md"} <= written
    card = (tmp_path / "weights/README.md").read_text()
    assert "| seed01 | 2 of 3 | 0.400 | 1.000 | 1.000 | 1.000 |" in card
    assert "5 slices of 1 simulated patients" in card and "15 slices, 15 series" in card and "64 x 64" in card
    model, standardisation = load_pretrained("seed01", tmp_path / "weights")
    assert model.count_params() == 132_181 and standardisation.image_size == 64
    kept = pd.read_parquet(tmp_path / "weights/seed01/predictions.parquet")
    assert kept[phases].equals(right.astype("float32")) and list(kept.predicted) == list(rows.phase)
    left = read_masking(tmp_path / "weights/seed01/masking")["relative_probability"]
    assert left.tolist() == pytest.approx([100 / 3, 103 / 3], rel=1e-7)


def test_networks_of_another_size_stand_beside_those_of_the_study(run, tmp_path):
    (tmp_path / "weights/512/seed01").mkdir(parents=True)
    (tmp_path / "weights/512/seed01/model.keras").write_text("512 pixels")
    test_networks_are_shipped_with_a_card_that_says_what_they_reach(run, tmp_path)
    assert (tmp_path / "weights/512/seed01/model.keras").read_text() == "512 pixels"
    with pytest.raises(FileNotFoundError, match="there are 512/seed01, seed01"):
        load_pretrained("seed02", tmp_path / "weights")


def test_the_card_of_another_size_names_where_its_networks_are_and_began(run, tmp_path):
    test_networks_are_shipped_with_a_card_that_says_what_they_reach(run, tmp_path)
    provenance = run / "networks/seed01/provenance.json"
    provenance.write_text(json.dumps({"parameters": {"start_from": "runs/study/networks/seed01"}}))
    publish(run, tmp_path, weights="weights/512")
    card = (tmp_path / "weights/512/README.md").read_text()
    assert 'load_pretrained("512/seed01")' in card and "after the training of the networks that they started" in card
    assert "they started from" not in (tmp_path / "weights/README.md").read_text()


def test_what_each_stage_took_is_published_from_the_notes_of_snakemake(run, tmp_path):
    (run / "times").mkdir()
    names = ["s", "h:m:s", "max_rss", "max_vms", "max_uss", "max_pss", "io_in", "io_out", "mean_load", "cpu_time"]
    noted = [names, [83.26, "0:01:23", 1234.5, 9000.0, 1200.0, 1210.0, 0.1, 0.2, 187.0, 155.0]]
    (run / "times/02_train_network_seed01.tsv").write_text("\n".join("\t".join(map(str, row)) for row in noted))
    assert tmp_path / "tables/times.csv" in publish(run, tmp_path)
    row = pd.read_csv(tmp_path / "tables/times.csv").iloc[0]
    assert row.to_dict() == {"stage": "02_train_network_seed01", "seconds": 83.3, "peak_mib": 1234.5, "cores": 1.87}
