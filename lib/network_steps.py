"""What a Keras network is made of: its steps in order, its head, and where in each step's output a map lies.

A model is taken apart into steps (`survey`), which `gradients.replay` runs one after the other so that every ReLU and
every tensor of interest passes through our hands. What is read here is never believed: `Attributor` compares the steps
with the model by value. With `attribution.py` and `gradients.py` this file can be lifted out; it needs Keras and NumPy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import NamedTuple

import keras
import numpy as np
from keras import ops, tree

INPUT = 0  # the number of the step that is the image
SMOOTH = ("linear", "softmax", "log_softmax", "sigmoid", "tanh", "softplus", "softsign", "exponential", "log_sigmoid")
SMOOTH = [getattr(keras.activations, name) for name in SMOOTH]
LINEAR = keras.activations.linear
PURE_ACTIVATIONS = ("ReLU", "Relu", "Softmax", "Sigmoid")  # layers and operations that are nothing but an activation
ENDS_IN_ACTIVATION = (  # Keras's own layers that apply their `activation` last, to the whole output
    "Activation Dense EinsumDense Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose DepthwiseConv1D "
    "DepthwiseConv2D SeparableConv1D SeparableConv2D"
)
HALVES = ("float16", "bfloat16")
WRAPS_FOREIGN_CODE = ("TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper", "Lambda")
UNGATED = (  # operations that pass no gradient through a gate, by the name of their class
    "Add Subtract Multiply Divide TrueDivide Negative Square Sqrt Rsqrt Reciprocal Exp Log Log1p Expm1 Power Mean Sum "
    "Var Std Softmax LogSoftmax Sigmoid Tanh Softplus Erf Sin Cos Matmul Dot Einsum Tensordot Conv DepthwiseConv "
    "SeparableConv ConvTranspose MaxPool AveragePool AdaptiveAveragePool BatchNorm Pad Reshape Transpose Swapaxes "
    "Moveaxis Flip Roll Flatten Ravel Squeeze ExpandDims Concatenate Stack Split GetItem Take Repeat Tile BroadcastTo "
    "Cast Identity Normalize StopGradient LogSumExp Logsumexp LayerNorm RMSNorm Resize UpSample"
)
# Attributes that Keras itself changes in a model or layer that is trained, called or saved; nothing of the maps.
VOLATILE = {
    *("history", "stop_training", "train_function", "test_function", "predict_function", "optimizer", "loss"),
    *("_called", "training", "_metrics", "_losses", "_loss_ids", "_compile_metrics", "_compile_loss", "_loss_tracker"),
    *("_compile_config", "_eval_epoch_iterator", "_epoch_iterator", "compiled", "_run_eagerly", "_jit_compile"),
    *("steps_per_execution", "_steps_seen", "_jax_state", "_jax_state_synced", "_saved_model_inputs_spec", "_obj_type"),
    *("_inbound_nodes", "_outbound_nodes", "_distribute_strategy", "_initial_epoch", "_self_setattr_tracking"),
}
# Keras's own layers and operations, by the names of their classes.
POOLINGS = "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D"
GLOBAL_POOLINGS = "GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D"
PADDINGS = "ZeroPadding1D ZeroPadding2D ZeroPadding3D"
INERT = (
    "Identity Dropout SpatialDropout1D SpatialDropout2D SpatialDropout3D AlphaDropout GaussianDropout GaussianNoise "
    "ActivityRegularization"
)
OTHER_ACTIVATIONS = (
    "ReLU Relu Relu6 LeakyReLU LeakyRelu PReLU ELU Elu Selu Celu Gelu Silu HardSigmoid HardSilu HardTanh Tanh "
    "TanhShrink SoftShrink HardShrink SparsePlus Softplus Softsign Mish Glu Squareplus Threshold LogSoftmax LogSigmoid "
    "Sparsemax SparseSigmoid"
)
TURNS = "Permute Transpose"
MIXES_AXES = (  # their output does not lie as their input does
    "Reshape Flatten Matmul Einsum EinsumDense Dot Tensordot Swapaxes Moveaxis Flip Roll Rot90 Take TakeAlongAxis "
    "GetItem Slice Stack Tile Sort Argsort FFT FFT2 IFFT2 RFFT IRFFT STFT ISTFT AffineTransform PerspectiveTransform "
    "ElasticTransform MapCoordinates ScaleAndTranslate ExtractPatches Fold Unfold Scatter "
    "MultiHeadAttention GroupedQueryAttention Attention AdditiveAttention Cumsum Flipud Fliplr Solve Inv"
)
NO_GRADIENT = (  # operations whose output tells nothing of the slope of their input
    "StopGradient Round Floor Ceil Trunc Sign Heaviside Argmax Argmin Argsort OneHot Embedding Discretization Digitize "
    "SearchSorted CategoryEncoding Hashing IntegerLookup Greater GreaterEqual Less LessEqual Equal NotEqual "
    "FloorDivide Bincount CountNonzero MultiHot"
)
WEIGHTED = "Dense EinsumDense Conv1D Conv2D Conv3D BatchNormalization Matmul Einsum"
LINEAR_JOINS = (
    "Add Subtract Average Negative Concatenate GetItem Flip Permute Transpose Rescaling Take Split Stack Mean Sum "
    "Reshape Flatten Squeeze Cast Identity Dropout Activation"
)
KEEPS_TOKENS = (
    "LayerNormalization RMSNormalization BatchNormalization Dense Dropout GaussianNoise Identity Activation ReLU Add "
    "Multiply Subtract Divide TrueDivide MultiHeadAttention GroupedQueryAttention Concatenate Gelu Relu Silu Cast"
)


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a model.

    `name` is the operation's, after the names of the models and layers it lies in ("resnet50/conv1_conv"); its second
    call ends in "#2". `number` is its place in the order of execution. `arguments` are Keras's own; `sources` tells, by
    the identity of each tensor among them, which step gives it, and as which output. `shape` is that of the first
    output, batch first. `gate`: see `gate_of`. `inference` says that `training=False` goes before what was recorded.
    """

    name: str
    number: int
    operation: object
    arguments: object
    sources: dict
    shape: tuple
    gate: str
    inference: bool = True

    @property
    def stops(self) -> bool:
        """Whether this is a `stop_gradient`."""
        return type(self.operation).__name__ == "StopGradient"

    @property
    def opaque(self) -> bool:
        """Whether it runs code that is not Keras's, whose gradient may be anything."""
        kind = type(self.operation)
        return self.operation is not None and (kind.__name__ in WRAPS_FOREIGN_CODE or kind.__module__[:6] != "keras.")

    @property
    def parents(self) -> list["Step"]:
        """The steps that feed this one."""
        return [step for step, _ in self.sources.values()]


@dataclass
class Survey:
    """A model taken apart.

    `steps` in the order of their execution, the image first; `outputs`: which step gives each output of the model, and
    as which of its own; `structure`: how the model nests its outputs; `places`: the step that ends each model or layer
    that was opened, by its path; `halves`: the layers that compute in half precision.
    """

    steps: list[Step]
    outputs: list[tuple[Step, int]] = field(default_factory=list)
    structure: object = None
    places: dict[str, Step] = field(default_factory=dict)
    halves: list = field(default_factory=list)


class Head(NamedTuple):
    """How an output of a model becomes class scores.

    `kind`: "softmax", "sigmoid" or "linear"; `steps`: the step that ends in that activation, if it is one; `dense` and
    `pooled`: the dense layer of a global-average-pooling head, and the step that is pooled, or None.
    """

    kind: str
    steps: tuple[Step, ...]
    dense: Step | None
    pooled: Step | None


class Place(NamedTuple):
    """Where in a step's output the map lies: on which axis the kernels are, or which tokens make which grid.

    `tokens`: how many lead the patches, rows, columns. `upright`: whether its cells lie as the image does.
    """

    step: Step
    channel_axis: int
    tokens: tuple[int, int, int] | None = None
    upright: bool = True


# ------------------------------------------------------------------------------------------------ taking a model apart


def survey(model: keras.Model) -> Survey:
    """Take a model apart: return its steps in the order of their execution, what lies inside others inlined.

    Functional and Sequential models are followed along their graph. Layers of one's own, subclassed models and models
    that override `call` are opened by running their `call` on symbolic tensors; where that fails they stay whole, as
    one step.

    Raises
    ------
    TypeError
        If the model itself can neither be followed nor opened.

    Examples
    --------
    >>> inputs = keras.Input((8, 8, 1))
    >>> x = keras.layers.Conv2D(2, 3, activation="relu", name="conv")(inputs)
    >>> model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D(name="pool")(x))
    >>> [(step.name, step.gate) for step in survey(model).steps]
    [('input', 'none'), ('conv', 'relu'), ('pool', 'none')]
    """
    (entry,), calls = _inputs(model), Counter()
    found = Survey([Step("input", INPUT, None, None, {}, tuple(entry.shape), "none")])
    found.halves = [layer for layer in model._flatten_layers() if layer.compute_dtype in HALVES]

    def follow(graph, known: dict, path: str, inference: bool) -> dict:
        """Add the steps of a graph; `known`: which step gives each tensor, by its identity."""
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input or any(id(t) not in known for t in node.input_tensors):
                    continue
                name, sources = path + node.operation.name, {id(t): known[id(t)] for t in node.input_tensors}
                leaving = enter(node, sources, name, inference) if _opens(node.operation) else None
                if leaving is None:
                    calls[name] += 1
                    name += f"#{calls[name]}" if calls[name] > 1 else ""
                    shape = tuple(node.outputs[0].shape)
                    step = Step(
                        *(name, len(found.steps), node.operation, node.arguments, sources, shape),
                        *(gate_of(node.operation, shape), inference),
                    )
                    found.steps.append(step)
                    leaving = [(step, number) for number in range(len(node.outputs))]
                known.update(zip(map(id, node.outputs), leaving, strict=True))
        return known

    def enter(node, sources: dict, path: str, inference: bool) -> list | None:
        """Add the steps inside a layer and return where its outputs come from; None where it cannot be opened."""
        layer, args, kwargs = node.operation, node.arguments.args, dict(node.arguments.kwargs)
        graph = getattr(layer, "_functional", layer)
        if _is_plain_graph(layer) and len(graph.inputs) == len(args) == 1 and _same(args[0], graph.inputs[0]):
            inner, outputs = {id(graph.inputs[0]): sources[id(args[0])]}, graph.outputs
            inner = follow(graph, inner, path + "/", inference)
        else:
            if inference and "training" in kwargs:
                kwargs["training"] = False
            try:
                graph, pairs, outputs = _record(layer, args, kwargs)
            except Exception:  # whatever somebody's own code throws at symbolic tensors: it stays one step
                return None
            outputs = tree.flatten(outputs)
            if len(outputs) != len(node.outputs):
                return None
            inner = {id(new): sources[id(old)] for old, new in pairs}
            whole = isinstance(layer, keras.Model) and hasattr(getattr(layer, "_functional", layer), "_nodes_by_depth")
            inner = follow(graph, inner, path + "/", inference and whole)
        leaving = [inner[id(tensor)] for tensor in outputs]
        found.places.setdefault(path, leaving[0][0])
        return leaving

    with full_precision(found.halves):
        if _is_plain_graph(model):
            graph = getattr(model, "_functional", model)
            start, found.structure = graph.inputs[0], graph._outputs_struct
        else:
            try:
                graph, ((_, start),), found.structure = _record(model, (entry,), {})
            except Exception as fault:  # whatever somebody's own code throws at symbolic tensors
                words = (str(fault).strip().splitlines() or [""])[0]
                raise TypeError(
                    f"Model {model.name!r} ({type(model).__name__}) cannot be taken apart, since its call does not run "
                    f"on symbolic tensors ({type(fault).__name__}: {words}): write it with keras.ops and Keras layers."
                ) from fault
        known = follow(graph, {id(start): (found.steps[0], 0)}, "", _is_plain_graph(model))
        found.outputs = [known[id(tensor)] for tensor in tree.flatten(found.structure)]
    return found


def _inputs(model: keras.Model) -> list:
    """Return the symbolic inputs of a model: those of its graph, or one of the shape that it was built with."""
    inputs = getattr(model, "inputs", None)
    if inputs is None or not len(inputs):
        shapes = getattr(model, "_build_shapes_dict", None) or {}
        if model.built and not shapes:
            raise TypeError(
                f"Model {model.name!r} ({type(model).__name__}) cannot be taken apart, since its call does not run on "
                "symbolic tensors: write it with keras.ops and Keras layers."
            )
        if len(shapes) != 1 or not isinstance(shape := next(iter(shapes.values())), (tuple, list)):
            raise ValueError(
                f"Model {model.name!r} has no known input: call it once with an image, or build it from a keras.Input."
            )
        inputs = [keras.KerasTensor((None, *shape[1:]))]
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        raise ValueError(
            f"Model {model.name!r} has {len(inputs)} inputs ({names}), expected one: make a model of one of them, "
            "with the others held constant."
        )
    return list(inputs)


def _same(tensor, entry) -> bool:
    """Return whether a call with one tensor enters a graph as it is, neither cast nor reshaped."""
    return isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == len(entry.shape)


def _is_plain_graph(layer) -> bool:
    """Return whether a model's graph alone says what a call of it does: nobody has overridden `call`."""
    graph = getattr(layer, "_functional", layer)
    if not isinstance(layer, keras.Model) or not hasattr(graph, "_nodes_by_depth"):
        return False
    return is_keras_own(layer, "call") and is_keras_own(layer, "__call__")


def is_keras_own(layer, name: str) -> bool:
    """Return whether nobody has overridden this method of a layer or model."""
    return next(kind for kind in type(layer).__mro__ if name in vars(kind)).__module__.startswith("keras.")


def _opens(layer) -> bool:
    """Return whether a layer is to be taken apart: models, and layers that are not Keras's own."""
    own = type(layer).__module__.startswith("keras.")
    return isinstance(layer, (keras.Model, keras.layers.Lambda)) or (isinstance(layer, keras.layers.Layer) and not own)


def _record(layer: keras.layers.Layer, args: tuple, kwargs: dict):
    """Return a graph of what `layer.call` does, pairs of the tensors it was given and the graph's own, and outputs.

    Only what follows from the variables through Keras's own operations is recorded: a layer that reads a value of a
    variable, or calls other code, raises.
    """
    pairs = []

    def fresh(tensor):
        if not isinstance(tensor, keras.KerasTensor):
            return tensor
        dtype = "float32" if str(tensor.dtype) in HALVES else tensor.dtype
        pairs.append((tensor, keras.KerasTensor(tensor.shape, dtype=dtype)))
        return pairs[-1][1]

    args, kwargs = tree.map_structure(fresh, args), tree.map_structure(fresh, kwargs)
    if "training" in signature(layer.call).parameters and kwargs.get("training") is None:
        kwargs["training"] = False
    with _recording(layer):
        outputs = layer.call(*args, **kwargs)
        return keras.Function([new for _, new in pairs], outputs), pairs, outputs


class _Unread:
    """Stands for a variable's value while a layer is opened: whoever computes with it fails."""


@contextmanager
def _recording(layer: keras.layers.Layer) -> Iterator[None]:
    """Let Keras record what `layer` calls, and forget the records on leaving: the layers are left as they were."""
    inside = [operation for part in layer._flatten_layers() for operation in _operations(part)]
    kept = [(nodes, len(nodes)) for part in inside for nodes in (part._inbound_nodes, part._outbound_nodes)]
    scope = keras.StatelessScope()
    scope.state_mapping = {id(variable): _Unread() for variable in layer.variables}
    try:
        with scope:
            yield
    finally:
        for nodes, length in kept:
            del nodes[length:]


def _operations(layer) -> list:
    """Return a layer and, of a model, the operations of its graph that are no layers."""
    return [layer, *getattr(getattr(layer, "_functional", layer), "_operations", ())]


# ---------------------------------------------------------------------------------------------------- what a step does


def named(operation, names: str) -> bool:
    """Return whether an operation is one of Keras's own of these names: a subclass of one may do something else."""
    return type(operation).__name__ in names.split() and type(operation).__module__.startswith("keras.")


def _inert(step: Step) -> bool:
    """Return whether a step hands on its input as it is, in inference mode."""
    linear = named(step.operation, "Activation") and step.operation.activation is LINEAR
    return linear or named(step.operation, INERT)


def gate_of(operation, shape: tuple) -> str:
    """Return "relu", "none" (nothing here gates a gradient as a ReLU does) or what stands in the way of knowing.

    An operation that is not known is never taken for one without a gate. `shape` is that of its output.

    Examples
    --------
    >>> gate_of(keras.layers.Conv2D(1, 3, activation="relu"), (None, 4, 4, 1))
    'relu'
    >>> gate_of(keras.layers.LeakyReLU(), (None, 4, 4, 1))
    'LeakyReLU, no plain ReLU'
    """
    kind = type(operation).__name__
    if type(operation) is keras.layers.ReLU or (
        kind in ("Relu", "ReLU") and type(operation).__module__[:6] == "keras."
    ):
        plain = kind == "Relu" or is_relu(operation, shape)
        return "relu" if plain else "a ReLU with a slope, a cap or a threshold"
    if not isinstance(operation, keras.layers.Layer):
        return "none" if kind in UNGATED.split() else f"the operation {kind}"
    if kind in WRAPS_FOREIGN_CODE or not type(operation).__module__.startswith("keras."):
        return f"{kind}, whose inside is not known"
    if isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)):
        return f"{kind}, no plain ReLU"
    if has_layers(operation):
        return f"{kind}, a layer that holds others"
    activation = getattr(operation, "activation", None)
    if activation is None or any(activation is smooth for smooth in SMOOTH):
        return "none"
    if kind not in ENDS_IN_ACTIVATION.split():
        return f"{kind}, whose activation is not its last act"
    return "relu" if is_relu(activation, shape) else f"the activation {name_of(activation)}, no ReLU"


def is_relu(function: Callable, shape: tuple) -> bool:
    """Return whether a function is max(x, 0), element by element, by trying it on a tensor of this shape.

    A layer is asked only if it is a `keras.layers.ReLU`: another one would be built by the trial.
    """
    if function in (keras.activations.relu, keras.ops.relu):
        return True
    if isinstance(function, keras.layers.Layer) and type(function) is not keras.layers.ReLU:
        return False
    grid = np.float32([-1e4, -100, -6.1, -1, -0.1, -1e-3, 0, 1e-3, 0.1, 1, 5.9, 6.1, 100, 1e4])
    grid = np.resize(grid, (2, *(min(n or 5, 5) for n in shape[1:-1]), shape[-1] or 14))
    grid = np.concatenate([grid, -grid[..., ::-1]])
    try:
        found = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(grid)))
    except Exception:  # a function of one's own that bears no other size: not known to be a ReLU
        return False
    return np.array_equal(found.astype("float32"), np.maximum(grid, 0).astype(found.dtype).astype("float32"))


def name_of(function: Callable) -> str:
    """Return what a function or a layer is called in a message."""
    return getattr(function, "__name__", type(function).__name__)


def has_layers(layer: keras.layers.Layer) -> bool:
    """Return whether a layer holds others, an activation that was given as a layer left out."""
    return any(inner is not getattr(layer, "activation", None) for inner in layer._flatten_layers(include_self=False))


def twin(layer: keras.layers.Layer, **changes) -> keras.layers.Layer:
    """Return a layer that shares everything with `layer`, its variables too, but for the attributes in `changes`."""
    copy = object.__new__(type(layer))
    copy.__dict__.update(layer.__dict__, **changes)
    return copy


def _activated(step: Step) -> bool:
    """Return whether a step ends in an activation, or joins steps that do."""
    if named(step.operation, "Concatenate Add Average Maximum"):
        return all(_activated(_back(parent)) for parent in step.parents)
    activation = getattr(step.operation, "activation", LINEAR)
    return step.gate == "relu" or named(step.operation, OTHER_ACTIVATIONS) or activation is not LINEAR


def reached_from(outputs: Iterable[Step]) -> set[Step]:
    """Return the steps from which a gradient of these outputs can be had."""
    found, open_ends = set(), list(outputs)
    while open_ends:
        step = open_ends.pop()
        if step not in found:
            found.add(step)
            open_ends += [] if named(step.operation, NO_GRADIENT) or step.operation is None else step.parents
    return found


# ------------------------------------------------------------------------------------------------------------ the head


def head_of(output: Step) -> Head:
    """Find the last activation of an output, and the head of a class activation map where there is one."""
    last = _back(output, _reshapes)
    kind = _kind(last)
    if kind is None:
        activation = name_of(getattr(last.operation, "activation", last.operation))
        raise ValueError(
            f"The last activation ({last.name!r}: {activation}) is neither softmax, sigmoid nor linear: there is no "
            "class score before it. Give a target of your own."
        )
    ends = (last,) if kind != "linear" else ()
    dense = _back(output) if kind == "linear" else last if named(last.operation, "Dense") else _back(last.parents[0])
    if not named(dense.operation, "Dense") or (dense not in ends and _kind(dense) != "linear"):
        return Head(kind, ends, None, None)
    pooling = _back(dense.parents[0], lambda step: named(step.operation, "Flatten"))
    plain = named(pooling.operation, GLOBAL_POOLINGS) and pooling.arguments.kwargs.get("mask") is None
    return Head(kind, ends, dense, _back(pooling.parents[0]) if plain else None)


def head_or_none(output: Step) -> Head | None:
    """Return the head of an output, None where it has no class score."""
    try:
        return head_of(output)
    except ValueError:
        return None


def _kind(step: Step) -> str | None:
    """Return "softmax" or "sigmoid" where a step ends in that, "linear" where in none, None where in another one."""
    operation = step.operation
    if named(operation, "Softmax Sigmoid"):
        return type(operation).__name__.lower()
    if named(operation, OTHER_ACTIVATIONS):
        return None
    if not named(operation, ENDS_IN_ACTIVATION):
        return "linear"
    values = np.random.default_rng(0).normal(size=(2, step.shape[-1] or 3)).astype("float32")
    try:
        found = ops.convert_to_numpy(operation.activation(ops.convert_to_tensor(values)))
    except Exception:  # somebody's own function, which bears no such input
        return None
    with np.errstate(over="ignore"):
        softmax = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
        known = {"linear": values, "softmax": softmax, "sigmoid": 1 / (1 + np.exp(-values))}
    return next((kind for kind, expected in known.items() if np.allclose(found, expected, rtol=0, atol=1e-5)), None)


def is_linear(step: Step) -> bool:
    """Return whether a step's output is a linear one of weights: values in [0, 1] are no probabilities then."""
    scaled = named(step.operation, "Multiply Divide TrueDivide") and sum(
        isinstance(value, keras.KerasTensor) for value in tree.flatten(step.arguments.args)
    )
    if scaled == 1 or _inert(step) or named(step.operation, LINEAR_JOINS):
        return _kind(step) == "linear" and all(map(is_linear, step.parents))
    return step.operation is None or (named(step.operation, WEIGHTED) and _kind(step) == "linear")


def _reshapes(step: Step) -> bool:
    """Return whether a step changes the shape or the type of its input and nothing else."""
    return named(step.operation, "Flatten Reshape Cast Squeeze Ravel ExpandDims")


def _back(step: Step, *conditions: Callable) -> Step:
    """Follow the first parents of a step past those that meet a condition, and past inert ones."""
    while step.parents and any(condition(step) for condition in (_inert, *conditions)):
        step = step.parents[0]
    return step


# ------------------------------------------------------------------------------------------------------ where maps lie


def places_of(steps: list[Step]) -> dict[Step, Place]:
    """Return, for every step whose output has the image's axes or those of its tokens, where the map is.

    The grid is followed from the image on: what comes after axes that were mixed or turned is no longer upright.
    """
    rank, places = len(steps[0].shape), {}
    for step in steps:
        size, operation = len(step.shape), step.operation
        known = [places[parent] for parent in step.parents if parent in places]
        same = [place for place in known if len(place.step.shape) == size]
        data_format = None if named(operation, "Flatten") else getattr(operation, "data_format", None)
        place = None
        if operation is None:
            place = Place(step, channel_axis_of_input(steps))
        elif named(operation, TURNS):
            axis = _permuted(operation, same[0]) if same else None
            place = axis and Place(step, axis, None, same[0].upright)
        elif size == rank and data_format:
            upright = any(p.upright for p in same) and not named(operation, MIXES_AXES)
            place = Place(step, _channels(data_format, rank), None, upright)
        elif size == rank and same and _keeps_order(step, same[0]):
            place = same[0]._replace(step=step, upright=any(p.upright for p in same))
        elif named(operation, "Reshape") and known:
            place = _reshaped(step, known[0], rank)
        elif size == 3 != rank and same and named(operation, KEEPS_TOKENS):
            tokens = _tokens_of(step, same, places)
            place = tokens and Place(step, 2, tokens)
        if place and size > 2:
            places[step] = place
    return places


def _keeps_order(step: Step, before: Place) -> bool:
    """Return whether the cells of a step's output lie in the order of its input's."""
    operation = step.operation
    if named(operation, "Concatenate"):
        return operation.axis % len(step.shape) == before.channel_axis
    if named(operation, "GetItem"):
        key = step.arguments.args[1] if len(step.arguments.args) > 1 else step.arguments.kwargs["key"]
        cuts = key if isinstance(key, tuple) else (key,)
        return all(isinstance(cut, slice) and (cut.step or 1) > 0 for cut in cuts)
    return not named(operation, MIXES_AXES) and not getattr(operation, "go_backwards", False)


def _reshaped(step: Step, before: Place, rank: int) -> Place | None:
    """Return where a map lies once a grid was reshaped to tokens, or tokens back to their grid."""
    shape, size = before.step.shape, len(step.shape)
    grid = size == 3 != rank and before.channel_axis == len(shape) - 1 == 3 and None not in shape[1:]
    if grid and step.shape[1:] == (shape[1] * shape[2], shape[3]):
        return Place(step, 2, (0, *shape[1:3])) if before.upright else None
    if size == rank == 4 and before.tokens and step.shape[1:] == (*before.tokens[1:], shape[-1]):
        return None if before.tokens[0] else Place(step, 3)
    return None


def _permuted(operation, place: Place) -> int | None:
    """Return the axis that a permutation moves the channels to, None where it swaps the others."""
    order = (0, *operation.dims) if named(operation, "Permute") else getattr(operation, "axes", None)
    if order is None or place.tokens or len(order) != len(place.step.shape) or order[0] != 0:
        return None
    others = [axis for axis in order[1:] if axis != place.channel_axis]
    axis = list(order).index(place.channel_axis)
    return axis if others == sorted(others) and axis in (1, len(order) - 1) else None


def _tokens_of(step: Step, same: list[Place], places: dict) -> tuple[int, int, int] | None:
    """Return the tokens' grid behind a step, which may put other tokens before the patches."""
    lead, rows, columns = same[0].tokens or (0, 0, 0)
    if named(step.operation, "Concatenate") and step.operation.axis in (1, -2):
        if len(same) != 1:
            return None
        before = step.parents[: step.parents.index(same[0].step)]
        lead += sum(parent.shape[1] for parent in before)
        return lead, rows, columns
    return same[0].tokens if step.shape[1] == same[0].step.shape[1] else None


def _channels(data_format: str, rank: int) -> int:
    return 1 if data_format == "channels_first" else rank - 1


def channel_axis_of_input(steps: list[Step]) -> int:
    """Return the axis that the first layers which name one, straight after the image, take for the channels."""
    rank, same = len(steps[0].shape), {steps[0]}
    for step in steps[1:]:
        if same & set(step.parents) and len(step.shape) == rank and not named(step.operation, f"{MIXES_AXES} {TURNS}"):
            data_format = getattr(step.operation, "data_format", None)
            if data_format and not named(step.operation, "Flatten"):
                return _channels(data_format, rank)
            same.add(step)
    return rank - 1


def default_layers(steps: list[Step], places: dict[Step, Place], reached: set[Step]) -> list[Step]:
    """Return the last activation before each pooling, and the last one on the grid: those of more than one cell."""

    def activation_before(step: Step) -> Step:
        start = step = _back(step, lambda inner: named(inner.operation, PADDINGS))
        while not _activated(step):
            following = [p for p in step.parents if p in places and _grid(places[p]) == _grid(places[start])]
            if not following or len(step.parents) > 1 or following[0].operation is None:
                return start
            step = _back(following[0])
        return step

    many = [s for s in steps[1:] if s in places and s in reached and any(n != 1 for n in _grid(places[s]))]
    many = [s for s in many if places[s].upright]
    found = [s.parents[0] for s in many if named(s.operation, POOLINGS)]
    found += [s for s in reversed(many) if not named(s.operation, POOLINGS)][:1]
    found = [activation_before(step) for step in found if step in many]
    return sorted({s for s in found if s in many}, key=lambda s: s.number)


def _grid(place: Place) -> tuple:
    """Return the cells of a map along each axis, None where an axis is open."""
    if place.tokens:
        return place.tokens[1:]
    return tuple(n for axis, n in enumerate(place.step.shape) if axis not in (0, place.channel_axis))


# -------------------------------------------------------------------------------------------------------- what changes


@contextmanager
def full_precision(halves: list[keras.layers.Layer]) -> Iterator[None]:
    """Let these layers, which compute in half precision, compute in float32 for a while."""
    policies = [(layer, layer.__dict__["_dtype_policy"]) for layer in halves]
    try:
        for layer, _ in policies:
            layer.__dict__["_dtype_policy"] = keras.DTypePolicy("float32")
        yield
    finally:
        for layer, policy in policies:
            layer.__dict__["_dtype_policy"] = policy


def snapshot(model: keras.Model) -> list[tuple]:
    """Return what a model is made of: its layers, and what they hold, all but the values of their variables."""
    return [
        (layer, {name: (value, _content(value)) for name, value in layer.__dict__.items() if name not in VOLATILE})
        for layer in model._flatten_layers()
    ]


def unchanged(before: list[tuple], model: keras.Model) -> bool:
    """Return whether a model is still made of what `snapshot` saw, object by object, lists and arrays by content."""
    now, absent = model._flatten_layers(), (_Unread, None)
    return len(now) == len(before) and all(
        layer is old
        and all(
            _is_still(value, *held.get(name, absent)) for name, value in layer.__dict__.items() if name not in VOLATILE
        )
        for layer, (old, held) in zip(now, before, strict=True)
    )


def _content(value) -> tuple | bytes | None:
    """Return what may change in a value while it stays the same object."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return (*value, *value.values())
    return tuple(value) if isinstance(value, list) else None


def _is_still(value, old, content) -> bool:
    now = _content(value) if value is old else None
    if isinstance(now, tuple):
        return len(now) == len(content) and all(a is b for a, b in zip(now, content, strict=True))
    return value is old and now == content
