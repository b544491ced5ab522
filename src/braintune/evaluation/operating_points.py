"""Where the positive class begins: chosen on validation rows, used unchanged elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from braintune.errors import InputError
from braintune.tasks.classification_metrics import BINARY, youden_threshold
from braintune.tasks.task import FloatArray, Metric, Scored

Rule = Literal["youden", "sensitivity", "specificity", "probability"]


@dataclass(frozen=True)
class OperatingPoint:
    """A rule that makes a threshold from rows whose truth is known.

    Attributes:
        text: As it was asked for.
        rule: Youden's index, a least sensitivity or specificity, or a fixed probability.
        value: What the rule aims at; not used by Youden's index.
    """

    text: str
    rule: Rule
    value: float = float("nan")

    @classmethod
    def parse(cls, text: str) -> "OperatingPoint":
        """Read ``youden``, ``sensitivity=0.9``, ``specificity=0.9`` or a probability.

        Raises:
            InputError: If it is none of them.

        Example:
            >>> OperatingPoint.parse("sensitivity=0.9").rule, OperatingPoint.parse("0.5").value
            ('sensitivity', 0.5)
        """
        name, equals, number = text.strip().partition("=")
        if name == "youden" and not equals:
            return cls(text, "youden")
        value = _number(number if equals else name)
        if value is not None and 0 < value < 1:
            if name == "sensitivity" and equals:
                return cls(text, "sensitivity", value)
            if name == "specificity" and equals:
                return cls(text, "specificity", value)
            if not equals:
                return cls(text, "probability", value)
        raise InputError(
            f"Unknown operating point {text!r}. Give youden, sensitivity=0.9, specificity=0.9 or a"
            " probability such as 0.5."
        )

    def threshold(self, truth: FloatArray, score: FloatArray) -> float:
        """The probability from which on the positive class is decided for.

        Args:
            truth: 0 or 1 of each row.
            score: Probability of the positive class of each row.

        Returns:
            NaN where the rows lack the class that the rule looks at.

        Example:
            >>> truth, score = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.3, 0.8])
            >>> round(OperatingPoint.parse("sensitivity=0.5").threshold(truth, score), 6)
            0.6
            >>> round(OperatingPoint.parse("specificity=0.9").threshold(truth, score), 6)
            0.6
        """
        if self.rule == "probability":
            return self.value
        if len(np.unique(truth)) < 2:
            return float("nan")
        if self.rule == "youden":
            return youden_threshold(truth, score)
        if self.rule == "sensitivity":
            return _highest_that_finds(self.value, score[truth == 1], score)
        return _lowest_that_spares(self.value, score[truth == 0], score)


def transferred(
    point: OperatingPoint, rows: Sequence[tuple[FloatArray, FloatArray]]
) -> tuple[float, list[float]]:
    """The mean of the thresholds of several folds' validation rows, and each of them.

    Args:
        point: The rule.
        rows: Truth and score of each fold's validation rows.

    Raises:
        InputError: If no fold's rows allow the rule.
    """
    found = [point.threshold(truth, score) for truth, score in rows]
    if np.isnan(found).all():
        raise InputError(
            f"The operating point {point.text!r} needs validation rows of both classes, which no"
            " fold of the run has. Use 0.5, or fit with a larger train.validation."
        )
    return float(np.nanmean(found)), found


def positive_predictive_value(scored: Scored) -> float:
    """Share of those decided for who are positive."""
    chosen = scored.decided == 1
    return float(scored.truth[chosen].mean()) if chosen.any() else float("nan")


def negative_predictive_value(scored: Scored) -> float:
    """Share of those decided against who are negative."""
    chosen = scored.decided == 0
    return float(1 - scored.truth[chosen].mean()) if chosen.any() else float("nan")


AT_A_POINT = [
    BINARY["sensitivity"],
    BINARY["specificity"],
    Metric("ppv", "positive predictive value", positive_predictive_value),
    Metric("npv", "negative predictive value", negative_predictive_value),
]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _highest_that_finds(share: float, positives: FloatArray, score: FloatArray) -> float:
    """The highest threshold at which at least so many positives are found, midway to the next."""
    ordered = np.sort(positives)
    missed = int(np.floor((1 - share) * len(ordered) + 1e-9))
    return _midway_below(float(ordered[missed]), score)


def _lowest_that_spares(share: float, negatives: FloatArray, score: FloatArray) -> float:
    """The lowest threshold at which at least so many negatives are decided against."""
    ordered = np.sort(negatives)
    spared = int(np.ceil(share * len(ordered) - 1e-9))
    highest = float(ordered[spared - 1])
    above = score[score > highest]
    return (highest + float(above.min())) / 2 if len(above) else float(np.nextafter(highest, 2))


def _midway_below(lowest: float, score: FloatArray) -> float:
    below = score[score < lowest]
    return (lowest + float(below.max())) / 2 if len(below) else lowest
