"""The networks that the repository ships: copies of a run's, with a card that says what they are."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.masking.statistics import read_masking
from lib.metrics import auc_table, headline
from lib.paper import PHASES
from lib.voting import vote_volumes

FILES = ("model.keras", "standardisation.json", "history.csv")
PREDICTIONS, MASKING = "predictions.parquet", "masking"
CARD = """# Trained networks

These networks name the contrast phase, one of five, of CT slices through the kidneys. All have the paper's architecture
(132,181 weights); they differ in nothing but their seed, which decides weights, order and augmentation.

```python
from lib.networks import load_pretrained

model, standardisation = load_pretrained("{first}")
```

**Input**: slices of {size} x {size} pixels. Inside the body Hounsfield units minus the mean, divided by the SD, of
`standardisation.json`; outside it 0. `lib.cohort.Cohort.read` prepares them.

**Output**: the probabilities of {phases}.

Beside each network lie its training `history.csv`, its `predictions.parquet` on the validation and test slices, and in
`masking/`, where it was measured, every masked slice: `lib.masking.statistics.read_masking` reads it, and the notebooks
08, 11 and 12 draw their figures from it (`-p masking weights/{first}/masking`).

**Trained on** phantoms, and on no patient: {train} slices of {patients} simulated patients, and {val} slices for
validation{start}. The recipe is in `{recipe}`. The table holds what they reach on {test} slices, {volumes} series, of
phantom patients on whom nothing was tuned. F1 and AUC are means over the phases.

| network | best epoch | validation loss | F1, slices | AUC, slices | F1, after voting |
|---|---|---|---|---|---|
{rows}

**Meant for** research on maps of networks. **Not meant for** naming the phase of a patient's CT, or for any decision
about a patient: real CT differs from phantoms, and these networks err on it.

Licence: Apache-2.0, as the repository.
"""


def network_table(networks: Sequence[Path]) -> pd.DataFrame:
    """Measure how good the networks of a run are.

    Parameters
    ----------
    networks : sequence of Path
        Folders as from 02_train_network.

    Returns
    -------
    DataFrame
        One row per network: `network`, `epochs`, `best_epoch`, `val_loss` at the best epoch; on the test split
        `f1_slices`, `auc_slices` and `f1_voting` (every phase weighing the same, see `lib.metrics.headline`).
    """
    rows = []
    for network in networks:
        history = pd.read_csv(network / "history.csv")
        history = history[history["stage"] == history["stage"].max()]  # the weights that were kept are of this one
        best = history.loc[history["val_loss"].idxmin()]
        slices = pd.read_parquet(network / "predictions.parquet").query("split == 'test'")
        volumes = vote_volumes(slices)
        auc = auc_table(slices["phase"], slices[list(PHASES)].to_numpy()).loc["mean", "roc_auc"]
        f1 = headline(slices["phase"], slices["predicted"])["f1"], headline(volumes["phase"], volumes["winner"])["f1"]
        rows.append(
            (network.name, int(history["epoch"].max()), int(best["epoch"]), best["val_loss"], f1[0], auc, f1[1])
        )
    names = ["network", "epochs", "best_epoch", "val_loss", "f1_slices", "auc_slices", "f1_voting"]
    return pd.DataFrame(rows, columns=names)


def copy_networks(networks: Sequence[Path], destination: Path, recipe: str) -> list[Path]:
    """Copy networks with their history, predictions and masked slices, and write the card.

    Parameters
    ----------
    networks : sequence of Path
        Folders as from 02_train_network, in the `networks/` of a run; what its `masking/` holds of them is copied too.
    destination : Path
        A folder without these networks.
    recipe : str
        Where the recipe is, such as "config/study.yaml".

    Returns
    -------
    list of Path
        What was written.
    """
    written = []
    for network in networks:
        folder = destination / network.name
        folder.mkdir()
        written += [Path(shutil.copyfile(network / name, folder / name)) for name in FILES]
        written.append(_smaller(pd.read_parquet(network / PREDICTIONS), folder / PREDICTIONS))
        masked = network.parents[1] / MASKING / network.name
        if (masked / "done.json").exists():
            (folder / MASKING).mkdir()
            written.append(_smaller(read_masking(masked), folder / MASKING / "slices.parquet"))
            written.append(Path(shutil.copyfile(masked / "done.json", folder / MASKING / "done.json")))
    rows = [
        f"| {n.network} | {n.best_epoch} of {n.epochs} | {n.val_loss:.3f} | {n.f1_slices:.3f} | {n.auc_slices:.3f} "
        f"| {n.f1_voting:.3f} |"
        for n in network_table(networks).itertuples()
    ]
    facts = _facts(networks[0])
    within = f"{destination.name}/" if destination.parent.name == "weights" else ""
    text = CARD.format(first=within + networks[0].name, recipe=recipe, rows="\n".join(rows), **facts)
    (destination / "README.md").write_text(text)
    return [*written, destination / "README.md"]


def _smaller(table: pd.DataFrame, file: Path) -> Path:
    """Write a table to a small Parquet file: what was measured in single precision, settings as they are."""
    single = {name: "float32" for name in table.select_dtypes("float64") if table[name].min() < table[name].max()}
    table.astype(single).to_parquet(file, compression="zstd", compression_level=19)
    return file


def _facts(network: Path) -> dict[str, object]:
    """Return what the card says of the data; it is the same for all networks of a run."""
    cohort = pd.read_parquet(network.parents[1] / "cohort" / "slices.parquet")
    counts = cohort["split"].value_counts()
    size = json.loads((network / "standardisation.json").read_text())["image_size"]
    test = cohort[cohort["split"] == "test"]
    patients = cohort.loc[cohort["split"] == "train", "patient"].nunique()
    sizes = {name: int(counts.get(name, 0)) for name in ("train", "val", "test")}
    recipe = json.loads((network / "provenance.json").read_text())["parameters"]
    return sizes | {
        "size": size,
        "start": ", after the training of the networks that they started from" if recipe.get("start_from") else "",
        "patients": patients,
        "volumes": test["series"].nunique(),
        "phases": ", ".join(PHASES),
    }
