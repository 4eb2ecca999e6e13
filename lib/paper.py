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
    name : {"table1_slices", "table1_volumes", "table2", "headline", "claims", ...}
        Of the paper: Table 1 holds counts, rows predicted and columns labelled; Table 2 and the headline hold fractions
        in [0, 1]. Of other sources, for the phantom: "renal_ct_hu", HU of tissues by phase (a synthesis of Kawamoto
        2011, Goshima 2007, dynamic CTA and public scans); "renal_ct_noise", noise in the liver of public scans;
        "kidney_geometry", the 317 kidneys without a lesion in the masks of KiTS23.

    Returns
    -------
    pandas.DataFrame
        As printed, not recomputed.
    """
    with files("lib").joinpath("published", f"{name}.csv").open() as file:
        table = pd.read_csv(file, keep_default_na=False, na_values=[""])  # "null" is a kind of claim
    words = table.select_dtypes(exclude="number").columns
    table[words] = table[words].fillna("")
    return table.set_index("predicted") if name.startswith("table1") else table
