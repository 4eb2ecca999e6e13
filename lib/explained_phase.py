"""Which phase the maps of somebody's own CT explain, where its labels and the network disagree or labels are absent."""

import pandas as pd

from lib.paper import PHASES


def phases_to_explain(predictions: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return predictions with the phases that maps can explain, and one sentence about the choice.

    Parameters
    ----------
    predictions : DataFrame
        `split`, `phase` and `predicted`, one row per slice.

    Returns
    -------
    DataFrame
        The same table. Only where it is all of one's own CT (`split` "apply"), and the network agrees with no label,
        the labels are taken away, so that the predicted phases are explained.
    str
        What is explained, for the reader of the notebook; "" in a study, which explains what is classified correctly.
    """
    if not (predictions["split"] == "apply").all():
        return predictions, ""
    labelled = predictions["phase"].isin(PHASES)
    right = labelled & (predictions["phase"] == predictions["predicted"])
    if not labelled.any():
        return predictions, "There are no labels: the phases explained here are those that the network predicts."
    if right.any() or not labelled.all():
        told = f"{right.sum()} of {labelled.sum()} labelled slices are classified as labels.csv says; the maps of "
        return predictions, told + "the others are left out."
    told = f"None of the {len(predictions)} slices is classified as labels.csv says: the phases explained here are "
    return predictions.assign(phase=None), told + "those that the network predicts, and no label's."
