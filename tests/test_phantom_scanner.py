"""Blur, noise and protocol: what was asked for is measured again, and none of it tells the phase."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

from lib.paper import PHASES
from lib.phantom.anatomy import Anatomy
from lib.phantom.physiology import Physiology, draw_subject
from lib.phantom.reader import draw_scan_time
from lib.phantom.scanner import PADDING_HU, Protocol, Scanner, draw_protocol, noise_spectrum, sharper
from lib.phantom.texture import Texture
from lib.phantom.tissues import PAINTS, Tissue

PROTOCOL = Protocol(
    "SIEMENS", "Y", "B30f", 0.36, (0.75, 0.27, 1.9, 0.15), 15.0, 120.0, 3.0, 3.0, 400.0, (0, 0), 0.0, False
)


@pytest.fixture(scope="module")
def anatomy():
    rng = np.random.default_rng(4)
    return Anatomy(rng, draw_subject(rng))


def seeded(k):
    return np.random.default_rng([9, abs(k)])


def noise_of(anatomy, protocol=PROTOCOL, matrix=512, count=6):
    scanner = Scanner(protocol, anatomy, matrix)
    scanner.modulation = np.ones_like(scanner.modulation)
    return scanner, np.stack([scanner.noise_field(10 * k, seeded) for k in range(count)])


def radial_spectrum(noise, pixel):
    """NPS in HU^2 mm^2 by bins of frequency (the textbook's estimate: mean squared DFT times pixel area)."""
    n = noise.shape[-1]
    power = (np.abs(fft.fft2(noise)) ** 2).mean(0) * pixel**2 / n**2
    f = np.hypot(fft.fftfreq(n, pixel)[:, None], fft.fftfreq(n, pixel)[None, :])
    edges = np.arange(0.03, 0.5 / pixel, 0.03)
    which = np.digitize(f, edges)
    return 0.5 * (edges[1:] + edges[:-1]), np.array([power[which == k].mean() for k in range(1, len(edges))])


def test_noise_has_the_asked_spectrum_and_spread(anatomy):
    scanner, noise = noise_of(anatomy)
    pixel = scanner.grid.pixel_mm
    frequency, measured = radial_spectrum(noise, pixel)
    expected = noise_spectrum(frequency, PROTOCOL.noise_shape)
    expected *= np.sinc(frequency * pixel) ** 2  # about: the pixel's aperture along one axis
    np.testing.assert_allclose(measured / measured.max(), expected / expected.max(), atol=0.08)
    assert 0.75 * 15 < noise.std() < 1.02 * 15  # pixels average a little of it away


def test_larger_pixels_see_the_same_noise_averaged(anatomy):
    _, fine = noise_of(anatomy, matrix=512)
    _, coarse = noise_of(anatomy, matrix=256)
    averaged = fine.reshape(-1, 256, 2, 256, 2).mean((2, 4))
    assert coarse.std() == pytest.approx(averaged.std(), rel=0.06)
    low = slice(0, 8)
    np.testing.assert_allclose(
        radial_spectrum(coarse, 400 / 256)[1][low], radial_spectrum(averaged, 400 / 256)[1][low], rtol=0.15
    )


def test_measured_spectra_of_real_scanners_are_reached():
    # GE STANDARD 2.5 mm, normalised samples at f = .05 ... .5 /mm, measured on public scans.
    f = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5])
    real = np.array([0.71, 0.86, 0.86, 1.0, 0.77, 0.70, 0.32, 0.15])
    model = noise_spectrum(f, (0.8, 0.27, 1.9, 0.18))
    assert np.abs(model - real).mean() < 0.17 and np.abs(model - real).max() < 0.35


def test_noise_of_overlapping_slices_is_correlated_as_much_as_they_overlap(anatomy):
    for spacing, expected in ((3.0, 0.0), (2.4, 0.2), (1.8, 0.4)):
        scanner = Scanner(replace(PROTOCOL, spacing_mm=spacing), anatomy, 256)
        first, second = (scanner.noise_field(k, seeded).ravel() for k in (5, 6))
        assert np.corrcoef(first, second)[0, 1] == pytest.approx(expected, abs=0.04)


def test_blur_halves_the_contrast_at_the_kernels_frequency(anatomy):
    for kernel in (PROTOCOL, sharper(PROTOCOL)):
        scanner = Scanner(kernel, anatomy, 512)
        f = fft.rfftfreq(512, scanner.grid.pixel_mm)
        assert np.interp(kernel.half_frequency, f, scanner.transfer[0]) == pytest.approx(0.5, abs=0.02)
    assert scanner.transfer[0, 0] == 1.0


def test_without_noise_large_tissues_keep_their_hu(anatomy):
    scanner = Scanner(replace(PROTOCOL, noise_hu=0.0), anatomy, 256)
    values = np.linspace(-200, 300, PAINTS).astype(np.float32)
    hu, tissues = scanner.image(3, lambda z: values, seeded)
    for tissue in (Tissue.LIVER, Tissue.AORTA):
        assert np.median(hu[tissues == tissue]) == pytest.approx(values[tissue], abs=1)
    assert hu.dtype == np.int16 and hu.min() >= -1024


def test_padding_lies_outside_the_circle_and_nowhere_else(anatomy):
    hu, tissues = Scanner(replace(PROTOCOL, pad_outside=True), anatomy, 128).image(
        0, lambda z: np.zeros(PAINTS, np.float32), seeded
    )
    at = np.arange(128) + 0.5 - 64
    outside = np.hypot(at[None, :], at[:, None]) > 64
    np.testing.assert_array_equal(hu == PADDING_HU, outside)
    assert not tissues[outside].any()


def test_protocols_are_those_of_practice(anatomy):
    rng = np.random.default_rng(0)
    drawn = [draw_protocol(rng, anatomy) for _ in range(300)]
    noise = np.array([p.noise_hu for p in drawn])
    assert np.percentile(noise, 5) > 10 and np.percentile(noise, 95) <= 26
    assert all(300 <= p.fov_mm <= 500 and p.spacing_mm <= p.thickness_mm for p in drawn)
    assert {p.kvp for p in drawn} == {100.0, 120.0, 140.0}


def images_outside_enhancing_tissue(count):
    """Return scanner variables, and statistics of fat, bone and air, of one series each of many patients."""
    features, phases = [], []
    for seed in range(count):
        rng = np.random.default_rng([seed, 77])
        physiology = Physiology(rng)
        anatomy = Anatomy(rng, physiology.subject)
        protocol = draw_protocol(rng, anatomy)
        phase = PHASES[seed % 5]
        time = draw_scan_time(rng, phase)
        base = physiology.hounsfield(time, protocol.kvp)
        scanner = Scanner(protocol, anatomy, 128)
        step = round(float(rng.uniform(-30, 30)) / protocol.spacing_mm)
        hu, tissues = scanner.image(
            step,
            lambda z, base=base: base,
            lambda k, seed=seed: np.random.default_rng([seed, abs(k)]),
            texture=Texture(rng, time),
        )
        row = [protocol.kvp, protocol.thickness_mm, protocol.spacing_mm, protocol.fov_mm, protocol.noise_hu]
        for tissue in (Tissue.SUBCUTANEOUS_FAT, Tissue.OUTSIDE, Tissue.CORTICAL_BONE):
            values = hu[(tissues == tissue) & (hu > PADDING_HU)]
            row += [np.median(values), np.percentile(values, 75) - np.percentile(values, 25)]
        features.append(row)
        phases.append(phase)
    return np.array(features), np.array(phases)


def test_scanner_and_unenhanced_tissue_do_not_tell_the_phase():
    features, phases = images_outside_enhancing_tissue(150)
    forest = RandomForestClassifier(60, random_state=0)
    score = cross_val_score(forest, features, phases, cv=5).mean()
    rng = np.random.default_rng(0)
    chance = [cross_val_score(forest, features, rng.permutation(phases), cv=5).mean() for _ in range(12)]
    assert score < max(chance) + 0.04, (score, chance)
    assert score < 0.2 + 2.6 * np.std(chance) + 0.02
