"""Telling two or more classes apart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from braintune.cohort.labels import Classes, find_classes
from braintune.errors import InputError
from braintune.tasks.classification_metrics import BINARY, multiclass, youden_threshold
from braintune.tasks.head import make_head
from braintune.tasks.task import (
    TASKS,
    FloatArray,
    IntArray,
    Metric,
    Task,
    TaskEntry,
    TaskOptions,
)


class ClassificationOptions(TaskOptions):
    """Options of classification.

    Attributes:
        classes: How many classes there are, by which a recipe is audited without data.
        labels: The classes in order; of two, the second is the positive one. Scans of other
            classes are left out, and the ledger says so.
        label_smoothing: Share of the probability that is spread over all classes.
        threshold: Where the positive class begins: at a probability of one half, or where Youden's
            index is largest on validation rows.
    """

    classes: int | None = Field(None, ge=2)
    labels: list[str] | None = Field(None, min_length=2)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    threshold: Literal["half", "youden"] = "half"

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.classes and self.labels and self.classes != len(self.labels):
            msg = f"classes is {self.classes}, but there are {len(self.labels)} labels"
            raise ValueError(msg)
        if self.labels and len(set(self.labels)) < len(self.labels):
            msg = "labels names a class twice"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class Classification(Task):
    """Cross-entropy over two or more classes.

    Attributes:
        target: The column.
        options: The recipe's options.
        classes: The classes, once the target was read.
    """

    target: str
    options: ClassificationOptions
    classes: Classes | None = None

    @property
    def n_outputs(self) -> int:
        """One logit a class."""
        if self.classes is not None:
            return len(self.classes.names)
        count = self.options.classes or len(self.options.labels or [])
        if not count:
            raise InputError("Set 'task: {classes: 2}' to say how many there are without data.")
        return count

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Of two classes, those of a positive class; of more, averages over the classes."""
        return BINARY if self.n_outputs == 2 else multiclass(self.n_outputs)

    def read(self, column: pd.Series) -> tuple[Self, FloatArray]:
        """Find the classes and number them."""
        classes = find_classes(column, self.options.labels)
        if self.options.classes and self.options.classes != len(classes.names):
            msg = (
                f"The recipe says that {self.target!r} has {self.options.classes} classes, but it"
                f" has {len(classes.names)}: {', '.join(classes.names)}."
            )
            raise InputError(msg)
        codes = classes.encode(column).astype(np.float64)
        codes[codes < 0] = np.nan
        return replace(self, classes=classes), codes

    def encode(self, column: pd.Series) -> FloatArray:
        """The known classes' numbers, NaN for all others."""
        assert self.classes is not None, "the target was not read yet"
        codes = self.classes.encode(column).astype(np.float64)
        codes[codes < 0] = np.nan
        return codes

    def fit(self, truth: FloatArray) -> Self:
        """Nothing is learnt from the rows."""
        del truth
        return self

    def head(self, n_features: int) -> nn.Module:
        """From features to one logit a class."""
        return make_head(self.options.head, n_features, self.n_outputs)

    def loss(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each scan."""
        return F.cross_entropy(
            outputs, truth.long(), reduction="none", label_smoothing=self.options.label_smoothing
        )

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes."""
        return outputs.float().softmax(dim=1)

    def strata(self, truth: FloatArray) -> IntArray:
        """The classes themselves."""
        return truth.astype(np.int64)

    def decide(self, predicted: FloatArray, threshold: float) -> FloatArray:
        """The positive class from the threshold on; of several classes the likeliest."""
        if predicted.shape[1] == 2:
            return (predicted[:, 1] >= threshold).astype(np.float64)
        return predicted.argmax(axis=1).astype(np.float64)

    def find_threshold(self, truth: FloatArray, predicted: FloatArray) -> float:
        """One half, or Youden's point on the given rows."""
        if self.n_outputs > 2:
            return float("nan")
        if self.options.threshold == "youden":
            return youden_threshold(truth, predicted[:, 1])
        return 0.5

    def columns(self) -> list[str]:
        """One probability a class."""
        return [f"p_{name}" for name in self._names]

    def describe(self, encoded: FloatArray) -> list[str]:
        """The classes' names."""
        return [self._names[int(code)] for code in encoded]

    def state(self) -> dict[str, Any]:
        """Target, options and classes."""
        return {
            "target": self.target,
            "options": self.options.model_dump(mode="json"),
            "classes": list(self._names),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Make a task from its state."""
        options = ClassificationOptions.model_validate(state["options"])
        return cls(state["target"], options, Classes(tuple(state["classes"])))

    @property
    def _names(self) -> tuple[str, ...]:
        assert self.classes is not None, "the target was not read yet"
        return self.classes.names


TASKS.add(
    TaskEntry(
        name="classification",
        options=ClassificationOptions,
        make=Classification,
        restore=Classification.restore,
    )
)
