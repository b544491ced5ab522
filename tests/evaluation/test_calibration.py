"""Calibration and subgroups, against planted truths and other libraries."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from braintune.evaluation.calibration import (
    excess_probability,
    excess_value,
    logistic_slope,
    value_slope,
)
from braintune.evaluation.subgroups import FEWEST, by_subgroup, groups_of
from braintune.tasks.regression_metrics import REGRESSION
from braintune.tasks.task import Scored


def scored(truth: np.ndarray, predicted: np.ndarray) -> Scored:
    columns = predicted[:, None] if predicted.ndim == 1 else predicted
    rows = np.arange(len(truth))
    return Scored(truth.astype(float), columns, columns[:, -1], np.zeros_like(rows), rows)


def chances(odds: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-odds))
    return np.stack([1 - positive, positive], axis=1)


@given(st.floats(0.3, 3.0), st.integers(0, 2**31))
def test_the_logistic_slope_is_that_of_an_unpenalised_regression(steep: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    odds = random.normal(0, 1, 300)
    truth = random.random(300) < 1 / (1 + np.exp(-odds))
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(steep * odds[:, None], truth).coef_[0, 0]
    assert logistic_slope(scored(truth, chances(steep * odds))) == pytest.approx(expected, rel=1e-3)


def test_planted_miscalibration_is_found() -> None:
    """Odds three times too extreme, and all of them too high."""
    random = np.random.default_rng(0)
    odds = random.normal(0, 1, 20_000)
    truth = random.random(20_000) < 1 / (1 + np.exp(-odds))
    right = scored(truth, chances(odds))
    assert logistic_slope(right) == pytest.approx(1, abs=0.05)
    assert excess_probability(right) == pytest.approx(0, abs=0.01)
    assert logistic_slope(scored(truth, chances(3 * odds))) == pytest.approx(1 / 3, abs=0.02)
    assert excess_probability(scored(truth, chances(odds + 2))) > 0.2


def test_a_slope_that_nobody_can_know_is_not_a_number() -> None:
    odds = np.linspace(-2, 2, 40)
    assert np.isnan(logistic_slope(scored(odds > 0, chances(odds))))
    assert np.isnan(logistic_slope(scored(np.ones(40), chances(odds))))
    assert np.isnan(value_slope(scored(odds, np.zeros(40))))


def test_values_are_compared_in_their_own_unit() -> None:
    random = np.random.default_rng(1)
    predicted = random.uniform(20, 80, 50)
    truth = 0.5 * predicted + 25 + random.normal(0, 1, 50)
    expected = LinearRegression().fit(predicted[:, None], truth).coef_[0]
    found = scored(truth, predicted)
    assert value_slope(found) == pytest.approx(expected)
    assert excess_value(found) == pytest.approx(np.mean(predicted - truth))


def test_a_group_with_a_larger_error_is_seen_and_a_small_one_is_named() -> None:
    random = np.random.default_rng(2)
    sex = np.array(["F"] * 40 + ["M"] * 40 + ["n/a"] * (FEWEST - 1))
    truth = random.uniform(20, 80, len(sex))
    predicted = truth + random.choice([-1, 1], len(sex)) * np.where(sex == "M", 8.0, 2.0)
    table = pd.DataFrame({"sex": pd.Series(sex, dtype="string").replace("n/a", pd.NA)})
    groups = by_subgroup(scored(truth, predicted), REGRESSION["mae"], table)["sex"]
    assert (groups["F"]["value"], groups["M"]["value"]) == (pytest.approx(2), pytest.approx(8))
    assert groups["F"]["high"] < groups["M"]["low"]
    assert groups["n/a"] == {"subjects": FEWEST - 1, "value": None, "low": None, "high": None}


def test_groups_cover_every_row_once() -> None:
    table = pd.DataFrame({"age": ["9", "10.0", "69.9", None], "site": ["A", None, "B", "A"]})
    groups = groups_of(table)
    assert groups["age"].tolist() == ["0 to 9", "10 to 19", "60 to 69", "n/a"]
    assert groups["site"].tolist() == ["A", "n/a", "B", "A"]
