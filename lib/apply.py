"""A trained network on somebody's own CT: `make apply DICOM=/path/to/folder [RUN=name] [NETWORK=folder] [SEGMENT=1]`.

The paths come through the environment (CT_FOLDER, CT_RUN, CT_NETWORK, CT_SEGMENT), never through a shell or a log: what
runs the notebooks is given links in the private folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from lib.cohort_tables import write_table
from lib.files import ROOT
from lib.kidney_segmenter import NoSegmenter, segment_kidneys
from lib.paper import PHASES
from lib.private import link_source, only_one, printable, private_folder

QUIET = "NOTEBOOKS_QUIET"  # as in lib.run_notebook, which takes a second to import
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PLAIN = re.compile(r"[A-Za-z0-9_./-]+")  # a path that neither Snakemake nor a shell takes for anything else
NETWORK_FILES = ("model.keras", "standardisation.json")
PRIVATE_RESULTS = ("notebooks", "predictions.csv", "predicted_series.csv", "dicom_maps", "network")
KEPT = ("cohort", "private")  # of a former run: what is stored is used again where nothing changed

# Without its own messages, which repeat each error in ten lines, and without the profile that announces itself.
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--quiet", "all", "--workflow-profile", "none", "--cores", "2"]
SNAKEMAKE += ["--nolock", "--rerun-incomplete", "--configfile", "config/apply.yaml"]


class CannotApply(Exception):
    """What the person who gave the command has to change."""


def main() -> int:
    """Run from the command line; return the exit status."""
    folder, run = os.environ.get("CT_FOLDER", ""), os.environ.get("CT_RUN") or "apply"
    try:
        if sys.argv[1:2] == ["pacs"]:
            return export_maps(run, sys.argv[2:])
        network, segment = os.environ.get("CT_NETWORK", ""), _asked(os.environ.get("CT_SEGMENT", ""))
        return apply(folder, run, sys.argv[1:], network=network, segment=segment)
    except (CannotApply, NoSegmenter, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def apply(
    dicom_folder: str,
    run: str = "apply",
    options: list[str] | tuple[str, ...] = (),
    *,
    network: str = "",
    segment: bool = False,
) -> int:
    """Prepare the CT in a folder, classify it, explain it; return Snakemake's exit status.

    Parameters
    ----------
    dicom_folder : str
        Relative to the working directory, or absolute.
    run : str
        Name of the run, whose results go to runs/<run>. What an earlier `apply` left there is deleted first, but for
        the prepared cohort, which is brought up to date, and the key.
    options : sequence of str
        Passed on to Snakemake.
    network : str
        Folder of a trained network, or the name of one in weights/. Default: that of config/apply.yaml, which is
        shipped with the repository.
    segment : bool
        Whether TotalSegmentator outlines the kidneys of the series that come without a segmentation.

    Raises
    ------
    CannotApply
        If the folder is none, the name cannot be one, the run is another command's, or there is no such network.
    NoSegmenter
        If TotalSegmentator is wanted and not installed.
    """
    folder = ROOT / "runs" / run
    _check(dicom_folder, run, folder)
    trained = _network(network or _shipped())
    with only_one(folder, "make apply works in"):
        private = private_folder(folder / "private")
        source = Path(dicom_folder).absolute()
        link = link_source(private, segment_kidneys(source, private) if segment else source)
        _delete_results(folder)
        settings = {"run": run, "dicom": str(link.relative_to(ROOT)), "network": _reachable(trained, private)}
        config = private / "apply.yaml"
        config.write_text(yaml.safe_dump(settings))
        shown = trained.relative_to(ROOT) if trained.is_relative_to(ROOT) else trained
        print(f"{printable(Path(dicom_folder).absolute())} -> runs/{run}, network {printable(shown)}", flush=True)
        status = _run([*SNAKEMAKE, str(config), *options])
        _private_predictions(folder)
    if status:
        print(f"make apply did not finish. The sentence above says why; runs/{run}/private/notebooks says where.")
    else:
        _report(folder)
    return status


def export_maps(run: str = "apply", options: list[str] | tuple[str, ...] = ()) -> int:
    """Write the maps of a run as DICOM objects into its private folder; return Snakemake's exit status.

    Parameters
    ----------
    run : str
        A run that `apply` has finished.
    options : sequence of str
        Passed on to Snakemake.

    Raises
    ------
    CannotApply
        If there is no such run.
    """
    folder = ROOT / "runs" / run
    config = folder / "private" / "apply.yaml"
    if not NAME.fullmatch(run) or not config.is_file() or not (folder / "maps" / "maps.npz").is_file():
        raise CannotApply(f"There are no maps in runs/{run}: make apply DICOM=/path/to/folder RUN={run} makes them.")
    with only_one(folder, "make apply works in"):
        command = [*SNAKEMAKE, str(config), *options, "--", "export_maps_to_dicom"]
        status = _run(command)
    if not status:
        print(f"The maps are in runs/{run}/private/dicom_maps, with the patients' names: for your own PACS only.")
    return status


def _run(command: list[str]) -> int:
    """Run Snakemake; what notebooks print is for their readers, and stays in them."""
    return subprocess.run(command, cwd=ROOT, env=os.environ | {QUIET: "1"}).returncode


def _asked(value: str) -> bool:
    if value not in ("", "0", "1"):
        raise CannotApply(f"SEGMENT={value!r}: 1 lets TotalSegmentator outline the kidneys, 0 or nothing does not.")
    return value == "1"


def _check(dicom_folder: str, run: str, folder: Path) -> None:
    if not dicom_folder or not Path(dicom_folder).is_dir():
        found = f"found no folder {printable(dicom_folder)!r}" if dicom_folder else "DICOM is empty"
        raise CannotApply(f"Say where your CT is: make apply DICOM=/path/to/folder ({found}).")
    if not NAME.fullmatch(run):
        raise CannotApply(f"RUN={run!r}: a name of letters, digits, - and _, for the folder runs/<name>.")
    others = {path.stem for path in (ROOT / "config").glob("*.yaml")} - {"apply"}
    if run in others or (folder.exists() and not (folder / "private").exists() and any(folder.iterdir())):
        raise CannotApply(f"runs/{run} belongs to another command, and nothing in it was touched: take another RUN.")


def _shipped() -> str:
    """Return the network of config/apply.yaml."""
    return str(ROOT / yaml.safe_load((ROOT / "config" / "apply.yaml").read_text())["network"])


def _network(chosen: str) -> Path:
    """Return the folder of a network, given as such or by its name in weights/; it has to be whole."""
    shipped = ROOT / "weights"
    named = shipped / chosen if NAME.fullmatch(chosen) else None
    folder = named if named is not None and named.is_dir() else Path(os.path.abspath(chosen))
    if missing := [name for name in NETWORK_FILES if not (folder / name).is_file()]:
        known = ", ".join(sorted(path.parent.name for path in shipped.glob("*/model.keras"))) or "none"
        raise CannotApply(
            f"NETWORK={printable(chosen)!r}: {printable(folder)} lacks {' and '.join(missing)}. Give the folder of a "
            f"trained network, such as runs/quick/networks/top after make figures, or one of weights/: {known}."
        )
    return folder


def _reachable(network: Path, private: Path) -> str:
    """Return the network's folder as it may be recorded: within the repository its path, else a link in private/."""
    if network.is_relative_to(ROOT) and PLAIN.fullmatch(inside := str(network.relative_to(ROOT))):
        return inside
    link, temporary = private / "network", private / f".network.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(network, target_is_directory=True)
    os.replace(temporary, link)
    return str(link.relative_to(ROOT))


def _delete_results(folder: Path) -> None:
    """Delete what an earlier run made, so that none of it can be taken for the new one's.

    Of the prepared cohort the stored series stay, and the tables go: without them it is prepared anew, from the folder
    that is given now, and series that are stored already are found.
    """
    for path in (folder / "cohort").glob("*"):
        if path.is_file():
            path.unlink()
    for path in folder.iterdir():
        if path.name in KEPT:
            continue
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in (folder / "private").iterdir():
        if path.name in PRIVATE_RESULTS or path.name.startswith("."):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _private_predictions(folder: Path) -> None:
    """Write the predictions beside the user's own names of patients, series and files, into private/ only."""
    private, slices = folder / "private", folder / "predictions.parquet"
    series, votes = folder / "cohort" / "series.csv", folder / "votes" / "series.csv"
    if not slices.exists() or not votes.exists():
        return
    text = {"series": str, "patient": str}
    files = pd.read_csv(private / "source_files.csv", dtype=text)
    shown = pd.read_parquet(slices)[["series", "slice", "z_mm", "predicted", *PHASES]]
    write_table(private / "predictions.csv", files.merge(shown, on=["series", "slice"]).to_csv)
    sources = pd.read_csv(private / "sources.csv", dtype=text)
    told = pd.read_csv(votes, dtype=text)[["series", "slices", "winner"]].rename(columns={"winner": "predicted"})
    warned = pd.read_csv(series, dtype=text)[["series", "extent_source", "notes", "warning"]]
    table = sources.merge(told, on="series").merge(warned, on="series").drop(columns="patient")
    write_table(private / "predicted_series.csv", table.to_csv)


def _report(folder: Path) -> None:
    name = folder.name
    cohort = pd.read_csv(folder / "cohort" / "series.csv", dtype={"series": str})
    votes = pd.read_csv(folder / "votes" / "series.csv", dtype={"series": str})
    table = votes[["series", "slices", "winner"]].merge(cohort[["series", "warning"]], on="series")
    print("\n" + table.rename(columns={"winner": "predicted phase"}).fillna("").to_string(index=False))
    if cohort["warning"].notna().any():
        print("A series with a warning lies outside of what the network was trained on: its phase means nothing.")
    if (cohort["extent_source"] == "none").any():
        print("Where the kidneys end is not known for some series, so that all their slices voted. SEGMENT=1 lets")
        print("TotalSegmentator outline them, where it is installed (see the README).")
    rejected = pd.read_csv(folder / "cohort" / "rejected.csv")
    for reason, files in rejected.groupby("reason")["files"].sum().sort_values(ascending=False).items():
        print(f"not used: {files} files: {reason}")
    print(f"Your own names of series and files beside the phases: runs/{name}/private/predicted_series.csv and")
    print(f"predictions.csv (not to be passed on). Figures: runs/{name}/figures. This is no diagnosis.")


if __name__ == "__main__":
    sys.exit(main())
