import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from braintune.synthesis.labelmaps.acquisition import (
    Acquisition,
    acquire,
    along_axes,
    bias_field,
    blurring,
    cosines,
    draw_acquisition,
    draw_bias,
    ghosting_of,
    thick_slices,
)
from braintune.synthesis.labelmaps.contrast import draw_contrast
from braintune.synthesis.labelmaps.masking import stripped
from braintune.synthesis.labelmaps.numbering import Label
from braintune.synthesis.labelmaps.options import ScannerOptions
from braintune.synthesis.labelmaps.tissues import Tissue

SHAPE = (20, 24, 18)


def nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = (np.eye(n) for n in SHAPE)
    return x, y, z


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_blur_is_a_gaussian_of_its_width() -> None:
    signal = np.zeros(41)
    signal[20] = 1
    for fwhm in (1.5, 3.0, 5.0):
        expected = ndimage.gaussian_filter1d(signal, fwhm / 2.355, truncate=6.0)
        np.testing.assert_allclose(blurring(41, fwhm) @ signal, expected, atol=1e-6)
        np.testing.assert_allclose(blurring(41, fwhm).sum(axis=1), 1)
    assert (blurring(9, 0) == np.eye(9)).all()


@settings(max_examples=40, deadline=None)
@given(n=st.integers(8, 60), thickness=st.floats(1, 4))
def test_thick_slices_average_and_keep_constants(n: int, thickness: float) -> None:
    matrix = thick_slices(n, thickness)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert np.linalg.matrix_rank(matrix) == max(2, round(n / thickness))
    # What varies from voxel to voxel can't be seen in slices of two voxels.
    if thickness == 2 and n % 2 == 0:
        np.testing.assert_allclose(matrix @ (-1.0) ** np.arange(n), 0, atol=1e-12)


def test_slices_of_one_voxel_are_the_voxels() -> None:
    np.testing.assert_allclose(thick_slices(12, 1.0), np.eye(12), atol=1e-12)


@pytest.mark.parametrize("period", [2, 3, 4])
def test_ghosts_are_weakened_lines_of_k_space(period: int) -> None:
    n, strength = 24, 0.4
    signal = np.random.default_rng(0).normal(size=n)
    spectrum = np.fft.fft(signal)
    for line in range(1, n):
        if min(line, n - line) % period == 0:
            spectrum[line] *= 1 - strength
    np.testing.assert_allclose(
        ghosting_of(n, strength, period) @ signal, np.fft.ifft(spectrum).real, atol=1e-12
    )
    # A point is repeated every n / period voxels.
    point = ghosting_of(n, strength, period)[:, 0]
    ghosts = np.flatnonzero(np.abs(point) > 0.05)
    assert set(ghosts) == set(range(0, n, n // period))


def test_matrices_act_along_their_axes() -> None:
    random = np.random.default_rng(1)
    image = random.normal(size=SHAPE).astype(np.float32)
    x, y, z = (random.normal(size=(n, n)) for n in SHAPE)
    expected = np.einsum("ai,bj,ck,ijk->abc", x, y, z, image)
    result = along_axes(torch.from_numpy(image), (x, y, z)).numpy()
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


def test_the_bias_field_is_smooth_and_as_strong_as_drawn() -> None:
    logs = []
    for seed in range(20):
        weights = draw_bias(np.random.default_rng(seed), 0.3)
        field = bias_field(SHAPE, torch.from_numpy(weights.astype(np.float32))).log().numpy()
        basis = [cosines(n) for n in SHAPE]
        expected = np.einsum("ai,bj,ck,ijk->abc", *basis, weights)
        np.testing.assert_allclose(field, expected, atol=1e-4)
        logs.append(field.std())
        # No more than one and a half periods along an axis.
        assert np.abs(np.diff(field, axis=0)).max() < 0.3 * 3 * np.pi * 3 / SHAPE[0]
    np.testing.assert_allclose(logs, 0.3, rtol=1e-3)


def test_noise_is_rician() -> None:
    sigma = 0.1
    drawn = Acquisition(nothing(), np.zeros((4, 4, 4)), sigma, 1.0)
    air = acquire(torch.zeros(SHAPE), drawn, chance())
    # Without signal it is Rayleigh, with much signal nearly normal.
    assert float(air.mean()) == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.03)
    assert float(air.std()) == pytest.approx(sigma * np.sqrt(2 - np.pi / 2), rel=0.03)
    tissue = acquire(torch.full(SHAPE, 2.0), drawn, chance())
    assert float(tissue.mean()) == pytest.approx(np.sqrt(4 + sigma**2), rel=0.005)
    assert float(tissue.std()) == pytest.approx(sigma, rel=0.03)


def test_gamma_bends_intensities_around_white_matter() -> None:
    drawn = Acquisition(nothing(), np.zeros((4, 4, 4)), 0.0, 1.4)
    image = torch.rand(SHAPE, generator=chance()) * 2
    assert torch.allclose(acquire(image, drawn, chance()), image**1.4, atol=1e-5)


def test_amounts_stay_within_the_options() -> None:
    options = ScannerOptions(noise=0.05, gamma=0.3, thick_share=0, ghosting_share=0, blur=0)
    for seed in range(50):
        drawn = draw_acquisition(np.random.default_rng(seed), SHAPE, options)
        assert 0 <= drawn.noise <= 0.05
        assert abs(np.log(drawn.gamma)) <= 0.3
        for matrix, n in zip(drawn.matrices, SHAPE, strict=True):
            np.testing.assert_array_equal(matrix, np.eye(n))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_t1_intensities_keep_their_order(seed: int) -> None:
    labels = [Label(n, tissue.value, tissue) for n, tissue in enumerate(Tissue)]
    contrast = draw_contrast(np.random.default_rng(seed), labels, "t1")
    mean = dict(zip(Tissue, contrast.mean, strict=True))
    assert mean[Tissue.BACKGROUND] == 0
    assert mean[Tissue.WHITE] == 1
    assert mean[Tissue.SKULL] < mean[Tissue.VENTRICLE] < mean[Tissue.CORTEX]
    assert mean[Tissue.CSF] < mean[Tissue.CEREBELLAR_CORTEX] < mean[Tissue.PUTAMEN]
    assert mean[Tissue.CORTEX] < mean[Tissue.THALAMUS] < mean[Tissue.WHITE] < mean[Tissue.SKIN]
    assert (contrast.spread <= np.float32(0.06)).all()


def test_any_contrast_is_any() -> None:
    labels = [
        Label(0, "background", Tissue.BACKGROUND),
        Label(2, "left white", Tissue.WHITE),
        Label(41, "right white", Tissue.WHITE),
        Label(3, "cortex", Tissue.CORTEX),
        Label(7, "one", None),
        Label(8, "other", None),
    ]
    means = np.stack(
        [draw_contrast(np.random.default_rng(s), labels, "any").mean for s in range(300)]
    )
    # One tissue has one intensity, labels without a tissue have their own.
    np.testing.assert_array_equal(means[:, 1], means[:, 2])
    assert np.abs(np.corrcoef(means[:, [1, 3, 4, 5]].T) - np.eye(4)).max() < 0.2
    assert 0.4 < (means[:, 1] < means[:, 3]).mean() < 0.6
    np.testing.assert_allclose(means[:, 1:].mean(axis=0), 0.5, atol=0.06)
    assert 0.4 < (means[:, 0] == 0).mean() < 0.6


def test_the_edge_of_a_stripped_brain_moves_with_where_it_is_cut() -> None:
    brain = torch.zeros(40, 40, 40, dtype=torch.bool)
    brain[10:30, 10:30, 10:30] = True
    sizes = [
        float((stripped(torch.ones(40, 40, 40), brain, e, 2.0) > 0).sum()) for e in (0.15, 0.3, 0.5)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0.9 * float(brain.sum())
    assert sizes[0] < 24**3
