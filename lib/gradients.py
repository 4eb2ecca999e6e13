"""One forward and at most two backward passes through any Keras network, on TensorFlow, JAX or torch.

The only file that knows a backend. With `attribution.py` it can be lifted out: the two need Keras and NumPy only.

A model is taken apart into steps (`survey`), which are run one after the other (`replay`) so that every ReLU and every
tensor of interest passes through our hands. Whether the steps do what the model does is checked by value, never
assumed: see `first_difference` and `Attributor`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from inspect import signature
from types import SimpleNamespace

import keras
import numpy as np
from keras import tree

BACKEND = keras.backend.backend()
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

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
else:
    raise ImportError(
        f"Keras runs on {BACKEND!r}: set KERAS_BACKEND to tensorflow, jax or torch, which have gradients."
    )


# ---------------------------------------------------------------------------------------------------------- passes


def _gradients_tensorflow(forward: Callable, images, wrt: tuple[int, ...], guided: bool):
    gate, taps = SimpleNamespace(guided=False), {INPUT: images}

    @tf.custom_gradient
    def relu(x):
        output = tf.nn.relu(x)

        def backward(gradient):
            gradient = tf.nn.relu(gradient) if gate.guided else gradient
            return tf.raw_ops.ReluGrad(gradients=gradient, features=output)

        return output, backward

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        score = forward(images, relu, lambda number, tensor: taps.setdefault(number, tensor))
    plain = tape.gradient(score, {number: taps[number] for number in wrt}) if wrt else {}
    gate.guided = True
    return score, taps, plain, tape.gradient(score, images) if guided else None


def _gradients_torch(forward: Callable, images, wrt: tuple[int, ...], guided: bool):
    gate = SimpleNamespace(guided=False)

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            output = torch.relu(x)
            context.save_for_backward(output)
            return output

        @staticmethod
        def backward(context, gradient):
            (output,) = context.saved_tensors
            return torch.where(output > 0, gradient.clamp(min=0) if gate.guided else gradient, 0.0)

    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        taps = {INPUT: images}
        score = forward(images, Relu.apply, lambda number, tensor: taps.setdefault(number, tensor))
        total, plain, guided_gradient = score.sum(), dict.fromkeys(wrt), None
        if wrt and total.requires_grad:
            sources = [taps[number] for number in wrt]
            found = torch.autograd.grad(total, sources, retain_graph=guided, allow_unused=True)
            plain = dict(zip(wrt, found, strict=True))
        if guided and total.requires_grad:
            gate.guided = True
            (guided_gradient,) = torch.autograd.grad(total, images, allow_unused=True)
    taps = {number: tensor.detach() for number, tensor in taps.items()}
    return score.detach(), taps, plain, guided_gradient


def _gradients_jax(forward: Callable, images, wrt: tuple[int, ...], guided: bool):
    gate = SimpleNamespace(guided=False)

    @jax.custom_vjp
    def relu(x):
        return jax.nn.relu(x)

    def relu_backward(output, gradient):
        gradient = jax.nn.relu(gradient) if gate.guided else gradient
        return (jax.numpy.where(output > 0, gradient, 0),)

    relu.defvjp(lambda x: (jax.nn.relu(x),) * 2, relu_backward)

    @jax.custom_vjp
    def probe(tensor, zeros):  # the gradient with respect to `zeros` is the gradient with respect to `tensor`
        return tensor

    probe.defvjp(lambda tensor, zeros: (tensor, None), lambda _, gradient: (gradient, gradient))

    def run(images, probes):
        taps = {}

        def tap(number, tensor):
            return taps.setdefault(number, probe(tensor, probes[number]) if number in probes else tensor)

        score = forward(images, relu, tap)
        return score.sum(), (score, taps)

    shapes = jax.eval_shape(run, images, {})[1][1]
    probes = {number: jax.numpy.zeros(shapes[number].shape, shapes[number].dtype) for number in wrt if number != INPUT}
    _, pullback, (score, taps) = jax.vjp(run, images, probes, has_aux=True)
    gradient, plain = pullback(jax.numpy.ones((), score.dtype)) if wrt else (None, {})
    gate.guided = True
    guided_gradient = pullback(jax.numpy.ones((), score.dtype))[0] if guided else None
    return score, {INPUT: images, **taps}, {INPUT: gradient, **plain}, guided_gradient


def gradients(forward: Callable, images, wrt: tuple[int, ...], guided: bool):
    """Run `forward` once and go back through it at most twice.

    Parameters
    ----------
    forward : callable
        `forward(images, relu, tap) -> score`, (n,). It sends every ReLU through `relu` and every tensor of interest
        through `tap(number, tensor)`, and goes on with what `tap` returns.
    images : tensor, (n, ...)
    wrt : tuple of int
        `INPUT` and numbers of taps: the plain gradient of the summed score is taken with respect to these.
    guided : bool
        Whether to go back once more to the input, every ReLU letting g through only where a > 0 and g > 0.

    Returns
    -------
    score, taps, plain, guided
        The score (n,); tapped tensors by number; plain gradients by number in `wrt`; the guided gradient, or None.

    Raises
    ------
    ValueError
        If the score does not depend on one of `wrt`. (JAX gives zeros for a dependence that is cut inside a layer;
        `Attributor` looks for the cuts that the graph shows.)

    Examples
    --------
    The score sum(relu(2 x)) of the image (1, -1) has the gradient (2, 0):

    >>> x = keras.ops.convert_to_tensor(np.float32([[1, -1]]))
    >>> forward = lambda images, relu, tap: keras.ops.sum(relu(2 * images), axis=1)
    >>> score, taps, plain, guided = gradients(forward, x, (INPUT,), guided=False)
    >>> keras.ops.convert_to_numpy(plain[INPUT]).tolist()
    [[2.0, 0.0]]
    """
    run = {"tensorflow": _gradients_tensorflow, "jax": _gradients_jax, "torch": _gradients_torch}[BACKEND]
    score, taps, plain, guided_gradient = run(forward, images, wrt, guided)
    cut = [number for number in wrt if plain[number] is None]
    cut += [INPUT] if guided and guided_gradient is None else []
    if cut:
        place = f"step {cut[0]}" if cut[0] else "the input"
        raise ValueError(f"The score does not depend on {place}: no gradient reaches it. Choose another layer.")
    return score, taps, plain, guided_gradient


def compiled(function: Callable, variables: list, specs: list[tuple[tuple, str]]) -> Callable:
    """Compile a function of arrays once, for batches of any size; return a callable that takes and gives NumPy arrays.

    Parameters
    ----------
    function : callable
        Takes as many tensors as `specs` has entries, returns a list of tensors at most as long as its first argument.
    variables : list of keras.Variable
        What the function reads: later changes of their values are seen, writes to them are not done.
    specs : list of (shape, dtype)
        Of the arguments; None where a length varies.

    Notes
    -----
    TensorFlow traces once. XLA compiles by shape, so JAX gets batches padded to powers of two: one trace for each of
    these, and for each image size. torch runs eagerly.

    Examples
    --------
    >>> double = compiled(lambda x: [2 * x], [], [((None,), "float32")])
    >>> double(np.float32([1, 2, 3]))[0].tolist()
    [2.0, 4.0, 6.0]
    """
    if BACKEND == "jax":

        def pure(values, *arguments):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*arguments)

        traced = jax.jit(pure)

        def pad(array):
            missing = (1 << (len(array) - 1).bit_length()) - len(array)
            return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array

        def run(*arguments):
            padded = map(pad, arguments)
            return [output[: len(arguments[0])] for output in traced([v.value for v in variables], *padded)]

    else:

        def stateless(*arguments):
            with keras.StatelessScope():
                return function(*arguments)

        if BACKEND == "tensorflow":
            traced = tf.function(stateless, autograph=False)
            traced = traced.get_concrete_function(*(tf.TensorSpec(*spec) for spec in specs))

            def run(*arguments):
                return traced(*map(tf.convert_to_tensor, arguments))
        else:

            def run(*arguments):
                with torch.no_grad():
                    return stateless(*map(keras.ops.convert_to_tensor, arguments))

    return lambda *arguments: [np.array(keras.ops.convert_to_numpy(output)) for output in run(*arguments)]


def eager(function: Callable, *arguments) -> tuple[list[np.ndarray], int]:
    """Call a function of tensors with arrays, outside of any graph.

    Returns
    -------
    values, written
        What it returns, flat, as arrays; how many variables it would have written to (none is).
    """
    tensors = [keras.ops.convert_to_tensor(argument) for argument in arguments]
    with keras.StatelessScope() as scope, torch.no_grad() if BACKEND == "torch" else nullcontext():
        values = [np.array(keras.ops.convert_to_numpy(value)) for value in tree.flatten(function(*tensors))]
    return values, len(scope.state_mapping)


# ----------------------------------------------------------------------------------------------------------- steps


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


def replay(found: Survey, images, relu: Callable, tap: Callable, bare: tuple[Step, ...] = (), stops=True) -> list:
    """Run a model step by step in inference mode and float32 and return its outputs, flat.

    Every plain ReLU goes through `relu`, every step's first output through `tap(step, output)`. The activation of the
    steps in `bare` (softmax, sigmoid) is left out, and so is every `stop_gradient` where `stops` is false. The model is
    unchanged: where an activation must be split from its layer, a twin that shares the variables is called.
    """
    values = {(found.steps[0], 0): images}
    last_use = {source: step for step in found.steps[1:] for source in step.sources.values()}
    kept = set(found.outputs)
    with full_precision(found.halves):
        for step in found.steps[1:]:
            args, kwargs = step.arguments.fill_in({key: values[source] for key, source in step.sources.items()})
            operation, split = step.operation, step.gate == "relu" or step in bare
            if isinstance(operation, keras.layers.Layer) and "training" in signature(operation.call).parameters:
                kwargs = kwargs | ({"training": False} if step.inference or kwargs.get("training") is None else {})
            if (split and type(operation).__name__ in PURE_ACTIVATIONS) or (step.stops and not stops):
                output = args[0]
            elif split:
                output = twin(operation, activation=LINEAR)(*args, **kwargs)
            else:
                output = operation(*args, **kwargs)
            first, *others = tree.flatten(output)
            first = tap(step, relu(first) if step.gate == "relu" else first)
            for source in set(step.sources.values()):  # what nobody needs any more is let go
                if last_use[source] is step and source not in kept:
                    del values[source]
            values |= {(step, number): value for number, value in enumerate([first, *others])}
    return [values[output] for output in found.outputs]


# ---------------------------------------------------------------------------------------------------------- checks


def predict(model: keras.Model, found: Survey, images: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return what the model itself gives, in inference mode and float32, and how many variables it would write to."""
    with full_precision(found.halves):
        return eager(lambda x: model(x, training=False), images)


def first_difference(model: keras.Model, found: Survey, images: np.ndarray) -> str:
    """Say where the steps part from the model: run both and compare what each operation gives, call by call."""
    called, wrapped = {}, []

    def listen(operation):
        original = operation.call

        def call(*args, **kwargs):
            output = original(*args, **kwargs)
            called.setdefault(id(operation), []).append(keras.ops.convert_to_numpy(tree.flatten(output)[0]))
            return output

        operation.__dict__["call"] = call
        wrapped.append(operation)

    for operation in {id(step.operation): step.operation for step in found.steps[1:]}.values():
        listen(operation)
    try:
        predict(model, found, images)
    finally:
        for operation in wrapped:
            del operation.__dict__["call"]
    replayed = {}

    def note(step, output):
        replayed[step] = keras.ops.convert_to_numpy(output)
        return output

    eager(lambda x: replay(found, x, keras.ops.relu, note), images)
    seen = Counter()
    for step in found.steps[1:]:
        own = called.get(id(step.operation), [])
        turn, seen[id(step.operation)] = seen[id(step.operation)], seen[id(step.operation)] + 1
        if turn >= len(own):
            return f"the model never calls layer {step.name!r}, which its graph holds"
        if not agree(replayed[step], own[turn]):
            return f"they part at layer {step.name!r} ({type(step.operation).__name__})"
    return "the model does more than call its layers"


def agree(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> bool:
    """Return whether two arrays are equal to a fraction of the largest expected value, NaN and infinity in place."""
    if found.shape != expected.shape:
        return False
    found, expected = np.asarray(found, "float64"), np.asarray(expected, "float64")
    finite = np.isfinite(expected)
    scale = np.abs(expected[finite]).max(initial=1e-30)
    same = np.array_equal(found[~finite], expected[~finite], equal_nan=True)
    return same and bool((np.abs(found[finite] - expected[finite]) <= tolerance * scale).all())


def snapshot(model: keras.Model) -> list[tuple]:
    """Return what a model is made of: its layers, and what they hold, all but the values of their variables."""

    def content(value):
        if isinstance(value, np.ndarray):
            return value.copy()
        return tuple(value.items() if isinstance(value, dict) else value) if isinstance(value, (dict, list)) else None

    def held(layer) -> dict:
        return {name: (value, content(value)) for name, value in layer.__dict__.items() if name not in VOLATILE}

    return [(layer, held(layer)) for layer in model._flatten_layers()]


def unchanged(before: list[tuple], model: keras.Model) -> bool:
    """Return whether a model is still made of what `snapshot` saw, object by object, lists and arrays by content."""

    def same(value, old, content) -> bool:
        if value is not old or content is None:
            return value is old
        if isinstance(value, np.ndarray):
            return value.tobytes() == content.tobytes()
        entries = tree.flatten(list(value.items() if isinstance(value, dict) else value))
        return len(entries) == len(content) and all(a is b for a, b in zip(entries, content, strict=True))

    now = model._flatten_layers()
    return len(now) == len(before) and all(
        layer is old
        and all(
            same(value, *held.get(name, (_Unread, None)))
            for name, value in layer.__dict__.items()
            if name not in VOLATILE
        )
        for layer, (old, held) in zip(now, before, strict=True)
    )
