"""What is predicted without looking at the images: the least that a network must beat.

Each baseline is fitted on a fold's training and validation rows and predicts its test rows, like
the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from braintune.cohort.cohort import Cohort
from braintune.cohort.labels import looks_numeric, numbers
from braintune.evaluation.splits import Fold
from braintune.tasks.task import FloatArray, Task


@dataclass(frozen=True)
class Baseline:
    """A model of the table alone.

    Attributes:
        name: Its key in metrics.json.
        label: What people read.
        columns: The columns that it sees; none for the constant.
    """

    name: str
    label: str
    columns: tuple[str, ...]


def trivial_baselines(cohort: Cohort, task: Task) -> list[Baseline]:
    """The baselines that a cohort's columns allow, the target itself left out."""
    constant = "the mean" if task.n_outputs == 1 else "the largest class"
    there = [
        name
        for name in ("age", "sex", "brain_ml", "site")
        if name in cohort.table.columns
        and name != task.target
        and len(cohort.table[name].dropna().unique()) > 1
    ]
    baselines = [Baseline("constant", constant, ())]
    people = tuple(name for name in ("age", "sex") if name in there)
    if people:
        baselines.append(Baseline("age_sex", " and ".join(people) + " only", people))
    if "brain_ml" in there:
        baselines.append(Baseline("brain_volume", "brain volume only", ("brain_ml",)))
    if "site" in there:
        baselines.append(Baseline("site", "site only", ("site",)))
    return baselines


def predict_baseline(
    baseline: Baseline, cohort: Cohort, task: Task, truth: FloatArray, folds: Sequence[Fold]
) -> FloatArray:
    """Out-of-fold predictions of a baseline.

    Returns:
        Of shape (scans, columns), like the network's; NaN for scans that no fold tests.
    """
    predicted = np.full((len(cohort), len(task.columns())), np.nan)
    features = _features(baseline, cohort)
    for fold in folds:
        rows = np.concatenate([fold.train, fold.validation])
        model = _model(baseline, features, task)
        model.fit(features.iloc[rows], truth[rows])
        if task.n_outputs == 1:
            predicted[fold.test, 0] = model.predict(features.iloc[fold.test])
        else:
            chances = model.predict_proba(features.iloc[fold.test])
            for column, label in enumerate(model.classes_):
                predicted[fold.test, int(label)] = chances[:, column]
            predicted[fold.test] = np.nan_to_num(predicted[fold.test])
    return predicted


def _features(baseline: Baseline, cohort: Cohort) -> pd.DataFrame:
    columns: dict[str, Any] = {"constant": np.zeros(len(cohort))}
    for name in baseline.columns:
        column = cohort.table[name]
        numeric = looks_numeric(column)
        columns[name] = numbers(column) if numeric else column.fillna("n/a").astype(object)
    return pd.DataFrame(columns)


def _model(baseline: Baseline, features: pd.DataFrame, task: Task) -> Pipeline:
    regression = task.n_outputs == 1
    if not baseline.columns:
        dummy = DummyRegressor() if regression else DummyClassifier(strategy="prior")
        return make_pipeline(dummy)
    numeric = [n for n in baseline.columns if pd.api.types.is_numeric_dtype(features[n])]
    others = [n for n in baseline.columns if n not in numeric]
    steps = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numeric),
            ("names", OneHotEncoder(handle_unknown="ignore", sparse_output=False), others),
        ]
    )
    return make_pipeline(steps, Ridge() if regression else LogisticRegression(max_iter=1000))
