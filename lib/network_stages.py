"""The stages of a network, read from the network itself: what a block diagram shows."""

import keras
import pandas as pd

LEFT = 0.75  # a convolution that leaves at least this share of a stage's rows belongs to the stage


def stages_of(network: keras.Model) -> pd.DataFrame:
    """Return the stages of an image classifier, from the image to the scores.

    Parameters
    ----------
    network : keras.Model
        A network of single layers (none of which is a network itself) that takes square images, channels last.

    Returns
    -------
    DataFrame
        One row per stage: `stage` ("image", "1", "2", ..., "head"), `size` (rows of its output; 1 for the head),
        `channels` (of its output; for the head the number of scores), `layers` (number of convolutions; for the head
        of dense layers), `weights` (of all layers of the stage), `reads` (how the head reads the last stage: "average"
        or "all cells"; empty for the others).

    Raises
    ------
    ValueError
        If the network contains another network, or if its images are not square.

    Notes
    -----
    A layer belongs to the stage of its output's size. Convolutions without padding lose a few rows each; a new stage
    begins where less than three quarters of the rows are left, as after a pooling or a convolution of stride 2.
    Branches side by side are counted together, so that a stage of an Inception network has more convolutions than an
    image passes one after the other.
    """
    nested = [layer.name for layer in network.layers if isinstance(layer, keras.Model)]
    _, rows, columns, channels = network.input_shape
    if nested:
        raise ValueError(f"{network.name} contains the network {nested[0]!r}; expected a network of single layers.")
    if rows != columns:
        raise ValueError(f"{network.name} takes images of {rows} x {columns} pixels; expected square images.")
    table = [("image", rows, channels, 0, 0, "")]
    on_grid = [layer for layer in network.layers if len(layer.output.shape) == 4]
    head = [layer for layer in network.layers if len(layer.output.shape) == 2]
    for number, sizes in enumerate(_clusters(on_grid), start=1):
        mine = [layer for layer in on_grid if layer.output.shape[1] in sizes]
        convolutions = [layer for layer in mine if isinstance(layer, keras.layers.Conv2D)]
        last = [layer for layer in mine if layer.output.shape[1] == min(sizes)][-1]
        weights = sum(layer.count_params() for layer in mine)
        table.append((str(number), min(sizes), last.output.shape[-1], len(convolutions), weights, ""))
    dense = [layer for layer in head if isinstance(layer, keras.layers.Dense)]
    averages = any(isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in head)
    reads, weights = "average" if averages else "all cells", sum(layer.count_params() for layer in head)
    table.append(("head", 1, network.output_shape[-1], len(dense), weights, reads))
    return pd.DataFrame(table, columns=["stage", "size", "channels", "layers", "weights", "reads"])


def _clusters(layers: list[keras.Layer]) -> list[set[int]]:
    """Return the sizes of the convolutions' outputs, those of one stage together, the largest first."""
    sizes = {layer.output.shape[1] for layer in layers if isinstance(layer, keras.layers.Conv2D)}
    clusters, begins = [], None
    for size in sorted(sizes, reverse=True):
        if begins is None or size < LEFT * begins:
            clusters.append(set())
            begins = size
        clusters[-1].add(size)
    return clusters


def last_grid_layer(network: keras.Model) -> str:
    """Return the name of the last layer whose output still has rows and columns, where Grad-CAM is coarsest."""
    return [layer.name for layer in network.layers if len(layer.output.shape) == 4][-1]
