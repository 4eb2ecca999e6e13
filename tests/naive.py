"""Slow loops, written to be read beside the paper: what the fast code is tested against."""

import numpy as np
from scipy.ndimage import gaussian_filter


def sam(activation, gradient, sigma=0.75, maximum="kernel", inversion=True):
    """Philbrick 2018: one image, activation and gradient (H', W', K)."""
    height, width, kernels = activation.shape
    result = np.zeros((height, width))
    for k in range(kernels):
        blurred = gradient[:, :, k].astype(float)
        if sigma is not None:
            blurred = gaussian_filter(blurred, sigma, mode="reflect")
        highest = activation[:, :, k].max() if maximum == "kernel" else activation.max()
        for y in range(height):
            for x in range(width):
                output = float(activation[y, x, k])
                if inversion and blurred[y, x] < 0:
                    output = float(highest) - output
                result[y, x] += abs(blurred[y, x]) * output
    return result


def grad_cam(activation, gradient):
    """Selvaraju 2017: one image, activation and gradient (H', W', K)."""
    result = np.zeros(activation.shape[:2])
    for k in range(activation.shape[2]):
        result += gradient[:, :, k].astype(float).mean() * activation[:, :, k]
    return np.maximum(result, 0)


def cam(activation, weights):
    """Zhou 2016: one image, activation (H', W', K), weights of the class (K,)."""
    result = np.zeros(activation.shape[:2])
    for k in range(activation.shape[2]):
        result += float(weights[k]) * activation[:, :, k]
    return result


def convolve(image, kernel, bias):
    """Cross-correlate an image (H, W, C) with a kernel (3, 3, C, K), zero padded: (H, W, K)."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    result = np.zeros((height, width, kernel.shape[3]))
    for y in range(height):
        for x in range(width):
            result[y, x] = np.tensordot(padded[y : y + 3, x : x + 3], kernel, axes=3) + bias
    return result


def convolve_back(gradient, kernel):
    """Return the gradient (H, W, C) at the input of `convolve`, from the gradient (H, W, K) at its output."""
    height, width = gradient.shape[:2]
    padded = np.zeros((height + 2, width + 2, kernel.shape[2]))
    for y in range(height):
        for x in range(width):
            padded[y : y + 3, x : x + 3] += kernel @ gradient[y, x]
    return padded[1:-1, 1:-1]


def pool(image):
    """2 x 2 maximum, (H, W, K) -> (H / 2, W / 2, K), and where each maximum stood."""
    height, width, kernels = image.shape
    result, where = np.zeros((height // 2, width // 2, kernels)), np.zeros(image.shape, bool)
    for y in range(height // 2):
        for x in range(width // 2):
            for k in range(kernels):
                block = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, k]
                result[y, x, k] = block.max()
                where[2 * y + block.argmax() // 2, 2 * x + block.argmax() % 2, k] = True
    return result, where


def passes(layers, image, label, guided):
    """Go forward and back through conv+ReLU and pooling layers, a global average and a dense layer.

    `layers` holds (kernel, bias) for a convolution, None for a pooling, and last (weights, bias) of the dense layer.
    Returns the logits, the outputs of all layers but the dense one, and the gradient of the label's logit at each of
    them, the image's first.
    """
    outputs, wheres = [image], []
    for layer in layers[:-1]:
        output, where = pool(outputs[-1]) if layer is None else (np.maximum(convolve(outputs[-1], *layer), 0), None)
        outputs.append(output)
        wheres.append(where)
    weights, bias = layers[-1]
    logits = outputs[-1].mean(axis=(0, 1)) @ weights + bias
    gradient = np.broadcast_to(weights[:, label] / outputs[-1][..., 0].size, outputs[-1].shape)
    gradients = [gradient]
    for layer, output, where in zip(layers[-2::-1], outputs[:0:-1], wheres[::-1], strict=True):
        if layer is None:
            gradient = np.repeat(np.repeat(gradient, 2, axis=0), 2, axis=1) * where
        else:
            gradient = gradient * (output > 0) * ((gradient > 0) if guided else 1)
            gradient = convolve_back(gradient, layer[0])
        gradients.append(gradient)
    return logits, outputs[1:], gradients[::-1]


def blurred(image, sigmas):
    """Gaussian blur of an image (H, W), cut at 4 sigmas, edges reflected (b a | a b c)."""

    def weights(sigma):
        radius = int(4 * sigma + 0.5)
        found = np.array([np.exp(-((k / sigma) ** 2) / 2) for k in range(-radius, radius + 1)])
        return radius, found / found.sum()

    (tall, rows), (wide, columns) = map(weights, sigmas)
    padded = np.pad(image, ((tall, tall), (wide, wide)), mode="symmetric")
    result = np.zeros(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            result[y, x] = rows @ padded[y : y + 2 * tall + 1, x : x + 2 * wide + 1] @ columns
    return result


def masked(values, fraction, region):
    """Return the indices that a full sort puts in the top or bottom fraction of |values|, and the boundary ties."""
    order = sorted(range(len(values)), key=lambda i: abs(values[i]), reverse=region == "top")
    count = round(fraction * len(values))
    boundary = abs(values[order[count - 1]])
    return set(order[:count]), {i for i in range(len(values)) if abs(values[i]) == boundary}
