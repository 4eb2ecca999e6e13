"""The training of networks that find spoiled images: pairs in one batch, a small network, its recipe."""

import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers as kl

from lib.files import atomic_path, resolve
from lib.xray.dental import show
from lib.xray.plate_study import freshly_spoiled, network_input

BLOCKS = (16, 24, 32, 48, 64)
LAYERS = tuple(f"block{k + 1}" for k in range(len(BLOCKS)))


class Pairs(keras.utils.PyDataset):
    """Batches of images, each clean and spoiled: what differs between the classes is the artifact alone.

    Parameters
    ----------
    held : dict
        Of `lib.xray.plate_study.plates`, or of another source with seed, signal and field.
    spoil : callable
        Of (held, index, rng, strength): the signal with an artifact.
    show : callable
        Of (signal, field): grey values, 0 to 1.
    pairs : int
        Pairs in a batch.
    epochs : int
        Over which the least strength of artifacts falls from 1 to `.5`.
    seed : int
    shuffled : bool
        Whether labels are drawn at random: the control that learns nothing about artifacts.
    """

    def __init__(
        self, held: dict, spoil: Callable = freshly_spoiled, show: Callable = show, *,
        pairs: int = 8, epochs: int = 10, seed: int = 0, shuffled: bool = False,
    ):  # fmt: skip
        super().__init__(workers=1, max_queue_size=4)
        self.held, self.spoil, self.show, self.pairs, self.epochs = held, spoil, show, pairs, epochs
        self.seed, self.shuffled, self.epoch = seed, shuffled, 0
        # a label per image and class, fixed: a network could only learn it by heart
        self.lots = np.random.default_rng([seed, 17]).integers(0, 2, (len(held["seed"]), 2))

    def __len__(self):
        return len(self.held["seed"]) // self.pairs

    def on_epoch_end(self):
        """Go to the next epoch's artifacts; called by Keras."""
        self.epoch += 1

    def __getitem__(self, batch):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.held["seed"]))
        chosen = order[batch * self.pairs : (batch + 1) * self.pairs]
        rng = np.random.default_rng([self.seed, self.epoch, batch])
        least = 1 - 0.5 * self.epoch / max(self.epochs - 1, 1)
        clean, fields = self.held["signal"][chosen], self.held["field"][chosen]
        spoiled = [self.spoil(self.held, index, rng, rng.uniform(least, 1.0)) for index in chosen]
        images = network_input(np.concatenate([clean, spoiled]), np.concatenate([fields, fields]), self.show)
        for turn in (1, 2):  # pairs are mirrored together
            flip = np.tile(rng.random(len(chosen)) < 0.5, 2)
            images[flip] = np.flip(images[flip], turn)
        labels = np.repeat([0, 1], len(chosen))
        if self.shuffled:
            labels = np.concatenate([self.lots[chosen, 0], self.lots[chosen, 1]])
        return images, labels


def plate_network(shape: tuple[int, int], seed: int = 0) -> keras.Model:
    """Return the network: a stem of 5 x 5, stride 2, then five blocks, the mean and the maximum of the last map."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((*shape, 1), name="image")
    x = image
    for k, filters in enumerate(BLOCKS):
        size, stride = (5, 2) if k == 0 else (3, 1)
        x = kl.Conv2D(
            filters, size, stride, "same", use_bias=False, kernel_initializer="he_normal", name=f"conv{k + 1}"
        )(x)
        x = kl.ReLU(name=LAYERS[k])(kl.BatchNormalization(momentum=0.9, name=f"norm{k + 1}")(x))
        if k < len(BLOCKS) - 1:
            x = kl.MaxPooling2D(2, name=f"pool{k + 1}")(x)
    pooled = kl.Concatenate(name="pooled")([kl.GlobalAveragePooling2D()(x), kl.GlobalMaxPooling2D()(x)])
    return keras.Model(image, kl.Softmax(name="probabilities")(kl.Dense(2, name="logits")(pooled)), name="plates")


def train_plates(
    held: dict, spoil: Callable = freshly_spoiled, show: Callable = show, *, epochs: int, rate: float = 2e-3,
    seed: int = 0, shuffled: bool = False, pairs: int = 8, path: str | Path | None = None,
) -> tuple[keras.Model, dict[str, list[float]]]:  # fmt: skip
    """Return a trained network and its history (a dict of lists): AdamW, cosine decay after a tenth of warm-up.

    `held`, `spoil` and `show` are those of :class:`Pairs`.

    A network that `path` holds is read, its history from the .json file beside it; a new one is kept there.

    Raises
    ------
    ValueError
        If there are fewer images than `pairs`, the clean and spoiled images of a step.
    """
    if path is not None and resolve(path).exists():
        history = json.loads(resolve(path).with_suffix(".json").read_text())
        return keras.models.load_model(resolve(path), compile=False), history
    network = plate_network(held["signal"].shape[1:], seed)
    data = Pairs(held, spoil, show, pairs=pairs, epochs=epochs, seed=seed, shuffled=shuffled)
    if not len(data):
        raise ValueError(
            f"{len(held['signal'])} training images: at least {pairs} are needed for one step of training."
        )
    steps = max(len(data) * epochs, 2)
    warm = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(rate / 10, steps - warm, warmup_target=rate, warmup_steps=warm)
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = network.fit(data, epochs=epochs, shuffle=False, verbose=0).history
    if path is not None:
        with atomic_path(resolve(path).with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(history))
        with atomic_path(resolve(path)) as temporary:
            network.save(temporary)
    return network, history
