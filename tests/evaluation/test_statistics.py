import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from braintune.evaluation.bias import fit_bias
from braintune.evaluation.intervals import (
    Interval,
    bootstrap_rows,
    difference_interval,
    metric_intervals,
)
from braintune.evaluation.paired import holm, nadeau_bengio, nadeau_bengio_many
from braintune.tasks.classification_metrics import BINARY
from braintune.tasks.regression_metrics import REGRESSION
from braintune.tasks.task import Scored

MAE = REGRESSION["mae"]


def values(truth: np.ndarray, predicted: np.ndarray, subject: np.ndarray | None = None) -> Scored:
    count = len(truth)
    subject = np.arange(count) if subject is None else subject
    return Scored(truth, predicted[:, None], predicted, np.zeros(count, int), subject)


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    errors = np.random.default_rng(0).exponential(5, 200)
    data = values(np.zeros(200), errors)
    interval = metric_intervals(data, [MAE], bootstrap_rows(data))["mae"]
    half = 1.96 * errors.std() / np.sqrt(200)
    assert interval.value == pytest.approx(errors.mean())
    assert interval.low == pytest.approx(errors.mean() - half, abs=0.15)
    assert interval.high == pytest.approx(errors.mean() + half, abs=0.15)


def test_repeated_scans_of_a_subject_do_not_narrow_the_interval() -> None:
    """Ten copies of each scan hold no more than one of each."""
    errors = np.random.default_rng(1).normal(0, 5, 60)
    once = values(np.zeros(60), errors)
    copies = values(np.zeros(600), np.repeat(errors, 10), np.repeat(np.arange(60), 10))
    widths = []
    for data in (once, copies):
        interval = metric_intervals(data, [MAE], bootstrap_rows(data))["mae"]
        widths.append(interval.high - interval.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_every_resample_takes_whole_subjects() -> None:
    subject = np.array([5, 5, 2, 9, 9, 9])
    data = values(np.zeros(6), np.zeros(6), subject)
    for rows in bootstrap_rows(data)[:50]:
        counts = np.bincount(rows, minlength=6)
        assert counts[0] == counts[1]
        assert counts[3] == counts[4] == counts[5]
        assert counts[0] + counts[2] + counts[3] == 3


def test_intervals_cover_the_truth_at_their_rate() -> None:
    """95 % intervals of the AUC of two normal classes hold the true AUC about 95 % of the time."""
    random = np.random.default_rng(2)
    true = stats.norm.cdf(1 / np.sqrt(2))
    covered = 0
    for _ in range(60):
        truth = np.repeat([0.0, 1.0], 40)
        score = random.normal(truth, 1)
        p = stats.norm.cdf(score)
        data = Scored(truth, np.stack([1 - p, p], 1), truth, np.zeros(80, int), np.arange(80))
        rows = bootstrap_rows(data, seed=int(random.integers(1e6)))[:300]
        interval = metric_intervals(data, [BINARY["auc"]], rows)["auc"]
        covered += interval.low <= true <= interval.high
    assert 51 <= covered <= 60


def test_paired_differences_are_sharper_than_two_intervals() -> None:
    random = np.random.default_rng(3)
    shared = random.normal(0, 5, 100)
    good = values(np.zeros(100), shared)
    bad = values(np.zeros(100), shared + np.sign(shared) * random.uniform(0.5, 1.5, 100))
    rows = bootstrap_rows(good)
    difference = difference_interval(bad, good, MAE, rows)
    alone = metric_intervals(good, [MAE], rows)["mae"]
    assert difference.value == pytest.approx(1, abs=0.1)
    assert difference.excludes(0)
    assert difference.high - difference.low < (alone.high - alone.low) / 4


def test_an_undefined_metric_has_an_undefined_interval() -> None:
    truth = np.zeros(10)
    data = Scored(truth, np.full((10, 2), 0.5), truth, np.zeros(10, int), np.arange(10))
    interval = metric_intervals(data, [BINARY["auc"]], bootstrap_rows(data)[:50])["auc"]
    assert np.isnan([interval.value, interval.low, interval.high]).all()
    assert not Interval(0.5, float("nan"), float("nan")).excludes(0.5)


def test_the_corrected_test_by_hand() -> None:
    differences = [0.1, 0.12, 0.08, 0.11, 0.09]
    variance = np.var(differences, ddof=1) * (1 / 5 + 20 / 80)
    t = np.mean(differences) / np.sqrt(variance)
    result = nadeau_bengio(differences, 80, 20)
    assert result.t == pytest.approx(t)
    assert result.p == pytest.approx(2 * stats.t.sf(t, 4))
    plain = stats.ttest_1samp(differences, 0).pvalue
    assert result.p > plain


def test_the_corrected_test_of_degenerate_folds() -> None:
    assert np.isnan(nadeau_bengio([0.3], 80, 20).p)
    assert nadeau_bengio([0.0, 0.0], 80, 20).p == 1.0
    assert nadeau_bengio([0.1, 0.1], 80, 20).p == 0.0
    assert nadeau_bengio([0.1, float("nan"), 0.2], 80, 20).difference == pytest.approx(0.15)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.25, np.nan]), min_size=4, max_size=4)))
def test_many_corrected_tests_are_each_the_one(rows: list[list[float]]) -> None:
    expected = [nadeau_bengio(row, 30, 10).p for row in rows]
    found = nadeau_bengio_many(np.array(rows).reshape(-1, 4), 30, 10)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_no_smaller_than_the_input(p: list[float]) -> None:
    corrected = holm(p)
    assert all(c >= raw - 1e-12 for c, raw in zip(corrected, p, strict=True))
    assert max(corrected) <= 1
    order = np.argsort(p)
    assert (np.diff(np.array(corrected)[order]) >= -1e-12).all()
    smallest = int(np.argmin(p))
    assert corrected[smallest] == pytest.approx(min(1, p[smallest] * len(p)))


def test_holm_leaves_unknown_values_out() -> None:
    corrected = holm([0.01, float("nan"), 0.04])
    assert corrected[0] == 0.02
    assert np.isnan(corrected[1])
    assert corrected[2] == 0.04


@given(slope=st.floats(-0.8, 0.2), intercept=st.floats(-30, 30), seed=st.integers(0, 99))
def test_bias_is_taken_away_from_new_rows(slope: float, intercept: float, seed: int) -> None:
    random = np.random.default_rng(seed)

    def predicted(age: np.ndarray) -> np.ndarray:
        return age + slope * age + intercept + random.normal(0, 1, len(age))

    seen, new = random.uniform(20, 80, 400), random.uniform(20, 80, 400)
    bias = fit_bias(predicted(seen), seen)
    gap = bias.adjust(predicted(new), new) - new
    assert abs(np.polyfit(new, gap, 1)[0]) < 0.02
    assert abs(gap.mean()) < 0.5


def test_too_few_rows_are_not_adjusted() -> None:
    few = np.array([20.0, 40.0])
    assert fit_bias(few + 3, few).adjust(few, few).tolist() == few.tolist()
    same = np.full(10, 40.0)
    assert fit_bias(same + 3, same).slope == 0
