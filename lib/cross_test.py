"""Networks that were trained on one kind of CT, tested on another."""

from collections.abc import Mapping
from pathlib import Path

import keras
import pandas as pd

from lib.cohort import Cohort, Standardisation
from lib.files import require, resolve
from lib.metrics import headline
from lib.paper import PHASES
from lib.training import predict
from lib.voting import vote_volumes


def network_folders(folder: str | Path) -> list[Path]:
    """Return the folder of a network, or those of all networks below it, sorted.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    folder = resolve(folder)
    found = [folder] if (folder / "model.keras").exists() else sorted(p.parent for p in folder.glob("*/model.keras"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no trained network (model.keras): run 02_train_network first.")
    return found


def cross_test(networks: Mapping[str, str | Path], cohorts: Mapping[str, str | Path]) -> pd.DataFrame:
    """Test all networks on the test patients of all cohorts.

    Parameters
    ----------
    networks : mapping of str to path
        By the kind of CT that they were trained on: the folder of a network, or one that holds several.
    cohorts : mapping of str to path
        By their kind: prepared cohorts with labels and a test split.

    Returns
    -------
    DataFrame
        One row per network and cohort: `trained_on`, `network`, `tested_on`, `slices`, `series`, `patients`; `f1` and
        `recall_<phase>` of single slices and `voting_f1`, by the paper's definitions (missing where the cohort's test
        split lacks a phase).

    Raises
    ------
    FileNotFoundError
        If a cohort or a network is missing.
    ValueError
        If a cohort has no labelled slice in its test split.

    Notes
    -----
    Every network keeps the standardisation that it was trained with. A patient who is in the training split of one
    cohort and in the test split of another would make the test too easy: with one key for both there is none.
    """
    rows = []
    for tested_on, path in cohorts.items():
        cohort = Cohort.open(require(path, "01_prepare_cohort"))
        test = cohort.slices[(cohort.slices["split"] == "test") & cohort.slices["phase"].notna()]
        if test.empty:
            raise ValueError(f"{path} has no labelled slice in its test split: prepare it with labels.csv.")
        for trained_on, folder in networks.items():
            for network in network_folders(folder):
                facts = {"trained_on": trained_on, "network": network.name, "tested_on": tested_on}
                rows.append(facts | _scores(network, cohort, test))
    return pd.DataFrame(rows)


def _scores(folder: Path, cohort: Cohort, test: pd.DataFrame) -> dict[str, float]:
    model = keras.models.load_model(folder / "model.keras", compile=False)
    told = predict(model, cohort, test, Standardisation.load(folder / "standardisation.json"))
    volumes = vote_volumes(told)
    right = (told["predicted"] == told["phase"]).groupby(told["phase"]).mean()
    return {
        "slices": len(told),
        "series": len(volumes),
        "patients": told["patient"].nunique(),
        "f1": headline(told["phase"], told["predicted"])["f1"],
        **{f"recall_{phase}": right.get(phase) for phase in PHASES},
        "voting_f1": headline(volumes["phase"], volumes["winner"])["f1"],
    }
