"""Classifiers of a table's rows, each with all steps from raw columns on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from braintune.errors import InputError, listing
from braintune.volumetry.harmonising import Harmonise, SiteRule
from braintune.volumetry.normalising import Residual, proportion

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Classifier:
    """One kind of classifier.

    Attributes:
        name: What recipes call it.
        label: What people read.
        make: Makes it from one of the candidates and a seed.
        candidates: The hyperparameters that inner folds choose from, the simplest model first.
        gives_probabilities: Whether it does, or gives scores that must be calibrated.
    """

    name: str
    label: str
    make: Callable[[Parameters, int], Any]
    candidates: tuple[Parameters, ...]
    gives_probabilities: bool = True


CLASSIFIERS = {
    entry.name: entry
    for entry in (
        Classifier(
            "logistic",
            "logistic regression with an L2 penalty",
            lambda p, _: LogisticRegression(**p, max_iter=5000),
            tuple({"C": c} for c in (0.001, 0.01, 0.1, 1.0, 10.0)),
        ),
        Classifier(
            "svm",
            "a support vector machine",
            lambda p, _: SVC(**p),
            (
                *({"kernel": "linear", "C": c} for c in (0.001, 0.01, 0.1, 1.0)),
                *({"kernel": "rbf", "C": c} for c in (0.1, 1.0, 10.0)),
            ),
            gives_probabilities=False,
        ),
        Classifier(
            "forest",
            "a random forest of 300 trees",
            lambda p, seed: RandomForestClassifier(300, **p, random_state=seed),
            tuple({"min_samples_leaf": n} for n in (10, 5, 2)),
        ),
        Classifier(
            "boosting",
            "gradient-boosted trees",
            lambda p, seed: HistGradientBoostingClassifier(
                **p, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False, random_state=seed
            ),
            tuple({"learning_rate": 0.05, "max_iter": n} for n in (25, 50, 100)),
        ),
    )
}


def classifier(name: str) -> Classifier:
    """The classifier of a name.

    Raises:
        InputError: If there is none.
    """
    if name not in CLASSIFIERS:
        raise InputError(f"Unknown model {name!r}. Available: {listing(CLASSIFIERS)}.")
    return CLASSIFIERS[name]


@dataclass(frozen=True)
class HeadSizeRule:
    """How head size is taken out of columns.

    Attributes:
        method: ``"none"``, ``"proportion"`` or ``"residual"``.
        volumes: The columns.
        icv: The column of the intracranial volume.
        reference: The class whose rows residuals are fitted on, None for all training rows.
    """

    method: str = "none"
    volumes: tuple[str, ...] = ()
    icv: str | None = None
    reference: int | None = None


class HeadSize(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Head size taken out of volumes, with lines fitted on the rows that `fit` sees.

    Args:
        rule: How.
    """

    def __init__(self, rule: HeadSizeRule) -> None:
        self.rule = rule

    def fit(self, frame: pd.DataFrame, truth: npt.NDArray[Any]) -> Self:
        """Fit the lines of residuals; the other methods learn nothing."""
        self.residual_: Residual | None = None
        if self.rule.method == "residual":
            rows = np.ones(len(frame), dtype=bool)
            if self.rule.reference is not None:
                rows = np.asarray(truth) == self.rule.reference
            volumes, icv = self._values(frame)
            self.residual_ = Residual.fit(volumes[rows], icv[rows])
        return self

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with its volumes changed."""
        if self.rule.method == "none":
            return frame
        volumes, icv = self._values(frame)
        if self.residual_ is not None:
            changed = self.residual_.apply(volumes, icv)
        else:
            changed = proportion(volumes, icv)
        return frame.assign(**dict(zip(self.rule.volumes, changed.T, strict=True)))

    def _values(self, frame: pd.DataFrame) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        return frame[list(self.rule.volumes)].to_numpy(), frame[self.rule.icv].to_numpy()


def make_steps(
    numbers: Sequence[str],
    names: Sequence[str],
    head_size: HeadSizeRule,
    sites: SiteRule | None = None,
) -> Pipeline:
    """All steps from columns to what a classifier takes.

    Missing numbers become the training rows' median; a missing name is a name of its own, and one
    that no training row has is none of the known.

    Args:
        numbers: Columns of numbers.
        names: Columns of names.
        head_size: How head size is taken out of volumes.
        sites: How sites are taken out of what is left.
    """
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(fill, StandardScaler()), list(numbers)),
            ("names", encode, list(names)),
        ]
    )
    return make_pipeline(HeadSize(head_size), Harmonise(sites or SiteRule()), columns)
