import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from braintune.errors import InputError
from braintune.recipe import TaskRecipe
from braintune.tasks.classification_metrics import BINARY, multiclass, youden_threshold
from braintune.tasks.task import TASKS, Scored, Task, make_task


def task_of(column: pd.Series, **options: object) -> Task:
    recipe = TaskRecipe(kind="classification", target="dx", **options)
    return make_task(recipe).read(column)[0]


def column(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype="string", name="dx")


def scored(truth: np.ndarray, p: np.ndarray, folds: int = 1) -> Scored:
    decided = (p[:, 1] >= 0.5).astype(float) if p.shape[1] == 2 else p.argmax(1).astype(float)
    count = len(truth)
    return Scored(truth.astype(float), p, decided, np.arange(count) % folds, np.arange(count))


@st.composite
def binary(draw: st.DrawFn) -> Scored:
    count = draw(st.integers(6, 40))
    truth = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))])
    # Few distinct scores, so that ties are common.
    score = np.array(
        draw(
            st.lists(
                st.sampled_from(np.linspace(0, 1, 6)), min_size=len(truth), max_size=len(truth)
            )
        )
    )
    return scored(truth, np.stack([1 - score, score], axis=1))


@given(binary())
def test_binary_metrics_agree_with_scikit_learn(data: Scored) -> None:
    truth, score, decided = data.truth, data.predicted[:, 1], data.decided
    expected = {
        "auc": sk.roc_auc_score(truth, score),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, decided),
        "accuracy": sk.accuracy_score(truth, decided),
        "sensitivity": sk.recall_score(truth, decided),
        "specificity": sk.recall_score(truth, decided, pos_label=0),
        "f1": sk.f1_score(truth, decided),
        "average_precision": sk.average_precision_score(truth, score),
        "brier": sk.brier_score_loss(truth, score),
    }
    for name, value in expected.items():
        assert BINARY[name].function(data) == pytest.approx(value), name


@given(st.integers(0, 10_000))
def test_multiclass_metrics_agree_with_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([[0, 1, 2], random.integers(0, 3, 30)])
    p = random.dirichlet(np.ones(3), len(truth))
    data = scored(truth, p)
    onehot = np.eye(3)[truth]
    expected = {
        "auc": sk.roc_auc_score(truth, p, multi_class="ovr"),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, p.argmax(1)),
        "f1": sk.f1_score(truth, p.argmax(1), average="macro"),
        "average_precision": sk.average_precision_score(onehot, p),
        "brier": ((p - onehot) ** 2).sum(1).mean(),
    }
    for name, value in expected.items():
        assert multiclass(3)[name].function(data) == pytest.approx(value), name


def test_rank_metrics_do_not_compare_folds() -> None:
    """Folds that rank perfectly on other scales are perfect, though pooled they are not."""
    truth = np.array([0, 0, 1, 0, 1, 1, 0, 1])
    score = np.array([0.1, 0.5, 0.2, 0.6, 0.25, 0.9, 0.05, 0.8])
    data = scored(truth, np.stack([1 - score, score], axis=1), folds=2)
    assert sk.roc_auc_score(truth, score) < 1
    assert BINARY["auc"].function(data) == 1.0
    assert BINARY["average_precision"].function(data) == 1.0


def test_calibration_error_of_known_cases() -> None:
    truth = np.array([0, 1] * 50)
    half = np.full(100, 0.5)
    assert BINARY["ece"].function(scored(truth, np.stack([half, half], 1))) == pytest.approx(0)
    sure = np.full(100, 0.95)
    off = scored(truth, np.stack([1 - sure, sure], 1))
    assert BINARY["ece"].function(off) == pytest.approx(0.45)


def test_undefined_metrics_are_nan_not_errors() -> None:
    score = np.array([0.2, 0.8])
    one = scored(np.zeros(2), np.stack([1 - score, score], 1))
    assert np.isnan(BINARY["auc"].function(one))
    assert np.isnan(BINARY["sensitivity"].function(one))
    assert BINARY["f1"].function(one) == 0.0


@given(binary())
def test_youdens_point_is_the_best_there_is(data: Scored) -> None:
    threshold = youden_threshold(data.truth, data.predicted[:, 1])

    def index(at: float) -> float:
        decided = data.predicted[:, 1] >= at
        return decided[data.truth == 1].mean() - decided[data.truth == 0].mean()

    best = max(index(at) for at in np.linspace(-0.05, 1.05, 60))
    assert index(threshold) == pytest.approx(max(best, 0), abs=1e-9) or best <= 0


def test_reading_heads_losses_and_predictions() -> None:
    task, codes = make_task(TaskRecipe(kind="classification", target="dx")).read(
        column("AD", "CN", None)
    )
    assert np.array_equal(codes, [1, 0, np.nan], equal_nan=True)
    outputs = torch.tensor([[0.0, 0.0], [-20.0, 20.0]])
    assert torch.allclose(task.predict(outputs), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    losses = task.loss(outputs, torch.tensor([1.0, 1.0]))
    assert torch.allclose(losses, torch.tensor([np.log(2), 0.0], dtype=torch.float32))
    assert task.head(7)(torch.zeros(2, 7)).shape == (2, 2)
    assert task.columns() == ["p_CN", "p_AD"]
    assert task.describe(np.array([1.0, 0.0])) == ["AD", "CN"]
    restored = TASKS.get("classification").restore(task.state())
    assert restored == task


def test_options_must_agree() -> None:
    with pytest.raises(InputError, match="has 3: A, B, C"):
        task_of(column("A", "B", "C"), classes=2)
    with pytest.raises(InputError, match="classes is 3, but there are 2 labels"):
        task_of(column("A", "B"), classes=3, labels=["A", "B"])
    with pytest.raises(InputError, match="names a class twice"):
        task_of(column("A", "B"), labels=["A", "A"])
    with pytest.raises(InputError, match=r"classes: 2"):
        _ = make_task(TaskRecipe(kind="classification", target="dx")).n_outputs


def test_thresholds_move_decisions() -> None:
    task = task_of(column("CN", "AD"), threshold="youden")
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    threshold = task.find_threshold(np.array([0.0, 0.0, 1.0]), p)
    assert threshold == pytest.approx(0.25)
    assert task.decide(p, threshold).tolist() == [0, 0, 1]
    assert task.decide(p, 0.5).tolist() == [0, 0, 0]
