"""Work on several processes: all of it, its errors, an interrupt, and a parent that is killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lib.files import ROOT
from lib.parallel import in_parallel

SLEEP = """
import sys, time
from functools import partial
from pathlib import Path
from lib.parallel import in_parallel

def work(folder, item):
    Path(folder, f"begun-{item}").touch()
    time.sleep(0.1)
    Path(folder, f"done-{item}").touch()

if __name__ == "__main__":
    for _ in in_parallel(partial(work, sys.argv[1]), list(range(40)), 2):
        pass
"""
PHANTOM = """
import sys
from lib.phantom.cohort import write_cohort

if __name__ == "__main__":
    write_cohort(sys.argv[1], [(f"P{n}", n, 1, "middle") for n in range(40)], processes=2, matrix=64)
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_comes_back_with_its_own_result(processes):
    assert sorted(in_parallel(abs, [-3, 2, -1], processes)) == [(-3, 3), (-1, 1), (2, 2)]
    assert list(in_parallel(abs, [], processes)) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_worker_is_raised_here(processes):
    with pytest.raises(ValueError, match="invalid literal"):
        list(in_parallel(int, ["1", "one", "2"], processes))


def die_of_three(item):
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return -item


def test_an_item_that_kills_its_process_costs_itself_alone():
    found = dict(in_parallel(die_of_three, list(range(8)), 2, crashed=lambda item: f"{item} crashed"))
    assert found == {n: -n for n in range(8)} | {3: "3 crashed"}
    with pytest.raises(RuntimeError, match="the process that worked on 3 died, twice"):
        list(in_parallel(die_of_three, list(range(8)), 2))


def stopped(tmp_path, script, ready, stop):
    """Stop a script (SIGINT: its whole process group, as Ctrl-C does) once three `ready` files are there."""
    (tmp_path / "script.py").write_text(script)
    folder = tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob(ready))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)
    else:
        process.send_signal(stop)
    assert process.wait(timeout=30) != 0
    for _ in range(100):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return {path.name for path in folder.iterdir()}
        time.sleep(0.1)
    pytest.fail("workers outlive their parent")


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(tmp_path, stop):
    names = stopped(tmp_path, SLEEP, "done-*", stop)
    begun, done = ({name.split("-")[1] for name in names if name.startswith(kind)} for kind in ("begun", "done"))
    assert len(done) >= 3 and len(begun) < 40
    if stop == signal.SIGINT:
        assert begun == done  # what was at work was finished


def test_a_killed_phantom_cohort_leaves_whole_patients(tmp_path):
    names = stopped(tmp_path, PHANTOM, "P*", signal.SIGKILL)
    whole = [name for name in names if not name.startswith(".")]
    assert 3 <= len(whole) < 40
    assert all(list((tmp_path / "out" / name).rglob("*.dcm")) for name in whole)
