"""One forward and two backward passes through any Keras classifier, on TensorFlow, JAX or torch.

The only file that knows a backend. With `attribution.py` it can be lifted out: the two need Keras and NumPy only.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from types import SimpleNamespace

import keras
import numpy as np

BACKEND = keras.backend.backend()
SMOOTH = ("linear", "softmax", "log_softmax", "sigmoid", "tanh", "softplus", "softsign", "exponential")
SMOOTH = [getattr(keras.activations, name) for name in SMOOTH]
PURE_ACTIVATIONS = ("ReLU", "Relu", "Softmax", "Sigmoid")
UNGATED = (  # operations, by the name of their class
    "Add Subtract Multiply Divide TrueDivide Negative Square Sqrt Rsqrt Exp Log Power Mean Sum Var Softmax Sigmoid "
    "Tanh Matmul Einsum Conv MaxPool AveragePool Pad Reshape Transpose Flatten Squeeze ExpandDims Concatenate Stack "
    "Split GetItem Cast"
)

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


def _gradients_tensorflow(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
    gate, taps = SimpleNamespace(guided=False), {"input": images}

    @tf.custom_gradient
    def relu(x):
        output = tf.nn.relu(x)

        def backward(gradient):
            gradient = tf.nn.relu(gradient) if gate.guided else gradient
            return tf.raw_ops.ReluGrad(gradients=gradient, features=output)

        return output, backward

    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(images)
        score = forward(images, relu, lambda name, tensor: taps.setdefault(name, tensor))
    plain = tape.gradient(score, {name: taps[name] for name in wrt}) if wrt else {}
    gate.guided = True
    return score, taps, plain, tape.gradient(score, images) if guided else None


def _gradients_torch(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
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
        taps = {"input": images}
        score = forward(images, Relu.apply, lambda name, tensor: taps.setdefault(name, tensor))
        total, plain, guided_gradient = score.sum(), {}, None
        if wrt:
            sources = [taps[name] for name in wrt]
            found = torch.autograd.grad(total, sources, retain_graph=guided, allow_unused=True)
            plain = dict(zip(wrt, found, strict=True))
        if guided:
            gate.guided = True
            (guided_gradient,) = torch.autograd.grad(total, images, allow_unused=True)
    return score, taps, plain, guided_gradient


def _gradients_jax(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
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

        def tap(name, tensor):
            return taps.setdefault(name, probe(tensor, probes[name]) if name in probes else tensor)

        score = forward(images, relu, tap)
        return score.sum(), (score, taps)

    shapes = jax.eval_shape(run, images, {})[1][1]
    probes = {name: jax.numpy.zeros(shapes[name].shape, shapes[name].dtype) for name in wrt if name != "input"}
    _, pullback, (score, taps) = jax.vjp(run, images, probes, has_aux=True)
    gradient, plain = pullback(jax.numpy.ones((), score.dtype)) if wrt else (None, {})
    gate.guided = True
    guided_gradient = pullback(jax.numpy.ones((), score.dtype))[0] if guided else None
    return score, {"input": images, **taps}, {"input": gradient, **plain}, guided_gradient


def gradients(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
    """Run `forward` once and go back through it at most twice.

    Parameters
    ----------
    forward : callable
        `forward(images, relu, tap) -> score`, (n,). It sends every ReLU through `relu` and every tensor of interest
        through `tap(name, tensor)`, and goes on with what `tap` returns.
    images : tensor, (n, H, W, C)
    wrt : tuple of str
        "input" and names of taps: the plain gradient of the summed score is taken with respect to these.
    guided : bool
        Whether to go back once more to the input, every ReLU letting g through only where a > 0 and g > 0.

    Returns
    -------
    score, taps, plain, guided
        The score (n,); tapped tensors by name; plain gradients by name in `wrt`; the guided gradient, or None.

    Raises
    ------
    ValueError
        If the score does not depend on one of `wrt`.
    """
    run = {"tensorflow": _gradients_tensorflow, "jax": _gradients_jax, "torch": _gradients_torch}[BACKEND]
    score, taps, plain, guided_gradient = run(forward, images, wrt, guided)
    cut = [name for name in wrt if plain[name] is None] + (["input"] if guided and guided_gradient is None else [])
    if cut:
        raise ValueError(
            f"The class score does not depend on {cut[0]!r}: no gradient reaches it. Choose another layer."
        )
    return score, taps, plain, guided_gradient


def compiled(function: Callable, variables: list, specs: list[tuple[tuple, str]]) -> Callable:
    """Compile a function of arrays once, for batches of any size; return a callable that takes and gives NumPy arrays.

    Parameters
    ----------
    function : callable
        Takes as many tensors as `specs` has entries, returns a list of tensors as long as its first argument.
    variables : list of keras.Variable
        What the function reads: later changes of their values are seen, writes to them are not done.
    specs : list of (shape, dtype)
        Of the arguments; None where a length varies.

    Notes
    -----
    TensorFlow traces once. XLA compiles by shape, so JAX gets batches padded to powers of two: one trace for each of
    these. torch runs eagerly.
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


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a model.

    `name` is the operation's, after the names of the models it lies in ("resnet50/conv1_conv"); its second call ends
    in "#2". `operation` and `node` are Keras's own. `sources` tells, by the identity of each tensor that enters, which
    step gives it, and as which output. `shape` is that of the first output, batch first. `gate`: see `gate_of`.
    """

    name: str
    operation: object
    node: object
    sources: dict
    shape: tuple
    gate: str

    @property
    def parents(self) -> list["Step"]:
        """The steps that feed this one."""
        return [step for step, _ in self.sources.values()]


def survey(model: keras.Model) -> list[Step]:
    """Return a model's steps in the order of their execution, nested models inlined; the input is first.

    Raises
    ------
    TypeError
        If a model's graph is not known, as in a subclassed model.
    """
    steps, calls = [Step("input", None, None, {}, tuple(model.inputs[0].shape), "none")], Counter()

    def follow(model, entering: list, path: str) -> list:
        graph = getattr(model, "_functional", model)
        if not hasattr(graph, "_nodes_by_depth"):
            raise TypeError(
                f"Model {model.name!r} ({type(model).__name__}) has no graph of layers to follow: build it with the "
                "Functional or Sequential API (a Sequential model needs an Input)."
            )
        known = dict(zip(map(id, graph.inputs), entering, strict=True))
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input or any(id(t) not in known for t in node.input_tensors):
                    continue
                name, sources = path + node.operation.name, {id(t): known[id(t)] for t in node.input_tensors}
                if isinstance(node.operation, keras.Model):
                    leaving = follow(node.operation, [known[id(t)] for t in node.input_tensors], name + "/")
                else:
                    calls[name] += 1
                    name += f"#{calls[name]}" if calls[name] > 1 else ""
                    shape, gate = tuple(node.outputs[0].shape), gate_of(node.operation)
                    steps.append(Step(name, node.operation, node, sources, shape, gate))
                    leaving = [(steps[-1], number) for number in range(len(node.outputs))]
                known.update(zip(map(id, node.outputs), leaving, strict=True))
        return [known[id(tensor)] for tensor in graph.outputs]

    follow(model, [(steps[0], 0)], "")
    return steps


def has_layers(layer: keras.layers.Layer) -> bool:
    """Return whether a layer holds others, an activation that was given as a layer left out."""
    return any(inner is not getattr(layer, "activation", None) for inner in layer._flatten_layers(include_self=False))


def is_relu(function: Callable) -> bool:
    """Return whether an element-wise function is max(x, 0), by trying it."""
    grid = np.float32([[-1e4, -100, -6.1, -1, -0.1, -1e-3, 0, 1e-3, 0.1, 1, 5.9, 6.1, 100, 1e4]])
    found = keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(grid)))
    return np.array_equal(found.astype("float32"), np.maximum(grid, 0).astype(found.dtype).astype("float32"))


def gate_of(operation) -> str:
    """Return "relu", "none" (nothing here gates a gradient as a ReLU does) or what stands in the way of knowing.

    An operation that is not known is never taken for one without a gate.
    """
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) or kind in ("Relu", "ReLU"):
        return "relu" if is_relu(operation.call) else "a ReLU with a slope, a cap or a threshold"
    if not isinstance(operation, keras.layers.Layer):
        return "none" if kind in UNGATED.split() else f"the operation {kind}"
    if isinstance(operation, keras.layers.Lambda) or not type(operation).__module__.startswith("keras."):
        return f"{kind}, whose inside is not known"
    if isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)):
        return f"{kind}, no plain ReLU"
    if has_layers(operation):
        return f"{kind}, a layer that holds others"
    activation = getattr(operation, "activation", None)
    if activation is None or activation in SMOOTH:
        return "none"
    return "relu" if is_relu(activation) else f"the activation {getattr(activation, '__name__', activation)}, no ReLU"


def twin(layer: keras.layers.Layer, **changes) -> keras.layers.Layer:
    """Return a layer that shares everything with `layer`, its variables too, but for the attributes in `changes`."""
    copy = object.__new__(type(layer))
    copy.__dict__.update(layer.__dict__, **changes)
    return copy


def replay(steps: list[Step], head: Step, images, relu: Callable, tap: Callable):
    """Run a model step by step in inference mode and float32 and return its class scores (n, classes).

    Every plain ReLU goes through `relu`, every step's output through `tap(step, output)`. The activation of `head`
    (softmax, sigmoid or none) is left out. The model is unchanged: where an activation must be split from its layer,
    a twin that shares the variables is called.
    """
    values = {(steps[0], 0): images}
    for step in steps[1:]:
        args, kwargs = step.node.arguments.fill_in({key: values[source] for key, source in step.sources.items()})
        operation, changes = step.operation, {}
        split = step.gate == "relu" or step is head
        if isinstance(operation, keras.layers.Layer):
            if "training" in signature(operation.call).parameters:
                kwargs["training"] = False
            if operation.compute_dtype != operation.variable_dtype and not has_layers(operation):
                changes["_dtype_policy"] = keras.DTypePolicy("float32")
            if split and "activation" in operation.__dict__:
                changes["activation"] = keras.activations.linear
        if split and not changes.get("activation") and type(operation).__name__ in PURE_ACTIVATIONS:
            output = args[0]
        else:
            output = (twin(operation, **changes) if changes else operation)(*args, **kwargs)
        output = tap(step, relu(output) if step.gate == "relu" else output)
        values |= {(step, number): value for number, value in enumerate(keras.tree.flatten(output))}
    return output
