"""What networks answer to radiographs, and how well their maps mark the finding: a row for each image or map."""

from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.backbones import last_map, stage_maps
from lib.maps.localisation import effective_heat_ratio, localisation
from lib.xray.chest_study import network_input
from lib.xray.plate_maps import at_plate


def answers_of(model: keras.Model, test: Mapping[str, np.ndarray], without: np.ndarray | None = None) -> pd.DataFrame:
    """Return what a network answers.

    Parameters
    ----------
    model : keras.Model
        Its second class is the finding.
    test : mapping
        grey (n, h, w) and label (n,).
    without : float array (m, h, w), optional
        The last m patients of `test` once more, without the finding.

    Returns
    -------
    DataFrame
        patient (index into `test`), label, p, p_without (NaN where there is no such image), right.
    """
    p = model.predict(network_input(test["grey"]), verbose=0)[:, 1]
    table = pd.DataFrame({"patient": np.arange(len(p)), "label": test["label"], "p": p, "p_without": np.nan})
    if without is not None:
        table.loc[len(p) - len(without) :, "p_without"] = model.predict(network_input(without), verbose=0)[:, 1]
    return table.assign(right=(table["p"] > 0.5) == table["label"])


def layer_maps(name: str, model: keras.Model, untrained: keras.Model, grey: np.ndarray) -> dict[tuple[str, str], list]:
    """Return maps of the finding at the images' size, (n, h, w) by method and layer, of every stage of a network.

    "untrained" is Grad-CAM of the network before its training, at the last stage.
    """
    images, last = network_input(grey), last_map(name)
    found = Attributor(model, stage_maps(name))(images, 1, ["grad_cam", "hires_cam", "layer_cam"])
    found["untrained", last] = Attributor(untrained, [last])(images, 1, ["grad_cam"])["grad_cam", last]
    return {key: at_plate(maps, grey.shape[1:]) for key, maps in found.items()}


def measure_maps(maps: Mapping[tuple[str, str], np.ndarray], masks: np.ndarray, last: str) -> pd.DataFrame:
    """Return how well maps mark a finding.

    Parameters
    ----------
    maps : mapping
        Of :func:`layer_maps`.
    masks : bool array (n, h, w)
        None is empty.
    last : str
        The layer whose Grad-CAM, trained or not, gets every measure of `lib.maps.localisation`; others get the
        effective heat ratio alone.

    Returns
    -------
    DataFrame
        method, layer, last (bool), map (0 ... n - 1), ehr and the other measures.
    """
    rows = []
    for (method, layer), held in maps.items():
        fully = layer == last and method in ("grad_cam", "untrained")
        for n, (heat, mask) in enumerate(zip(held, masks, strict=True)):
            measured = localisation(heat, mask) if fully else {"ehr": effective_heat_ratio(heat, mask)}
            rows.append({"method": method, "layer": layer, "last": layer == last, "map": n, **measured})
    return pd.DataFrame(rows)


def follows_tubes(name: str, model: keras.Model, states: Mapping[str, dict]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what a network owes to a finding and to a chest tube, and on which of the two its Grad-CAM lies.

    Parameters
    ----------
    name : str
        Of the network.
    model : keras.Model
    states : mapping of str to dict
        The same patients in several states, among them "both": grey, gap and tube (n, h, w).

    Returns
    -------
    answers : DataFrame
        state, patient, p.
    heats : DataFrame
        region ("pneumothorax" or "tube"), density: the heat on the region over its share of the image.
    """
    answers = [pd.DataFrame({"state": state, "patient": np.arange(len(held["grey"])),
                             "p": model.predict(network_input(held["grey"]), verbose=0)[:, 1]})
               for state, held in states.items()]  # fmt: skip
    both, last = states["both"], last_map(name)
    usable = both["gap"].any(axis=(1, 2)) & both["tube"].any(axis=(1, 2))
    maps = Attributor(model, [last])(network_input(both["grey"][usable]), 1, ["grad_cam"])["grad_cam", last]
    heats = []
    for region, masks in (("pneumothorax", both["gap"]), ("tube", both["tube"])):
        for heat, mask in zip(at_plate(maps, both["grey"].shape[1:]), masks[usable], strict=True):
            heats.append({"region": region, "density": localisation(heat, mask)["mass"]})
    return pd.concat(answers, ignore_index=True), pd.DataFrame(heats)
