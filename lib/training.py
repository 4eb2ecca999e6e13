"""The paper's training recipe: schedule, augmentation, weights, and a training that can be interrupted."""

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


@dataclass(frozen=True)
class Schedule:
    """How the learning rate falls and when training stops.

    Attributes
    ----------
    learning_rate : float
        At the start; 1e-4 in the paper.
    factor, patience : float, int
        The rate is multiplied by `factor` after `patience` epochs without a lower validation loss; 0.316 and 4.
    stop_after : int
        Training stops after so many epochs without a lower validation loss; 12.
    max_epochs : int
        Upper bound of the number of epochs.
    decay : {"plateau", "cosine"}
        "plateau" is the paper's; "cosine" falls to zero over `max_epochs` after a tenth of linear warm-up, for short
        runs.
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
    """Where a training stands: the rate of the next epoch, the best epoch so far (-1: none), and whether to stop."""

    learning_rate: float
    best_epoch: int
    stop: bool


def replay(schedule: Schedule, val_losses: Iterable[float]) -> Progress:
    """Return where a training stands after the given epochs; the state of the schedule is nothing but this history.

    Parameters
    ----------
    schedule : Schedule
    val_losses : iterable of float
        Validation loss of every finished epoch.

    Raises
    ------
    ValueError
        If a loss is not finite: the training diverged.

    Notes
    -----
    While no loss was below ln 5 - 0.01, the network still answers 1/5 to everything: patience has not begun to count.
    Without this guard, a network that sits on that plateau for some epochs, as the paper's does, is stopped before it
    learns.
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
    """Rotate and shift each image at random about its centre, by one bilinear interpolation, on the device.

    Parameters
    ----------
    images : tensor (n, H, W, C)
        Standardised, outside body 0.
    generator : keras.random.SeedGenerator
    rotation : float
        Largest angle in degrees, either way.
    translation : float
        Largest shift in pixels, either way and in both directions; not rounded.

    Returns
    -------
    tensor (n, H, W, C)
        What comes from beyond the border is 0, as outside the body.
    """
    n, height, width, _ = ops.shape(images)
    angle, dx, dy = ops.unstack(keras.random.uniform((3, n), -1, 1, seed=generator))
    cos, sin = ops.cos(angle * math.radians(rotation)), ops.sin(angle * math.radians(rotation))
    cx, cy = (width - 1) / 2, (height - 1) / 2
    zero = ops.zeros_like(cos)
    matrix = [cos, -sin, cx - cos * cx + sin * cy + dx * translation]
    matrix += [sin, cos, cy - sin * cx - cos * cy + dy * translation, zero, zero]
    return ops.image.affine_transform(images, ops.stack(matrix, axis=1), "bilinear", "constant", 0.0, "channels_last")


class Augmented(keras.Model):
    """A network that sees augmented images in training; it shares the network's weights and differs in nothing else."""

    def __init__(self, network: keras.Model, *, rotation: float, translation: float, seed: int):
        super().__init__()
        self.network, self.rotation, self.translation = network, rotation, translation
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, images, training=False):
        """Return the network's probabilities, of augmented images in training."""
        if training:
            images = augment(images, self.generator, rotation=self.rotation, translation=self.translation)
        return self.network(images, training=training)


class Slices(keras.utils.PyDataset):
    """Batches of a cohort's slices with labels and weights.

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
        Order of the slices, a new one in every epoch; None keeps the order of `rows`.
    keep : bool
        Hold all images in memory, as float16, instead of reading them anew in every epoch.
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
        """Fix the order of the slices in an epoch."""
        self.epoch, self.order = epoch, np.arange(len(self.rows))
        if self.seed is not None:
            np.random.default_rng([self.seed, epoch]).shuffle(self.order)

    def on_epoch_end(self):
        """Go to the next epoch's order; called by Keras."""
        self.start(self.epoch + 1)

    def __len__(self):
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, batch):
        chosen = self.order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = self._read(self.rows.iloc[chosen]) if self.images is None else self.images[chosen].astype("float32")
        return images, self.labels[chosen], self.weights[chosen]


class Recorder(keras.callbacks.Callback):
    """Sets the learning rate, keeps the best weights, and saves all that a resumed training needs after every epoch.

    The state is one file, replaced in one step: a training that is killed at any moment goes on from its last epoch.
    """

    def __init__(self, schedule: Schedule, path: Path):
        super().__init__()
        self.schedule, self.path = schedule, path
        self.history, self.best = [], None

    def _variables(self):
        return [*self.model.weights, self.model.generator.state, *self.model.optimizer.variables]

    def restore(self, model: keras.Model) -> None:
        """Load the state of an interrupted training into `model`, if there is one."""
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
        """Where the training stands."""
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
    """Return "mixed_bfloat16" where the processor multiplies bfloat16 (as Linux reports it), else "float32".

    There it trains the paper's network 1.6 times as fast; where it is emulated, it is slower than float32.
    """
    flags = Path(cpuinfo).read_text() if Path(cpuinfo).exists() else ""
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags.split()) else "float32"


def in_precision(network: keras.Model, precision: str) -> keras.Model:
    """Return a copy of a network whose layers but the last compute in a precision; its weights stay float32.

    Parameters
    ----------
    network : keras.Model
    precision : {"float32", "mixed_bfloat16"}
        A dtype policy of Keras.

    Raises
    ------
    ValueError
        If `precision` is another one: float16 would need its loss scaled.
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
    precision: str = "float32",
    seed: int = 0,
) -> pd.DataFrame:
    """Train a network in place until the schedule ends, and leave it with its best weights.

    Parameters
    ----------
    network : keras.Model
        (n, H, W, C) images to (n, 5) probabilities.
    training, validation : Slices
        Both weighted: the validation loss that the schedule watches counts phases and patients equally too.
    schedule : Schedule
    state : path
        File that holds the training's state; where it exists, the training goes on from it.
    rotation, translation : float
        Largest augmentation, in degrees and in pixels.
    precision : str
        In which the training computes, see :func:`in_precision`; the network itself stays as it is.
    seed : int
        Of the augmentation.

    Returns
    -------
    DataFrame
        A row an epoch: epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds.

    Raises
    ------
    ValueError
        If the validation loss is not finite.
    """
    learner = in_precision(network, precision)
    model = Augmented(learner, rotation=rotation, translation=translation, seed=seed)
    model.compile(
        keras.optimizers.Adam(schedule.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
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
    """Return the rows with the network's five probabilities and its prediction.

    Parameters
    ----------
    network : keras.Model
    cohort, rows, standardisation
        As in `Slices`.
    batch_size : int

    Returns
    -------
    DataFrame
        The rows, a column per phase (probabilities), and `predicted`.
    """
    batches = cohort.batches(rows, standardisation, batch_size=batch_size)
    probabilities = np.concatenate([network.predict_on_batch(images) for _, images, _ in batches])
    table = rows.reset_index(drop=True).join(pd.DataFrame(probabilities, columns=list(PHASES)))
    return table.assign(predicted=np.array(PHASES)[probabilities.argmax(axis=1)])
