"""The paper's claims about many networks, tested on the tables of 03_select_network.

A claim about the grid needs two networks of the grid or more, and a claim about reference networks needs all that it
names. Where they are missing there is no finding, so that the claim stays "not tested here".
"""

import math

import pandas as pd

from lib.claims.findings import Finding, verdict
from lib.paper import PHASES

GRID = 27  # networks that the paper compares
KERNELS = "16 16 32 32 64"  # of the network that the paper chose
MILLIONS = {  # weights of the reference networks, as printed
    **{"VGG16": "138", "ResNet50": "25.6", "InceptionV3": "23.8"},
    **{"InceptionResNetV2": "55.8", "DenseNet201": "20.2"},
}
MARGIN = 0.02  # two metrics that differ by less count as the same
GUESSING = math.log(len(PHASES))  # loss of giving each phase the same probability
LEARNED = GUESSING - 0.01  # a lower validation loss means that a network does better than guessing
EARLY = 3  # epochs within which the paper's reference networks were best
UPDATES = 3 * 1200  # of the weights in those: 38,400 slices for training, if a batch has 32
RECIPE = ["decay", "learning_rate", "batch_size", "image_size"]
ON_TEST = ("C21", "C29", "C30", "C31")  # claims that rest on test slices
NAMES = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC"}
TITLES = {"single": "single slices", "voting": "voting", "val": "validation", "test": "test"}


def grid_claims(
    networks: pd.DataFrame, metrics: pd.DataFrame, ranking: pd.DataFrame, tests: pd.DataFrame
) -> list[Finding]:
    """Test the claims on the grid: C12, C18 and C29 to C31; none with fewer than two networks.

    Parameters
    ----------
    networks, metrics, ranking, tests : DataFrame
        As from `describe`, `measure`, `choose` and `compare_over_networks` of `lib.model_selection`.
    """
    grid = networks[networks["group"] == "grid"]
    if len(grid) < 2:
        return []
    found = [_grid(networks, grid), _choice(networks, ranking), *_over_networks(tests, metrics)]
    return [_of_slices(finding, metrics.query("split == 'test' and scheme == 'single'")) for finding in found]


def reference_claims(references: pd.DataFrame, counts: pd.DataFrame) -> list[Finding]:
    """Test the claims on the reference networks: C17, and C19 to C22 as far as their networks were trained.

    Parameters
    ----------
    references, counts : DataFrame
        As from `compare_references` and `count_references` of `lib.model_selection`.
    """
    return [_of_slices(finding, references) for finding in (_counted(counts, references), *_references(references))]


def _of_slices(finding: Finding, sizes: pd.DataFrame) -> Finding:
    """Add the number of test slices and patients to a finding that rests on them."""
    size = {name: int(sizes[column].iloc[0]) for name, column in (("n_slices", "n"), ("n_patients", "n_patients"))}
    return finding._replace(**size) if finding.id in ON_TEST else finding


def _counted(counts: pd.DataFrame, references: pd.DataFrame) -> Finding:
    """Hold the numbers of weights against those that the paper prints; they fit if cut off after the last digit."""
    weights = counts.set_index("architecture")["weights"]
    parts, agrees = [], True
    for name, printed in MILLIONS.items():
        scale = 10 ** len(printed.partition(".")[2])
        agrees &= math.floor(weights[name] * scale / 1e6) == round(float(printed) * scale)
        parts.append(f"{name} {weights[name]:,}")
    text = f"with the 1000 classes of photographs {', '.join(parts)} (the paper's numbers are these, cut off)"
    trained = references[references["architecture"].isin(MILLIONS)]
    if len(trained):
        text += f"; as trained here {', '.join(f'{r.architecture} {r.weights:,}' for r in trained.itertuples())}"
    return Finding("C17", text, "reproduced" if agrees else "not reproduced")


def _grid(networks: pd.DataFrame, grid: pd.DataFrame) -> Finding:
    sizes = " ".join(map(str, sorted(set(grid["image_size"]))))
    weights = f"{grid['weights'].min():,} to {grid['weights'].max():,} weights"
    text = f"{len(grid)} networks at {sizes} pixels, {weights}"
    arm = int((networks["group"] == "three_slices").sum())
    text += f"; {arm} more with three slices" if arm else ""
    return Finding("C12", text, "method" if len(grid) == GRID else "method, changed", float(len(grid)))


def _choice(networks: pd.DataFrame, ranking: pd.DataFrame) -> Finding:
    """Describe the choice, and where the architecture that the paper chose ends up, at the largest image size."""
    candidates = networks[networks["network"].isin(ranking["network"])]
    first, size = ranking.iloc[0], candidates["image_size"].max()
    voted = ranking.loc[ranking["auc_voting"].idxmax(), "network"]
    theirs = candidates.query("kernels == @KERNELS and channels == 1 and image_size == @size")
    text = f"validation AUC chooses {first.network} ({first.auc_single:.4f}), by voting {voted}"
    place = ranking[ranking["network"].isin(theirs["network"])]
    for row in place.itertuples():
        text += f"; the paper's architecture at {size} pixels is number {row.rank_single} of {len(ranking)}"
    return Finding("C18", text, "method", float(first.auc_single))


def _over_networks(tests: pd.DataFrame, metrics: pd.DataFrame) -> list[Finding]:
    """Judge C29 to C31 by paired differences; one number per network."""
    n = metrics.drop_duplicates(["split", "scheme"]).set_index(["scheme", "split"])["n"]
    votes = " and ".join(
        f"{n['single', split] / n['voting', split]:.0f} in {TITLES[split]}" for split in ("val", "test")
    )
    splits = tests[tests["comparison"] == "test - val"]
    voting = tests[tests["comparison"] == "voting - single"]
    count = int(tests["networks"].max())
    same = f"{count} networks, test minus validation: {_words(splits)}; p > .05 in {(splits['p'] > 0.05).sum()} of "
    found = [
        _finding(
            "C29", f"{same}{len(splits)}; slices per vote: {votes}", verdict(splits, "null", margin=MARGIN), splits
        )
    ]
    precision = voting[voting["metric"] == "precision"]
    trends = voting[voting["metric"].eq("recall") | (voting["metric"].eq("f1") & voting["within"].eq("test"))]
    judged = [verdict(precision, "superiority", direction=1), _trend(trends)]
    weakest = min(judged, key=("not reproduced", "undecided", "direction only", "reproduced").index)
    rows = pd.concat([precision, trends])
    found.append(_finding("C30", f"{count} networks, voting minus single slices: {_words(rows)}", weakest, precision))
    on_test = precision[precision["within"] == "test"].iloc[0]
    other = precision[precision["within"] == "val"].iloc[0]
    text = f"precision on test higher after voting in {on_test.higher} of {count} networks (sign test p = "
    text += f"{on_test.sign_p:.2g}), on validation in {other.higher}"
    found.append(Finding("C31", text, judge_signs(count, int(on_test.higher), int(on_test.lower), on_test.sign_p),
                         on_test["mean"], on_test.low, on_test.high))  # fmt: skip
    return found


def judge_signs(count: int, higher: int, lower: int, p: float) -> str:
    """Judge the claim that a difference is positive in every one of `count` networks, given a sign test's p.

    "reproduced": positive in all of them, and the sign test has p < .05, for which six networks are needed. "direction
    only": positive in most, and p < .05. "not reproduced": negative in most, and p < .05. Otherwise "undecided".
    """
    if not p < 0.05:
        return "undecided"
    return "reproduced" if higher == count else "direction only" if higher > lower else "not reproduced"


def _trend(rows: pd.DataFrame) -> str:
    """Judge what the paper calls a trend: higher, with p < .1."""
    if (rows["mean"] > 0).all():
        return "reproduced" if (rows["p"] < 0.1).all() else "direction only"
    return "not reproduced"


def _references(references: pd.DataFrame) -> list[Finding]:
    """Judge C19 to C22: each needs its networks, and C20 and C22 also a recipe that decides when a network is best.

    A network that was cut off after fewer updates than `UPDATES` might still learn. It can contradict C19, that it does
    not learn, and C21, that it is not better, but it supports no claim, and decides neither C20 nor the support of C22.
    """
    against = references["against"].iloc[0]
    ours = references.set_index("network").loc[against]
    trained = references[references["network"].isin(MILLIONS)].set_index("network")
    short = trained["cut_off"] & (trained["epochs"] * trained["updates"] < UPDATES)
    found = []
    if "VGG16" in trained.index:
        vgg = trained.loc["VGG16"]
        text = (
            f"lowest validation loss {vgg['lowest_val_loss']:.3f} in {vgg['epochs']} epochs of {vgg['updates']} updates"
        )
        text += f"; guessing has {GUESSING:.3f}"
        judged = _unless(short["VGG16"], "reproduced")
        judged = "not reproduced" if vgg["lowest_val_loss"] < LEARNED else judged
        found.append(Finding("C19", text, judged, vgg["lowest_val_loss"]))
    others = [name for name in MILLIONS if name != "VGG16" and name in trained.index]
    if len(others) == len(MILLIONS) - 1:
        found += _best_epochs(trained.loc[others], ours, against, short[others].any())
    if len(trained) == len(MILLIONS):
        text = f"AUC on test minus that of {against}: {', '.join(_row_words(row) for row in trained.itertuples())}"
        text += "; cut off early: " + ", ".join(short.index[short]) if short.any() else ""
        bounds = trained["difference"].max(), trained["low"].min(), trained["high"].max()
        judged = judge_none_higher(trained)
        found.append(
            Finding("C21", text, judged if judged == "not reproduced" else _unless(short.any(), judged), *bounds)
        )
    return found


def _unless(short: bool, judged: str) -> str:
    """Return the verdict, unless the trainings were too short for it."""
    return "undecided" if short else judged


def _best_epochs(rows: pd.DataFrame, ours: pd.Series, against: str, short: bool) -> list[Finding]:
    """Judge C20 and C22, on the epoch in which each of four networks is best."""
    best = ", ".join(f"{name} {row.best_epoch} of {row.epochs}" for name, row in rows.iterrows())
    gaps = ", ".join(f"{gap:+.2f}" for gap in rows["gap"])
    on_plateau = (rows["decay"] == "plateau").all()
    judged = "reproduced" if (rows["best_epoch"] <= EARLY).all() else "not reproduced"
    text = f"best epoch {best}, with {rows['updates'].max()} updates of the weights in an epoch; validation minus "
    text += f"training loss in the last epoch {gaps}"
    text += "" if on_plateau else "; a rate that falls to zero makes a late epoch the best"
    text += f"; cut off before the {UPDATES:,} updates of the paper's first three epochs" if short else ""
    early = Finding(
        "C20", text, _unless(short, judged) if on_plateau else "not tested", float(rows["best_epoch"].max())
    )
    alike = on_plateau and (rows[RECIPE] == ours[RECIPE]).all(axis=None)
    later = ours["best_epoch"] > rows["best_epoch"].max()
    text = f"{against} is best in epoch {ours['best_epoch']}, the references by epoch {rows['best_epoch'].max()}"
    text += "" if alike else "; their recipes differ"
    text += "; the references were cut off" if short else ""
    judged = "not reproduced" if not later else _unless(short, "reproduced")
    return [early, Finding("C22", text, judged if alike else "not tested",
                           float(ours["best_epoch"] - rows["best_epoch"].max()))]  # fmt: skip


def judge_none_higher(rows: pd.DataFrame) -> str:
    """Judge the claim that no network has a higher value, from each one's `difference`, `low` and `high`.

    "reproduced": no interval reaches above 0. "direction only": no difference is above 0. "not reproduced": an interval
    lies above 0. Otherwise "undecided".
    """
    if (rows["high"] <= 0).all():
        return "reproduced"
    if (rows["difference"] <= 0).all():
        return "direction only"
    return "not reproduced" if (rows["low"] > 0).any() else "undecided"


def _finding(id_: str, text: str, judged: str, rows: pd.DataFrame) -> Finding:
    return Finding(id_, text, judged, rows["mean"].mean(), rows["low"].min(), rows["high"].max())


def _words(rows: pd.DataFrame) -> str:
    """Write the mean differences as text: "precision, voting +.012 (p = .003)"."""
    return ", ".join(
        f"{NAMES[row.metric]}, {TITLES[row.within]} {row.mean:+.3f} (p = {row.p:.2g})" for row in rows.itertuples()
    )


def _row_words(row) -> str:
    return f"{row.Index} {row.difference:+.3f} [{row.low:.3f}, {row.high:.3f}]"
