"""The paper's claims about cohort and network, described from the files of a run."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from lib.claims.findings import Finding
from lib.paper import PHASES
from lib.titles import PHASE_TITLES

PAPER_SIZE = 512  # pixels, to which the paper's shift of 5 refers
SAME_PLANE_MM = 0.05  # positions are rounded
RECIPE = {"learning_rate": 1e-4, "decay": "plateau", "factor": 0.316, "patience": 4, "stop_after": 12}


def cohort_claims(slices: pd.DataFrame, series: pd.DataFrame | None = None) -> list[Finding]:
    """Compare the cohort with the paper's: C1 to C3 and C5 to C7.

    Parameters
    ----------
    slices : DataFrame
        `cohort/slices.parquet`: `patient`, `series`, `z_mm`, `phase`, `split`. What is not known (phases of an
        unlabelled cohort, ends of the kidneys) is reported and not judged.
    series : DataFrame, optional
        `cohort/series.csv`: `series`, `kidney_bottom_mm`, `kidney_top_mm`.
    """
    examinations = slices.drop_duplicates("series")
    phases = examinations.groupby("patient")["phase"].nunique()
    repeated = int(examinations.dropna(subset="phase").duplicated(["patient", "phase"]).sum())
    splits = examinations.groupby("patient")["split"].agg(set)
    shared = int((splits.map(len) > 1).sum())
    split = splits[splits.map(len) == 1].map(lambda names: next(iter(names))).value_counts()
    names = ("train", "val", "test", *split.index.difference(["train", "val", "test"]))
    parts = ", ".join(f"{split.get(name, 0)} {name}" for name in names)
    trained = not set(slices["split"]) <= {"apply"}
    counted = slices["phase"].value_counts()
    by_phase = ", ".join(f"{PHASE_TITLES[phase]} {counted.get(phase, 0)}" for phase in PHASES)
    labelled = slices["phase"].notna()
    known = _method(slices.loc[labelled, "phase"].isin(PHASES).all()) if labelled.any() else "not tested"
    unlabelled = f", unlabelled {(~labelled).sum()}" if not labelled.all() else ""
    unique = f"{phases.min()} to {phases.max()}, mean {phases.mean():.1f}, SD {phases.std():.1f}"
    apart = "not reproduced" if shared else "method" if trained else "not tested"
    count = {"n_slices": len(slices), "n_patients": len(phases)}
    size = f"{len(phases)} patients, {len(examinations)} examinations, {len(slices)} slices"
    return [
        Finding("C1", size, "not tested", **count),
        Finding("C2", f"phases per patient: {unique}" if labelled.any() else "no labels", "not tested", **count),
        Finding("C3", f"slices: {by_phase}{unlabelled}", known, **count),
        Finding("C5", *_between_the_ends(slices, series), **count),
        Finding("C6", f"{repeated} labelled examinations repeat a phase", "not tested", **count),
        Finding("C7", f"{parts} patients; {shared} in two splits", apart, **count),
    ]


def network_claims(network: Path, standardisation: dict, recipe: dict) -> list[Finding]:
    """Compare the network and its training with the paper's: C8 to C11, C13 to C16 and C63.

    Parameters
    ----------
    network : Path
        `model.keras`.
    standardisation : dict
        `mean`, `sd`, `image_size`, `channels`.
    recipe : dict
        Parameters of the training, from the JSON file beside the network.
    """
    layers, weights = read_architecture(network)
    convolutions = [layer for layer in layers if layer["class"] == "Conv2D"]
    pools = sum(layer["class"] == "MaxPooling2D" for layer in layers)
    size, channels = standardisation["image_size"], standardisation["channels"]
    relu = all(layer["activation"] == "relu" for layer in convolutions)
    output = f"{size >> pools} x {size >> pools} x {convolutions[-1]['filters']}"
    blocks = f"{pools} blocks, {len(convolutions)} convolutions, {size} x {size} in, {output} out"
    changed = {name: recipe.get(name) for name, value in RECIPE.items() if recipe.get(name) != value}
    rotation, translation = (recipe.get(name, np.nan) for name in ("rotation", "translation"))
    turned = f"± {rotation:g} degrees, ± {translation:g} pixels of {PAPER_SIZE}"
    same = (rotation, translation) == (5.0, 5.0)
    fields = ", ".join(f"{name} {field}" for name, field in receptive_fields(layers).items())
    expected = {1: 132_181, 3: 132_469}.get(channels)
    return [
        Finding("C8", f"{standardisation['mean']:.1f} ± {standardisation['sd']:.1f} HU inside the body", "method"),
        Finding("C9", turned, "method" if same else "method, changed"),
        Finding("C10", f"{channels} slice{'s' * (channels > 1)}", "method"),
        Finding("C11", f"{len(convolutions)} convolutions, {'all' if relu else 'not all'} with ReLU", _method(relu)),
        Finding("C13", f"changed: {changed}" if changed else "as in the paper", _method(not changed)),
        Finding("C14", "weights N / (5 patients slices) by phase and patient (lib.cohort.slice_weights)", "method"),
        Finding("C15", blocks, _method(size == 512 and output == "16 x 16 x 64" and len(convolutions) == 11)),
        Finding(
            "C16", f"{weights:,} weights", "reproduced" if weights == expected else "not reproduced", float(weights)
        ),
        Finding("C63", f"receptive fields in pixels of {size}: {fields}", "method"),
    ]


def _between_the_ends(slices: pd.DataFrame, series: pd.DataFrame | None) -> tuple[str, str]:
    """Report how many slices lie beyond the ends of the kidneys, and judge it."""
    names = ["kidney_bottom_mm", "kidney_top_mm"]
    ends = None if series is None else series.set_index("series").reindex(slices["series"])[names].to_numpy()
    known = np.zeros(len(slices), bool) if ends is None else np.isfinite(ends).all(axis=1)
    if not known.any():
        return "the ends of the kidneys are not known", "not tested"
    z, (bottom, top) = slices["z_mm"].to_numpy()[known], ends[known].T
    beyond = int(np.count_nonzero((z < bottom - SAME_PLANE_MM) | (z > top + SAME_PLANE_MM)))
    return f"{beyond} of {len(z)} slices with known ends lie beyond them", _method(not beyond)


def read_architecture(path: Path) -> tuple[list[dict], int]:
    """Return the layers of a saved Keras model, a chain of layers, and its number of weights.

    A layer is a dict of name, class, activation, filters, kernel and pool. The file is read without TensorFlow.
    """
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    layers, weights, channels = [], 0, None
    for layer in config["layers"]:
        facts = layer["config"]
        if layer["class_name"] == "InputLayer":
            channels = facts["batch_shape"][-1]
        filters = facts.get("filters") or facts.get("units")
        if filters:
            kernel = int(np.prod(facts.get("kernel_size", 1)))
            weights += filters * (kernel * channels + bool(facts["use_bias"]))
            channels = filters
        known = {"name": facts["name"], "class": layer["class_name"], "activation": facts.get("activation")}
        sizes = {"kernel": facts.get("kernel_size", [1])[0], "pool": facts.get("pool_size", [1])[0]}
        layers.append(known | sizes | {"filters": filters})
    return layers, weights


def receptive_fields(layers: list[dict]) -> dict[str, int]:
    r"""Return the receptive field in input pixels for the last convolution of each block, such as {"2b": 14}.

    Notes
    -----
    A layer of kernel width :math:`k` widens the receptive field :math:`r` by :math:`(k - 1)\, d`, where :math:`d` is
    the product of the strides of all layers before it.
    """
    field, step, fields = 1, 1, {}
    for layer in layers:
        if layer["class"] == "Conv2D":
            field += (layer["kernel"] - 1) * step
            fields[layer["name"].removeprefix("conv")] = field
        elif layer["class"] == "MaxPooling2D":
            field += (layer["pool"] - 1) * step
            step *= layer["pool"]
    return {name: value for name, value in fields.items() if not name.endswith("a")}


def _method(as_in_paper: bool) -> str:
    return "method" if as_in_paper else "method, changed"
