"""Every stored series of a cohort against its checksums: `python -m lib.verify runs/quick/cohort`."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from lib.files import require
from lib.store import damaged


def verify_cohort(cohort: str | Path) -> dict[str, str]:
    """Return what is wrong with each series of a cohort that is damaged.

    Parameters
    ----------
    cohort : path
        Made by 01_prepare_cohort.

    Returns
    -------
    dict of str to str
        Series (its hash) and fault; empty where all is as it was written. Preparing again mends what is listed.
    """
    cohort = require(cohort, "notebooks/01_prepare_cohort")
    table = pd.read_csv(require(cohort / "series.csv", "notebooks/01_prepare_cohort"), dtype={"series": str})
    found = {series: damaged(cohort / "slices.zarr" / series) for series in table["series"]}
    return {series: fault for series, fault in found.items() if fault}


def main(arguments: list[str]) -> int:
    """Run from the command line; return the exit status."""
    faults = verify_cohort(arguments[0] if arguments else "runs/quick/cohort")
    for series, fault in faults.items():
        print(f"{series}: {fault}")
    print(f"{len(faults)} damaged series: delete their folders and prepare again" if faults else "all series are whole")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
