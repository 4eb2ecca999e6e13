"""Time the maps against a plain gradient and against other libraries, interleaved in one process.

`KERAS_BACKEND=torch python -m lib.speed --sizes 512 --batches 8 32 128 --peak-tflops 67 --output speed.csv` measures
without a notebook, on a GPU where there is one. It needs Keras, pandas and one backend (`pip install keras pandas
torch`, or `"jax[cuda12]"`); a peer that cannot be imported is left out with a word.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pandas as pd

from lib.attribution import Attributor
from lib.networks import phase_net
from lib.paper import PHASES

PLAIN, OURS = "plain gradient", "this repository"
ALL = ("saliency", "guided_backprop", "cam", "grad_cam", "sam")
COMMON = ("saliency", "guided_backprop", "grad_cam")
LAYERS = ("conv6", "conv5b", "conv4b", "conv3b", "conv2b")


def plain_gradient(model: keras.Model) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return a function of (images, class) that gives dz/dx as the backend's own tutorial would: compiled once."""
    logits = keras.Model(model.inputs, model.layers[-1].input)
    kernel, bias = model.layers[-1].get_weights()

    def score(images, label):
        features = logits(images, training=False)
        return keras.ops.sum(features @ kernel[:, label : label + 1] + bias[label])

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient(images):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                total = score(images, 1)
            return tape.gradient(total, images)

        return lambda images, label: gradient(tf.convert_to_tensor(images)).numpy()
    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.jit(jax.grad(lambda images: score(images, 1)))
        return lambda images, label: np.asarray(gradient(images))
    import torch

    kernel, bias = keras.ops.convert_to_tensor(kernel), keras.ops.convert_to_tensor(bias)

    def gradient(images, label):
        images = keras.ops.convert_to_tensor(images).requires_grad_(True)
        return torch.autograd.grad(score(images, label), images)[0].cpu().numpy()

    return gradient


def torch_twin(model: keras.Model):
    """Return the paper's network as `torch.nn.Sequential` up to the logits, and the ReLU of each named convolution."""
    from torch import cuda, nn, tensor

    modules, relus = [], {}
    for layer in model.layers[1:]:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, bias = layer.get_weights()
            module = nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[0], padding="same")
            module.weight.data, module.bias.data = tensor(kernel.transpose(3, 2, 0, 1).copy()), tensor(bias)
            modules += [module, nn.ReLU()]
            relus[layer.name] = modules[-1]
        elif isinstance(layer, keras.layers.MaxPooling2D):
            modules.append(nn.MaxPool2d(2))
        elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
            modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        else:
            kernel, bias = layer.get_weights()
            module = nn.Linear(*kernel.shape)
            module.weight.data, module.bias.data = tensor(kernel.T.copy()), tensor(bias)
            modules.append(module)
    return nn.Sequential(*modules).eval().to("cuda" if cuda.is_available() else "cpu"), relus


def with_tf_keras_vis(model: keras.Model, layers: tuple[str, ...]) -> Callable:
    """Return saliency, guided backprop and Grad-CAM of every layer with tf-keras-vis, raw values."""
    if keras.backend.backend() != "tensorflow":
        raise ImportError("tf-keras-vis needs the TensorFlow backend")
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import GuidedBackpropagation, ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    relu = GuidedBackpropagation(target_activations=[keras.activations.relu])
    plain = Saliency(model, model_modifier=ReplaceToLinear(), clone=True)
    guided = Saliency(model, model_modifier=[relu, ReplaceToLinear()], clone=True)
    cams = Gradcam(model, model_modifier=ReplaceToLinear(), clone=True)

    def maps(images, label):
        score = CategoricalScore([label] * len(images))
        found = [saliency(score, images, normalize_map=False, keepdims=True) for saliency in (plain, guided)]
        raw = {"expand_cam": False, "normalize_cam": False, "seek_penultimate_conv_layer": False}
        return found + [cams(score, images, penultimate_layer=layer, **raw) for layer in layers]

    return maps


def with_captum(model: keras.Model, layers: tuple[str, ...]) -> Callable:
    """Return saliency, guided backprop and Grad-CAM of every layer with captum, on the torch twin."""
    from captum.attr import GuidedBackprop, LayerGradCam, Saliency
    from torch import tensor

    network, relus = torch_twin(model)
    device = next(network.parameters()).device
    methods = [Saliency(network), GuidedBackprop(network)]
    cams = [LayerGradCam(network, relus[layer]) for layer in layers]

    def maps(images, label):
        inputs = tensor(images.transpose(0, 3, 1, 2).copy(), device=device, requires_grad=True)
        found = [method.attribute(inputs, target=label) for method in methods]
        found += [cam.attribute(inputs, target=label, relu_attributions=True) for cam in cams]
        return [value.detach().cpu().numpy() for value in found]

    return maps


def with_pytorch_grad_cam(model: keras.Model, layers: tuple[str, ...]) -> Callable:
    """Return Grad-CAM of every layer (one object each: several in one are averaged) and guided backprop by image."""
    from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torch import tensor

    network, relus = torch_twin(model)
    device = next(network.parameters()).device
    cams = [GradCAM(network, [relus[layer]]) for layer in layers]
    guided = GuidedBackpropReLUModel(network, device)

    def maps(images, label):
        inputs = tensor(images.transpose(0, 3, 1, 2).copy(), device=device)
        target = [ClassifierOutputTarget(label)] * len(images)
        return [cam(inputs, target) for cam in cams] + [guided(image[None], label) for image in inputs]

    return maps


PEERS = {"tf-keras-vis": with_tf_keras_vis, "captum": with_captum, "pytorch-grad-cam": with_pytorch_grad_cam}


def contenders(
    size: int, layers: int = 5, peers: bool = True
) -> tuple[dict[tuple[str, str], Callable], dict[str, str]]:
    """Return functions of (images, class) by (library, maps), and the reason why a peer is left out.

    Parameters
    ----------
    size : int
        Height and width of the network's input, a multiple of 32.
    layers : int
        How many layers, from the last one on, get layer maps.
    peers : bool
        Whether other libraries are timed too.
    """
    keras.utils.set_random_seed(0)
    model, names, absent = phase_net(size, initializer="he_normal"), LAYERS[:layers], {}
    attributor = Attributor(model, names, memory=2**34)
    found = {(PLAIN, "saliency"): plain_gradient(model)}
    for methods in (("saliency",), COMMON, ALL):
        found[OURS, " ".join(methods)] = lambda images, label, methods=methods: attributor(images, label, methods)
    for name, build in PEERS.items() if peers else ():
        try:
            found[name, " ".join(COMMON)] = build(model, names)
        except (ImportError, RuntimeError) as fault:  # RuntimeError: a torchvision that does not fit torch
            absent[name] = str(fault).splitlines()[0]
    return found, absent


def measure(functions: dict, images: np.ndarray, repeats: int) -> pd.DataFrame:
    """Call every function in turn, `repeats` times after one for warming up, and return the times.

    Returns
    -------
    DataFrame
        library, maps, seconds (median of a call), images_per_s, ratio (median over the rounds of the time divided by
        that of the plain gradient in the same round).
    """
    for function in functions.values():
        function(images, 1)
    seconds = np.empty((repeats, len(functions)))
    for turn in seconds:
        functions[PLAIN, "saliency"](images, 1)  # untimed: the last contender's threads may still be spinning
        for number, function in enumerate(functions.values()):
            start = time.perf_counter()
            function(images, 1)
            turn[number] = time.perf_counter() - start
    median = np.median(seconds, axis=0)
    ratio = np.median(seconds / seconds[:, list(functions).index((PLAIN, "saliency")), None], axis=0)
    table = pd.DataFrame(list(functions), columns=["library", "maps"])
    return table.assign(seconds=median, images_per_s=len(images) / median, ratio=ratio)


def measure_grid(
    sizes: list[int], batches: list[int], layers: list[int], repeats: int, peers: bool = True
) -> Iterator[pd.DataFrame]:
    """Yield `measure` for every size, batch and number of layers, with these and the backend as columns."""
    rng = np.random.default_rng(0)
    for size in sizes:
        for count in layers:
            functions, _ = contenders(size, count, peers)
            for batch in batches:
                images = rng.standard_normal((batch, size, size, 1)).astype("float32")
                table = measure(functions, images, repeats)
                yield table.assign(backend=keras.backend.backend(), image_size=size, batch=batch, layers=count)


def measure_on(backend: str, size: int, repeats: int, layers: int = 5, batch: int = 8) -> pd.DataFrame:
    """Return `measure` of the plain gradient and of this repository on another backend, in a process of its own.

    Raises
    ------
    ImportError
        If the backend is not installed.
    """
    if find_spec(backend) is None:
        raise ImportError(f"{backend} is not installed: pip install {backend}")
    with TemporaryDirectory() as folder:
        output = Path(folder) / "speed.csv"
        job = ["--sizes", size, "--batches", batch, "--layers", layers, "--repeats", repeats, "--output", output]
        command = [sys.executable, "-m", "lib.speed", "--no-peers", *map(str, job)]
        run = subprocess.run(command, env=os.environ | {"KERAS_BACKEND": backend}, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"lib.speed on {backend} ended with {run.returncode}: {run.stderr[-500:]}")
        return pd.read_csv(output)


def flops_forward(size: int) -> int:
    """Return the additions and multiplications of one forward pass of the paper's network; going back takes as many."""
    layers = [layer for layer in phase_net(size).layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(2 * int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape)) for layer in layers)


def share_of_peak(table: pd.DataFrame, peak_tflops: float) -> pd.DataFrame:
    """Return a table of `measure_grid` with `tflops`, the arithmetic done a second, and its share of the device's peak.

    A saliency map takes a forward and a backward pass, guided backprop a second backward pass; what the layer maps add
    is not counted, and neither are peers, whose passes are more.
    """
    passes = np.where(table.maps.str.contains("guided"), 3, 2)
    done = passes * table.image_size.map({size: flops_forward(size) for size in table.image_size.unique()})
    tflops = (done * table.images_per_s / 1e12).where(~table.library.isin(list(PEERS)))
    return table.assign(tflops=tflops, share_of_peak=tflops / peak_tflops if peak_tflops else np.nan)


def device_peak() -> float:
    """Return the peak of the accelerator's own memory in MiB since the process began; NaN on a CPU."""
    if keras.backend.backend() == "torch":
        from torch import cuda

        return cuda.max_memory_allocated() / 2**20 if cuda.is_available() else np.nan
    if keras.backend.backend() == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", np.nan) / 2**20
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20 if found else np.nan


def own_peak() -> float:
    """Return this process's peak resident memory in MiB.

    Linux keeps the parent's peak in `ru_maxrss` of a new process; VmHWM starts anew with the program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def peak_memory(library: str, maps: str, size: int, batch: int) -> float:
    """Return the peak resident memory in MiB of a process of its own that makes these maps five times."""
    job = ["--sizes", str(size), "--batches", str(batch), "--memory", library, maps]
    run = subprocess.run([sys.executable, "-m", "lib.speed", *job], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def measure_masking(size: int, slices: int = 8, draws: int = 3, repeats: int = 3) -> pd.DataFrame:
    """Time `mask_cohort`, maps included, in turn with a bare `model.predict` of as many images.

    Returns
    -------
    DataFrame
        library, maps, seconds, images_per_s (masked versions, or images), ratio (throughput over that of the bare
        prediction, median over the rounds).
    """
    from lib.masking.experiment import (  # the rest of this file needs Keras, pandas and one backend only
        Reading,
        mask_cohort,
    )

    keras.utils.set_random_seed(0)
    model = phase_net(size, initializer="he_normal")
    images = np.random.default_rng(0).standard_normal((slices, size, size, 1)).astype("float32")
    phases = [PHASES[label] for label in model.predict(images, verbose=0).argmax(axis=1)]
    rows = pd.DataFrame({"patient": "0", "series": "0", "slice": range(slices), "phase": phases})
    attributor = Attributor(model, LAYERS)
    seconds, versions = np.empty((repeats + 1, 2)), 0
    for turn in seconds:
        start = time.perf_counter()
        versions = sum(map(len, mask_cohort(model, [(rows, images, None)], attributor, Reading(draws=draws))))
        turn[0] = time.perf_counter() - start
        many = np.resize(images, (versions, size, size, 1))
        start = time.perf_counter()
        model.predict(many, batch_size=16, verbose=0)
        turn[1] = time.perf_counter() - start
    names = [(OURS, "masking, maps included"), ("bare model.predict", "none")]
    table = pd.DataFrame(names, columns=["library", "maps"])
    table = table.assign(seconds=np.median(seconds[1:], axis=0), ratio=np.median(seconds[1:, 1:] / seconds[1:], axis=0))
    return table.assign(
        images_per_s=versions / table.seconds, backend=keras.backend.backend(), image_size=size, batch=16
    )


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(prog="python -m lib.speed", description=main.__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512])
    parser.add_argument("--batches", type=int, nargs="+", default=[8])
    parser.add_argument("--layers", type=int, nargs="+", default=[5])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="leave the other libraries out")
    parser.add_argument(
        "--peak-tflops", type=float, default=0.0, help="of the device in float32, for the share reached"
    )
    parser.add_argument("--output", help="a CSV file; without it the table is printed")
    parser.add_argument("--memory", nargs=2, metavar=("LIBRARY", "MAPS"), help="print the peak memory in MiB instead")
    chosen = parser.parse_args()
    if chosen.memory:
        images = np.zeros((chosen.batches[0], chosen.sizes[0], chosen.sizes[0], 1), "float32")
        functions, _ = contenders(chosen.sizes[0], peers=chosen.memory[0] in PEERS)
        for _ in range(5):
            functions[tuple(chosen.memory)](images, 1)
        print(device_peak(), own_peak())
        return
    grid = measure_grid(chosen.sizes, chosen.batches, chosen.layers, chosen.repeats, not chosen.no_peers)
    table = share_of_peak(pd.concat(grid, ignore_index=True), chosen.peak_tflops).assign(device_peak_mib=device_peak())
    print(table.to_string()) if chosen.output is None else table.to_csv(chosen.output, index=False)


if __name__ == "__main__":
    main()
