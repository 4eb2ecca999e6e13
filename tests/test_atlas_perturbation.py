"""Occlusion, LIME and KernelSHAP: linear models, a naive loop, and Shapley values by their definition."""

import itertools
import math

import numpy as np
import pytest

from lib.atlas.perturbation import kernel_shap, lime, occlusion, paint, superpixels

SIZE, COUNT = 12, 9
BLOCKS = np.add.outer(3 * (np.arange(SIZE) // 4), np.arange(SIZE) // 4)
RNG = np.random.default_rng(0)
IMAGE, BASELINE = RNG.standard_normal((2, SIZE, SIZE, 1))
WEIGHTS = RNG.standard_normal((SIZE, SIZE, 1, 2))


def linear(images):
    return np.tensordot(images, WEIGHTS, axes=3) + np.array([3.0, -1.0])


def curved(images):
    """Pairs of patches act together: the second class is a product."""
    blocks = np.stack([images[:, k == BLOCKS].sum(axis=(1, 2)) for k in range(COUNT)], axis=1)
    return np.stack([np.tanh(blocks).sum(axis=1), blocks[:, 0] * blocks[:, 4] + np.maximum(blocks[:, 5], 0)], axis=1)


def by_patch():
    """What each patch adds to the linear scores."""
    gains = ((IMAGE - BASELINE)[..., None] * WEIGHTS)[:, :, 0]
    return np.stack([gains[k == BLOCKS].sum(axis=0) for k in range(COUNT)])


def shapley(score):
    """Shapley values by their definition: the mean gain of a patch over all orders."""

    def worth(kept):
        return score(np.where(np.isin(BLOCKS, list(kept))[..., None], IMAGE, BASELINE)[None])[0]

    values = np.zeros((COUNT, 2))
    worths = {kept: worth(kept) for s in range(COUNT + 1) for kept in itertools.combinations(range(COUNT), s)}
    for kept, before in worths.items():
        share = math.factorial(len(kept)) * math.factorial(COUNT - len(kept) - 1) / math.factorial(COUNT) if (
            len(kept) < COUNT) else 0  # fmt: skip
        for k in set(range(COUNT)) - set(kept):
            values[k] += share * (worths[tuple(sorted((*kept, k)))] - before)
    return values


def test_kernel_shap_of_all_subsets_is_exact():
    found = kernel_shap(curved, IMAGE, BASELINE, BLOCKS, rng=np.random.default_rng(0), samples=2**COUNT)
    np.testing.assert_allclose(found, shapley(curved), atol=1e-9)


def test_sampled_kernel_shap_is_efficient_and_near():
    found = kernel_shap(curved, IMAGE, BASELINE, BLOCKS, rng=np.random.default_rng(0), samples=300)
    ends = curved(np.stack([IMAGE, BASELINE]))
    np.testing.assert_allclose(found.sum(axis=0), ends[0] - ends[1], atol=1e-9)
    exact = shapley(curved)
    assert np.abs(found - exact).max() < 0.15 * np.abs(exact).max()


def test_sixty_four_patches_are_sampled_and_not_enumerated():
    """2^64 subsets overflow an integer of 64 bits."""
    rng, image = np.random.default_rng(0), np.random.default_rng(1).standard_normal((16, 16, 1))
    patches = np.add.outer(8 * (np.arange(16) // 2), np.arange(16) // 2)
    weights = rng.standard_normal((16, 16, 1, 1))

    def score(images):
        return np.tensordot(images, weights, axes=3)

    found = kernel_shap(score, image, np.zeros_like(image), patches, rng=rng, samples=200)
    gains = image * weights[..., 0]
    expected = [gains[patches == k].sum() for k in range(64)]
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-9)


def test_kernel_shap_and_lime_recover_a_linear_model():
    shap = kernel_shap(linear, IMAGE, BASELINE, BLOCKS, rng=np.random.default_rng(0), samples=100)
    np.testing.assert_allclose(shap, by_patch(), atol=1e-9)
    found = lime(linear, IMAGE, BASELINE, BLOCKS, rng=np.random.default_rng(0), samples=200, alpha=1e-9)
    np.testing.assert_allclose(found, by_patch(), atol=1e-6)
    shrunk = lime(linear, IMAGE, BASELINE, BLOCKS, rng=np.random.default_rng(0), samples=200, alpha=1e3)
    assert np.abs(shrunk).sum() < 0.5 * np.abs(found).sum()


@pytest.mark.parametrize(("patch", "stride"), [(3, 2), (4, 4), (5, 3)])
def test_occlusion_is_the_naive_loop(patch, stride):
    total, covered = np.zeros((SIZE, SIZE, 2)), np.zeros((SIZE, SIZE, 1))
    starts = [*range(0, SIZE - patch, stride), SIZE - patch]
    for y in starts:
        for x in starts:
            changed = IMAGE.copy()
            for i in range(patch):
                for j in range(patch):
                    changed[y + i, x + j] = BASELINE[y + i, x + j]
            fall = curved(IMAGE[None])[0] - curved(changed[None])[0]
            for i in range(patch):
                for j in range(patch):
                    total[y + i, x + j] += fall
                    covered[y + i, x + j] += 1
    found = occlusion(curved, IMAGE, BASELINE, patch=patch, stride=stride, batch=7)
    np.testing.assert_allclose(found, total / covered, atol=1e-12)


def test_occlusion_of_single_pixels_is_the_linear_model():
    found = occlusion(linear, IMAGE, BASELINE, patch=1, stride=1)
    np.testing.assert_allclose(found, ((IMAGE - BASELINE)[..., None] * WEIGHTS)[:, :, 0], atol=1e-9)


def test_painted_patches_keep_their_sum_and_leave_the_rest_empty():
    patches = np.where(BLOCKS == 8, -1, BLOCKS)
    values = np.arange(16.0).reshape(8, 2)
    painted = paint(values, patches)
    np.testing.assert_allclose(painted.sum(axis=(0, 1)), values.sum(axis=0))
    assert (painted[BLOCKS == 8] == 0).all() and np.ptp(painted[BLOCKS == 3], axis=0).max() == 0


def test_superpixels_follow_grey_values_inside_the_region_only():
    image, within = np.zeros((32, 32)), np.ones((32, 32), bool)
    image[8:24, 8:24], within[:4] = 2.0, False
    patches = superpixels(image, within, 20, seed=0)
    assert (patches[:4] == -1).all() and set(np.unique(patches[4:])) == set(range(20))
    mixed = [np.ptp(image[patches == k]) > 0 for k in range(20)]
    assert not any(mixed), "no patch crosses the edge of two grey values that are far apart"
    np.testing.assert_array_equal(patches, superpixels(image, within, 20, seed=0))


@pytest.mark.oracles
def test_captum_agrees():
    """KernelShap and Lime on the same patches, Occlusion with windows that do not overlap."""
    captum = pytest.importorskip("captum.attr")
    import torch

    def network(x):
        return torch.tensor(curved(x.detach().numpy().transpose(0, 2, 3, 1)))

    image, baseline = (torch.tensor(x.transpose(2, 0, 1)[None].copy()) for x in (IMAGE, BASELINE))
    groups = torch.tensor(BLOCKS)[None, None]
    torch.manual_seed(0)
    for k in range(2):
        how = {"baselines": baseline, "feature_mask": groups, "target": k, "n_samples": 3000}
        theirs = captum.KernelShap(network).attribute(image, **how)[0, 0].numpy()
        exact = shapley(curved)[:, k]
        assert np.abs(theirs - exact[BLOCKS]).max() < 0.2 * np.abs(exact).max()
        theirs = captum.Occlusion(network).attribute(image, (1, 4, 4), (1, 4, 4), baseline, k)
        found = occlusion(curved, IMAGE, BASELINE, patch=4, stride=4)
        np.testing.assert_allclose(found[..., k], theirs[0, 0].numpy(), atol=1e-9)
