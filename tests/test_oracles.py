"""The maps against captum on a torch twin, and against tf-keras-vis where it is right.

captum shares no code with Keras. A fixture that it made is checked always; the rest carries the marker `oracles`.
"""

from pathlib import Path

import keras
import naive
import numpy as np
import pytest
from keras import layers as kl

from lib.attribution import Attributor, guided_backprop, saliency
from lib.networks import phase_net

FIXTURES = Path(__file__).parent / "fixtures"
PAPER_LAYERS = ("conv1b", "conv2b", "conv3b", "conv4b", "conv5b", "conv6")


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def agree_with(captum, maps, layers):
    """Compare the maps with captum's gradients, activations and products, and with the naive SAM made of them."""
    close(maps["saliency", "input"], captum["saliency"][..., 0])
    close(maps["guided_backprop", "input"], captum["guided_backprop"][..., 0])
    for layer in layers:
        activation, gradient = captum[f"A/{layer}"], captum[f"G/{layer}"]
        close(maps["hires_cam", layer], captum[f"GxA/{layer}"].sum(axis=-1))
        close(maps["layer_cam", layer], np.maximum(np.maximum(captum[f"GxA/{layer}"], 0).sum(axis=-1), 0))
        close(maps["grad_cam", layer], np.stack(list(map(naive.grad_cam, activation, gradient))))
        close(maps["sam", layer], np.stack(list(map(naive.sam, activation, gradient))))


def small_net(channels=1):
    inputs = x = keras.Input((16, 16, channels))
    for name, kernels in (("conv1", 6), ("conv2", 8)):
        x = kl.Conv2D(kernels, 3, padding="same", activation="relu", name=name)(x)
    x = kl.Conv2D(7, 3, padding="same", activation="relu", name="conv3")(kl.MaxPooling2D()(x))
    return keras.Model(inputs, kl.Dense(4, activation="softmax", name="phase")(kl.GlobalAveragePooling2D()(x)))


def test_maps_agree_with_captums_fixture():
    stored = np.load(FIXTURES / "captum.npz")
    model, layers = small_net(), ["conv1", "conv2", "conv3"]
    model.set_weights([stored[f"weights/{number}/{part}"] for number in range(4) for part in (0, 1)])
    agree_with(stored, Attributor(model, layers)(stored["images"], stored["classes"]), layers)


def trained(model, size, classes=5):
    """Train a few steps on blobs whose brightness and place tell the class: the weights are no longer random."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, 128)
    images = rng.normal(0, 0.5, (128, size, size, 1)).astype("float32")
    for image, label in zip(images, labels, strict=True):
        image[label * size // 8 : label * size // 8 + size // 4, size // 4 : size // 2] += 1 + label / 2
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.learning_rate = 1e-3
    model.fit(images, labels, epochs=6, batch_size=16, verbose=0)
    return model


@pytest.mark.oracles
@pytest.mark.parametrize("kind", ["random", "trained"])
def test_the_papers_network_agrees_with_captum_at_all_layers(kind):
    pytest.importorskip("captum")
    from fixtures.make_captum import explain, twin

    keras.utils.set_random_seed(4)
    model = phase_net(64, initializer="he_normal")
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.05, bias.shape)])
    if kind == "trained":
        trained(model, 64)
    names = [layer.name for layer in model.layers if layer.weights]
    images = rng.standard_normal((3, 64, 64, 1)).astype("float32")
    classes = np.array([4, 0, 2])
    network = paper_twin([tuple(model.get_layer(name).get_weights()) for name in names], twin)
    relus = [number for number, module in enumerate(network) if type(module).__name__ == "ReLU"]
    where = {name: relus[names.index(name)] for name in PAPER_LAYERS}
    agree_with(explain(network, images, classes, where), Attributor(model)(images, classes), PAPER_LAYERS)


def paper_twin(weights, twin):
    """Build the paper's network in torch: poolings after every second convolution but the last one."""
    from torch import nn

    modules = [module for module in twin(weights) if not isinstance(module, nn.MaxPool2d)]
    convolutions = [number for number, module in enumerate(modules) if isinstance(module, nn.Conv2d)]
    for count in range(10, 0, -2):
        modules.insert(convolutions[count - 1] + 2, nn.MaxPool2d(2))
    return nn.Sequential(*modules).eval()


needs_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf-keras-vis needs TensorFlow")


@pytest.mark.oracles
@needs_tensorflow
def test_maps_agree_with_tf_keras_vis_where_it_is_right():
    """ReLU and softmax as arguments, no nesting: saliency, guided backprop and Grad-CAM at every layer."""
    gradcam, saliency_module, modifiers, scores = tf_keras_vis()
    keras.utils.set_random_seed(0)
    model, layers = small_net(), ["conv1", "conv2", "conv3"]
    images = np.random.default_rng(0).standard_normal((3, 16, 16, 1)).astype("float32")
    classes = [1, 3, 0]
    maps, score = Attributor(model, layers)(images, classes), scores.CategoricalScore(classes)
    raw = {"normalize_map": False, "keepdims": True, "gradient_modifier": None}
    plain = saliency_module.Saliency(model, model_modifier=modifiers.ReplaceToLinear(), clone=True)
    close(maps["saliency", "input"], plain(score, images, **raw)[..., 0])
    both = [modifiers.GuidedBackpropagation(target_activations=[keras.activations.relu]), modifiers.ReplaceToLinear()]
    guided = saliency_module.Saliency(model, model_modifier=both, clone=True)
    close(maps["guided_backprop", "input"], guided(score, images, **raw)[..., 0])
    cams = gradcam.Gradcam(model, model_modifier=modifiers.ReplaceToLinear(), clone=True)
    for layer in layers:
        raw = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False}
        close(maps["grad_cam", layer], cams(score, images, expand_cam=False, normalize_cam=False, **raw))


def tf_keras_vis():
    pytest.importorskip("tf_keras_vis")
    from tf_keras_vis import gradcam, saliency
    from tf_keras_vis.utils import model_modifiers, scores

    return gradcam, saliency, model_modifiers, scores


@pytest.mark.oracles
@needs_tensorflow
def test_tf_keras_vis_is_silently_wrong_where_ours_is_right():
    """It leaves keras.layers.ReLU and a Softmax layer alone: guided is plain, the gradient the softmax's."""
    _, module, modifiers, scores = tf_keras_vis()
    inputs = x = keras.Input((16, 16, 1))
    for kernels in (6, 7):
        x = kl.ReLU()(kl.Conv2D(kernels, 3, padding="same")(x))
    model = keras.Model(inputs, kl.Softmax()(kl.Dense(4)(kl.GlobalAveragePooling2D()(x))))
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 1)).astype("float32")
    raw = {"normalize_map": False, "keepdims": True, "gradient_modifier": None}
    both = [modifiers.GuidedBackpropagation(target_activations=[keras.activations.relu]), modifiers.ReplaceToLinear()]
    theirs = module.Saliency(model, model_modifier=both, clone=True)(scores.CategoricalScore([1, 1]), images, **raw)
    close(theirs[..., 0], saliency(model, images, 1, score="probability"), 1e-4)
    ours = guided_backprop(model, images, 1)
    assert np.abs(ours - saliency(model, images, 1)).max() > 1e-3 * np.abs(ours).max()


@pytest.mark.oracles
def test_pytorch_grad_cam_returns_one_guided_image_and_ours_all():
    try:
        from pytorch_grad_cam import GuidedBackpropReLUModel
    except (ImportError, RuntimeError) as fault:  # RuntimeError: a torchvision that does not fit torch
        pytest.skip(f"pytorch-grad-cam cannot be imported: {fault}")
    import torch
    from fixtures.make_captum import twin

    keras.utils.set_random_seed(0)
    model = small_net(channels=3)
    images = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype("float32")
    network = twin([tuple(model.get_layer(name).get_weights()) for name in ("conv1", "conv2", "conv3", "phase")])
    theirs = GuidedBackpropReLUModel(network, "cpu")(torch.tensor(images.transpose(0, 3, 1, 2).copy()), 1)
    ours = guided_backprop(model, images, 1)
    assert theirs.shape == (16, 16, 3) and ours.shape == (2, 16, 16, 3)
    close(ours[0], theirs)
    assert np.abs(ours[1] - ours[0]).max() > 1e-3 * np.abs(ours).max()


@pytest.mark.oracles
def test_captum_is_plain_on_a_keras_torch_model_and_ours_is_guided():
    """A Keras model on the torch backend registers no ReLU modules, so captum's guided backprop hooks none."""
    if keras.backend.backend() != "torch":
        pytest.skip("needs KERAS_BACKEND=torch")
    pytest.importorskip("captum")
    import torch
    from captum.attr import GuidedBackprop

    model, images = small_net(), np.random.default_rng(0).standard_normal((1, 16, 16, 1)).astype("float32")
    logits = keras.Model(model.inputs, model.get_layer("phase").output)
    logits.layers[-1].activation = keras.activations.linear
    theirs = GuidedBackprop(logits).attribute(torch.tensor(images, requires_grad=True), target=1).detach().numpy()
    close(theirs[..., 0], saliency(logits, images, 1))
    assert np.abs(guided_backprop(logits, images, 1) - theirs[..., 0]).max() > 1e-3 * np.abs(theirs).max()
