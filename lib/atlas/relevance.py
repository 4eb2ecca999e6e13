"""Relevance that a class score hands back layer by layer: LRP with its rules, and DeepLIFT's rescale rule."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import ops

from lib.atlas.walk_back import Trace, Walk, as_array, kind, pull_back
from lib.network_steps import Step

WEIGHTED = ("Dense", "Conv2D", "DepthwiseConv2D")


class Rule(NamedTuple):
    r"""How a layer's relevance is shared among its inputs.

    `name`: "epsilon" (`value` stabilises: 0 for LRP-0), "gamma" (`value` favours positive weights), "alpha_beta"
    (`value` is alpha, beta = alpha - 1; 1 gives z+), "flat" (all inputs alike), "w2" (by squared weights) or "bounds"
    (`value` is the lowest and the highest input, also called z^B).
    """

    name: str
    value: float | tuple[float, float] = 0.0


ZERO, Z_PLUS, FLAT = Rule("epsilon", 0.0), Rule("alpha_beta", 1.0), Rule("flat")
RULES = {  # rule of the dense layers, of the convolutions, and of the first layer
    "lrp_0": (ZERO, ZERO, ZERO),
    "lrp_epsilon": (Rule("epsilon", 0.25), Rule("epsilon", 0.25), Rule("epsilon", 0.25)),
    "lrp_z_plus": (Z_PLUS, Z_PLUS, FLAT),
    "lrp_alpha2_beta1": (Rule("epsilon", 0.01), Rule("alpha_beta", 2.0), FLAT),
}


def lrp(walk: Walk, images: np.ndarray, classes: np.ndarray, rules: str | tuple = "lrp_epsilon") -> np.ndarray:
    r"""Return layer-wise relevance propagation of the class score, (n, H, W, C), signed.

    Parameters
    ----------
    walk : Walk
    images : array (n, H, W, C)
    classes : int array (n,)
    rules : str or tuple of Rule
        A name of `RULES`, or the rules of dense layers, of convolutions, and of the first layer with weights.

    Notes
    -----
    With the inputs :math:`a_i`, weights :math:`w_{ij}`, biases :math:`b_j` and :math:`z_j = \sum_i a_i w_{ij} + b_j`
    of a layer (Bach et al. 2015, doi:10.1371/journal.pone.0130140; Montavon et al. 2019,
    doi:10.1007/978-3-030-28954-6_10)

    .. math:: R_i = \sum_j \frac{a_i w_{ij}}{z_j + \epsilon\, \mathrm{sign}(z_j)} R_j .

    Alpha-beta takes positive and negative products :math:`a_i w_{ij}` apart, with weights :math:`\alpha` and
    :math:`-\beta`; flat replaces :math:`a_i w_{ij}` by 1, w2 by :math:`w_{ij}^2`, bounds by :math:`a_i w_{ij} - l
    w_{ij}^+ - h w_{ij}^-`. Here :math:`\epsilon` is a share of the root mean square of :math:`z`, so that it means the
    same in every layer and for every scale of the scores. A ReLU hands on what it receives, max pooling gives all to
    the winner. What biases and :math:`\epsilon` take up does not arrive at the image.
    """
    return as_array(relevances(walk, images, classes, rules)[walk.steps[0]])


def relevances(walk: Walk, images: np.ndarray, classes: np.ndarray, rules: str | tuple) -> dict[Step, object]:
    """Return the relevance that arrives at the output of each step, by step; see :func:`lrp`."""
    dense, convolution, first = RULES[rules] if isinstance(rules, str) else rules
    begin = next(step for step in walk.steps[1:] if kind(step) in WEIGHTED)

    def rule(walk: Walk, step: Step, trace: Trace, signal) -> list:
        inputs = [trace.after[parent] for parent in step.parents]
        if kind(step) in ("MaxPooling2D", "GlobalMaxPooling2D"):
            return pull_back(walk.linear_part(step), inputs, signal)
        if kind(step) not in WEIGHTED:
            return _share(walk.linear_part(step), inputs, signal, 0.0)
        chosen = first if step is begin else dense if kind(step) == "Dense" else convolution
        return [_weighted(step, inputs[0], signal, chosen)]

    trace = walk.forward(images)
    return walk.back(trace, walk.start(trace, classes), rule)


def _share(function: Callable, inputs: list, signal, epsilon: float) -> list:
    """Share a signal among inputs in proportion to what each adds to the function."""
    pulled = pull_back(function, inputs, _divide(signal, function(*inputs), epsilon))
    return [tensor * back for tensor, back in zip(inputs, pulled, strict=True)]


def _divide(signal, z, epsilon: float):
    """Return signal / z with z pushed away from 0; 0 where z is exactly 0."""
    scale = ops.sqrt(ops.mean(ops.square(z), axis=tuple(range(1, len(z.shape))), keepdims=True))
    z = z + epsilon * scale * ops.where(z < 0, -ops.ones_like(z), ops.ones_like(z))
    safe = ops.where(z == 0, ops.ones_like(z), z)
    return ops.where(z == 0, ops.zeros_like(z), signal / safe)


def _apply(step: Step) -> tuple[Callable, object, object]:
    """Return a layer as a function of input and weights, its weights, and its bias (None where it has none)."""
    layer = step.operation
    if kind(step) == "Dense":
        return ops.matmul, layer.kernel, layer.bias if layer.use_bias else None
    settings = dict(strides=layer.strides, padding=layer.padding, data_format=layer.data_format)
    settings["dilation_rate"] = layer.dilation_rate
    convolve = ops.depthwise_conv if kind(step) == "DepthwiseConv2D" else ops.conv
    return lambda x, w: convolve(x, w, **settings), layer.kernel, layer.bias if layer.use_bias else None


def _weighted(step: Step, x, signal, rule: Rule):
    """Return the relevance of a layer's inputs."""
    apply, kernel, bias = _apply(step)
    kernel = ops.convert_to_tensor(kernel)
    shift = 0.0 if bias is None else _spread_bias(step, ops.convert_to_tensor(bias))
    if rule.name == "epsilon":
        return _share(lambda x: apply(x, kernel) + shift, [x], signal, rule.value)[0]
    if rule.name == "gamma":
        favoured = kernel + rule.value * ops.relu(kernel)
        shift = shift + rule.value * ops.relu(ops.convert_to_tensor(shift, kernel.dtype))
        return _share(lambda x: apply(x, favoured) + shift, [x], signal, 0.0)[0]
    if rule.name == "alpha_beta":
        alpha, total = rule.value, 0.0
        for weight, sign in ((alpha, 1), (1 - alpha, -1)):
            if weight:
                total = total + weight * _one_sign(apply, kernel, x, signal, sign, shift)
        return total
    if rule.name in ("flat", "w2"):
        weights = ops.ones_like(kernel) if rule.name == "flat" else ops.square(kernel)
        ones = ops.ones_like(x)
        return _share(lambda x: apply(x, weights), [ones], signal, 0.0)[0]
    if rule.name == "bounds":
        low, high = (value * ops.ones_like(x) for value in rule.value)
        parts = [x, low, high]
        return sum(_share(lambda x, low, high: (apply(x, kernel) - apply(low, ops.relu(kernel))
                                                + apply(high, ops.relu(-kernel))), parts, signal, 0.0))  # fmt: skip
    raise ValueError(f"Rule {rule.name!r} is not known: choose epsilon, gamma, alpha_beta, flat, w2 or bounds.")


def _one_sign(apply: Callable, kernel, x, signal, sign: int, shift):
    """Share a signal among the products (and the bias) of one sign: of equal, or of opposite signs of their factors."""
    same, other = (ops.relu(kernel), -ops.relu(-kernel)) if sign > 0 else (-ops.relu(-kernel), ops.relu(kernel))
    positive, negative = ops.relu(x), -ops.relu(-x)
    bias = sign * ops.relu(sign * ops.convert_to_tensor(shift, kernel.dtype))
    return sum(_share(lambda p, n: apply(p, same) + apply(n, other) + bias, [positive, negative], signal, 0.0))


def _spread_bias(step: Step, bias):
    """Return a bias in the form in which it is added to the layer's output."""
    if kind(step) == "Dense" or step.operation.data_format == "channels_last":
        return bias
    return ops.reshape(bias, (1, -1, 1, 1))


def deep_lift(
    walk: Walk, images: np.ndarray, classes: np.ndarray, baseline: np.ndarray, *, least: float = 1e-6
) -> np.ndarray:
    r"""Return DeepLIFT with the rescale rule: contributions to the change of the class score, (n, H, W, C), signed.

    Parameters
    ----------
    walk : Walk
    images, baseline : array (n, H, W, C)
        The images, and what each is compared with.
    classes : int array (n,)
    least : float
        Where the input of a ReLU differs by less, its gradient is taken.

    Notes
    -----
    With the differences :math:`\Delta` between image and baseline, a ReLU has the multiplier :math:`m = \Delta y /
    \Delta x`, a linear step its gradient, and multipliers are chained (Shrikumar et al. 2017, arXiv 1704.02685). The
    map is :math:`m\, \Delta x` at the image; it sums to the difference of the scores. For max pooling, with
    :math:`\hat y = \max(y, y_0)`, the contribution :math:`m (\hat y - y_0)` goes to the image's winner and
    :math:`m (y - \hat y)` to the baseline's, which keeps the sum where another cell wins (as captum does it).
    """
    here, there = walk.forward(images), walk.forward(np.broadcast_to(baseline, np.shape(images)).astype(images.dtype))

    def rule(walk: Walk, step: Step, trace: Trace, signal) -> list:
        if step.gate == "relu":
            dx = trace.before[step] - there.before[step]
            dy = trace.after[step] - there.after[step]
            near = ops.abs(dx) < least
            slope = ops.cast(trace.before[step] > 0, signal.dtype)
            signal = signal * ops.where(near, slope, dy / ops.where(near, ops.ones_like(dx), dx))
        inputs = [trace.after[parent] for parent in step.parents]
        function = walk.linear_part(step)
        if kind(step) not in ("MaxPooling2D", "GlobalMaxPooling2D"):
            return pull_back(function, inputs, signal)
        before = [there.after[parent] for parent in step.parents]
        higher = ops.maximum(trace.after[step], there.after[step])
        (one,) = pull_back(function, inputs, signal * (higher - there.after[step]))
        (other,) = pull_back(function, before, signal * (trace.after[step] - higher))
        dx = inputs[0] - before[0]
        near = ops.abs(dx) < least
        (plain,) = pull_back(function, inputs, signal)
        return [ops.where(near, plain, (one + other) / ops.where(near, ops.ones_like(dx), dx))]

    signals = walk.back(here, walk.start(here, classes, values=False), rule)
    first = walk.steps[0]
    return as_array(signals[first] * (here.after[first] - there.after[first]))
