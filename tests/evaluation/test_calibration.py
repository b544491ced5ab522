"""Calibration, operating points and groups: definitions, references and planted truths."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from braintune.errors import InputError
from braintune.evaluation import intervals
from braintune.evaluation.calibration import (
    SLOPE,
    bias,
    calibration_curve,
    calibration_intercept,
    calibration_slope,
    in_the_large,
    value_slope,
)
from braintune.evaluation.intervals import bootstrap_rows, metric_intervals
from braintune.evaluation.operating_points import (
    AT_A_POINT,
    OperatingPoint,
    transferred,
)
from braintune.evaluation.subgroups import Grouping, by_group, unpaired_difference
from braintune.recipe import TaskRecipe
from braintune.tasks.classification_metrics import BINARY
from braintune.tasks.task import Scored, make_task

CLASSES = make_task(
    TaskRecipe.model_validate({"kind": "classification", "target": "dx", "labels": ["CN", "AD"]})
).read(pd.Series(["CN", "AD"], name="dx"))[0]


def classes(truth: np.ndarray, p: np.ndarray, threshold: float = 0.5) -> Scored:
    """Probabilities of the positive class, one scan a subject."""
    count = len(truth)
    decided = (p >= threshold).astype(float)
    return Scored(
        truth.astype(float),
        np.stack([1 - p, p], 1),
        decided,
        np.zeros(count, int),
        np.arange(count),
    )


def planted(slope: float, shift: float, count: int = 4000, seed: int = 0) -> Scored:
    """People whose true chance is the predicted one, its logit stretched and shifted."""
    random = np.random.default_rng(seed)
    logit = random.normal(0, 1.5, count)
    truth = random.random(count) < expit(shift + slope * logit)
    return classes(truth, expit(logit))


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.5, 0.0), (1.5, 0.0), (1.0, -1.0)])
def test_a_planted_miscalibration_is_found(slope: float, shift: float) -> None:
    data = planted(slope, shift)
    assert calibration_slope(data) == pytest.approx(slope, abs=0.1)
    if slope == 1.0:
        assert calibration_intercept(data) == pytest.approx(shift, abs=0.1)
    assert np.sign(in_the_large(data)) == -np.sign(calibration_intercept(data))


def test_recalibration_is_unpenalised_logistic_regression() -> None:
    data = planted(0.7, 0.4, 200, seed=1)
    logit = np.log(data.predicted[:, 1] / data.predicted[:, 0])
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], data.truth)
    assert calibration_slope(data) == pytest.approx(reference.coef_[0, 0], rel=1e-4)
    shift = calibration_intercept(data)
    assert expit(logit + shift).mean() == pytest.approx(data.truth.mean())


def test_what_has_no_slope_says_so() -> None:
    parted = classes(np.repeat([0, 1], 10), np.linspace(0.1, 0.9, 20))
    assert np.isnan(calibration_slope(parted))
    one_class = classes(np.ones(5), np.linspace(0.1, 0.9, 5))
    assert np.isnan(calibration_slope(one_class))
    assert np.isnan(calibration_intercept(one_class))
    assert np.isnan(calibration_slope(classes(np.array([0, 1]), np.full(2, 0.5))))


def test_intervals_of_the_slope_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    covered = 0
    for seed in range(60):
        data = planted(0.8, 0.0, 250, seed)
        found = metric_intervals(data, [SLOPE], bootstrap_rows(data, seed))["slope"]
        covered += found.low <= 0.8 <= found.high
    assert 51 <= covered <= 60


@given(st.floats(0.2, 3), st.floats(-20, 20), st.lists(st.floats(20, 90), min_size=4, max_size=30))
def test_the_line_of_values_is_found(slope: float, shift: float, predicted: list[float]) -> None:
    values = np.array(predicted)
    truth = slope * values + shift
    data = Scored(
        truth, values[:, None], values, np.zeros(len(values), int), np.arange(len(values))
    )
    assert bias(data) == pytest.approx((values - truth).mean())
    if values.std() > 1e-3:
        assert value_slope(data) == pytest.approx(slope, rel=1e-5)


def test_the_curve_holds_every_scan_once() -> None:
    data = planted(1, 0, 103)
    curve = calibration_curve(data)
    assert sum(point["scans"] for point in curve) == 103
    assert np.average(
        [point["observed"] for point in curve], weights=[point["scans"] for point in curve]
    ) == pytest.approx(data.truth.mean())


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.01, 0.99)), min_size=4, max_size=40).filter(
        lambda rows: len({truth for truth, _ in rows}) == 2
    ),
    st.sampled_from([0.5, 0.8, 0.9]),
)
def test_a_point_keeps_what_it_promises(rows: list[tuple[bool, float]], share: float) -> None:
    """By brute force: no higher threshold finds as many, no lower one spares as many."""
    truth = np.array([float(t) for t, _ in rows])
    score = np.array([s for _, s in rows])
    finds = OperatingPoint.parse(f"sensitivity={share}").threshold(truth, score)
    assert (score[truth == 1] >= finds).mean() >= share - 1e-9
    found = score[(truth == 1) & (score >= finds)]
    assert (score[truth == 1] > found.min()).mean() < share
    spares = OperatingPoint.parse(f"specificity={share}").threshold(truth, score)
    assert (score[truth == 0] < spares).mean() >= share - 1e-9
    below = score[score < spares]
    if len(below):
        assert (score[truth == 0] < below.max()).mean() < share


def test_a_transferred_point_finds_as_many_elsewhere() -> None:
    """With the same people elsewhere the promise holds; with shifted scores it does not."""
    random = np.random.default_rng(0)
    folds = []
    for _ in range(5):
        truth = np.repeat([0.0, 1.0], 100)
        folds.append((truth, expit(random.normal(2 * truth - 1, 1))))
    point = OperatingPoint.parse("sensitivity=0.9")
    threshold, each = transferred(point, folds)
    assert threshold == pytest.approx(np.mean(each))
    truth = np.repeat([0.0, 1.0], 1000)
    logit = random.normal(2 * truth - 1, 1)
    same = classes(truth, expit(logit), threshold)
    shifted = classes(truth, expit(logit - 1), threshold)
    assert BINARY["sensitivity"].function(same) == pytest.approx(0.9, abs=0.03)
    assert BINARY["sensitivity"].function(shifted) < 0.75
    assert BINARY["auc"].function(shifted) == pytest.approx(BINARY["auc"].function(same))


def test_predictive_values_are_those_of_the_table() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.1, 0.1, 0.1])
    found = {m.name: m.function(classes(truth, p)) for m in AT_A_POINT}
    assert found == pytest.approx(
        {"sensitivity": 2 / 3, "specificity": 4 / 5, "ppv": 2 / 3, "npv": 4 / 5}
    )


def test_points_without_both_classes() -> None:
    rows = [(np.ones(4), np.linspace(0.1, 0.9, 4))]
    with pytest.raises(InputError, match="validation rows of both classes"):
        transferred(OperatingPoint.parse("youden"), rows)
    assert transferred(OperatingPoint.parse("0.3"), rows)[0] == 0.3


def test_a_group_in_which_the_network_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores tell nothing of one of three sites; its interval of the difference excludes 0."""
    monkeypatch.setattr(intervals, "RESAMPLES", 300)
    random = np.random.default_rng(2)
    truth = np.tile([0.0, 1.0], 150)
    site = np.repeat(["a", "b", "c"], 100)
    logit = random.normal(0, 1, 300) + np.where(site == "c", 0, 3 * truth - 1.5)
    data = classes(truth, expit(logit))
    site = np.where(np.arange(300) < 5, "tiny", site)
    found = by_group(data, Grouping("site", pd.Series(site)), CLASSES)
    assert set(found["groups"]) == {"a", "b", "c"}
    assert found["too_small"] == {"tiny": {"subjects": 5, "reason": "fewer than 10 subjects"}}
    assert found["groups"]["c"]["minus_others"]["high"] < 0
    assert found["groups"]["a"]["minus_others"]["low"] > 0
    assert found["groups"]["c"]["subjects"] == 100


def test_a_group_with_hardly_anybody_of_a_class_is_named() -> None:
    data = classes(np.array([0.0] * 20 + [1.0] * 2 + [0.0, 1.0] * 10), np.linspace(0.1, 0.9, 42))
    groups = pd.Series(["a"] * 22 + ["b"] * 20)
    found = by_group(data, Grouping("site", groups), CLASSES)
    assert found["too_small"]["a"]["reason"] == "2 subjects are AD; 3 are needed"


def test_differences_of_like_cohorts_are_settled_at_their_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two cohorts of the same people: an interval of the difference excludes 0 in one of 20."""
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(60):
        truth = np.repeat([0.0, 1.0], 40)
        parts = [classes(truth, expit(random.normal(truth, 1))) for _ in range(2)]
        _, low, high = unpaired_difference(parts[0], parts[1], BINARY["auc"])
        wrong += low > 0 or high < 0
    assert wrong <= 9
