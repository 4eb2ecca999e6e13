"""One forward and two backward passes through any Keras classifier, on TensorFlow, JAX or torch.

The only file that knows a backend. With `attribution.py` it can be lifted out: the two need Keras and NumPy only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

BACKEND = keras.backend.backend()
SMOOTH = tuple(
    getattr(keras.activations, name)
    for name in ("linear", "softmax", "log_softmax", "sigmoid", "tanh", "softplus", "softsign", "exponential")
)
UNGATED = {
    *(
        "Add",
        "Subtract",
        "Multiply",
        "Divide",
        "TrueDivide",
        "Negative",
        "Square",
        "Sqrt",
        "Rsqrt",
        "Exp",
        "Log",
        "Power",
    ),
    *("Mean", "Sum", "Var", "Softmax", "Sigmoid", "Tanh", "Matmul", "Einsum", "Conv", "MaxPool", "AveragePool", "Pad"),
    *("Reshape", "Transpose", "Flatten", "Squeeze", "ExpandDims", "Concatenate", "Stack", "Split", "GetItem", "Cast"),
}

if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
else:
    raise ImportError(
        f"Keras runs on {BACKEND!r}, which has no gradients here: set KERAS_BACKEND to tensorflow, jax or torch."
    )


class Gate:
    """The rule by which every ReLU of a pass lets a gradient through.

    Plain: g where the output a > 0. Guided: g where a > 0 and g > 0 (Springenberg et al. 2015, arXiv 1412.6806).
    """

    guided = False


def _gradients_tensorflow(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
    gate, taps = Gate(), {"input": images}

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
    gate = Gate()

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
            plain = dict(
                zip(wrt, torch.autograd.grad(total, sources, retain_graph=guided, allow_unused=True), strict=True)
            )
        if guided:
            gate.guided = True
            (guided_gradient,) = torch.autograd.grad(total, images, allow_unused=True)
    return score, taps, plain, guided_gradient


def _gradients_jax(forward: Callable, images, wrt: tuple[str, ...], guided: bool):
    gate, probes = Gate(), {}

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
    images : tensor
        The input, (n, H, W, C).
    wrt : tuple of str
        "input" and names of taps: the plain gradient of the summed score is taken with respect to these.
    guided : bool
        Whether to go back once more, with guided gates, to the input.

    Returns
    -------
    score : tensor, (n,)
    taps : dict of tensor
        The tapped tensors, and "input".
    plain : dict of tensor
        The gradient by name in `wrt`.
    guided : tensor or None
        The guided gradient with respect to `images`.

    Raises
    ------
    ValueError
        If the score does not depend on one of `wrt`.
    """
    run = {"tensorflow": _gradients_tensorflow, "jax": _gradients_jax, "torch": _gradients_torch}[BACKEND]
    score, taps, plain, guided_gradient = run(forward, images, wrt, guided)
    for name in wrt:
        if plain[name] is None:
            raise ValueError(
                f"The class score does not depend on {name!r}: no gradient reaches it. Choose another layer."
            )
    if guided and guided_gradient is None:
        raise ValueError("The class score does not depend on the input.")
    return score, taps, plain, guided_gradient


def compiled(function: Callable, variables: list, signature: list[tuple[tuple, str]]) -> Callable:
    """Compile a function of arrays once, for batches of any size.

    Parameters
    ----------
    function : callable
        Takes as many tensors as `signature` has entries, returns a list of tensors as long as its first argument.
    variables : list of keras.Variable
        What the function reads: later changes of their values are seen, writes to them are not done.
    signature : list of (shape, dtype)
        Shapes with None where they vary.

    Returns
    -------
    callable
        Takes and returns NumPy arrays.

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

        def run(*arguments):
            padded = [
                np.pad(a, [(0, (1 << (len(a) - 1).bit_length()) - len(a))] + [(0, 0)] * (a.ndim - 1), "edge")
                for a in arguments
            ]
            return [output[: len(arguments[0])] for output in traced([v.value for v in variables], *padded)]

    else:

        def stateless(*arguments):
            with keras.StatelessScope():
                return function(*arguments)

        if BACKEND == "tensorflow":
            specs = [tf.TensorSpec(shape, dtype) for shape, dtype in signature]
            run = tf.function(stateless, input_signature=specs, autograph=False)
        else:

            def run(*arguments):
                with torch.no_grad():
                    return stateless(*map(keras.ops.convert_to_tensor, arguments))

    return lambda *arguments: [np.array(keras.ops.convert_to_numpy(output)) for output in run(*arguments)]


@dataclass(frozen=True)
class Step:
    """One operation of a model: where it lies, what feeds it, the shape that it gives, its gate (`gate_of`)."""

    name: str
    operation: object
    parents: tuple["Step", ...]
    shape: tuple
    gate: str


def walk(model: keras.Model, inputs, visit: Callable, path: str = ""):
    """Replay a Functional or Sequential model operation by operation, nested models inlined.

    `visit(name, operation, *args, **kwargs)` returns what the operation is to give. `name` is the operation's own,
    after the names of the models it lies in: "resnet50/conv1_conv". The model is not changed: nothing symbolic is
    called.

    Raises
    ------
    TypeError
        If a model's graph is not known, as in a subclassed model.
    """
    graph = getattr(model, "_functional", model)
    if not hasattr(graph, "_run_through_graph"):
        raise TypeError(
            f"Model {model.name!r} ({type(model).__name__}) has no graph of layers to follow: build it with the "
            "Functional or Sequential API (a Sequential model needs an Input)."
        )

    def visitor(operation):
        name = path + operation.name
        if isinstance(operation, keras.Model):
            return lambda *args, **kwargs: walk(operation, args[0], visit, name + "/")
        return lambda *args, **kwargs: visit(name, operation, *args, **kwargs)

    return graph._run_through_graph(inputs, operation_fn=visitor)


def survey(model: keras.Model) -> list[Step]:
    """Return the steps of a model in the order of their execution, the input first and the output last."""
    steps = [Step("input", None, (), tuple(model.inputs[0].shape), "none")]

    def visit(name, operation, *args, **kwargs):
        parents = tuple(leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, Step))
        outputs = operation._inbound_nodes[-1].output_tensors
        steps.append(Step(name, operation, parents, tuple(outputs[0].shape), gate_of(operation)))
        return [steps[-1]] * len(outputs) if len(outputs) > 1 else steps[-1]

    (output,) = keras.tree.flatten(walk(model, steps[0], visit))
    return [*(step for step in steps if step is not output), output]


def inner_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return the layers inside a layer, an activation that was given as a layer left out."""
    return [
        inner for inner in layer._flatten_layers(include_self=False) if inner is not getattr(layer, "activation", None)
    ]


def is_relu(function: Callable) -> bool:
    """Return whether an element-wise function is max(x, 0), by trying it."""
    grid = np.float32([[-1e4, -100, -6.1, -1, -0.1, -1e-3, 0, 1e-3, 0.1, 1, 5.9, 6.1, 100, 1e4]])
    return np.array_equal(keras.ops.convert_to_numpy(function(keras.ops.convert_to_tensor(grid))), np.maximum(grid, 0))


def gate_of(operation) -> str:
    """Return "relu", "none" (nothing here gates a gradient as a ReLU does) or what stands in the way of knowing.

    An operation that is not known is never taken for one without a gate.
    """
    kind = type(operation).__name__
    if not isinstance(operation, keras.layers.Layer):
        if kind in ("Relu", "ReLU"):
            return "relu" if is_relu(operation.call) else "a ReLU with a slope, a cap or a threshold"
        return "none" if kind in UNGATED else f"the operation {kind}"
    if isinstance(operation, keras.layers.Lambda) or not type(operation).__module__.startswith("keras."):
        return f"{kind}, whose inside is not known"
    if isinstance(operation, keras.layers.ReLU):
        return "relu" if is_relu(operation.call) else "a ReLU with a slope, a cap or a threshold"
    if isinstance(operation, (keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU)):
        return f"{kind}, no plain ReLU"
    if inner_layers(operation):
        return f"{kind}, a layer that holds others"
    activation = getattr(operation, "activation", None)
    if activation is None or activation in SMOOTH:
        return "none"
    return (
        "relu"
        if is_relu(activation)
        else f"the activation {getattr(activation, '__name__', activation)}, no plain ReLU"
    )


def twin(layer: keras.layers.Layer, **changes) -> keras.layers.Layer:
    """Return a layer that shares everything with `layer`, its variables too, but for the attributes in `changes`."""
    copy = object.__new__(type(layer))
    copy.__dict__.update(layer.__dict__, **changes)
    return copy


def replay(model: keras.Model, images, relu: Callable, tap: Callable, steps: list[Step], head: str):
    """Run a model in inference mode and float32 and return its class scores (n, classes).

    Every plain ReLU goes through `relu`, every step's output through `tap` (see `gradients`). The activation of the
    step named `head` (softmax, sigmoid or none) is left out. The model is unchanged: where an activation must be
    split from its layer, a twin that shares the variables is called.
    """
    gates = {step.name: step.gate for step in steps}

    def visit(name, operation, *args, **kwargs):
        layer = isinstance(operation, keras.layers.Layer)
        changes = {}
        if layer and operation._call_has_training_arg:
            kwargs["training"] = False
        if layer and operation.compute_dtype != operation.variable_dtype and not inner_layers(operation):
            changes["_dtype_policy"] = keras.DTypePolicy("float32")
        activated = "activation" in getattr(operation, "__dict__", ())
        if activated and (gates[name] == "relu" or name == head):
            changes["activation"] = keras.activations.linear
        if not activated and (
            gates[name] == "relu" or (name == head and type(operation).__name__ in ("Softmax", "Sigmoid"))
        ):
            output = args[0]
        else:
            output = (twin(operation, **changes) if changes else operation)(*args, **kwargs)
        return tap(name, relu(output) if gates[name] == "relu" and name != head else output)

    return keras.tree.flatten(walk(model, images, visit))[0]
