"""Cascading randomisation of the weights, from the output to the input (Adebayo et al. 2018), and the rule for it."""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.maps.agreement import Maps, Source
from lib.networks import untrained_twin

ALIKE = 0.5  # rank correlation from which a map counts as not having changed
OUTPUT, INTACT, ALL = "output", "intact", "all"  # the stages at which a map is judged


def weighted_layers(model: keras.Model) -> list[str]:
    """Return the names of the layers that have weights, from the output to the input."""
    return [layer.name for layer in reversed(model.layers) if layer.weights]


def read_stages(model: keras.Model, stages: str) -> list[str]:
    """Return the stages of a cascade, given as names of layers with spaces between them.

    At a stage, the weights of its layer and of all layers behind it, up to the output, are random. The last stage has
    to be the first layer of the network, so that nothing is left of the training then.

    Raises
    ------
    ValueError
        If a layer is unknown, if the layers do not go from the output to the input, or if the last is not the first of
        the network.
    """
    layers, names = weighted_layers(model), stages.split()
    unknown = [name for name in names if name not in layers]
    if unknown:
        raise ValueError(f"stages: {', '.join(unknown)} has no weights or is not there; known are {', '.join(layers)}.")
    places = [layers.index(name) for name in names]
    if places != sorted(set(places)) or not places or places[-1] != len(layers) - 1:
        raise ValueError(
            f"stages={stages!r}: expected layers from the output ({layers[0]}) to the input, the last {layers[-1]}."
        )
    return names


def judged_stages(model: keras.Model, stages: Sequence[str], layer: str) -> dict[str, str]:
    """Return the stages at which a map of a layer is judged.

    Parameters
    ----------
    model : keras.Model
    stages : sequence of str
        As from :func:`read_stages`.
    layer : str
        Layer of the map; "input" for maps at the input.

    Returns
    -------
    dict
        OUTPUT: the first stage, at which the least is random. INTACT: the last stage that leaves the layer and all
        before it as they were trained, so that activations are those of the trained network and only the way from them
        to the score is random. A map at the input has none: nothing comes before it. ALL: the last stage.
    """
    layers = weighted_layers(model)
    found = {OUTPUT: stages[0], ALL: stages[-1]}
    if layer in layers:
        behind = [stage for stage in stages if layers.index(stage) < layers.index(layer)]
        if behind:
            found[INTACT] = behind[-1]
    return found


class Cascade:
    """The same network with more and more of its weights random.

    Parameters
    ----------
    model : keras.Model
        The trained network. It is left as it is: the weights of a copy are changed.
    layers : sequence of str
        Layers whose maps are computed.
    methods : sequence of str
    score : {"logit", "probability"}
        See `Attributor`.

    Notes
    -----
    The random weights are those of `lib.networks.untrained_twin`: drawn anew from the network's own initialisers. Of
    one seed, every stage takes them from the same twin, and the last stage is that twin.
    """

    def __init__(self, model: keras.Model, layers: Sequence[str], methods: Sequence[str], *, score: str = "logit"):
        self._trained, self._methods = model, tuple(methods)
        self._network = keras.models.clone_model(model)
        self._attributor = Attributor(self._network, layers, score=score)
        self._twins: dict[int, keras.Model] = {}

    def randomise(self, stage: str | None, seed: int) -> keras.Model:
        """Return the copy, its weights random from the output to the layer `stage`; None leaves all as trained.

        The next call changes the same copy.
        """
        if seed not in self._twins:
            self._twins[seed] = untrained_twin(self._trained, seed)
        names = weighted_layers(self._trained)
        random = names[: names.index(stage) + 1] if stage else []
        for name in names:
            source = self._twins[seed] if name in random else self._trained
            self._network.get_layer(name).set_weights(source.get_layer(name).get_weights())
        return self._network

    def sources(self, stages: Sequence[str], seeds: Sequence[int]) -> dict[tuple[str, int], Source]:
        """Return a source of maps (see `lib.maps.agreement`) for every stage and seed."""
        return {(stage, seed): self._source(stage, seed) for seed in seeds for stage in stages}

    def _source(self, stage: str, seed: int) -> Callable[..., Maps]:
        def maps(images: np.ndarray, body: np.ndarray, classes: np.ndarray) -> Maps:
            self.randomise(stage, seed)
            return self._attributor(images, classes, self._methods)

        return maps


def judge(low: float, high: float, threshold: float = ALIKE) -> str:
    """Return whether a map has changed, by the 95 % interval of its rank correlation with the map before.

    "passes" if the interval lies below the threshold, "fails" if it lies above, else "undecided"; also without an
    interval, which needs two patients.
    """
    return "passes" if high < threshold else "fails" if low > threshold else "undecided"


def judge_maps(model: keras.Model, stages: Sequence[str], summary: pd.DataFrame) -> pd.DataFrame:
    """Judge every map at the stages that matter for it, by the mean of the phases and the absolute ranking.

    Parameters
    ----------
    model : keras.Model
    stages : sequence of str
        As from :func:`read_stages`.
    summary : DataFrame
        As from `lib.maps.agreement.summarise_agreement` with the key "second", the stage.

    Returns
    -------
    DataFrame
        `method`, `layer`, `judged` (OUTPUT, INTACT or ALL), `stage`, `mean`, `low`, `high` (rank correlation), `blank`,
        `verdict`.
    """
    chosen = summary[
        (summary["phase"] == "mean") & (summary["measure"] == "rank_correlation") & (summary["ranking"] == "absolute")
    ]
    columns = ["method", "layer", "judged", "stage", "mean", "low", "high", "blank", "verdict"]
    return pd.DataFrame(list(_verdicts(model, stages, chosen)), columns=columns)


def _verdicts(model: keras.Model, stages: Sequence[str], chosen: pd.DataFrame) -> Iterator[tuple]:
    for (method, layer), group in chosen.groupby(["method", "layer"], sort=False):
        for judged, stage in judged_stages(model, stages, layer).items():
            for row in group[group["second"] == stage].itertuples():
                verdict = judge(row.low, row.high)
                yield method, layer, judged, stage, row.mean, row.low, row.high, row.blank, verdict
