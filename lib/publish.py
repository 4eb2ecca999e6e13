"""Copy a run's figures, tables and networks into the repository, with manifests, and its results into the README.

python -m lib.publish runs/study
python -m lib.publish runs/study512 --only fig1 fig3 fig4
python -m lib.publish runs/selection --claims C19 C20 C21 C22
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.files import ROOT, atomic_path, file_hash, resolve
from lib.model_card import copy_networks
from lib.provenance import commit
from lib.results import update

KINDS = {"figures": ("*.png",), "tables": ("*.csv", "*.md")}
README, WEIGHTS = "README.md", "weights"
FINISHED = ("claims.csv", "tables/four_studies.csv")  # the last that is made, of the study and of the texts
UNTESTED = "not tested here"  # the verdict
REAL = "_beside_real"  # figures of real slices beside phantoms
FILE_LIMIT, TOTAL_LIMIT = 1_000_000, 25_000_000  # bytes


def publish(
    run: str | Path, destination: Path = ROOT, only: Sequence[str] = (), weights: str | None = WEIGHTS
) -> list[Path]:
    """Copy a finished run's figures, tables and networks, say in manifests what they are, and renew the README.

    What the run published earlier and no longer has is removed. What other runs have published stays.

    Parameters
    ----------
    run : path
        Folder of a run, such as runs/quick, with its claims.csv, or of `make texts`, with its tables/four_studies.csv.
    destination : Path
        Folder that holds figures/, tables/, weights/ and README.md.
    only : sequence of str
        Names of figures and tables without their ending, such as "fig1": they alone are copied, in place of another
        run's too, and the run need not have claims. All of them by default.
    weights : str, optional
        Folder in the destination that the networks go to, in place of those that are there; None for no networks.

    Returns
    -------
    list of Path
        What was written, manifests left out.

    Raises
    ------
    FileNotFoundError
        If the run is not finished, or has nothing of a name in `only`.
    PermissionError
        If the run is of somebody's CT, not of the phantom.
    ValueError
        If tracked files differ from the commit (what publishing writes may), so that nobody could make the run
        again from it, or a file has more than 1 MB, or all of them more than 25 MB. Nothing is copied then.
    """
    run = resolve(run)
    if not only and not any((run / name).exists() for name in FINISHED):
        raise FileNotFoundError(f"{run}/claims.csv is missing: finish the run first, with `make figures`.")
    _refuse_private(run)
    chosen = _chosen(run, only)
    networks = _of_seeds(run) if weights else []
    models = [network / "model.keras" for network in networks]
    sizes = {file: file.stat().st_size for files in (*chosen.values(), models) for file in files}
    large = [f"{file.name}: {size / 1e6:.1f} MB" for file, size in sizes.items() if size > FILE_LIMIT]
    if large or sum(sizes.values()) > TOTAL_LIMIT:
        raise ValueError(f"Too large to publish ({sum(sizes.values()) / 1e6:.1f} MB in all): {', '.join(large)}")
    state = _committed()
    written = []
    for kind, files in chosen.items():
        written += _replace(destination / kind, files, {"run": run.name, **state}, everything=not only)
    stages = stage_times(run)
    if len(stages) and not only:
        written.append(destination / "tables/times.csv")
        stages.to_csv(written[-1], index=False)
    if networks:
        written += copy_networks(networks, _emptied(destination / weights), f"config/{run.name}.yaml")
    update(destination / README, destination / "tables")
    return written


def publish_claims(run: str | Path, ids: Sequence[str], destination: Path = ROOT) -> list[Path]:
    """Put a run's findings on some claims in place of the published ones, and renew the README.

    This is for claims that another run tests than the published study, such as those on reference networks. A run that
    is published as a whole later brings its own findings on them.

    Parameters
    ----------
    run : path
        Folder of a run with its claims.csv.
    ids : sequence of str
        Such as "C19". The manifest notes of which run they are.
    destination : Path
        Folder that holds tables/ with claims.csv, and README.md.

    Returns
    -------
    list of Path
        What was written, manifests left out.

    Raises
    ------
    FileNotFoundError
        If the run or the destination has no claims.csv.
    PermissionError
        If the run is of somebody's CT, not of the phantom.
    ValueError
        If the run has not tested one of the claims and the published run has, or tracked files differ from the commit.
    """
    from lib.claims.table import to_markdown  # here, since it loads TensorFlow

    run, tables = resolve(run), destination / "tables"
    _refuse_private(run)
    for folder, what in ((run, "finish the run first"), (tables, "publish a whole run first")):
        if not (folder / "claims.csv").exists():
            raise FileNotFoundError(f"{folder}/claims.csv is missing: {what}.")
    found, known = (_claims(folder / "claims.csv") for folder in (run, tables))
    unknown = {id_ for id_ in ids if id_ not in known.index or id_ not in found.index}
    tested = known["verdict"] != UNTESTED
    untested = [id_ for id_ in ids if id_ in unknown or (tested[id_] and found.loc[id_, "verdict"] == UNTESTED)]
    if untested:
        raise ValueError(f"{run} has not tested {', '.join(untested)}.")
    state = _committed()
    known.loc[list(ids)] = found.loc[list(ids)]
    written = [tables / "claims.csv", tables / "claims.md"]
    with atomic_path(written[0]) as file:
        known.reset_index().to_csv(file, index=False)
    with atomic_path(written[1]) as file:
        file.write_text(to_markdown(known.reset_index()))
    manifest = tables / "manifest.json"
    listed = json.loads(manifest.read_text())
    for file in written:
        facts = listed.setdefault(file.name, {})
        facts["hash"] = file_hash(file)
        facts.setdefault("claims_of_other_runs", {}).update({id_: {"run": run.name, **state} for id_ in ids})
    with atomic_path(manifest) as new:
        new.write_text(json.dumps(listed, indent=1) + "\n")
    update(destination / README, tables)
    return written


def _refuse_private(run: Path) -> None:
    if (run / "private" / "key").exists():
        raise PermissionError(f"{run} was made from somebody's CT: it shows patients and stays unpublished.")


def _committed() -> dict:
    """Return the commit that is published from, unless nobody could make the run again from it."""
    state = commit(*KINDS, WEIGHTS, README)
    if state["dirty"]:
        raise ValueError("Tracked files differ from the last commit: commit them first, then run and publish again.")
    return state


def _claims(file: Path) -> pd.DataFrame:
    """Read a table of claims by their ids, every number as it is written but for those that are counted."""
    table = pd.read_csv(file, keep_default_na=False, dtype=str, index_col="id")
    return table.astype({"n_slices": int, "n_patients": int})


def _chosen(run: Path, only: Sequence[str]) -> dict[str, list[Path]]:
    """Return the files to publish by the folder that they go to."""
    chosen = {kind: sorted(f for p in patterns for f in (run / kind).glob(p)) for kind, patterns in KINDS.items()}
    chosen["figures"] = [file for file in chosen["figures"] if not file.stem.endswith(REAL)]
    if not only:
        chosen["tables"] += [file for file in (run / "claims.csv",) if file.exists()]
        return chosen
    chosen = {kind: [file for file in files if file.stem in only] for kind, files in chosen.items()}
    if missing := set(only) - {file.stem for files in chosen.values() for file in files}:
        raise FileNotFoundError(f"{run} has neither a figure nor a table called {', '.join(sorted(missing))}.")
    return chosen


def _replace(folder: Path, files: list[Path], origin: dict, *, everything: bool) -> list[Path]:
    """Copy files into a published folder and enter them into its manifest; return what was written.

    With `everything`, whatever else the same run has published before is removed.
    """
    manifest = folder / "manifest.json"
    listed = json.loads(manifest.read_text()) if manifest.exists() else {}
    if everything:
        for name in [name for name, facts in listed.items() if facts["run"] == origin["run"]]:
            (folder / name).unlink(missing_ok=True)
            del listed[name]
    written = []
    for file in files:
        with atomic_path(folder / file.name) as copy:
            shutil.copyfile(file, copy)
        listed[file.name] = {**origin, "hash": file_hash(file)}
        written.append(folder / file.name)
    with atomic_path(manifest) as new:
        new.write_text(json.dumps(dict(sorted(listed.items())), indent=1) + "\n")
    return written


def _emptied(weights: Path) -> Path:
    """Return the folder, made where it is missing, without the networks that lie in it; other folders in it stay."""
    weights.mkdir(parents=True, exist_ok=True)
    for model in weights.glob("*/model.keras"):
        shutil.rmtree(model.parent)
    return weights


def _of_seeds(run: Path) -> list[Path]:
    """Return the networks that 17_compare_with_paper judges: those that differ by their seed alone."""
    table = run / "tables/seeds.csv"
    return [run / "networks" / name for name in pd.read_csv(table)["network"]] if table.exists() else []


def stage_times(run: Path) -> pd.DataFrame:
    """Return what each notebook of a run took, from what Snakemake has noted.

    Returns
    -------
    DataFrame
        `stage`, `seconds`, `peak_mib` (largest resident memory) and `cores` (mean number of busy cores). If a stage was
        interrupted, its last run counts.
    """
    rows = []
    for file in sorted((run / "times").glob("*.tsv")):
        noted = pd.read_csv(file, sep="\t", na_values="-").iloc[-1]
        rows.append((file.stem, round(noted["s"], 1), noted["max_rss"], round(noted["mean_load"] / 100, 2)))
    return pd.DataFrame(rows, columns=["stage", "seconds", "peak_mib", "cores"])


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.publish", description=__doc__.partition("\n")[0])
    parser.add_argument("run", help="folder of a finished run, such as runs/quick")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--only", nargs="+", default=(), metavar="NAME", help="what to copy, and nothing else")
    part.add_argument("--claims", nargs="+", metavar="ID", help="findings that take the place of the published ones")
    parser.add_argument("--weights", help=f"where the networks go; {WEIGHTS} by default, with --only nowhere")
    given = parser.parse_args()
    if given.claims and given.weights:
        parser.error("--claims copies no networks: leave --weights out.")
    try:
        if given.claims:
            publish_claims(given.run, given.claims)
            print(f"{len(given.claims)} claims written; the results in {README} follow from tables/")
            return 0
        weights = given.weights or (None if given.only else WEIGHTS)
        written = publish(given.run, only=given.only, weights=weights)
    except (FileNotFoundError, PermissionError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(written)} files written; the results in {README} follow from tables/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
