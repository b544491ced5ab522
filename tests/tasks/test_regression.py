import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from braintune.errors import InputError
from braintune.recipe import TaskRecipe
from braintune.tasks.regression import Regression
from braintune.tasks.regression_metrics import REGRESSION
from braintune.tasks.task import TASKS, Scored, make_task


def make(**options: object) -> Regression:
    task = make_task(TaskRecipe(kind="regression", target="age", **options))
    assert isinstance(task, Regression)
    return task


@given(st.integers(0, 10_000))
def test_metrics_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.normal(50, 15, 20), random.normal(50, 15, 20)
    data = Scored(truth, predicted[:, None], predicted, np.zeros(20, int), np.arange(20))
    expected = {
        "mae": sk.mean_absolute_error(truth, predicted),
        "rmse": sk.root_mean_squared_error(truth, predicted),
        "r": np.corrcoef(truth, predicted)[0, 1],
        "r2": sk.r2_score(truth, predicted),
    }
    for name, value in expected.items():
        assert REGRESSION[name].function(data) == pytest.approx(value), name


def test_a_constant_prediction_has_no_correlation() -> None:
    data = Scored(np.arange(3.0), np.ones((3, 1)), np.ones(3), np.zeros(3, int), np.arange(3))
    assert np.isnan(REGRESSION["r"].function(data))


def test_the_target_is_standardised_on_the_rows_given() -> None:
    task, values = make().read(pd.Series(["20", "40", None, "60"], name="age", dtype="string"))
    assert np.array_equal(values, [20, 40, np.nan, 60], equal_nan=True)
    fitted = task.fit(np.array([20.0, 40.0]))
    assert (fitted.center, fitted.scale) == (30, 10)
    outputs = torch.tensor([[-1.0], [2.0]])
    assert fitted.predict(outputs).tolist() == [[20.0], [50.0]]
    assert fitted.loss(outputs, torch.tensor([20.0, 40.0])).tolist() == [0.0, 1.0]
    assert TASKS.get("regression").restore(fitted.state()) == fitted


@pytest.mark.parametrize(("loss", "value"), [("l1", 2.0), ("mse", 4.0), ("huber", 1.5)])
def test_losses(loss: str, value: float) -> None:
    task = make(loss=loss)
    assert task.loss(torch.tensor([[2.0]]), torch.tensor([0.0])).item() == value


def test_the_head_starts_at_the_mean() -> None:
    head = make(head={"kind": "mlp", "hidden": 5}).head(4)
    assert head(torch.zeros(1, 4)).abs().max() < 0.5
    assert head[-1].bias.item() == 0


def test_strata_are_equally_large() -> None:
    strata = make().strata(np.random.default_rng(0).normal(size=100))
    assert np.bincount(strata).tolist() == [25, 25, 25, 25]


def test_age_alone_is_adjusted_by_default() -> None:
    assert make().adjusts_bias
    assert not make(adjust_bias=False).adjusts_bias
    other = make_task(TaskRecipe(kind="regression", target="volume", unit="mL"))
    assert isinstance(other, Regression)
    assert not other.adjusts_bias
    assert (make().unit, other.unit) == ("years", "mL")


def test_nothing_to_learn_is_refused() -> None:
    for values, message in (([None, None], "no value"), (["3", "3"], "only 3"), (["x"], "numbers")):
        with pytest.raises(InputError, match=message):
            make().read(pd.Series(values, name="age", dtype="string"))
    with pytest.raises(InputError, match=r"Unknown task 'regresion'. Did you mean 'regression'\?"):
        make_task(TaskRecipe(kind="regresion", target="age"))
    with pytest.raises(InputError, match=r"'task.los'. Did you mean 'loss'\?"):
        make(los="l1")


def test_correlation_is_taken_within_folds() -> None:
    """Each fold predicts its training mean, which pooled would correlate at -1 with the truth."""
    truth = np.array([1.0, 2, 3, 11, 12, 13])
    predicted = np.array([12.0, 12.01, 12.02, 2, 2.01, 2.02])
    fold = np.array([0, 0, 0, 1, 1, 1])
    data = Scored(truth, predicted[:, None], predicted, fold, np.arange(6))
    assert REGRESSION["r"].function(data) == pytest.approx(1.0)
