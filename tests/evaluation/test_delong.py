"""DeLong's test against its definition, and against what it promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from braintune.evaluation.delong import delong, placements
from braintune.tasks.classification_metrics import rank_auc


def by_definition(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float]:
    """Difference and variance from the kernel of every pair, as DeLong et al. write them."""
    components = []
    for score in (first, second):
        kernel = np.array(
            [
                [1.0 if p > n else 0.5 if p == n else 0.0 for n in score[~positive]]
                for p in score[positive]
            ]
        )
        components.append((kernel.mean(), kernel.mean(axis=1), kernel.mean(axis=0)))
    (auc1, v10_1, v01_1), (auc2, v10_2, v01_2) = components
    s10, s01 = np.cov(v10_1, v10_2), np.cov(v01_1, v01_2)
    contrast = np.array([1.0, -1.0])
    variance = contrast @ (s10 / len(v10_1) + s01 / len(v01_1)) @ contrast
    return auc1 - auc2, float(variance)


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
    st.lists(st.integers(0, 6), min_size=2, max_size=12),
    st.integers(0, 1000),
)
def test_it_is_its_definition(above: list[int], below: list[int], seed: int) -> None:
    positive = np.array([True] * len(above) + [False] * len(below))
    first = np.array([*above, *below], dtype=float)
    second = np.random.default_rng(seed).integers(0, 7, len(positive)).astype(float)
    found = delong(positive, first[None], second[None])
    difference, variance = by_definition(positive, first, second)
    assert found.difference == pytest.approx(difference, abs=1e-12)
    assert found.variance == pytest.approx(variance, abs=1e-12)
    if variance > 1e-9:
        z = abs(difference) / np.sqrt(variance)
        assert found.p == pytest.approx(2 * stats.norm.sf(z))


def test_placements_are_the_auc() -> None:
    random = np.random.default_rng(0)
    positive, score = random.random(50) > 0.4, random.normal(size=50)
    of_positive, of_negative = placements(positive, score)
    assert of_positive.mean() == pytest.approx(rank_auc(positive, score)[0])
    assert of_negative.mean() == pytest.approx(rank_auc(positive, score)[0])


def test_several_networks_count_by_their_mean_auc() -> None:
    random = np.random.default_rng(1)
    positive = random.random(60) > 0.5
    ours, theirs = random.normal(size=(3, 60)), random.normal(size=(2, 60))
    means = [np.mean([rank_auc(positive, s)[0] for s in scores]) for scores in (ours, theirs)]
    assert delong(positive, ours, theirs).difference == pytest.approx(means[0] - means[1])


def test_equal_scores_do_not_differ() -> None:
    positive = np.arange(10) % 2 == 0
    score = np.arange(10.0)[None]
    assert delong(positive, score, score).p == 1.0
    assert np.isnan(delong(np.arange(10) == 0, score, -score).p)


def test_it_errs_at_its_rate_and_sees_a_difference() -> None:
    """400 test sets where both are equally good: 5 % are called different; where not, most."""
    random = np.random.default_rng(2)
    positive = np.repeat([True, False], 60)
    wrong = seen = 0
    for _ in range(400):
        shared = random.normal(positive * 2.0, 1.0)
        first, second, worse = (shared + random.normal(0, s, 120) for s in (0.8, 0.8, 4.0))
        wrong += delong(positive, first[None], second[None]).p < 0.05
        seen += delong(positive, first[None], worse[None]).p < 0.05
    low, high = stats.binom.interval(0.998, 400, 0.05)
    assert low <= wrong <= high
    assert seen > 360
