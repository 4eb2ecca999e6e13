import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lib.speed import OURS, PLAIN, flops_forward, measure_on, own_peak, share_of_peak


def test_the_peak_of_a_process_is_its_own_and_not_its_parents():
    ballast = np.ones(60_000_000)
    before = own_peak()
    assert before > ballast.nbytes / 2**20
    program = "import numpy as np; from lib.speed import own_peak; np.ones(10_000_000); print(own_peak())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    child = float(run.stdout.split()[-1])
    assert 76 < child < before - 200
    assert ballast.sum() == ballast.size


def test_the_share_of_the_peak_counts_the_passes():
    rows = [(OURS, "saliency"), (OURS, "saliency guided_backprop"), ("captum", "saliency")]
    table = pd.DataFrame(rows, columns=["library", "maps"]).assign(image_size=32, images_per_s=1e6)
    found = share_of_peak(table, 2.0)
    forward = flops_forward(32) * 1e6 / 1e12
    assert found.tflops.tolist()[:2] == [2 * forward, 3 * forward] and np.isnan(found.tflops[2])
    assert found.share_of_peak[0] == forward
    assert np.isnan(share_of_peak(table, 0).share_of_peak).all()


def test_the_script_measures_on_this_machine(tmp_path):
    """Nothing but Keras, pandas and a backend is imported: no masking, no figures, no other library."""
    output = tmp_path / "speed.csv"
    job = ["--sizes", "32", "--batches", "2", "--layers", "1", "--repeats", "1", "--no-peers", "--output", str(output)]
    program = f"import sys; sys.argv = ['speed', *{job!r}]; from lib.speed import main; main(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    table = pd.read_csv(output)
    assert (table.images_per_s > 0).all() and set(table.library) == {PLAIN, OURS} and len(table) == 4
    assert not {"lib.masking.experiment", "lib.figures", "captum", "tf_keras_vis"} & set(run.stdout.split())


def test_a_backend_that_is_not_installed_is_named():
    with pytest.raises(ImportError, match="no_such_backend is not installed: pip install no_such_backend"):
        measure_on("no_such_backend", 32, 1)


@pytest.mark.backends
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_another_backend_is_timed_in_a_process_of_its_own(backend):
    table = measure_on(backend, 32, repeats=1, layers=1, batch=2)
    assert set(table.backend) == {backend} and (table.ratio > 0).all() and set(table.library) == {PLAIN, OURS}
