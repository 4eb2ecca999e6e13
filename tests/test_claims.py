"""Claims on made-up runs whose verdicts are known."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.metrics import roc_auc_score

from lib.claims.cohort import cohort_claims, network_claims, read_architecture, receptive_fields
from lib.claims.findings import Finding
from lib.claims.maps import map_claims, masking_claims
from lib.claims.prediction import _figures, prediction_claims, resampled_auc
from lib.claims.table import VERDICTS, compare_with_paper, find, of_phantoms, sources, to_markdown
from lib.maps.saved import Maps, half_mass, signed_extremes
from lib.metrics import auc_table, confusion, expand, headline
from lib.paper import FINAL_MAPS, LAYERS, PHASES, published
from lib.patient_statistics import resample_clusters
from lib.phantom.tissues import Tissue
from lib.voxels import top_shares

PAPER_LIKE = {
    **dict(zip(FINAL_MAPS, (25, 35, 65, 66), strict=True)),
    **{("sam", layer): level for layer, level in zip(LAYERS, (15, 20, 25, 50, 66), strict=True)},
    **{("grad_cam", layer): level for layer, level in zip(LAYERS, (75, 75, 75, 50, 66), strict=True)},
}


def rng():
    return np.random.default_rng(11)


def relative_probabilities(levels, control=97, noise=2.0, patients=12):
    """Slice means around a level a map; the slices of a patient share a shift. `control` may be one of two."""
    controls = control if isinstance(control, dict) else {"random": control}
    generator = np.random.default_rng(5)
    rows = []
    for phase in PHASES:
        for patient in range(patients):
            shift = generator.normal(0, 3)
            for number in range(2):
                key = (phase, f"p{patient}", f"s{patient}{phase}", number)
                for (method, layer), level in levels.items():
                    rows.append((method, layer, "top", *key, level + shift + generator.normal(0, noise)))
                    rows.append((method, layer, "bottom", *key, 100 + generator.normal(0, noise)))
                for method, level in controls.items():
                    rows.append((method, "-", "random", *key, level + generator.normal(0, noise)))
    columns = "method layer region phase patient series slice relative_probability"
    return pd.DataFrame(rows, columns=columns.split())


def test_a_run_like_the_paper_reproduces_it():
    found = {finding.id: finding for finding in masking_claims(relative_probabilities(PAPER_LIKE))}
    assert {i: f.verdict for i, f in found.items() if i not in ("C44", "C54")} == {
        i: "reproduced" for i in ("C50", "C51", "C52", "C53", "C57", "C58", "C59", "C60", "C61")
    }
    assert (found["C52"].n_slices, found["C52"].n_patients) == (2 * 12 * 5, 12)
    assert found["C52"].low < found["C52"].value < found["C52"].high < 0
    assert "random 10 %: Noncon 9" in found["C50"].measured


def test_a_claim_gets_the_same_interval_wherever_it_is_asked_for():
    means = relative_probabilities(PAPER_LIKE)
    first, shuffled = (masking_claims(table) for table in (means, means.sample(frac=1, random_state=0)))
    for one, other in zip(first, shuffled, strict=True):
        assert one[:3] == other[:3]
        assert one[3:] == pytest.approx(other[3:], nan_ok=True)


def test_techniques_are_held_against_voxels_of_the_body():
    controls = {"random": 97, "random_body": 60}
    found = {f.id: f for f in masking_claims(relative_probabilities(PAPER_LIKE, control=controls))}
    assert found["C61"].verdict == "not reproduced"
    assert "minus random voxels of the body: Noncon " in found["C61"].measured
    assert "not reproduced: CAM, Grad-CAM, SAM 6;" in found["C61"].measured
    assert "reproduced: Saliency, Guided backprop, SAM 2b, SAM 3b, SAM 4b, SAM 5b;" in found["C61"].measured
    assert found["C61"].measured.endswith("against random voxels anywhere, all nine: reproduced")
    assert "; all in the body: Noncon " in found["C50"].measured
    alone = {f.id: f for f in masking_claims(relative_probabilities(PAPER_LIKE))}["C61"].measured
    assert "minus random voxels: Noncon " in alone and "body" not in alone


def test_the_exception_at_5b_is_told():
    levels = PAPER_LIKE | {("sam", "conv5b"): 50, ("grad_cam", "conv5b"): 80}
    means = relative_probabilities(levels)
    deep = (means["layer"] == "conv5b") & (means["method"] == "grad_cam") & (means["phase"] != "noncon")
    means.loc[deep, "relative_probability"] -= 30
    found = {f.id: f for f in masking_claims(means)}["C58"]
    assert found.verdict == "reproduced"
    assert "; where the paper has a difference, at 5b, Noncon -30." in found.measured


def test_the_opposite_run_does_not():
    levels = PAPER_LIKE | {("saliency", "input"): 90} | {("sam", layer): 85 for layer in LAYERS}
    found = {finding.id: finding.verdict for finding in masking_claims(relative_probabilities(levels))}
    assert {i: found[i] for i in ("C52", "C53", "C57", "C58", "C60")} == dict.fromkeys(
        ("C52", "C53", "C57", "C58", "C60"), "not reproduced"
    )
    assert found["C50"] == "reproduced"


def test_few_noisy_slices_leave_a_null_undecided():
    means = relative_probabilities(PAPER_LIKE, noise=30, patients=3)
    found = {finding.id: finding.verdict for finding in masking_claims(means)}
    assert found["C51"] == found["C58"] == "undecided"


def test_slight_differences_in_some_phases():
    means = relative_probabilities(PAPER_LIKE, noise=0.2)
    some = means.copy()
    lower = (some["method"] == "cam") & (some["region"] == "top")
    some.loc[lower, "relative_probability"] += np.where(some.loc[lower, "phase"].isin(["cm", "neph"]), -3.0, 1.0)
    found = {finding.id: finding for finding in masking_claims(some)}
    assert found["C54"].verdict == "reproduced"
    every = means.copy()
    every.loc[lower, "relative_probability"] -= 3.0
    assert {f.id: f.verdict for f in masking_claims(every)}["C54"] == "direction only"


def predictions(correct=0.8, patients=40, seed=3):
    """Predictions whose errors fall into the next phase, with lower confidence when wrong."""
    generator = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for c, phase in enumerate(PHASES):
            for number in range(3):
                right = generator.random() < (0.5 if phase in ("cm-neph", "neph") else correct)
                top = c if right else (c + 1) % 5
                p = np.full(5, 0.02)
                p[top] = 0.8 if right else 0.5
                p[c] += 1 - p.sum()
                key = (f"p{patient}", f"s{patient}{c}", number, phase, "val" if patient % 4 == 0 else "test", 0.5)
                rows.append((*key, *p, PHASES[p.argmax()]))
    columns = ["patient", "series", "slice", "phase", "split", "kidney_position", *PHASES, "predicted"]
    return pd.DataFrame(rows, columns=columns)


def test_prediction_claims():
    table = predictions()
    found = {finding.id: finding for finding in prediction_claims(table, rng=rng())}
    assert {i: found[i].verdict for i in ("C32", "C33", "C34")} == dict.fromkeys(("C32", "C33", "C34"), "reproduced")
    assert found["C25"].verdict == "not reproduced"
    test = table[table["split"] == "test"]
    expected = headline(test["phase"], test["predicted"])
    areas = auc_table(test["phase"], test[list(PHASES)].to_numpy()).loc["mean"]
    assert found["C23"].value == pytest.approx(np.mean([*expected.values(), areas["roc_auc"]]))
    assert f"AUC {areas['roc_auc']:.3f} [" in found["C23"].measured
    assert found["C23"].measured.endswith(f"phases weighing the same {areas['roc_auc_balanced']:.3f})")
    assert found["C25"].value == pytest.approx((test["phase"] == test["predicted"]).mean())
    assert (found["C25"].n_slices, found["C25"].n_patients) == (450, 30)
    assert found["C30"].verdict == "not tested"


def test_resampled_auc_is_that_of_the_rows_drawn():
    generator = np.random.default_rng(4)
    patients = generator.integers(0, 9, 80)
    positive = generator.random(80) < 0.3
    scores = np.round(generator.normal(positive, 1), 1)
    weights = np.vstack([np.ones(9), resample_clusters(9, rng=generator, resamples=20)])
    expected = [roc_auc_score(positive, scores, sample_weight=weight[patients]) for weight in weights]
    np.testing.assert_allclose(resampled_auc(scores, positive, patients, weights), expected)
    assert np.isnan(resampled_auc(scores, np.ones(80, bool), patients, weights)).all()


def with_areas(steps, patients=60):
    """Predictions of which the AUC falls in the paper's order, the more so the larger the steps."""
    generator = np.random.default_rng(8)
    order = ("cm-neph", "neph", "pyelo", "cm", "noncon")
    table = predictions(patients=patients)
    for rank, phase in enumerate(order):
        here = (table["phase"] == phase).to_numpy()
        table[phase] = np.exp(generator.normal(here * (1 + steps * rank), 1))
    table[list(PHASES)] = table[list(PHASES)].div(table[list(PHASES)].sum(axis=1), axis=0)
    return table


def test_the_order_by_auc_needs_every_step():
    found = {f.id: f for f in prediction_claims(with_areas(0.5, patients=150), rng=rng())}["C28"]
    assert (found.verdict, found.value) == ("reproduced", pytest.approx(1))
    assert found.measured.endswith("rho 1.0; not shown: none")
    found = {f.id: f for f in prediction_claims(with_areas(0.4), rng=rng())}["C28"]
    assert (found.verdict, found.value) == ("direction only", pytest.approx(0.9))
    assert found.measured.endswith("rho 0.9; not shown: Noncon above CM, Pyelo above Neph")
    found = {f.id: f for f in prediction_claims(with_areas(-0.15), rng=rng())}["C28"]
    assert found.verdict == "not reproduced"


def test_the_two_lowest_recalls_are_both_the_lowest():
    stack = np.stack([np.diag([9.0, 8, 3, 6, 9]), np.diag([9.0, 5, 3, 6, 9])])
    stack[:, 0] += 10 - stack.sum(axis=1)
    np.testing.assert_allclose(_figures(stack)["middle"], [0.6 - 0.8, 0.6 - 0.5])


def test_figures_of_a_stack_of_matrices_are_the_headline():
    labels = np.random.default_rng(0).choice(PHASES, (2, 60))
    matrices = [confusion(*labels), published("table1_slices"), confusion(["cm", "cm", "neph"], ["cm", "neph", "neph"])]
    stack = _figures(np.stack([matrix.to_numpy(dtype=float) for matrix in matrices]))
    for i, matrix in enumerate(matrices):
        assert {name: stack[name][i] for name in ("precision", "recall", "f1")} == pytest.approx(
            headline(*expand(matrix))
        )


def test_cohort_claims_find_a_patient_in_two_splits():
    table = predictions()
    assert {f.id: f.verdict for f in cohort_claims(table)}["C7"] == "method"
    table.loc[0, "split"], table.loc[0, "series"] = "train", "other"
    leak = {f.id: f for f in cohort_claims(table)}["C7"]
    assert leak.verdict == "not reproduced"
    assert leak.measured.endswith("1 in two splits")


def test_a_cohort_without_labels_is_described_and_not_judged():
    table = predictions().assign(phase=None, split="apply", kidney_position=np.nan)
    found = {f.id: f for f in cohort_claims(table)}
    assert {found[i].verdict for i in ("C1", "C2", "C3", "C5", "C6", "C7")} == {"not tested"}
    assert found["C7"].measured == "0 train, 0 val, 0 test, 40 apply patients; 0 in two splits"
    assert found["C3"].measured.endswith("Pyelo 0, unlabelled 600")
    assert found["C6"].measured == "0 labelled examinations repeat a phase"
    assert prediction_claims(table, rng=rng()) == []


def test_slices_beyond_the_kidneys_are_told():
    table = predictions().assign(z_mm=lambda table: 10.0 * table["slice"])
    ends = pd.DataFrame({"series": table["series"].unique(), "kidney_bottom_mm": 0.02, "kidney_top_mm": 20.0})
    between = {f.id: f for f in cohort_claims(table, ends)}["C5"]
    assert between[1:3] == ("0 of 600 slices with known ends lie beyond them", "method")
    ends.loc[:1, "kidney_top_mm"] = 19.0, np.nan
    between = {f.id: f for f in cohort_claims(table, ends)}["C5"]
    assert between[1:3] == ("1 of 597 slices with known ends lie beyond them", "method, changed")
    assert {f.id: f.verdict for f in cohort_claims(table)}["C5"] == "not tested"


def test_a_cohort_of_some_phases_leaves_the_order_undecided():
    table = predictions()
    table = table[table["phase"].isin(["noncon", "cm", "pyelo"])]
    found = {f.id: f for f in prediction_claims(table, rng=rng())}
    assert found["C28"].verdict == "undecided"


def saved_network(path):
    """Write the configuration of the paper's network as Keras saves it."""
    layers = [{"class_name": "InputLayer", "config": {"name": "image", "batch_shape": [None, 512, 512, 1]}}]
    for block, filters in enumerate((16, 16, 32, 32, 64), start=1):
        layers += [convolution(f"conv{block}{part}", filters) for part in "ab"]
        layers.append({"class_name": "MaxPooling2D", "config": {"name": f"pool{block}", "pool_size": [2, 2]}})
    layers.append(convolution("conv6", 64))
    layers.append({"class_name": "GlobalAveragePooling2D", "config": {"name": "gap"}})
    dense = {"name": "phase", "units": 5, "use_bias": True, "activation": "softmax"}
    layers.append({"class_name": "Dense", "config": dense})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    return path


def convolution(name, filters):
    facts = {"name": name, "filters": filters, "kernel_size": [3, 3], "use_bias": True, "activation": "relu"}
    return {"class_name": "Conv2D", "config": facts}


def test_architecture_is_read_without_keras(tmp_path):
    layers, weights = read_architecture(saved_network(tmp_path / "model.keras"))
    assert weights == 132_181
    assert receptive_fields(layers) == {"1b": 5, "2b": 14, "3b": 32, "4b": 68, "5b": 140, "6": 220}


def test_network_claims_tell_a_changed_recipe(tmp_path):
    network = saved_network(tmp_path / "model.keras")
    standard = {"mean": -23.3, "sd": 144.1, "image_size": 512, "channels": 1}
    recipe = {"learning_rate": 1e-4, "decay": "plateau", "factor": 0.316, "patience": 4, "stop_after": 12}
    recipe |= {"rotation": 5.0, "translation": 5.0}
    verdicts = {f.id: f.verdict for f in network_claims(network, standard, recipe)}
    assert verdicts["C16"] == "reproduced"
    assert {verdicts[i] for i in ("C9", "C13", "C15")} == {"method"}
    half = {f.id: f for f in network_claims(network, standard, recipe | {"translation": 2.5})}["C9"]
    assert half[1:3] == ("± 5 degrees, ± 2.5 pixels of 512", "method, changed")
    short = network_claims(network, standard | {"image_size": 256}, recipe | {"decay": "cosine", "rotation": 0.0})
    assert {f.verdict for f in short if f.id in ("C9", "C13", "C15")} == {"method, changed"}


def example_maps(scale=1 / 16):
    generator = np.random.default_rng(0)
    images, maps = {}, {}
    for phase in PHASES:
        images[phase] = np.where(np.arange(32) < 16, 40.0, np.nan) * np.ones((32, 1))
        cam = generator.normal(0, 1, (4, 4))
        noise = generator.normal(0, 1, (32, 32))
        maps |= {(phase, "saliency", "input"): noise, (phase, "guided_backprop", "input"): noise**5}
        maps |= {(phase, "cam", "conv6"): cam, (phase, "grad_cam", "conv6"): scale * np.maximum(cam, 0)}
        side = np.r_[np.zeros(4), np.ones(4)] * np.ones((8, 1))
        maps |= {(phase, "grad_cam", layer): side for layer in ("conv2b", "conv3b")}
        maps |= {(phase, "grad_cam", layer): 1 - side for layer in ("conv4b", "conv5b")}
    return Maps(images, maps, {phase: phase for phase in PHASES})


def test_map_claims():
    found = {finding.id: finding for finding in map_claims(example_maps())}
    assert found["C42"].verdict == "reproduced"
    assert "0.0625 ReLU(CAM)" in found["C42"].measured
    assert found["C47"].verdict == "direction only"
    assert found["C48"].verdict == "not tested", "extremes agree by themselves; the signs need a truth"
    told = compare_with_paper([found["C48"]]).set_index("id").loc["C48"]
    assert told["verdict"] == "not tested here" and told["measured"].endswith("tissues and 13_anatomy_of_maps")
    assert found["C55"].verdict == "direction only"
    assert "100 % at 2b and 3b, 0 % at 5b" in found["C55"].measured
    assert map_claims(Maps({"5e21": np.zeros((2, 2))}, {}, {"5e21": "neph"})) == []


def test_measures_of_maps():
    values = np.arange(100.0).reshape(10, 10)
    assert top_shares(np.abs(-values), values >= 95, 2)[1] == 0.5
    assert top_shares(np.ones((10, 10)), values < 30, 2)[1] == pytest.approx(0.3)
    assert half_mass(np.ones((10, 10))) == 0.5
    assert half_mass(np.eye(10)[0]) == 0.1
    assert np.isnan(half_mass(np.zeros((2, 2))))
    assert signed_extremes(values - 49.5) == 1.0


def test_every_claim_gets_a_row_and_a_reason():
    table = compare_with_paper([Finding("C52", "saliency minus others -9", "reproduced", -9, -12, -6, 40, 8)])
    assert table["id"].tolist() == [f"C{i}" for i in range(1, 64)]
    assert set(table["verdict"]) == {"reproduced", "method", "not tested here"}
    assert set(table["verdict"]) <= set(VERDICTS)
    rows = table.set_index("id")
    assert rows.loc["C12", "measured"] == "needs the 27 networks of the grid"
    assert rows.loc["C50", "measured"] == "needs a stage that this run has not gone through"
    assert table["measured"].ne("").all()
    text = to_markdown(table)
    assert "reproduced: 1, " in text
    assert text.count("\n| C") == 63


def test_two_findings_on_a_claim_are_both_told():
    table = compare_with_paper([Finding("C55", "air", "undecided"), Finding("C55", "organs", "direction only")])
    row = table.set_index("id").loc["C55"]
    assert (row["measured"], row["verdict"]) == ("air; organs", "direction only")


def test_stages_of_a_run_are_found(tmp_path):
    (tmp_path / "cohort").mkdir()
    predictions().to_parquet(tmp_path / "cohort/slices.parquet")
    left = sources(tmp_path)
    assert left["found"].to_dict()["cohort"]
    assert left["found"].sum() == 1
    assert [f.id for f in find("cohort", left.loc["cohort", "path"], rng=rng())] == ["C1", "C2", "C3", "C5", "C6", "C7"]


def test_networks_that_another_run_has_compared(tmp_path):
    """A run's own comparison comes first; of another run nothing else is taken."""
    for run in ("own", "other"):
        (tmp_path / run / "tables").mkdir(parents=True)
    (tmp_path / "other" / "tables" / "networks.csv").touch()
    (tmp_path / "other" / "tables" / "anatomy_sign.csv").touch()
    assert not sources(tmp_path / "own")["found"].any()
    left = sources(tmp_path / "own", selection=tmp_path / "other")
    assert list(left.index[left["found"]]) == ["networks"]
    assert left.loc["networks", "path"] == tmp_path / "other" / "tables" / "networks.csv"
    own = tmp_path / "own" / "tables" / "networks.csv"
    own.touch()
    assert sources(tmp_path / "own", selection=tmp_path / "other").loc["networks", "path"] == own


def test_what_the_phantom_puts_in_is_said_of_phantoms_only():
    finding = Finding("C49", "x", "reproduced")
    simulated, real = (compare_with_paper([finding], phantom=which).set_index("id") for which in (True, False))
    assert simulated.loc["C46", "by_construction"].startswith(
        "partly by construction where the phantom's simulated reader labels"
    )
    assert simulated.loc["C49", "by_construction"].startswith("a cell of layer 6")
    assert "; partly by construction" in simulated.loc["C49", "by_construction"]
    assert not real["by_construction"].str.contains("phantom|reader").any()
    assert real.loc["C42", "by_construction"] == simulated.loc["C42", "by_construction"] != ""
    assert list(simulated) == list(real)


def test_phantoms_are_known_by_their_truth_or_their_tissues(tmp_path):
    assert not of_phantoms(tmp_path)
    store = zarr.open_group(tmp_path / "cohort/tissues.zarr", mode="w")
    store.attrs["tissues"] = {"Liver": 1, "Renal cortex": 2}
    assert not of_phantoms(tmp_path)
    store.attrs["tissues"] = {tissue.name.capitalize().replace("_", " "): int(tissue) for tissue in Tissue}
    assert of_phantoms(tmp_path)
    (tmp_path / "real/dicom").mkdir(parents=True)
    (tmp_path / "real/dicom/truth.csv").touch()
    assert of_phantoms(tmp_path / "real")


def test_unknown_claims_are_refused():
    with pytest.raises(ValueError, match=r"findings on \['C99'\].*C1 to C63"):
        compare_with_paper([Finding("C99", "x", "reproduced")])
