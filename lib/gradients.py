"""One forward and at most two backward passes through any Keras network, on TensorFlow, JAX or torch.

The only file that knows a backend. With `attribution.py` and `network_steps.py` it can be lifted out: the three need
Keras and NumPy only.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from inspect import signature
from types import SimpleNamespace

import keras
import numpy as np
from keras import tree

if __package__:
    from .network_steps import INPUT, LINEAR, PURE_ACTIVATIONS, Step, Survey, full_precision, twin
else:  # the three files lie side by side in a folder
    from network_steps import INPUT, LINEAR, PURE_ACTIVATIONS, Step, Survey, full_precision, twin

BACKEND = keras.backend.backend()

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
            gradient = gradient.clamp(min=0) if gate.guided else gradient
            return torch.ops.aten.threshold_backward(gradient, output, 0)

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

    def relu_backward(x, gradient):
        gradient = jax.nn.relu(gradient) if gate.guided else gradient
        return (jax.numpy.where(x > 0, gradient, 0),)

    relu.defvjp(lambda x: (jax.nn.relu(x), x), relu_backward)  # with the output in place of x XLA takes a tenth longer

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


def eager(function: Callable, *arguments, pruned: bool = False) -> tuple[list[np.ndarray], int]:
    """Call a function of tensors with arrays, once, uncompiled.

    Parameters
    ----------
    function : callable
    *arguments : arrays
    pruned : bool
        Whether TensorFlow computes what is returned alone. Its eager tape always computes the gradients of the kernels
        too, which takes as long again and has been seen to crash (oneDNN, a 1 x 1 convolution of stride 2).

    Returns
    -------
    values, written
        What it returns, flat, as arrays; how many variables it would have written to (none is).
    """
    tensors = [keras.ops.convert_to_tensor(argument) for argument in arguments]
    if pruned and BACKEND == "tensorflow":
        function = tf.function(function, autograph=False).get_concrete_function(*tensors)
    with keras.StatelessScope() as scope, torch.no_grad() if BACKEND == "torch" else nullcontext():
        values = [np.array(keras.ops.convert_to_numpy(value)) for value in tree.flatten(function(*tensors))]
    return values, len(scope.state_mapping)


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
