import keras
import numpy as np
import pytest

from lib.networks import phase_net
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
