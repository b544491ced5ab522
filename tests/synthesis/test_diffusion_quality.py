from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, ndimage, stats

from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.imaging.prepare import fill_store
from braintune.recipe import PrepareRecipe
from braintune.synthesis.diffusion.data import with_columns
from braintune.synthesis.diffusion.quality.assess import AssessmentOptions, assess
from braintune.synthesis.diffusion.quality.coarse import coarse_rows
from braintune.synthesis.diffusion.quality.distances import (
    frechet_distance,
    gaussian_kernel,
    permutation_p,
    squared_mmd,
)
from braintune.synthesis.diffusion.quality.diversity import (
    mean_similarity,
    pairs_of,
    scales_that_fit,
    similarity,
)
from braintune.synthesis.diffusion.quality.features import FeatureExtractor
from braintune.synthesis.diffusion.quality.memory import copied, nearest
from braintune.synthesis.diffusion.quality.reader import Correlation, read_off
from braintune.synthesis.diffusion.quality.ventricles import ventricular_ml
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate

RANDOM = np.random.default_rng(0)


def test_equal_scans_are_fully_similar_and_noise_makes_them_less_so() -> None:
    images = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(similarity(images, images), torch.ones(2))
    assert mean_similarity(images[[0, 0, 0]], 10, 0) == pytest.approx(1)
    some = (images + 0.1 * torch.randn(images.shape)).clip(0, 1)
    more = (images + 0.5 * torch.randn(images.shape)).clip(0, 1)
    assert similarity(images, more).mean() < similarity(images, some).mean() < 1
    assert mean_similarity(images[:1], 10, 0) is None


@pytest.mark.parametrize("shape", [(8, 8, 8), (16, 20, 16), (40, 48, 40), (160, 224, 160)])
def test_scales_fit_what_the_metric_demands(shape: tuple[int, int, int]) -> None:
    weights = scales_that_fit(shape)
    assert sum(weights) == pytest.approx(1)
    if max(shape) < 100:
        similarity(torch.rand(1, 1, *shape), torch.rand(1, 1, *shape))


def test_pairs_differ_and_are_as_many_as_wanted() -> None:
    pairs = pairs_of(30, 50, seed=1)
    assert len(set(pairs)) == 50
    assert all(i < j for i, j in pairs)


def test_the_frechet_distance_is_that_of_matrix_roots() -> None:
    first, second = RANDOM.normal(size=(40, 5)), RANDOM.normal(0.5, 2, size=(30, 5))
    covariances = [np.cov(values, rowvar=False) for values in (first, second)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_discrepancy_is_the_sum_over_pairs() -> None:
    first, second = RANDOM.normal(size=(6, 3)), RANDOM.normal(1, 1, size=(5, 3))
    both = np.concatenate([first, second])
    squares = [((a - b) ** 2).sum() for i, a in enumerate(both) for b in both[:i]]

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / np.median(squares)))

    def within(values: np.ndarray) -> float:
        return float(
            np.mean(
                [kernel(a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i - j]
            )
        )

    across = np.mean([kernel(a, b) for a in first for b in second])
    assert squared_mmd(first, second) == pytest.approx(within(first) + within(second) - 2 * across)
    assert gaussian_kernel(both).diagonal() == pytest.approx(1)


def test_the_permutation_test_is_uniform_without_and_small_with_a_difference() -> None:
    same = [
        permutation_p(RANDOM.normal(size=(12, 2)), RANDOM.normal(size=(12, 2)), 39, seed)
        for seed in range(100)
    ]
    assert stats.kstest(same, "uniform").pvalue > 0.001
    apart = permutation_p(RANDOM.normal(size=(12, 2)), RANDOM.normal(3, 1, size=(12, 2)), 99, 0)
    assert apart == 0.01


def test_copies_of_training_scans_are_found() -> None:
    training, others = (RANDOM.normal(size=(n, 50)).astype(np.float32) for n in (20, 10))
    samples = RANDOM.normal(size=(5, 50)).astype(np.float32)
    samples[2] = training[7] + 0.05 * RANDOM.normal(size=50)
    found = nearest(samples, training)
    brute = np.sqrt(((samples[:, None] - training[None]) ** 2).mean(2))
    np.testing.assert_array_equal(found.row, brute.argmin(1))
    np.testing.assert_allclose(found.distance, brute.min(1), rtol=1e-4)
    ordered = np.sort(brute, axis=1)
    np.testing.assert_allclose(found.ratio, ordered[:, 0] / ordered[:, 1], rtol=1e-4)
    assert copied(found, nearest(others, training))[2]
    assert found.row[2] == 7
    own = nearest(training, training, itself=True)
    assert (own.row != np.arange(20)).all()


def test_correlations_have_fishers_interval() -> None:
    x = RANDOM.normal(size=40)
    y = x + RANDOM.normal(size=40)
    found = Correlation.of(x, np.where(np.arange(40) == 3, np.nan, y))
    rows = np.arange(40) != 3
    r = np.corrcoef(x[rows], y[rows])[0, 1]
    half = 1.959964 / np.sqrt(39 - 3)
    expected = np.tanh([np.arctanh(r), np.arctanh(r) - half, np.arctanh(r) + half])
    assert [found.r, found.low, found.high] == pytest.approx(expected.tolist())
    assert found.count == 39
    assert np.isnan(Correlation.of(np.ones(9), x[:9]).r)


def test_what_is_planted_in_scans_is_read_off_samples_and_nothing_else_is() -> None:
    truth, direction = RANDOM.normal(size=60), RANDOM.normal(size=200)
    rows = (truth[:, None] * direction + RANDOM.normal(size=(60, 200))).astype(np.float32)
    subjects = np.arange(60).astype(str)
    asked = RANDOM.normal(size=25)
    samples = (asked[:, None] * direction).astype(np.float32)
    reading = read_off(rows, truth, subjects, samples)
    assert reading.real.r > 0.9
    assert Correlation.of(asked, reading.samples).r > 0.99
    nothing = read_off(rows, RANDOM.normal(size=60), subjects, samples)
    assert abs(nothing.real.r) < 0.5


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Brains at 4 mm from one scanner, as fine as ventricles need."""
    out = tmp_path_factory.mktemp("brains") / "cohort"
    simulate(out, SimulationRecipe(subjects=30, spacing=4, sites=1, seed=2))
    return out


def test_ventricles_are_measured_without_a_reader(brains: Path, tmp_path: Path) -> None:
    """Dark fluid follows the truth of the simulation, and is what was drawn into a brain."""
    subjects = with_columns(read_cohort(brains), brains / "truth.tsv")
    recipe = PrepareRecipe(spacing=4, shape=(40, 48, 40), intensity="percentile")
    store = fill_store(subjects, tmp_path / "store", recipe, workers=1).store
    images = [np.array(store.read(i)[0], dtype=np.float32) for i in subjects.scan_ids]
    affine = store.facts(subjects.scan_ids[0]).affine
    measured = np.array([ventricular_ml(image, affine) for image in images])
    truth = subjects.table["ventricles_ml"].astype(float).to_numpy()
    assert np.corrcoef(measured, truth)[0, 1] > 0.7
    ball = np.linalg.norm(
        np.indices((40, 48, 40)) - np.array([19.5, 23, 20])[:, None, None, None], axis=0
    )
    grown = np.where(ball < 3, 0.0, images[0]).astype(np.float32)
    assert ventricular_ml(grown, affine) > measured[0] + 2
    away = affine.copy()
    away[:3, 3] += 1000
    assert np.isnan(ventricular_ml(images[0], away))


def test_coarse_rows_are_blurred_scans_at_eight_millimetres(brains: Path, tmp_path: Path) -> None:
    subjects = read_cohort(brains)
    recipe = PrepareRecipe(spacing=4, shape=(40, 48, 40), intensity="percentile")
    store = fill_store(subjects, tmp_path / "store", recipe, workers=1).store
    first = subjects.scan_ids[0]
    image = np.array(store.read(first)[0], dtype=np.float32)
    expected = ndimage.gaussian_filter(image, 1.0)[::2, ::2, ::2].ravel()
    np.testing.assert_array_equal(coarse_rows(store, [first])[0], expected)


def test_random_features_are_the_same_each_time_and_say_that_they_are_random(
    brains: Path, tmp_path: Path
) -> None:
    subjects = read_cohort(brains)
    recipe = PrepareRecipe(spacing=8, shape=(24, 24, 24), intensity="percentile")
    store = fill_store(subjects, tmp_path / "store", recipe, workers=1).store
    extract, again = (FeatureExtractor("resnet10", "none", store.shape) for _ in range(2))
    assert "never trained" in extract.name
    ids = subjects.scan_ids[:3]
    first = extract(store, ids)
    assert first.shape[0] == 3
    np.testing.assert_array_equal(first, again(store, ids))
    np.testing.assert_allclose(first[1:2], extract(store, ids[1:2]), rtol=1e-4, atol=1e-5)


def test_samples_that_are_not_finished_are_refused(brains: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished samples"):
        assess(tmp_path, read_cohort(brains), tmp_path / "out", AssessmentOptions())
    assert not (tmp_path / "out").exists()
