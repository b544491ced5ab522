"""What a study says of scores whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from braintune.errors import InputError
from braintune.evaluation import resampling
from braintune.evaluation.intervals import interval
from braintune.evaluation.paired import nadeau_bengio
from braintune.studies import standing as standing_module
from braintune.studies.standing import BOOTSTRAP, CORRECTED_T, DELONG, Standing, bootstrap_p
from braintune.tasks.classification_metrics import BINARY
from braintune.tasks.regression_metrics import REGRESSION
from studies.scoring import entry, folds_of, probabilities

MAE, AUC = REGRESSION["mae"], BINARY["auc"]
REPETITIONS = 200


@pytest.fixture
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred studies of two thousand resamples each would take a minute."""
    few = lambda n, seed=0: resampling.subject_counts(n, seed, resamples=400)  # noqa: E731
    monkeypatch.setattr(standing_module, "subject_counts", few)


def ages(
    random: np.random.Generator, noise: dict[str, float], folds: int, seeds: int = 2
) -> Standing:
    """Methods that err by what is hard in a subject, and by noise of their own."""
    subjects = 100
    truth = random.uniform(20, 80, subjects)
    hard = random.normal(0, 5, subjects)
    parts = folds_of(subjects, folds)
    entries = [
        entry(name, truth, truth + hard + random.normal(0, size, (seeds, subjects)), parts)
        for name, size in noise.items()
    ]
    return Standing(entries, MAE, parts)


def sexes(random: np.random.Generator, noise: dict[str, float], folds: int) -> Standing:
    """The same for two classes."""
    subjects = 200
    truth = (np.arange(subjects) // 5 % 2).astype(float)
    shared = 2 * truth + random.normal(0, 1, subjects)
    parts = folds_of(subjects, folds)
    entries = [
        entry(name, truth, probabilities(shared + random.normal(0, size, (1, subjects))), parts)
        for name, size in noise.items()
    ]
    return Standing(entries, AUC, parts)


def called_different(standing: Standing) -> bool:
    """Whether any pair is."""
    count = len(standing.entries)
    return any(standing.are_told_apart(i, j) for i in range(count) for j in range(i))


def most_errors(rate: float) -> float:
    """More errors than this are not chance, of 200 at a rate."""
    return float(stats.binom.ppf(0.999, REPETITIONS, rate))


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize(
    ("study", "folds", "test"),
    [(ages, 5, CORRECTED_T), (ages, 1, BOOTSTRAP), (sexes, 5, CORRECTED_T), (sexes, 1, DELONG)],
)
def test_equal_methods_are_called_equal_at_the_nominal_rate(study, folds, test) -> None:
    """Three methods of equal worth: at most 5 % of the families of three pairs err."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(REPETITIONS):
        standing = study(random, {"a": 4.0, "b": 4.0, "c": 4.0}, folds)
        wrong += called_different(standing)
        assert standing.test == test
    assert wrong <= most_errors(0.05)


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize(
    ("study", "folds", "noise"),
    [
        (ages, 5, {"a": 1.0, "b": 8.0, "c": 8.0}),
        (ages, 1, {"a": 1.0, "b": 6.0, "c": 6.0}),
        (sexes, 5, {"a": 0.1, "b": 20.0, "c": 20.0}),
        (sexes, 1, {"a": 0.2, "b": 3.0, "c": 3.0}),
    ],
)
def test_a_planted_difference_is_found(study, folds, noise) -> None:
    random = np.random.default_rng(1)
    found = 0
    for _ in range(50):
        standing = study(random, noise, folds)
        best = standing.entries[0].name
        found += best == "a" and standing.pair(0, 1).is_real and standing.pair(0, 2).is_real
    assert found >= 40


def test_the_corrected_test_errs_less_than_the_plain_one_where_folds_share_rows() -> None:
    """Differences of folds that share training rows lean the same way.

    Their correlation is the share of the rows that is tested, as Nadeau and Bengio take it.
    """
    random = np.random.default_rng(2)
    folds, rho = 10, 1 / 10
    common = random.normal(size=(4000, 1)) * np.sqrt(rho)
    differences = common + random.normal(size=(4000, folds)) * np.sqrt(1 - rho)
    corrected = np.mean([nadeau_bengio(row.tolist(), 90, 10).p < 0.05 for row in differences])
    plain = np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05)
    assert corrected == pytest.approx(0.05, abs=0.012)
    assert plain > 0.12


@pytest.mark.usefixtures("_few_resamples")
def test_intervals_of_scores_and_differences_cover_the_truth() -> None:
    """The mean absolute error of all subjects there are is known, and so is its difference."""
    random = np.random.default_rng(3)
    sizes = {"a": 3.0, "b": 6.0}
    # The mean size of a normal error, over an endless cohort.
    true = {n: np.sqrt(2 / np.pi) * np.hypot(5, s) for n, s in sizes.items()}
    covered = {"a": 0, "b": 0, "difference": 0}
    for _ in range(REPETITIONS):
        standing = ages(random, sizes, folds=5, seeds=1)
        number = {e.name: i for i, e in enumerate(standing.entries)}
        for name in sizes:
            around = standing.interval(number[name])
            covered[name] += around.low <= true[name] <= around.high
        pair = standing.pair(number["a"], number["b"])
        covered["difference"] += pair.low <= true["a"] - true["b"] <= pair.high
    low, high = stats.binom.interval(0.999, REPETITIONS, 0.94)
    assert all(low <= count <= high for count in covered.values()), covered


def test_the_bootstrap_errs_at_its_rate() -> None:
    """Means of 80 differences around nothing, each resampled 500 times."""
    random = np.random.default_rng(4)
    counts = resampling.subject_counts(80, resamples=500)
    differences = random.normal(size=(1000, 80))
    samples = differences @ counts.T / 80
    wrong = np.mean([bootstrap_p(row) < 0.05 for row in samples])
    assert wrong == pytest.approx(0.05, abs=0.021)
    ends = [interval(0.0, row) for row in samples]
    assert np.mean([e.low <= 0 <= e.high for e in ends]) == pytest.approx(0.95, abs=0.021)


def test_scores_of_other_splits_are_refused() -> None:
    parts, truth = folds_of(20, 2), np.arange(20.0)
    one = entry("one", truth, truth[None] + 1, parts, splits="those")
    other = entry("other", truth, truth[None] + 1, parts, splits="these")
    with pytest.raises(InputError, match="other were scored on other splits than one"):
        Standing([one, other], MAE, parts)


def test_a_pair_reads_the_same_from_both_sides() -> None:
    standing = ages(np.random.default_rng(5), {"a": 1.0, "b": 6.0}, 5)
    one, other = standing.pair(0, 1), standing.pair(1, 0)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == other.p


def test_seeds_are_no_further_subjects() -> None:
    """Ten equal seeds tell no more than one."""
    random = np.random.default_rng(6)
    parts, truth = folds_of(60, 5), random.uniform(20, 80, 60)
    a, b = truth + random.normal(0, 4, (2, 60))
    few = Standing([entry(n, truth, p[None], parts) for n, p in (("a", a), ("b", b))], MAE, parts)
    many = Standing(
        [entry(n, truth, np.repeat(p[None], 10, axis=0), parts) for n, p in (("a", a), ("b", b))],
        MAE,
        parts,
    )
    assert many.pair(0, 1).p == pytest.approx(few.pair(0, 1).p)
    assert many.interval(0).low == pytest.approx(few.interval(0).low)


@given(st.lists(st.floats(1, 9), min_size=2, max_size=6), st.integers(0, 50))
@settings(max_examples=20)
def test_groups_hold_every_pair_that_is_noise_next_to_each_other(sizes, seed) -> None:
    noise = {f"m{i}": size for i, size in enumerate(sizes)}
    standing = ages(np.random.default_rng(seed), noise, 5, seeds=1)
    groups = standing.groups()
    for first, last in groups:
        for i in range(first, last + 1):
            assert not any(standing.are_told_apart(i, j) for j in range(i + 1, last + 1))
    assert {i for first, last in groups for i in range(first, last + 1)} == set(range(len(sizes)))
    starts = [first for first, _ in groups]
    assert starts == sorted(set(starts))
    assert standing.ranks().mean() == pytest.approx((len(sizes) + 1) / 2)
