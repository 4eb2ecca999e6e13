"""The paper's training recipe: schedule, augmentation and weights, in a training that can be interrupted."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
from keras import ops

from lib.files import atomic_path, resolve
from lib.paper import PHASES

PLATEAU = math.log(len(PHASES))
PATCH_SIZES = (1, 4, 16, 32)  # voxels


@dataclass(frozen=True)
class Schedule:
    """How the learning rate falls and when training stops.

    Attributes
    ----------
    learning_rate : float
        Learning rate at the start; 1e-4 in the paper.
    factor, patience : float, int
        The rate is multiplied by `factor` after `patience` epochs without a lower validation loss; 0.316 and 4 in the
        paper.
    stop_after : int
        Training stops after this number of epochs without a lower validation loss; 12 in the paper.
    max_epochs : int
        Largest number of epochs.
    decay : {"plateau", "cosine"}
        "plateau" is the paper's. "cosine" is meant for short runs: the rate rises linearly in the first tenth of
        `max_epochs` and then falls to zero along a cosine.
    """

    learning_rate: float = 1e-4
    factor: float = 0.316
    patience: int = 4
    stop_after: int = 12
    max_epochs: int = 200
    decay: str = "plateau"

    def __post_init__(self):
        if self.decay not in ("plateau", "cosine"):
            raise ValueError(f'decay must be "plateau" or "cosine", got {self.decay!r}.')


class Progress(NamedTuple):
    """State of a training: the rate of the next epoch, the best epoch so far (-1: none), and whether to stop."""

    learning_rate: float
    best_epoch: int
    stop: bool


def replay(schedule: Schedule, val_losses: Iterable[float]) -> Progress:
    r"""Return the state of a training after the given epochs; it follows from their validation losses alone.

    Parameters
    ----------
    schedule : Schedule
    val_losses : iterable of float
        Validation loss of every finished epoch.

    Raises
    ------
    ValueError
        If a loss is not finite, which means that the training diverged.

    Notes
    -----
    Patience starts once the validation loss falls below :math:`\ln 5 - 0.01`, where :math:`\ln 5` is the loss of
    guessing all five phases equally. Without this rule, a network that stays at :math:`\ln 5` for some epochs, as the
    paper's does, would be stopped before it learns.

    With the decay "cosine", the rate of epoch :math:`e` (counted from 0) of :math:`E` epochs is

    .. math:: \eta_e = \eta \min \left( \frac{e + 1/2}{E / 10},\;
        \frac{1}{2} + \frac{1}{2} \cos \left( \pi\, \frac{\max(0,\; e + 1/2 - E / 10)}{9 E / 10} \right) \right).
    """
    rate, best, best_epoch, stagnant, since_cut, losses = schedule.learning_rate, math.inf, -1, 0, 0, list(val_losses)
    for epoch, loss in enumerate(losses):
        if not math.isfinite(loss):
            raise ValueError(f"The validation loss of epoch {epoch + 1} is {loss}: lower learning_rate.")
        if loss < best:
            best, best_epoch, stagnant, since_cut = loss, epoch, 0, 0
        elif best < PLATEAU - 0.01:
            stagnant, since_cut = stagnant + 1, since_cut + 1
            if since_cut == schedule.patience:
                rate, since_cut = rate * schedule.factor, 0
    done = len(losses)
    if schedule.decay == "cosine":
        warm = schedule.max_epochs / 10
        fraction = min(1.0, max(0.0, done + 0.5 - warm) / (schedule.max_epochs - warm))
        rate = schedule.learning_rate * min(1.0, (done + 0.5) / warm, 0.5 * (1 + math.cos(math.pi * fraction)))
    return Progress(rate, best_epoch, done >= schedule.max_epochs or stagnant >= schedule.stop_after)


def augment(images, generator, *, rotation: float = 5.0, translation: float = 5.0):
    """Rotate each image about its centre and shift it, both at random, with a single bilinear interpolation.

    Parameters
    ----------
    images : tensor (n, H, W, C)
        Standardised images with 0 outside the body.
    generator : keras.random.SeedGenerator
    rotation : float
        Largest angle in degrees, in either direction.
    translation : float
        Largest shift in pixels along each axis, in either direction. Shifts are not rounded.

    Returns
    -------
    tensor (n, H, W, C)
        Pixels that come from beyond the border are 0, as outside the body.
    """
    n, height, width, _ = ops.shape(images)
    angle, dx, dy = ops.unstack(keras.random.uniform((3, n), -1, 1, seed=generator))
    cos, sin = ops.cos(angle * math.radians(rotation)), ops.sin(angle * math.radians(rotation))
    cx, cy = (width - 1) / 2, (height - 1) / 2
    zero = ops.zeros_like(cos)
    matrix = [cos, -sin, cx - cos * cx + sin * cy + dx * translation]
    matrix += [sin, cos, cy - sin * cx - cos * cy + dy * translation, zero, zero]
    return ops.image.affine_transform(images, ops.stack(matrix, axis=1), "bilinear", "constant", 0.0, "channels_last")


def add_noise_patches(images, generator, share: float):
    """Overwrite random square blocks of every second image, on average, with noise of mean 0 and SD 1.

    This is what masking does to an image, so a network that is trained with it has seen masked images before.

    Parameters
    ----------
    images : tensor (n, H, W, C)
        Standardised images.
    generator : keras.random.SeedGenerator
    share : float
        Expected share of the voxels that is overwritten in an image that is changed.

    Returns
    -------
    tensor (n, H, W, C)
        The blocks of an image are all of one size: 1, 4, 16 or 32 voxels wide, at random.
    """
    n, height, width, _ = ops.shape(images)
    choice = ops.floor(keras.random.uniform((n, 1, 1, 1), 0, 2 * len(PATCH_SIZES), seed=generator))
    patches = ops.zeros((n, height, width, 1))
    for i, size in enumerate(PATCH_SIZES):
        rows, columns = -(-height // size), -(-width // size)
        cells = ops.cast(keras.random.uniform((n, rows, columns, 1), seed=generator) < share, "float32")
        blocks = ops.repeat(ops.repeat(cells, size, axis=1), size, axis=2)[:, :height, :width]
        patches = ops.where(choice == i, blocks, patches)
    noise = keras.random.normal(ops.shape(images), seed=generator)
    return ops.where(patches > 0, noise, images)


class Augmented(keras.Model):
    """A network that is trained on augmented images; it shares its weights with the network that it wraps."""

    def __init__(
        self, network: keras.Model, *, rotation: float, translation: float, noise_patches: float = 0.0, seed: int
    ):
        super().__init__()
        self.network, self.rotation, self.translation = network, rotation, translation
        self.noise_patches, self.generator = noise_patches, keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        """Return the probabilities of the network; in training, for augmented images."""
        if training:
            images = augment(images, self.generator, rotation=self.rotation, translation=self.translation)
            if self.noise_patches:
                images = add_noise_patches(images, self.generator, self.noise_patches)
        return self.network(images, training=training)


class Slices(keras.utils.PyDataset):
    """Batches of slices of a cohort, with labels and weights.

    Parameters
    ----------
    cohort : lib.cohort.Cohort
    rows : DataFrame
        Rows of `cohort.slices`.
    standardisation : lib.cohort.Standardisation
    weights : array (n,)
        Weight of each row in the loss.
    batch_size : int
    seed : int or None
        Seed of the order of the slices, which is new in every epoch; None keeps the order of `rows`.
    keep : bool
        Whether all images are kept in memory, as float16, or read anew in every epoch.
    """

    def __init__(self, cohort, rows, standardisation, weights, *, batch_size, seed=None, keep=False):
        super().__init__(workers=1, max_queue_size=4)
        self.rows, self.batch_size, self.seed = rows.reset_index(drop=True), batch_size, seed
        self.labels = self.rows["phase"].map(PHASES.index).to_numpy("int32")
        self.weights = np.asarray(weights, "float32")
        self._read = lambda rows: cohort.read(rows, standardisation)
        self.images = self._read(self.rows).astype("float16") if keep else None
        self.start(0)

    def start(self, epoch: int) -> None:
        """Set the order of the slices for an epoch."""
        self.epoch, self.order = epoch, np.arange(len(self.rows))
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(self.order)

    def on_epoch_end(self):
        """Set the order for the next epoch; called by Keras."""
        self.start(self.epoch + 1)

    def __len__(self):
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, batch):
        chosen = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = self._read(self.rows.iloc[chosen]) if self.images is None else self.images[chosen].astype("float32")
        return images, self.labels[chosen], self.weights[chosen]


class Recorder(keras.callbacks.Callback):
    """Sets the learning rate, keeps the best weights, and saves after every epoch what a resumed training needs.

    The state is a single file that is replaced in one step. A training that was killed resumes after the last epoch
    that it finished.
    """

    def __init__(self, schedule: Schedule, path: Path):
        super().__init__()
        self.schedule, self.path = schedule, path
        self.history, self.best = [], None

    def _variables(self):
        return [*self.model.weights, self.model.generator.state, *self.model.optimizer.variables]

    def restore(self, model: keras.Model) -> None:
        """Load the state of an interrupted training into `model`, if there is such a state."""
        self.set_model(model)
        if not self.path.exists():
            return
        with np.load(self.path) as state:
            self.history = pd.DataFrame({name[8:]: state[name] for name in state if name.startswith("history.")})
            self.history = self.history.to_dict("records")
            self.best = [state[f"best.{i}"] for i in range(len(model.weights))]
            for i, variable in enumerate(self._variables()):
                variable.assign(state[f"variable.{i}"])

    @property
    def progress(self) -> Progress:
        """State of the training."""
        return replay(self.schedule, [row["val_loss"] for row in self.history])

    def on_epoch_begin(self, epoch, logs=None):
        """Set the epoch's learning rate."""
        self.model.optimizer.learning_rate.assign(self.progress.learning_rate)
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Record the epoch, print one line, and save the state."""
        row = {"epoch": epoch + 1, **logs, "learning_rate": self.progress.learning_rate}
        self.history.append(row | {"seconds": time.monotonic() - self.start})
        progress = self.progress
        if progress.best_epoch == epoch:
            self.best = self.model.get_weights()
        self.model.stop_training = progress.stop
        state = {f"variable.{i}": value for i, value in enumerate(map(ops.convert_to_numpy, self._variables()))}
        state |= {f"best.{i}": value for i, value in enumerate(self.best)}
        state |= {f"history.{name}": np.array([r[name] for r in self.history]) for name in row | {"seconds": 0}}
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **state)
        mark = "  best" if progress.best_epoch == epoch else ""
        print(
            f"epoch {epoch + 1:3d}  loss {logs['loss']:.4f}  accuracy {logs['accuracy']:.3f}  "
            f"validation loss {logs['val_loss']:.4f}  accuracy {logs['val_accuracy']:.3f}  "
            f"rate {row['learning_rate']:.2e}  {self.history[-1]['seconds']:.0f} s{mark}",
            flush=True,
        )


def native_precision(cpuinfo: str | Path = "/proc/cpuinfo") -> str:
    """Return "mixed_bfloat16" if Linux reports that the processor multiplies bfloat16, else "float32".

    On such a processor the paper's network trains 1.6 times as fast. Elsewhere bfloat16 is emulated, which is slower
    than float32.
    """
    flags = Path(cpuinfo).read_text() if Path(cpuinfo).exists() else ""
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags.split()) else "float32"


def in_precision(network: keras.Model, precision: str) -> keras.Model:
    """Return a copy of a network in which all layers except the last compute in a given precision.

    The weights remain float32.

    Parameters
    ----------
    network : keras.Model
    precision : {"float32", "mixed_bfloat16"}
        A dtype policy of Keras.

    Raises
    ------
    ValueError
        If `precision` is another one. float16 is not offered, since its loss would have to be scaled.
    """
    if precision not in ("float32", "mixed_bfloat16"):
        raise ValueError(f'precision must be "float32" or "mixed_bfloat16", got {precision!r}.')
    last = network.layers[-1]  # probabilities are float32

    def copy(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return layer.__class__.from_config(config if layer is last else config | {"dtype": precision})

    twin = keras.models.clone_model(network, clone_function=copy)
    twin.set_weights(network.get_weights())
    return twin


def train(
    network: keras.Model,
    training: Slices,
    validation: Slices,
    schedule: Schedule,
    state: str | Path,
    *,
    rotation: float = 5.0,
    translation: float = 5.0,
    noise_patches: float = 0.0,
    clip_norm: float | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> pd.DataFrame:
    """Train a network in place until the schedule ends, and give it its best weights.

    Parameters
    ----------
    network : keras.Model
        Its input is (n, H, W, C) images, its output (n, 5) probabilities.
    training, validation : Slices
        Both have weights, so that the validation loss, which the schedule uses, also balances phases and patients.
    schedule : Schedule
    state : path
        File with the state of the training. If it exists, the training resumes from it.
    rotation, translation : float
        Largest augmentation, in degrees and in pixels.
    noise_patches : float
        Share of the voxels that noise overwrites in half of the images, see :func:`add_noise_patches`; 0 for none.
    clip_norm : float, optional
        Largest norm of the gradient over all weights; a longer one is shortened to it. A rate of 1e-3 without it can
        end with kernels that are 0 everywhere, from which the network does not recover.
    precision : str
        Precision of the computation in training, see :func:`in_precision`; that of the network itself does not change.
    seed : int
        Seed of the augmentation.

    Returns
    -------
    DataFrame
        One row per epoch: `epoch`, `loss`, `accuracy`, `val_loss`, `val_accuracy`, `learning_rate`, `seconds`.

    Raises
    ------
    ValueError
        If the validation loss is not finite.
    """
    learner = in_precision(network, precision)
    model = Augmented(learner, rotation=rotation, translation=translation, noise_patches=noise_patches, seed=seed)
    model.compile(
        keras.optimizers.Adam(schedule.learning_rate, global_clipnorm=clip_norm),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.build((None, *network.input_shape[1:]))
    model.optimizer.build(model.trainable_variables)
    recorder = Recorder(schedule, resolve(state))
    recorder.restore(model)
    done = len(recorder.history)
    if not recorder.progress.stop:
        training.start(done)
        model.fit(
            training,
            validation_data=validation,
            initial_epoch=done,
            epochs=schedule.max_epochs,
            shuffle=False,  # `training` has an order of its own; Keras would shuffle its batches by a global state
            callbacks=[recorder],
            verbose=0,
        )
    network.set_weights(recorder.best)
    return pd.DataFrame(recorder.history)


def predict(network: keras.Model, cohort, rows: pd.DataFrame, standardisation, *, batch_size: int = 32) -> pd.DataFrame:
    """Return the rows with the five probabilities of the network and its prediction.

    Parameters
    ----------
    network : keras.Model
    cohort, rows, standardisation
        As in `Slices`.
    batch_size : int

    Returns
    -------
    DataFrame
        The rows, one column of probabilities per phase, and `predicted`.
    """
    batches = cohort.batches(rows, standardisation, batch_size=batch_size)
    probabilities = np.concatenate([network.predict_on_batch(images) for _, images, _ in batches])
    table = rows.reset_index(drop=True).join(pd.DataFrame(probabilities, columns=list(PHASES)))
    return table.assign(predicted=np.array(PHASES)[probabilities.argmax(axis=1)])
