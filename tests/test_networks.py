import keras
import numpy as np
import pytest

from lib.cohort import Standardisation
from lib.networks import REFERENCES, load_pretrained, phase_net, reference_network
from lib.paper import PHASES


def test_the_published_parameter_count_and_final_kernel_output():
    network = phase_net()
    assert network.count_params() == 132_181
    assert network.get_layer("pool5").output.shape[1:] == (16, 16, 64)
    assert network.output.shape == (None, len(PHASES))


def test_three_slices_cost_288_weights_more():
    assert phase_net(channels=3).count_params() - phase_net().count_params() == 288


def test_every_convolution_but_none_other_is_rectified():
    rectified = [
        layer.name for layer in phase_net(64).layers if getattr(layer, "activation", None) is keras.activations.relu
    ]
    assert rectified == [f"conv{block}{half}" for block in range(1, 6) for half in "ab"] + ["conv6"]


def test_weights_move_between_image_sizes():
    small, large = phase_net(32), phase_net(64)
    large.set_weights(small.get_weights())
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype("float32")
    np.testing.assert_allclose(large.predict(image, verbose=0).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [0, 100, -32])
def test_an_image_size_that_five_poolings_cannot_halve_is_refused(size):
    with pytest.raises(ValueError, match="multiple of 32"):
        phase_net(size)


def test_another_number_of_blocks_has_its_own_last_convolution_and_its_own_image_sizes():
    network = phase_net(64, kernels=(8, 8, 16, 32))
    assert network.get_layer("conv5").output.shape == (None, 4, 4, 32)
    assert phase_net(48, kernels=(8, 8, 16, 32)).output_shape == (None, 5)
    with pytest.raises(ValueError, match="multiple of 16"):
        phase_net(40, kernels=(8, 8, 16, 32))


SOME = [name if name == "ResNet50" else pytest.param(name, marks=pytest.mark.slow) for name in REFERENCES]


@pytest.mark.parametrize("name", SOME)
def test_reference_networks_have_the_published_layers_for_one_channel_and_five_phases(name):
    network = reference_network(name, 96)
    assert network.input_shape == (None, 96, 96, 1) and network.output_shape == (None, 5)
    assert network.layers[-1].activation is keras.activations.softmax


def test_an_unknown_reference_network_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="ResNet50"):
        reference_network("resnet50")


def test_a_shipped_network_comes_with_its_standardisation(tmp_path):
    network = phase_net(32)
    (tmp_path / "seed07").mkdir()
    network.save(tmp_path / "seed07" / "model.keras")
    Standardisation(30.0, 120.0, 32).save(tmp_path / "seed07" / "standardisation.json")
    loaded, standardisation = load_pretrained("seed07", tmp_path)
    np.testing.assert_array_equal(loaded.get_weights()[0], network.get_weights()[0])
    assert standardisation.image_size == 32
    with pytest.raises(FileNotFoundError, match="there are seed07"):
        load_pretrained("seed99", tmp_path)
