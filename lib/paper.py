"""The paper as data: its five phases, its published tables and its claims."""

from importlib.resources import files

import pandas as pd

PHASES = ("noncon", "cm", "cm-neph", "neph", "pyelo")
LAYERS = ("conv2b", "conv3b", "conv4b", "conv5b", "conv6")
FINAL_MAPS = (("saliency", "input"), ("guided_backprop", "input"), ("cam", "conv6"), ("grad_cam", "conv6"))


def published(name: str) -> pd.DataFrame:
    """Return a published table.

    Parameters
    ----------
    name : {"table1_slices", "table1_volumes", "table2", "headline", "claims"}
        Table 1 holds counts, rows predicted and columns labelled; Table 2 and the headline hold fractions in [0, 1].

    Returns
    -------
    pandas.DataFrame
        As printed in the paper, not recomputed.
    """
    with files("lib").joinpath("published", f"{name}.csv").open() as file:
        table = pd.read_csv(file, keep_default_na=False)  # "null" is a kind of claim
    return table.set_index("predicted") if name.startswith("table1") else table
