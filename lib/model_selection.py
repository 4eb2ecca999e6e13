"""Many networks on one cohort: their metrics, the choice among them by validation alone, and tests over networks."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from scipy import stats

from lib.claims.prediction import resampled_auc
from lib.metrics import auc_table, headline
from lib.networks import KERNELS, REFERENCES
from lib.paper import PHASES
from lib.patient_statistics import bootstrap_interval, resample_clusters
from lib.voting import vote_volumes

METRICS = ("precision", "recall", "f1", "auc")
SCHEMES = ("single", "voting")
CANDIDATES = ("grid", "three_slices")  # groups of networks among which one is chosen
FILES = ("model.keras", "provenance.json", "history.csv", "predictions.parquet")
IMAGENET_CLASSES = 1000


class Network(NamedTuple):
    """A trained network as 02_train_network leaves it."""

    name: str
    group: str
    """"grid", "three_slices" or "references"."""
    folder: Path
    recipe: dict
    """The parameters of its training."""
    history: pd.DataFrame
    predictions: pd.DataFrame
    """Validation and test slices with five probabilities."""


def read_networks(folder: Path, groups: Mapping[str, Sequence[str]]) -> tuple[dict[str, Network], list[str]]:
    """Read what was trained of the networks that are to be compared.

    Parameters
    ----------
    folder : Path
        With one folder per network.
    groups : mapping of str to sequence of str
        Names of the networks by group.

    Returns
    -------
    networks : dict of str to Network
        In the order of the names.
    missing : list of str
        Names of the networks that have not finished their training.

    Raises
    ------
    FileNotFoundError
        If no network of the grid has finished.
    ValueError
        If a name occurs twice, or if two networks have predicted different slices, so that they cannot be compared.
    """
    names = [(name, group) for group, members in groups.items() for name in members]
    twice = {name for name, _ in names if [other for other, _ in names].count(name) > 1}
    if twice:
        raise ValueError(f"networks {sorted(twice)} are named more than once; expected each in one group.")
    networks, missing = {}, []
    for name, group in names:
        if any(not (folder / name / file).exists() for file in FILES):
            missing.append(name)
            continue
        recipe = json.loads((folder / name / "provenance.json").read_text())["parameters"]
        history, predictions = (folder / name / file for file in FILES[2:])
        networks[name] = Network(name, group, folder / name, recipe, pd.read_csv(history), pd.read_parquet(predictions))
    if not any(network.group == "grid" for network in networks.values()):
        raise FileNotFoundError(
            f"{folder} holds none of the networks {', '.join(groups.get('grid', ()))}: run 02_train_network first."
        )
    first = next(iter(networks.values()))
    for network in networks.values():
        if not _slices(network).equals(_slices(first)):
            raise ValueError(f"networks {first.name} and {network.name} predicted different slices; train both on one "
                             f"cohort to compare them.")  # fmt: skip
    return networks, missing


def describe(networks: Iterable[Network], weights: Mapping[str, int]) -> pd.DataFrame:
    """Return what each network is and how its training went.

    Parameters
    ----------
    networks : iterable of Network
    weights : mapping of str to int
        Number of weights by the name of the network.

    Returns
    -------
    DataFrame
        One row per network: `network`, `group`, `architecture`, `kernels` and `initializer` (empty for reference
        networks, which have their own), `blocks`, `image_size`, `channels`, `weights`, the recipe (`decay`,
        `learning_rate`, `batch_size`), `epochs`, `cut_off` (whether `max_epochs` ended the training), `best_epoch` (of
        the lowest validation loss, from 1), `lowest_val_loss`, `gap` (validation loss minus training loss in the last
        epoch).
    """
    kept = ["image_size", "channels", "decay", "learning_rate", "batch_size"]
    rows = []
    for network in networks:
        history, recipe = network.history, network.recipe
        last = history[history["stage"] == history["stage"].max()]  # of which the kept weights are
        ours = recipe["architecture"] == "phase_net"
        rows.append(
            {
                "network": network.name,
                "group": network.group,
                "architecture": recipe["architecture"],
                "kernels": recipe["kernels"] if ours else "",
                "blocks": len(recipe["kernels"].split()) if ours else 0,
                "weights": weights[network.name],
                "initializer": recipe["initializer"] if ours else "",
                **{name: recipe[name] for name in kept},
                "epochs": len(history),
                "cut_off": len(last) >= recipe["max_epochs"],
                "best_epoch": int(last.loc[last["val_loss"].idxmin(), "epoch"]),
                "lowest_val_loss": last["val_loss"].min(),
                "gap": (last["val_loss"] - last["loss"]).iloc[-1],
            }
        )
    return pd.DataFrame(rows)


def measure(networks: Iterable[Network]) -> pd.DataFrame:
    """Return the metrics of each network on validation and test slices, singly and after voting.

    Returns
    -------
    DataFrame
        One row per network, split and scheme: `network`, `group`, `split` ("val", "test"), `scheme` ("single",
        "voting"), `precision`, `recall`, `f1` (the paper's, see `lib.metrics.headline`), `auc` (mean over the phases of
        the area under the ROC curve; in voting, of the shares of the vote), `n` (slices, or series), `n_patients`.
    """
    rows = []
    for network in networks:
        for split in ("val", "test"):
            slices = network.predictions[network.predictions["split"] == split]
            volumes = vote_volumes(slices).rename(columns={"winner": "predicted"})
            shares = [f"share_{phase}" for phase in PHASES]
            for scheme, table, scores in (("single", slices, list(PHASES)), ("voting", volumes, shares)):
                auc = auc_table(table["phase"], table[scores].to_numpy()).loc["mean", "roc_auc"]
                facts = {"network": network.name, "group": network.group, "split": split, "scheme": scheme}
                counts = {"n": len(table), "n_patients": table["patient"].nunique()}
                rows.append(facts | headline(table["phase"], table["predicted"]) | {"auc": auc} | counts)
    return pd.DataFrame(rows)


def choose(validation: pd.DataFrame) -> pd.DataFrame:
    """Rank networks by their area under the ROC curve on the validation split; the first one is chosen.

    Parameters
    ----------
    validation : DataFrame
        Rows of :func:`measure` of the split "val" and no other.

    Returns
    -------
    DataFrame
        One row per network, the chosen one first: `network`, `auc_single`, `auc_voting`, `rank_single`, `rank_voting`
        (1 is the highest). Single slices decide; where they are equal, the vote; then the order of `validation`.

    Raises
    ------
    ValueError
        If a row is of another split: a choice that has seen the test split makes its metrics on it too good.
    """
    splits = set(validation["split"])
    if splits != {"val"}:
        raise ValueError(f"The choice is given the splits {sorted(splits)}; expected validation alone.")
    order = list(dict.fromkeys(validation["network"]))
    auc = validation.pivot_table(index="network", columns="scheme", values="auc").loc[order].add_prefix("auc_")
    ranks = auc.rank(ascending=False, method="min").astype(int)
    table = auc.join(ranks.rename(columns=lambda name: name.replace("auc", "rank")))
    columns = [f"{kind}_{scheme}" for kind in ("auc", "rank") for scheme in SCHEMES]
    return table.sort_values(["auc_single", "auc_voting"], ascending=False, kind="stable")[columns].reset_index()


def compared_with(described: pd.DataFrame, chosen: str) -> str:
    """Return the network that the reference networks are compared with.

    It is the network of the paper's kernels that was trained in the same way as they, where their group has one, and
    otherwise the chosen network.

    Parameters
    ----------
    described : DataFrame
        As from :func:`describe`.
    chosen : str
        Name of the chosen network.
    """
    kernels = " ".join(map(str, KERNELS))
    beside = described[(described["group"] == "references") & (described["kernels"] == kernels)]
    return chosen if beside.empty else beside["network"].iloc[0]


def titles_of(described: pd.DataFrame) -> dict[str, str]:
    """Return what is printed for each network: image size, kernels and slices, or the name of a reference network."""
    titles = {}
    for row in described.itertuples():
        size = f"{row.image_size} px"
        what = f"{size} · {row.kernels}" if row.kernels else f"{row.architecture} · {size}"
        what += " · 3 slices" if row.channels == 3 else ""
        titles[row.network] = f"{row.network} · {size}" if row.group == "references" and row.kernels else what
    return titles


def auc_differences(
    networks: Mapping[str, Network], against: str, split: str, *, rng: np.random.Generator, resamples: int = 1000
) -> pd.DataFrame:
    """Compare the area under the ROC curve of each network with that of one of them, on the same slices.

    Parameters
    ----------
    networks : mapping of str to Network
    against : str
        Name of the network that the others are compared with.
    split : {"val", "test"}
    rng : numpy.random.Generator
        Draws the resamples of the patients, the same ones for all networks.
    resamples : int

    Returns
    -------
    DataFrame
        One row per network: `network`, `against`, `split`, `auc` (single slices, mean over the phases), `difference`
        (its area minus that of `against`), `low`, `high` (95 % interval, resampling patients).
    """
    areas, drawn = {}, {}
    for name, network in networks.items():
        slices = network.predictions[network.predictions["split"] == split]
        patients, names = pd.factorize(slices["patient"])
        if not areas:
            weights = resample_clusters(len(names), rng=rng, resamples=resamples)
        areas[name] = auc_table(slices["phase"], slices[list(PHASES)].to_numpy()).loc["mean", "roc_auc"]
        phases = [phase for phase in PHASES if 0 < (slices["phase"] == phase).sum() < len(slices)]
        curves = [
            resampled_auc(slices[phase].to_numpy(), (slices["phase"] == phase).to_numpy(), patients, weights)
            for phase in phases
        ]
        drawn[name] = np.mean(curves, axis=0)
    rows = []
    for name in networks:
        low, high = bootstrap_interval(drawn[name] - drawn[against], weights.shape[1])
        rows.append((name, against, split, areas[name], areas[name] - areas[against], low, high))
    return pd.DataFrame(rows, columns=["network", "against", "split", "auc", "difference", "low", "high"])


def compare_references(
    described: pd.DataFrame,
    networks: Mapping[str, Network],
    against: str,
    *,
    training_slices: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Set networks beside the one that they are compared with: how each was trained, and its AUC on test slices.

    Parameters
    ----------
    described : DataFrame
        As from :func:`describe`.
    networks : mapping of str to Network
        Those that are compared, `against` among them.
    against : str
        As from :func:`compared_with`.
    training_slices : int
        That the networks were trained on.
    rng : numpy.random.Generator
        For the intervals.

    Returns
    -------
    DataFrame
        One row per network: the columns of :func:`describe`, `updates` (of the weights, in an epoch), then the columns
        of :func:`auc_differences` on the test split, `n` (test slices) and `n_patients`.
    """
    slices = networks[against].predictions.query("split == 'test'")
    areas = auc_differences(networks, against, "test", rng=rng).assign(
        n=len(slices), n_patients=slices["patient"].nunique()
    )
    updates = np.ceil(training_slices / described["batch_size"]).astype(int)
    return described.assign(updates=updates).merge(areas, on="network", how="right")


def compare_over_networks(metrics: pd.DataFrame) -> pd.DataFrame:
    r"""Test over networks whether test differs from validation, and voting from single slices.

    Parameters
    ----------
    metrics : DataFrame
        As from :func:`measure`, of the networks of the grid.

    Returns
    -------
    DataFrame
        One row per comparison and metric: `comparison` ("test - val" or "voting - single"), `within` (the scheme, or
        the split), `metric`, `networks`, `mean` (of the paired differences), `low`, `high` (95 % t interval over
        networks), `p` (paired t test), `higher`, `lower` (number of networks with a positive, a negative difference),
        `sign_p` (sign test). With a single network there is no interval and no p.

    Notes
    -----
    Let :math:`d_1, \dots, d_K` be the differences of :math:`K` networks, with mean :math:`\bar d` and standard
    deviation :math:`s`. The t test has :math:`t = \bar d \sqrt K / s` with :math:`K - 1` degrees of freedom. The sign
    test asks how likely at least as uneven a split into higher and lower is if both have the chance 1/2; equal values
    are left out.
    """
    rows = []
    for column, (base, other), within in (("split", ("val", "test"), "scheme"), ("scheme", SCHEMES, "split")):
        wide = metrics.pivot_table(index=[within, "network"], columns=column, values=list(METRICS))
        for part in dict.fromkeys(metrics[within]):
            for metric in METRICS:
                values = (wide[metric, other] - wide[metric, base]).loc[part].to_numpy()
                facts = {"comparison": f"{other} - {base}", "within": part, "metric": metric}
                rows.append(facts | paired_test(values))
    return pd.DataFrame(rows)


def paired_test(differences: np.ndarray) -> dict[str, float]:
    """Return the t test and the sign test of paired differences; see :func:`compare_over_networks`."""
    differences = np.asarray(differences, dtype=float)
    count, mean = len(differences), differences.mean()
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    low = high = p = np.nan
    if count > 1:
        error = differences.std(ddof=1) / np.sqrt(count)
        half = stats.t.ppf(0.975, count - 1) * error
        low, high = mean - half, mean + half
        p = 2 * stats.t.sf(abs(mean) / error, count - 1) if error else float(mean == 0)
    sign_p = stats.binomtest(higher, higher + lower).pvalue if higher + lower else 1.0
    return {
        "networks": count, "mean": mean, "low": low, "high": high, "p": p,
        "higher": higher, "lower": lower, "sign_p": sign_p if count > 1 else np.nan,
    }  # fmt: skip


def count_references() -> pd.DataFrame:
    """Count the weights of the reference networks as they are known: for 1000 classes of colour photographs.

    Each network is built without fetching its weights, counted and dropped.

    Returns
    -------
    DataFrame
        `architecture`, `weights`.
    """
    counts = [
        (name, getattr(keras.applications, name)(weights=None, classes=IMAGENET_CLASSES).count_params())
        for name in REFERENCES
    ]
    return pd.DataFrame(counts, columns=["architecture", "weights"])


def _slices(network: Network) -> pd.DataFrame:
    """Return which slices a network has predicted, in order."""
    columns = ["patient", "series", "slice", "phase", "split"]
    return network.predictions[columns].sort_values(columns[1:3]).reset_index(drop=True)
