import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braintune.evaluation.resampling import resampled, subject_counts
from braintune.tasks.classification_metrics import BINARY, multiclass
from braintune.tasks.regression_metrics import REGRESSION
from braintune.tasks.task import Metric, Scored


def repeated(scored: Scored, counts: np.ndarray) -> list[np.ndarray]:
    """The rows of each resample, each as often as its subject was drawn."""
    return [np.repeat(np.arange(len(scored)), row[scored.subject]) for row in counts]


def classes(seed: int, n_classes: int, rows: int = 24) -> Scored:
    random = np.random.default_rng(seed)
    truth = random.integers(n_classes, size=rows).astype(float)
    # Few distinct values, so that there are ties.
    predicted = random.integers(1, 5, size=(rows, n_classes)).astype(float)
    predicted /= predicted.sum(axis=1, keepdims=True)
    decided = predicted.argmax(axis=1).astype(float)
    return Scored(truth, predicted, decided, np.arange(rows) % 3, np.arange(rows) // 2)


def numbers(seed: int, rows: int = 24) -> Scored:
    random = np.random.default_rng(seed)
    truth = random.normal(50, 10, rows)
    predicted = truth + random.normal(0, 5, rows)
    return Scored(truth, predicted[:, None], predicted, np.arange(rows) % 3, np.arange(rows) // 2)


def check(scored: Scored, metric: Metric) -> None:
    counts = subject_counts(12, seed=1, resamples=20)
    expected = [metric.function(scored.take(rows)) for rows in repeated(scored, counts)]
    np.testing.assert_allclose(resampled(scored, metric, counts), expected, atol=1e-10)


@pytest.mark.parametrize("name", list(BINARY))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=12)
def test_weights_say_what_repeated_rows_say_of_two_classes(name: str, seed: int) -> None:
    check(classes(seed, 2), BINARY[name])


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("name", list(multiclass(3)))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=6)
def test_weights_say_what_repeated_rows_say_of_three_classes(name: str, seed: int) -> None:
    check(classes(seed, 3), multiclass(3)[name])


@pytest.mark.parametrize("name", list(REGRESSION))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=12)
def test_weights_say_what_repeated_rows_say_of_numbers(name: str, seed: int) -> None:
    check(numbers(seed), REGRESSION[name])


@given(subjects=st.integers(1, 40), seed=st.integers(0, 100))
def test_as_many_are_drawn_as_there_are(subjects: int, seed: int) -> None:
    counts = subject_counts(subjects, seed, resamples=50)
    assert (counts.sum(axis=1) == subjects).all()
    assert (counts == subject_counts(subjects, seed, resamples=50)).all()


def test_large_cohorts_are_resampled_in_parts() -> None:
    """2,000 resamples of 5,000 subjects are ten million weights, and the same numbers."""
    random = np.random.default_rng(0)
    errors = random.exponential(5, 5000)
    rows = np.arange(5000)
    scored = Scored(np.zeros(5000), errors[:, None], errors, rows * 0, rows)
    samples = resampled(scored, REGRESSION["mae"], subject_counts(5000))
    assert len(samples) == 2000
    assert samples.std() == pytest.approx(errors.std() / np.sqrt(5000), rel=0.06)
