import subprocess
import sys

import numpy as np

from lib.speed import own_peak


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    ballast = np.ones(60_000_000)
    before = own_peak()
    assert before > ballast.nbytes / 2**20
    program = "import numpy as np; from lib.speed import own_peak; np.ones(10_000_000); print(own_peak())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    child = float(run.stdout.split()[-1])
    assert 76 < child < before - 200
    assert ballast.sum() == ballast.size
