"""Rules of backward walks and maps of many gradients: identities in double precision, naive loops, captum."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from lib.atlas.path_gradients import gradient_x_input, gradients_of, integrated_gradients, smooth_gradients
from lib.atlas.relevance import FLAT, RULES, WEIGHTED, ZERO, Rule, deep_lift, lrp, relevances
from lib.atlas.walk_back import Walk, as_array, grad_cam_pp, gradient, kind
from lib.attribution import Attributor, guided_backprop, saliency
from lib.networks import phase_net

CLASSES = np.array([2, 0, 3])


def small_net(bias=0.1, seed=1, dtype="float64", head="softmax"):
    """conv1 conv2 pool conv3 GAP dense, as the paper's network in small."""
    keras.utils.set_random_seed(seed)
    how = dict(bias_initializer=keras.initializers.RandomNormal(stddev=bias) if bias else "zeros", dtype=dtype)
    inputs = x = keras.Input((12, 12, 1), dtype=dtype)
    for name, kernels in (("conv1", 5), ("conv2", 6)):
        x = kl.Conv2D(kernels, 3, padding="same", activation="relu", name=name, **how)(x)
    x = kl.Conv2D(7, 3, padding="same", activation="relu", name="conv3", **how)(kl.MaxPooling2D(dtype=dtype)(x))
    x = kl.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(inputs, kl.Dense(4, activation=head, name="phase", **how)(x))


def images_of(n=3, dtype="float64", seed=0):
    return np.random.default_rng(seed).standard_normal((n, 12, 12, 1)).astype(dtype)


def sums(maps):
    return maps.reshape(len(maps), -1).sum(axis=1)


def close(found, expected, tolerance=1e-8):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def chosen(walk, images):
    return walk.scores(images)[range(len(images)), CLASSES]


def test_four_methods_are_one_without_biases():
    """Positively homogeneous: gradient x input = integrated gradients = LRP-0 = DeepLIFT(0), and sums to the score."""
    walk, images = Walk(small_net(bias=0)), images_of()
    product = gradient(walk, images, CLASSES, "saliency") * images
    close(lrp(walk, images, CLASSES, "lrp_0"), product)
    close(deep_lift(walk, images, CLASSES, np.zeros_like(images)), product)
    close(integrated_gradients(lambda x, c: gradient(walk, x, c, "saliency"), images, CLASSES, steps=4), product)
    close(sums(product), chosen(walk, images))


def test_deep_lift_sums_to_the_difference_of_scores_where_other_cells_win():
    walk, images, baseline = Walk(small_net()), images_of(), images_of(seed=5)
    found = deep_lift(walk, images, CLASSES, baseline)
    close(sums(found), chosen(walk, images) - chosen(walk, baseline))
    naive = deep_lift(walk, images, CLASSES, baseline, least=1e9)  # all gradients: no sum to rely on
    assert np.abs(sums(naive) - (chosen(walk, images) - chosen(walk, baseline))).max() > 1e-3


def test_deep_lift_of_a_linear_network_is_the_gradient_times_the_difference():
    keras.utils.set_random_seed(0)
    how = {"dtype": "float64"}
    layers = [keras.Input((12, 12, 1), dtype="float64"), kl.Conv2D(3, 3, **how), kl.AveragePooling2D(2, **how)]
    walk = Walk(keras.Sequential([*layers, kl.Flatten(**how), kl.Dense(4, **how)]))
    images, baseline = images_of(), images_of(seed=1)
    slope = gradient(walk, images, CLASSES, "saliency")
    close(deep_lift(walk, images, CLASSES, baseline), slope * (images - baseline))


@pytest.mark.parametrize(("rules", "kept"), [((ZERO,) * 3, False), ("lrp_z_plus", True), ("lrp_epsilon", False)])
def test_relevance_is_conserved_or_lost_to_biases(rules, kept):
    """z+ hands on everything layer by layer; with LRP-0 what is missing is what the biases took."""
    walk, images = Walk(small_net(bias=0 if kept else 0.1)), images_of()
    arrived = relevances(walk, images, CLASSES, rules)
    score = chosen(walk, images)
    totals = {step.name: sums(as_array(signal)) for step, signal in arrived.items()}
    if kept:
        positive = [step for step in walk.steps[1:] if kind(step) in WEIGHTED][-1]
        below = totals[positive.parents[0].name]
        for name in ("conv1", "conv2", "conv3", "input"):
            close(totals[name], below)
    else:
        assert np.abs(totals["input"] - score).max() > 1e-3 * np.abs(score).max()


def test_the_biases_of_lrp_0_are_what_is_missing():
    """Input sum + the biases' shares of each layer's relevance = score, computed from the relevance of each layer."""
    walk, images = Walk(small_net()), images_of()
    arrived, trace = relevances(walk, images, CLASSES, "lrp_0"), walk.forward(images)
    absorbed = 0
    for step in walk.steps[1:]:
        if kind(step) in WEIGHTED:
            x, bias = as_array(trace.after[step.parents[0]]), step.operation.get_weights()[1]
            layer = kl.Conv2D(len(bias), 3, padding="same", use_bias=False, dtype="float64")
            z = x @ step.operation.get_weights()[0] if kind(step) == "Dense" else None
            if z is None:
                layer.build(x.shape)
                layer.set_weights([step.operation.get_weights()[0]])
                z = as_array(layer(x))
            absorbed = absorbed + sums(as_array(arrived[step]) * bias / (z + bias))
    close(sums(as_array(arrived[walk.steps[0]])) + absorbed, chosen(walk, images))


def naive_rule(x, w, b, relevance, rule):
    """Share the relevance of each output of a dense layer, product by product."""
    found = np.zeros_like(x)
    for n in range(len(x)):
        for j in range(w.shape[1]):
            products, shift = x[n] * w[:, j], b[j]
            if rule.name == "flat":
                shares = np.ones(len(products)) / len(products)
            elif rule.name == "w2":
                shares = w[:, j] ** 2 / (w[:, j] ** 2).sum()
            elif rule.name == "alpha_beta":
                up, down = np.maximum(products, 0), np.minimum(products, 0)
                shares = rule.value * up / (up.sum() + max(shift, 0))
                shares = shares + (1 - rule.value) * down / (down.sum() + min(shift, 0))
            elif rule.name == "gamma":
                products = x[n] * (w[:, j] + rule.value * np.maximum(w[:, j], 0))
                shares = products / (products.sum() + shift + rule.value * max(shift, 0))
            elif rule.name == "bounds":
                low, high = rule.value
                products = products - low * np.maximum(w[:, j], 0) - high * np.minimum(w[:, j], 0)
                shares = products / products.sum()
            else:
                z = x[n] @ w + b
                shares = products / (z[j] + rule.value * np.sqrt((z**2).mean()) * (1 if z[j] >= 0 else -1))
            found[n] += shares * relevance[n, j]
    return found


FORMS = [ZERO, FLAT, Rule("w2"), Rule("epsilon", 0.3), Rule("gamma", 0.5), Rule("bounds", (-4.0, 5.0))]
FORMS += [Rule("alpha_beta", 1.0), Rule("alpha_beta", 2.0)]


@pytest.mark.parametrize("rule", FORMS, ids=str)
def test_each_rule_is_its_equation(rule):
    keras.utils.set_random_seed(3)
    bias = keras.initializers.RandomNormal(stddev=0.3)
    layers = [kl.Flatten(dtype="float64"), kl.Dense(4, bias_initializer=bias, dtype="float64", name="only")]
    walk = Walk(keras.Sequential([keras.Input((12, 12, 1), dtype="float64"), *layers]))
    images = images_of()
    w, b = walk.model.get_layer("only").get_weights()
    relevance = np.where(np.arange(4) == CLASSES[:, None], walk.scores(images), 0)
    expected = naive_rule(images.reshape(3, -1), w, b, relevance, rule)
    close(lrp(walk, images, CLASSES, (rule, rule, rule)).reshape(3, -1), expected)


def test_a_sum_shares_its_relevance_in_proportion_to_its_terms():
    inputs = keras.Input((2, 2, 1), dtype="float64")
    double = kl.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(2.0), dtype="float64")(inputs)
    x = kl.Flatten(dtype="float64")(kl.Add(dtype="float64")([inputs, double]))
    walk = Walk(keras.Model(inputs, kl.Dense(2, kernel_initializer="ones", dtype="float64")(x)))
    images = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    close(lrp(walk, images, np.array([0]), "lrp_0"), 3 * images)


def test_gated_gradients_are_the_attributors():
    model, images = small_net(dtype="float32"), images_of(dtype="float32")
    walk = Walk(model)
    close(gradient(walk, images, CLASSES, "saliency")[..., 0], saliency(model, images, CLASSES), 1e-5)
    close(gradient(walk, images, CLASSES, "guided_backprop")[..., 0], guided_backprop(model, images, CLASSES), 1e-5)
    deconvnet = gradient(walk, images, CLASSES, "deconvnet")
    assert np.abs(deconvnet[..., 0] - guided_backprop(model, images, CLASSES)).max() > 1e-3


def test_grad_cam_pp_is_its_equation():
    walk, images = Walk(small_net()), images_of()
    trace = walk.forward(images)
    step = walk.step_named("conv2")
    activation = as_array(trace.after[step])
    part = keras.Model(walk.model.get_layer("conv2").output, walk.model.output)
    slopes = gradient(Walk(part), activation, CLASSES, "saliency")
    found = grad_cam_pp(walk, images, CLASSES, "conv2")
    for n in range(3):
        expected = np.zeros(activation.shape[1:3])
        for k in range(activation.shape[3]):
            weight = 0.0
            for g in slopes[n, ..., k].ravel():
                below = 2 * g**2 + activation[n, ..., k].sum() * g**3
                weight += g**2 / below * max(g, 0) if below else 0.0
            expected += weight * activation[n, ..., k]
        close(found[n], np.maximum(expected, 0))


def test_integrated_gradients_are_complete():
    model, images = small_net(dtype="float32"), images_of(dtype="float32")
    walk, one = Walk(model), gradients_of(Attributor(model))
    expected = chosen(walk, images) - chosen(walk, np.zeros_like(images))
    errors = [
        np.abs(sums(integrated_gradients(one, images, CLASSES, 0.0, steps)) - expected).max() for steps in (2, 64)
    ]
    assert errors[1] < 0.01 * np.abs(expected).max() and errors[1] < errors[0]
    other = integrated_gradients(one, images, CLASSES, images_of(dtype="float32", seed=9), 2048)
    close(sums(other), chosen(walk, images) - chosen(walk, images_of(dtype="float32", seed=9)), 0.01)


def test_smoothed_gradients_of_a_quadratic_have_the_moments_of_the_noise():
    """The gradient of x^2 / 2 is x: the mean is the image, the mean square x^2 + (share x range)^2."""
    images = images_of(2, "float32")
    of_quadratic = lambda x, c: x  # noqa: E731
    settings = dict(seeds=np.array([1, 2]), noise=0.2, samples=3000)
    spread = 0.2 * np.ptp(images.reshape(2, -1), axis=1).reshape(2, 1, 1, 1)
    found = smooth_gradients(of_quadratic, images, None, **settings)
    assert np.abs(found - images).max() < 5 * spread.max() / np.sqrt(3000)
    squared = smooth_gradients(of_quadratic, images, None, squared=True, **settings)
    assert np.abs(squared.mean((1, 2, 3)) - (images**2).mean((1, 2, 3)) - spread.ravel() ** 2).max() < 0.02
    alone = smooth_gradients(of_quadratic, images[1:], None, seeds=np.array([2]), noise=0.2, samples=5)
    both = smooth_gradients(of_quadratic, images, None, seeds=np.array([1, 2]), noise=0.2, samples=5)
    np.testing.assert_array_equal(alone[0], both[1])


def test_gradient_x_input_is_the_product():
    model, images = small_net(dtype="float32"), images_of(dtype="float32")
    found = gradient_x_input(gradients_of(Attributor(model)), images, CLASSES)
    close(found[..., 0], saliency(model, images, CLASSES) * images[..., 0], 1e-6)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda x: kl.BatchNormalization()(x), "BatchNormalization.*fold"),
        (lambda x: kl.Conv2D(2, 3, activation="tanh")(x), "tanh.*no rule"),
        (lambda x: kl.LeakyReLU()(x), "LeakyReLU"),
    ],
)
def test_a_network_with_another_step_is_refused(layer, words):
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(layer(inputs))))
    with pytest.raises(ValueError, match=words):
        Walk(model)


def test_an_unknown_layer_or_rule_is_named():
    walk = Walk(small_net())
    with pytest.raises(ValueError, match=r"no layer 'conv9': it has conv1"):
        walk.step_named("conv9")
    with pytest.raises(ValueError, match="Rule 'z' is not known"):
        lrp(walk, images_of(), CLASSES, (Rule("z"),) * 3)


def test_named_rules_run_on_the_papers_network_and_do_not_see_the_batch():
    walk = Walk(phase_net(32, initializer="he_normal"))
    images = np.random.default_rng(0).standard_normal((3, 32, 32, 1)).astype("float32")
    for name in RULES:
        found = lrp(walk, images, CLASSES, name)
        assert np.isfinite(found).all() and np.abs(found).max() > 0
        close(lrp(walk, images[1:2], CLASSES[1:2], name)[0], found[1], 1e-4)


def twins(bias=0.1):
    """The small network with float32 weights, in Keras and in torch."""
    from fixtures.make_captum import twin

    model = small_net(bias, dtype="float32")
    names = ("conv1", "conv2", "conv3", "phase")
    return Walk(model), twin([tuple(model.get_layer(name).get_weights()) for name in names])


def as_torch(images):
    import torch

    return torch.tensor(images.transpose(0, 3, 1, 2).copy(), requires_grad=True)


def channels_last(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def with_a_step_before_pooling(network):
    """A convolution by 1 between the ReLU and the pooling; nothing changes but that these two share no tensor.

    Captum hooks the tensor between a ReLU and the module that follows. Where that module has a rule of its own, as max
    pooling has, the ReLU gets the gradient as it was before that rule (captum's issue 1104, its version 0.9).
    """
    import torch

    step = torch.nn.Conv2d(network[2].out_channels, network[2].out_channels, 1, bias=False)
    step.weight.data = torch.eye(step.out_channels)[:, :, None, None]
    return torch.nn.Sequential(*network[:4], step, *network[4:]).eval()


@pytest.mark.oracles
def test_captums_deconvolution_and_integrated_gradients_agree():
    captum = pytest.importorskip("captum.attr")
    import torch

    images, baseline = images_of(dtype="float32"), images_of(dtype="float32", seed=4)
    walk, network = twins()
    target = torch.tensor(CLASSES)
    theirs = captum.Deconvolution(network).attribute(as_torch(images), target=target)
    close(gradient(walk, images, CLASSES, "deconvnet"), channels_last(theirs), 1e-5)
    theirs = captum.IntegratedGradients(network).attribute(
        as_torch(images), as_torch(baseline), target=target, n_steps=200, method="gausslegendre"
    )
    one = gradients_of(Attributor(walk.model))
    close(integrated_gradients(one, images, CLASSES, baseline, 200), channels_last(theirs), 1e-3)


@pytest.mark.oracles
def test_captums_deep_lift_agrees():
    captum = pytest.importorskip("captum.attr")
    import torch

    images, baseline = images_of(dtype="float32"), images_of(dtype="float32", seed=4)
    walk, network = twins()
    network = with_a_step_before_pooling(network)
    given = dict(target=torch.tensor(CLASSES), return_convergence_delta=True)
    theirs, rest = captum.DeepLift(network).attribute(as_torch(images), as_torch(baseline), **given)
    np.testing.assert_allclose(rest.detach().numpy(), 0, atol=1e-5)
    close(deep_lift(walk, images, CLASSES, baseline), channels_last(theirs), 1e-4)


@pytest.mark.oracles
@pytest.mark.parametrize("rule", [ZERO, Rule("alpha_beta", 1.0)], ids=str)
def test_captums_lrp_agrees(rule):
    """Without biases for alpha-beta: captum keeps negative biases there, which take relevance of the wrong sign."""
    captum = pytest.importorskip("captum.attr")
    import torch
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

    walk, network = twins(bias=0.1 if rule is ZERO else 0)
    weighted = [module for module in network if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    for module in weighted[1:]:
        module.rule = EpsilonRule(1e-9) if rule is ZERO else Alpha1_Beta0_Rule()
    network[-2].rule = EpsilonRule(1e-9)  # of the flattening, for which captum has no rule
    images = images_of(dtype="float32")
    theirs = captum.LRP(network).attribute(as_torch(images), target=torch.tensor(CLASSES))
    close(lrp(walk, images, CLASSES, (rule, rule, ZERO)), channels_last(theirs), 1e-3)
