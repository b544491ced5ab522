from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.files import read_json
from braintune.recipe import TaskRecipe
from braintune.tasks.soft_labels import SoftLabelRegression
from braintune.tasks.task import TASKS, make_task
from conftest import finish, tiny_recipe


def make(**options: object) -> SoftLabelRegression:
    task = make_task(TaskRecipe(kind="soft-label-regression", target="age", **options))
    assert isinstance(task, SoftLabelRegression)
    return task.fit(np.array([44.0, 80.0]))


def test_the_published_bins_are_forty_of_one_year() -> None:
    task = make(low=42, high=82)
    assert task.edges().tolist() == list(range(42, 83))
    assert task.head(64)(torch.zeros(2, 64)).shape == (2, 40)


@given(age=st.floats(50, 74), sigma=st.floats(0.5, 2))
def test_labels_are_distributions_around_the_value(age: float, sigma: float) -> None:
    task = make(low=42, high=82, sigma=sigma)
    label = task.labels(torch.tensor([age]))[0]
    assert label.sum().item() == pytest.approx(1, abs=1e-5)
    mean = (label * (task.edges()[1:] - 0.5)).sum().item()
    assert mean == pytest.approx(age, abs=0.15)


@given(age=st.floats(46, 78))
def test_a_perfect_output_has_no_loss_and_predicts_the_value(age: float) -> None:
    task = make(low=42, high=82)
    truth = torch.tensor([age])
    outputs = task.labels(truth).clamp_min(1e-30).log()
    assert task.loss(outputs, truth).item() == pytest.approx(0, abs=1e-4)
    assert task.predict(outputs).item() == pytest.approx(age, abs=0.1)
    assert task.loss(torch.zeros(1, 40), truth).item() > 1


def test_bins_come_from_training_rows_and_reach_one_further() -> None:
    task = make(bins=38)
    assert (float(task.edges()[0]), float(task.edges()[-1])) == (43, 81)
    assert task.edges().diff().tolist() == [1] * 38
    far = task.labels(torch.tensor([500.0]))[0]
    assert torch.isfinite(far).all()
    assert far.argmax() == 37
    assert TASKS.get("soft-label-regression").restore(task.state()) == task


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"low 80.0 must be below high 40.0"):
        make(low=80, high=40)


def test_it_fits_and_reports_as_any_number(cohort_folder: Path, tmp_path: Path) -> None:
    task = {"kind": "soft-label-regression", "target": "age", "bins": 20}
    run = finish(tiny_recipe(task=task), cohort_folder, tmp_path / "run")
    metrics = read_json(run / "metrics.json")
    assert metrics["headline"] == "mae"
    assert "adjusted_age" in (run / "predictions.tsv").read_text().splitlines()[0]
    low, high = metrics["metrics"]["mae"]["low"], metrics["metrics"]["mae"]["high"]
    assert 0 < low < metrics["metrics"]["mae"]["value"] < high
