"""A cohort prepared by several jobs: each stores a part of the series, and their stores become one.

    python -m lib.prepare_part 3 8 --parameters '{"dicom_folder": ..., "cohort": ..., "private": ..., "split": ...}'
    python -m lib.prepare_part gather 8 --parameters '{...}'

01_prepare_cohort then finds all series stored and writes the tables. The workflow does this for a configuration with
`parts: 8`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from tqdm import tqdm

from lib import preparation
from lib.dicom.series import read_tree
from lib.files import resolve
from lib.labels import secret_key
from lib.parallel import in_parallel
from lib.private import only_one
from lib.store import Job, store_series, stored_facts

FOLDER = "parts"  # in the cohort's folder: the store of each part, until all are there


def prepare_part(
    dicom_folder: str | Path,
    cohort: str | Path,
    part: int,
    parts: int,
    *,
    key: str,
    labels: str | Path | None = None,
    split: str = "train_val_test",
    processes: int = 2,
) -> int:
    """Store the series of one part, each whole, in a store of their own, and return how many series the part has.

    Parameters
    ----------
    dicom_folder, key, labels, split, processes
        As in `lib.preparation.prepare_cohort`, and the same for all parts.
    cohort : path
        Folder of the cohort. A series that it holds already, from the same files and code, is left alone.
    part, parts : int
        Which part, 0 to `parts` - 1, of how many. The hash of a series decides: no job needs to know of another.

    Raises
    ------
    ValueError
        If there is no such part.

    Notes
    -----
    Every job reads the headers of all files, since the files of a series may lie anywhere.
    """
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts}: expected 0 to {parts - 1}.")
    dicom_folder, cohort = resolve(dicom_folder), resolve(cohort)
    output = cohort / FOLDER / f"{part}-of-{parts}"
    with only_one(output, "a preparation writes to"):
        preparation._begin(output, key)
        tree = read_tree(dicom_folder.resolve(), processes)
        table = preparation._labels(labels, dicom_folder, tree, split)
        planned, _ = preparation._plan(tree, table, output, split, key)
        jobs = [job for job in planned if int(job.id, 16) % parts == part]
        waiting = [job for job in jobs if not _stored(job, cohort)]
        work = in_parallel(store_series, waiting, processes, crashed=preparation._crashed)
        for _ in tqdm(work, total=len(waiting), desc=f"part {part} of {parts}", unit="series"):
            pass
    return len(jobs)


def gather_parts(cohort: str | Path, parts: int) -> int:
    """Move the series of all parts into the cohort's store and return how many were moved.

    Parameters
    ----------
    cohort : path
    parts : int
        How many there are; `prepare_part` has done each of them.
    """
    cohort, moved = resolve(cohort), 0
    with only_one(cohort, "a preparation writes to"):
        for part in range(parts):
            folder = cohort / FOLDER / f"{part}-of-{parts}"
            for group in ("tissues.zarr", "slices.zarr"):  # the slices last: they say that a series is whole
                for stored in sorted(path for path in folder.glob(f"{group}/*") if path.is_dir()):
                    target = cohort / group / stored.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.rmtree(target, ignore_errors=True)
                    os.replace(stored, target)
                    moved += group == "slices.zarr"
        shutil.rmtree(cohort / FOLDER, ignore_errors=True)
    return moved


def _stored(job: Job, cohort: Path) -> bool:
    try:
        return stored_facts(cohort / "slices.zarr" / job.id, job.fingerprint()) is not None
    except OSError:  # a file vanished since its header was read: `store_series` says so
        return False


def main(arguments: list[str]) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.prepare_part", description=__doc__.partition("\n")[0])
    parser.add_argument("part", help='0 to parts - 1, or "gather"')
    parser.add_argument("parts", type=int)
    parser.add_argument("--parameters", type=json.loads, required=True, help="those of 01_prepare_cohort, as JSON")
    options = parser.parse_args(arguments)
    given = options.parameters
    try:
        if options.part == "gather":
            print(f"{gather_parts(given['cohort'], options.parts)} series of {options.parts} parts are in one store")
            return 0
        work = {name: given[name] for name in ("split", "processes") if name in given}
        work |= {"key": given.get("key") or secret_key(given["private"]), "labels": given.get("labels") or None}
        count = prepare_part(given["dicom_folder"], given["cohort"], int(options.part), options.parts, **work)
        print(f"part {options.part} of {options.parts}: {count} series")
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
