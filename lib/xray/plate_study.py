"""Clean and spoiled plates as a classification: cached plates, pairs in one batch, a small network, its training."""

from pathlib import Path

import keras
import numpy as np
from keras import layers as kl

from lib.files import atomic_path, resolve
from lib.parallel import in_parallel
from lib.xray.dental import PIXEL_MM, Mouth, show
from lib.xray.plate_artifacts import KINDS, spoil

ROWS, COLUMNS = 192, 256
PIXEL = PIXEL_MM * 2.5
MEAN, SD = 0.42, 0.25  # of grey values: the network's input is standardised
BLOCKS = (16, 24, 32, 48, 64)
LAYERS = tuple(f"block{k + 1}" for k in range(len(BLOCKS)))


def reduced(image: np.ndarray) -> np.ndarray:
    """Return a plate's array (484, 640) as means over 2.5 x 2.5 pixels, (192, 256) float32."""
    doubled = np.asarray(image, np.float32)[2:482].repeat(2, axis=0).repeat(2, axis=1)
    return doubled.reshape(ROWS, 5, COLUMNS, 5).mean((1, 3))


def _one(job: tuple[int, int]) -> dict[str, np.ndarray]:
    seed, noise = job
    plate = Mouth(seed).expose(noise)
    return {
        "signal": reduced(plate.signal),
        "plate": reduced(plate.plate) > 0.5,
        "teeth": reduced(plate.teeth) > 0.5,
        "distance_mm": reduced(plate.distance_mm),
    }


def plates(seeds: range, path: str | Path, *, noise: int = 0, processes: int = 1) -> dict[str, np.ndarray]:
    """Return the plates of some seeds at the network's size, made once and kept in a file.

    Parameters
    ----------
    seeds : range
    path : path
        Of the .npz file; if it holds these seeds it is read.
    noise : int
        Number of the exposure, see `Mouth.expose`.
    processes : int

    Returns
    -------
    dict
        seed (n,), signal float32, plate and teeth bool, distance_mm float32, all (n, 192, 256).
    """
    path, wanted = resolve(path), np.array([*seeds])
    if path.exists():
        with np.load(path) as held:
            if np.array_equal(held["seed"], wanted) and int(held["noise"]) == noise:
                return {name: held[name] for name in held if name != "noise"}
    done = {job[0]: one for job, one in in_parallel(_one, [(int(seed), noise) for seed in seeds], processes)}
    arrays = {name: np.stack([done[seed][name] for seed in seeds]) for name in done[seeds[0]]}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, seed=wanted, noise=noise, **arrays)
    return {"seed": wanted, **arrays}


def network_input(signal: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Return plates (n, rows, columns) as the network's input (n, rows, columns, 1), standardised."""
    grey = np.stack([show(*pair) for pair in zip(signal, plate, strict=True)])
    return ((grey - MEAN) / SD)[..., None].astype(np.float32)


class Pairs(keras.utils.PyDataset):
    """Batches of plates, each clean and spoiled: what differs between the classes is the artifact alone.

    Parameters
    ----------
    held : dict
        Of :func:`plates`.
    pairs : int
        Pairs in a batch.
    epochs : int
        Over which the least strength of artifacts falls from 1 to `.5`.
    seed : int
    shuffled : bool
        Whether labels are drawn at random: the control that learns nothing about artifacts.
    """

    def __init__(self, held: dict, *, pairs: int = 8, epochs: int = 10, seed: int = 0, shuffled: bool = False):
        super().__init__(workers=1, max_queue_size=4)
        self.held, self.pairs, self.epochs, self.seed, self.shuffled, self.epoch = (
            held,
            pairs,
            epochs,
            seed,
            shuffled,
            0,
        )
        # a label per plate and class, fixed: a network could only learn it by heart
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
        clean, masks = self.held["signal"][chosen], self.held["plate"][chosen]
        spoiled = []
        for signal in clean:
            other = self.held["signal"][rng.integers(len(self.held["signal"]))]
            strength = rng.uniform(least, 1.0)
            kind, size = KINDS[rng.integers(len(KINDS))], rng.uniform(0.7, 1.4)
            spoiled.append(spoil(signal, kind, rng, pixel_mm=PIXEL, size=size, strength=strength, other=other)[0])
        images = network_input(np.concatenate([clean, spoiled]), np.concatenate([masks, masks]))
        for turn in (1, 2):  # pairs are mirrored together
            flip = np.tile(rng.random(len(chosen)) < 0.5, 2)
            images[flip] = np.flip(images[flip], turn)
        labels = np.repeat([0, 1], len(chosen))
        if self.shuffled:
            labels = np.concatenate([self.lots[chosen, 0], self.lots[chosen, 1]])
        return images, labels


def plate_network(seed: int = 0) -> keras.Model:
    """Return the network: a stem of 5 x 5, stride 2, then five blocks, the mean and the maximum of the last map."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((ROWS, COLUMNS, 1), name="image")
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


def train_plates(held: dict, *, epochs: int, rate: float = 2e-3, seed: int = 0, shuffled: bool = False, pairs: int = 8):
    """Return a trained network and its history (a dict of lists): AdamW, cosine decay after a tenth of warm-up."""
    network = plate_network(seed)
    data = Pairs(held, pairs=pairs, epochs=epochs, seed=seed, shuffled=shuffled)
    steps = max(len(data) * epochs, 2)
    warm = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(rate / 10, steps - warm, warmup_target=rate, warmup_steps=warm)
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    history = network.fit(data, epochs=epochs, shuffle=False, verbose=0).history
    return network, history


def spoiled_set(held: dict, kinds, places: int, sizes, seed: int) -> dict[str, np.ndarray]:
    """Return every plate with every artifact at several places and sizes.

    Parameters
    ----------
    held : dict
        Of :func:`plates`.
    kinds : sequence of str
    places : int
    sizes : sequence of float
    seed : int

    Returns
    -------
    dict
        plate (index), kind, place, size of each image, and the arrays signal and mask (n, rows, columns).
    """
    rows: dict[str, list] = {name: [] for name in ("plate", "kind", "place", "size", "signal", "mask")}
    for index, signal in enumerate(held["signal"]):
        for number, kind in enumerate(kinds):
            for place in range(places):
                for size in sizes:
                    rng = np.random.default_rng([seed, index, number, place])  # sizes share place and shape
                    image, mask = spoil(signal, kind, rng, pixel_mm=PIXEL, size=size)
                    for name, value in zip(rows, (index, kind, place, size, image, mask), strict=True):
                        rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}
