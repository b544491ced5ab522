from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.evaluation.baselines import predict_baseline, trivial_baselines
from braintune.evaluation.splits import Fold, make_folds
from braintune.evaluation.summary import Outcome, summarise
from braintune.recipe import CrossValidation, TaskRecipe
from braintune.tasks.task import Task, make_task

COUNT = 100


def cohort(**columns: object) -> Cohort:
    ids = [f"sub-{i:03d}" for i in range(COUNT)]
    keys = {"scan_id": ids, "participant_id": ids, "session_id": None, "path": ids}
    return Cohort(Path("c.tsv"), pd.DataFrame({**keys, **columns}).astype("string"))


def read(kind: str, target: str, data: Cohort) -> tuple[Task, np.ndarray]:
    return make_task(TaskRecipe(kind=kind, target=target)).read(data.column(target))


def folds_of(data: Cohort, task: Task, truth: np.ndarray) -> list[Fold]:
    return make_folds(data, task, truth, CrossValidation(), 0.15, 0)


@pytest.fixture
def brains() -> Cohort:
    """Sex is in the brain volume, age is in nothing, the site in the sex."""
    random = np.random.default_rng(0)
    sex = np.array(["F", "M"] * (COUNT // 2))
    return cohort(
        sex=sex,
        age=random.uniform(20, 80, COUNT).round(1),
        site=np.where(sex == "M", "a", "b"),
        brain_ml=random.normal(1200, 60, COUNT) + 150 * (sex == "M"),
    )


def test_the_target_is_never_its_own_baseline(brains: Cohort) -> None:
    task, _ = read("classification", "sex", brains)
    columns = {b.name: b.columns for b in trivial_baselines(brains, task)}
    assert columns == {
        "constant": (),
        "age_sex": ("age",),
        "brain_volume": ("brain_ml",),
        "site": ("site",),
    }
    age, _ = read("regression", "age", brains)
    assert trivial_baselines(brains, age)[1].columns == ("sex",)
    bare, _ = read("regression", "age", cohort(age=np.arange(COUNT)))
    assert [b.name for b in trivial_baselines(cohort(age=np.arange(COUNT)), bare)] == ["constant"]


def test_baselines_find_what_the_table_holds(brains: Cohort) -> None:
    task, truth = read("classification", "sex", brains)
    folds = folds_of(brains, task, truth)
    network = np.full((COUNT, 2), 0.5)
    document = summarise(brains, task, truth, folds, Outcome(network, None, [0.5] * 5))
    auc = {k: v["metrics"]["auc"]["value"] for k, v in document["baselines"].items()}
    assert auc["constant"] == 0.5
    assert auc["brain_volume"] > 0.85
    assert auc["site"] == 1.0
    assert 0.2 < auc["age_sex"] < 0.8
    assert document["metrics"]["auc"]["value"] == 0.5
    gain = document["baselines"]["site"]["network_minus_baseline"]
    assert gain["high"] < 0
    assert gain["p_holm"] < 0.001


def test_the_mean_predicts_the_training_mean(brains: Cohort) -> None:
    task, truth = read("regression", "age", brains)
    folds = folds_of(brains, task, truth)
    constant = trivial_baselines(brains, task)[0]
    predicted = predict_baseline(constant, brains, task, truth, folds)
    for fold in folds:
        learnt = np.concatenate([fold.train, fold.validation])
        assert np.allclose(predicted[fold.test, 0], truth[learnt].mean())


def test_missing_values_and_new_sites_do_not_stop_a_baseline(brains: Cohort) -> None:
    table = brains.table.copy()
    table.loc[[3, 50], "brain_ml"] = pd.NA
    table.loc[[4], "site"] = "only here"
    data = Cohort(brains.source, table)
    task, truth = read("classification", "sex", data)
    for baseline in trivial_baselines(data, task):
        predicted = predict_baseline(baseline, data, task, truth, folds_of(data, task, truth))
        assert np.isfinite(predicted).all()
        assert np.allclose(predicted.sum(axis=1), 1)


def test_baselines_never_see_test_rows(brains: Cohort) -> None:
    """Turning the test rows' targets around changes no prediction for them."""
    task, truth = read("classification", "sex", brains)
    folds = folds_of(brains, task, truth)
    turned = truth.copy()
    turned[folds[0].test] = 1 - turned[folds[0].test]
    for baseline in trivial_baselines(brains, task):
        first = predict_baseline(baseline, brains, task, truth, folds[:1])
        second = predict_baseline(baseline, brains, task, turned, folds[:1])
        assert np.array_equal(first[folds[0].test], second[folds[0].test])


def test_small_cohorts_are_cautioned_of(brains: Cohort) -> None:
    task, truth = read("classification", "sex", brains)
    folds = folds_of(brains, task, truth)
    p = np.full((COUNT, 2), 0.5)
    document = summarise(brains, task, truth, folds[:2], Outcome(p, None, [0.5, 0.5]))
    assert any("intervals are themselves uncertain" in text for text in document["cautions"])
