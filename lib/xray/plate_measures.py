"""Every map of a network over clean and spoiled images, measured: tables, a row for each map."""

from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lib.attribution import Attributor
from lib.xray.dental import show
from lib.xray.plate_maps import at_plate, on_artifact, on_clean
from lib.xray.plate_networks import LAYERS
from lib.xray.plate_study import PIXEL, network_input


def answers_of(
    network: keras.Model, test: dict, repeat: dict, spoiled: dict, show: Callable = show
) -> tuple[float, float, np.ndarray]:
    """Return what a network answers to clean images, to other exposures of them, and to spoiled ones.

    Parameters
    ----------
    network, test, repeat, spoiled, show
        As of :func:`measure_maps`.

    Returns
    -------
    auc, balanced_accuracy : float
        Of *spoiled* against *clean*: area under the ROC curve, and the mean of sensitivity and specificity at p = .5.
    lost : float array (n,)
        How much of p (spoiled) each spoiled image loses when its artifact is taken away.
    """
    plate = spoiled["plate"]
    inputs = [(test["signal"], test["field"]), (repeat["signal"], repeat["field"])]
    inputs.append((spoiled["signal"], test["field"][plate]))
    clean, again, there = (network.predict(network_input(*pair, show), verbose=0)[:, 1] for pair in inputs)
    truth, p = np.repeat([0, 1], [len(clean) + len(again), len(there)]), np.concatenate([clean, again, there])
    return roc_auc_score(truth, p), balanced_accuracy_score(truth, p > 0.5), there - clean[plate]


def measure_maps(
    network: keras.Model, test: dict, repeat: dict, spoiled: dict, methods: list[str], show: Callable = show,
    pixel_mm: float = PIXEL, **band: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Return what the maps of every layer show.

    Parameters
    ----------
    network : keras.Model
        Of `lib.xray.plate_networks`.
    test, repeat : dict
        Clean images (of `plates`, or of another source with signal, field and distance_mm), and other exposures of
        the same.
    spoiled : dict
        Of `spoiled_set(test, ...)`. A `field` of its own tells within what each image is judged.
    methods : list of str
        Layer maps of `lib.attribution`.
    show : callable
        Of (signal, field): grey values, 0 to 1.
    pixel_mm : float
    **band
        `outline_mm` and `band_mm` of `on_clean`.

    Returns
    -------
    clean : DataFrame
        method, layer (0, 1, ...), plate, and the columns of `on_clean`: the map of the class *clean*.
    spoiled : DataFrame
        method, layer, image, plate, kind, size, place, repeat (the correlation of the clean plate's map with that of
        the other exposure), and the columns of `on_artifact`: the map of the class *spoiled*, also of clean plates.
    """
    shape, attributor = test["signal"].shape[1:], Attributor(network, LAYERS)
    grey = [show(*pair) for pair in zip(test["signal"], test["field"], strict=True)]
    clean_images = network_input(test["signal"], test["field"], show)
    of_clean = attributor(clean_images, 0, methods)
    as_spoiled = attributor(clean_images, 1, methods)
    of_repeat = attributor(network_input(repeat["signal"], repeat["field"], show), 1, methods)
    fields = spoiled.get("field", test["field"][spoiled["plate"]])
    of_spoiled = attributor(network_input(spoiled["signal"], test["field"][spoiled["plate"]], show), 1, methods)
    clean_rows, spoiled_rows = [], []
    for key, maps in of_clean.items():
        name = {"method": key[0], "layer": LAYERS.index(key[1])}
        for n, heat in enumerate(at_plate(maps, shape)):
            facts = on_clean(heat, grey[n], test["distance_mm"][n], test["field"][n], pixel_mm, **band)
            clean_rows.append({**name, "plate": n, **facts})
        references, repeats = at_plate(as_spoiled[key], shape), at_plate(of_repeat[key], shape)
        everywhere = np.ones(shape, bool)
        again = [
            on_artifact(heat, everywhere, reference, field, pixel_mm)["same"]
            for heat, reference, field in zip(repeats, references, test["field"], strict=True)
        ]
        for n, small in enumerate(of_spoiled[key]):
            p = int(spoiled["plate"][n])
            heat = at_plate(small[None], shape)[0]
            facts = on_artifact(heat, spoiled["mask"][n], references[p], fields[n], pixel_mm)
            which = {column: spoiled[column][n] for column in ("kind", "size", "place")}
            spoiled_rows.append({**name, "image": n, "plate": p, **which, "repeat": again[p], **facts})
    return pd.DataFrame(clean_rows), pd.DataFrame(spoiled_rows)


def layer_maps(network: keras.Model, images: np.ndarray, method: str) -> dict[str, np.ndarray]:
    """Return the maps of the class *spoiled* of each layer, at the plate's size, by layer."""
    maps = Attributor(network, LAYERS)(images, 1, [method])
    return {layer: at_plate(maps[method, layer], images.shape[1:3]) for layer in LAYERS}
