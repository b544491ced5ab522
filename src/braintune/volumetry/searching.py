"""Choosing hyperparameters by inner folds, and a fitted classifier that gives probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from braintune.volumetry.classifiers import Classifier, Parameters

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_LEAST = 1e-9


@dataclass(frozen=True)
class Learner:
    """What is fitted to rows.

    Attributes:
        kind: The classifier.
        steps: Makes the steps from columns to what it takes, not yet fitted.
        seed: For classifiers that draw.
    """

    kind: Classifier
    steps: Callable[[], Pipeline]
    seed: int


@dataclass(frozen=True)
class FittedClassifier:
    """A classifier that was fitted.

    Attributes:
        steps: From columns to what the classifier takes.
        model: From there to scores or probabilities.
        calibration: From scores to probabilities, None where the model gives them.
        parameters: What the inner folds chose.
    """

    steps: Pipeline
    model: Any
    calibration: LogisticRegression | None
    parameters: Parameters

    def probabilities(self, frame: pd.DataFrame) -> FloatArray:
        """Probabilities of the classes, of shape (rows, classes)."""
        scores = _scores(self.model, self.steps.transform(frame))
        if self.calibration is not None:
            return np.asarray(self.calibration.predict_proba(scores), dtype=np.float64)
        return scores


def search(
    learner: Learner, frame: pd.DataFrame, truth: IntArray, hand: IntArray
) -> FittedClassifier:
    """Choose the candidate that inner folds predict best, and fit it to all rows.

    Best is the smallest mean log loss over the rows that an inner fold has left out; of equals,
    the simplest. Where scores must be calibrated, it is done on the scores of left-out rows (Platt,
    1999), so that no row calibrates the classifier that has learnt from it.

    Args:
        learner: What is fitted.
        frame: The training rows.
        truth: Their classes, of shape (rows,).
        hand: The inner fold that leaves each row out, of shape (rows,).
    """
    candidates = learner.kind.candidates
    left_out = _left_out(learner, candidates, frame, truth, hand)
    losses = [_loss(learner.kind, scores, truth) for scores in left_out]
    best = int(np.argmin(losses))
    return _fitted(learner, candidates[best], frame, truth, left_out[best])


def fit_candidate(
    learner: Learner,
    frame: pd.DataFrame,
    truth: IntArray,
    hand: IntArray,
    parameters: Parameters,
) -> FittedClassifier:
    """Fit one candidate, as `search` does with the one that it has chosen."""
    left_out = None
    if not learner.kind.gives_probabilities:
        (left_out,) = _left_out(learner, [parameters], frame, truth, hand)
    return _fitted(learner, parameters, frame, truth, left_out)


def _fitted(
    learner: Learner,
    parameters: Parameters,
    frame: pd.DataFrame,
    truth: IntArray,
    left_out: FloatArray | None,
) -> FittedClassifier:
    calibration = None
    if left_out is not None and not learner.kind.gives_probabilities:
        calibration = _calibration(left_out, truth)
    steps = learner.steps()
    model = learner.kind.make(parameters, learner.seed)
    model.fit(steps.fit_transform(frame, truth), truth)
    return FittedClassifier(steps, model, calibration, parameters)


def log_losses(probabilities: FloatArray, truth: Sequence[int] | IntArray) -> FloatArray:
    """The surprise at each row's true class, in nats.

    Example:
        >>> log_losses(np.array([[0.5, 0.5]]), [1]).round(3).tolist()
        [0.693]
    """
    chosen = probabilities[np.arange(len(probabilities)), np.asarray(truth, dtype=np.int64)]
    return np.asarray(-np.log(np.clip(chosen, _LEAST, 1)))


def _loss(kind: Classifier, scores: FloatArray, truth: IntArray) -> float:
    if not kind.gives_probabilities:
        scores = np.asarray(_calibration(scores, truth).predict_proba(scores))
    return float(log_losses(scores, truth).mean())


def _left_out(
    learner: Learner,
    candidates: Sequence[Parameters],
    frame: pd.DataFrame,
    truth: IntArray,
    hand: IntArray,
) -> list[FloatArray]:
    """What each candidate says of each row after learning from the other inner folds."""
    parts: list[list[FloatArray]] = [[] for _ in candidates]
    places = []
    for number in np.unique(hand):
        out = hand == number
        places.append(np.flatnonzero(out))
        steps = learner.steps()
        seen = steps.fit_transform(frame[~out], truth[~out])
        unseen = steps.transform(frame[out])
        for part, parameters in zip(parts, candidates, strict=True):
            model = learner.kind.make(parameters, learner.seed).fit(seen, truth[~out])
            part.append(_scores(model, unseen))
    order = np.argsort(np.concatenate(places), kind="stable")
    return [np.concatenate(part)[order] for part in parts]


def _scores(model: Any, values: FloatArray) -> FloatArray:
    """Probabilities, or decision values where there are none, of shape (rows, columns)."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(values), dtype=np.float64)
    scores = np.asarray(model.decision_function(values), dtype=np.float64)
    return scores[:, None] if scores.ndim == 1 else scores


def _calibration(scores: FloatArray, truth: IntArray) -> Any:
    return LogisticRegression(C=1e3, max_iter=5000).fit(scores, truth)
