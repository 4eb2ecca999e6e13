"""The training of networks that find a pneumothorax."""

from pathlib import Path

import keras
import numpy as np

from lib.backbones import backbone
from lib.files import atomic_path, resolve


class Mirrored(keras.utils.PyDataset):
    """Batches in an order of their own, mirrored and shifted at random."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, batch: int, seed: int):
        super().__init__(workers=1, max_queue_size=4)
        self.images, self.labels, self.batch, self.seed, self.epoch = images, labels, batch, seed, 0

    def __len__(self):
        return max(len(self.images) // self.batch, 1)

    def on_epoch_end(self):
        """Go to the next epoch's order; called by Keras."""
        self.epoch += 1

    def __getitem__(self, number):
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.images))
        chosen = order[number * self.batch : (number + 1) * self.batch]
        rng = np.random.default_rng([self.seed, self.epoch, number])
        images = self.images[chosen].copy()
        flip = rng.random(len(images)) < 0.5
        images[flip] = images[flip][:, :, ::-1]
        reach = images.shape[1] // 20
        for k, (down, right) in enumerate(rng.integers(-reach, reach + 1, (len(images), 2))):
            images[k] = np.roll(images[k], (down, right), (0, 1))
        return images, self.labels[chosen]


def train_chests(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    first_epochs: int = 0,
    seed: int = 0,
    width: int | None = None,
    batch: int = 16,
    path: str | Path | None = None,
) -> keras.Model:
    """Return a network of `lib.backbones` that is trained on radiographs.

    Parameters
    ----------
    name : str
    images : float array (n, h, w, 1)
    labels : int array (n,)
    epochs : int
    first_epochs : int
        Before these, on images of half the side, which takes a quarter of the time. A transformer, whose patches belong
        to one size, is trained as long on whole images.
    seed : int
        Of weights, order, mirroring and shifts.
    width, batch : int
    path : path, optional
        A network that it holds is read; a new one is kept there.

    Notes
    -----
    AdamW with a rate of 2e-3 (transformers 1e-3), which falls as a cosine after a tenth of warm-up.
    """
    if path is not None and resolve(path).exists():
        return keras.models.load_model(resolve(path), compile=False)
    model = backbone(name, images.shape[1:], width=width, seed=seed)
    rate = 1e-3 if name.startswith("vit") else 2e-3
    if first_epochs and not name.startswith("vit"):
        n, h, w, channels = images.shape
        halves = images.reshape(n, h // 2, 2, w // 2, 2, channels).mean((2, 4))
        small = backbone(name, halves.shape[1:], width=width, seed=seed)
        _fit(small, Mirrored(halves, labels, batch=batch, seed=seed), first_epochs, rate)
        model.set_weights(small.get_weights())
        rate /= 2
    else:
        epochs += first_epochs
    _fit(model, Mirrored(images, labels, batch=batch, seed=seed), epochs, rate)
    if path is not None:
        with atomic_path(resolve(path)) as temporary:
            model.save(temporary)
    return model


def _fit(model: keras.Model, data: Mirrored, epochs: int, rate: float) -> None:
    steps = max(len(data) * epochs, 2)
    warm = max(steps // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(rate / 10, steps - warm, warmup_target=rate, warmup_steps=warm)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(data, epochs=epochs, shuffle=False, verbose=0)
