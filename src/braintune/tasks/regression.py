"""Predicting a number, such as age."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from braintune.cohort.labels import numbers
from braintune.errors import InputError
from braintune.tasks.head import make_head
from braintune.tasks.regression_metrics import REGRESSION
from braintune.tasks.task import (
    TASKS,
    FloatArray,
    IntArray,
    Metric,
    Task,
    TaskEntry,
    TaskOptions,
)

_STRATA = 4


class RegressionOptions(TaskOptions):
    """Options of regression.

    Attributes:
        loss: Absolute, squared, or Huber's error, of the standardised target.
        unit: What the target is measured in, for the report.
        adjust_bias: Whether to report the error adjusted for the pull to the mean too; by default
            if the target is age.
    """

    loss: Literal["l1", "mse", "huber"] = "l1"
    unit: str = ""
    adjust_bias: bool | None = None


@dataclass(frozen=True)
class Regression(Task):
    """A number, learnt in standard deviations from the mean of the training rows.

    Attributes:
        target: The column.
        options: The recipe's options.
        center: Mean of the training rows.
        scale: Standard deviation of the training rows.
    """

    target: str
    options: RegressionOptions
    center: float = 0.0
    scale: float = 1.0

    @property
    def adjusts_bias(self) -> bool:
        """Whether the error adjusted for bias is reported."""
        if self.options.adjust_bias is None:
            return self.target.lower() == "age"
        return self.options.adjust_bias

    @property
    def unit(self) -> str:
        """What the target is measured in."""
        return self.options.unit or ("years" if self.target.lower() == "age" else "")

    @property
    def n_outputs(self) -> int:
        """One."""
        return 1

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Errors and correlations."""
        return REGRESSION

    def read(self, column: pd.Series) -> tuple[Self, FloatArray]:
        """Turn text into numbers."""
        values = numbers(column).to_numpy(dtype=np.float64)
        known = values[~np.isnan(values)]
        if len(np.unique(known)) < 2:
            there = f"only {known[0]:g}" if len(known) else "no value"
            raise InputError(f"The target {self.target!r} has {there}: there is nothing to learn.")
        return self, values

    def fit(self, truth: FloatArray) -> Self:
        """Mean and standard deviation of the training rows."""
        return replace(self, center=float(truth.mean()), scale=float(max(truth.std(), 1e-6)))

    def head(self, n_features: int) -> nn.Module:
        """From features to the standardised value, starting at the mean."""
        head = make_head(self.options.head, n_features, 1)
        last = head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        return head

    def loss(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """The error of each scan, in standard deviations."""
        wanted = (truth - self.center) / self.scale
        functions = {"l1": F.l1_loss, "mse": F.mse_loss, "huber": F.smooth_l1_loss}
        return functions[self.options.loss](outputs[:, 0], wanted, reduction="none")

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Values in the target's unit."""
        return outputs.float() * self.scale + self.center

    def strata(self, truth: FloatArray) -> IntArray:
        """Quarters of the range of values, equally large."""
        edges = np.quantile(truth, np.linspace(0, 1, _STRATA + 1)[1:-1])
        return np.searchsorted(edges, truth, side="right").astype(np.int64)

    def decide(self, predicted: FloatArray, threshold: float) -> FloatArray:
        """The value itself."""
        del threshold
        return predicted[:, 0]

    def find_threshold(self, truth: FloatArray, predicted: FloatArray) -> float:
        """There is none."""
        del truth, predicted
        return float("nan")

    def columns(self) -> list[str]:
        """One value."""
        return [f"predicted_{self.target}"]

    def describe(self, encoded: FloatArray) -> list[str]:
        """Values with up to six digits."""
        return [f"{value:.6g}" for value in encoded]

    def state(self) -> dict[str, Any]:
        """Target, options, mean and standard deviation."""
        return {
            "target": self.target,
            "options": self.options.model_dump(mode="json"),
            "center": self.center,
            "scale": self.scale,
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Make a task from its state."""
        options = RegressionOptions.model_validate(state["options"])
        return cls(state["target"], options, state["center"], state["scale"])


TASKS.add(
    TaskEntry(
        name="regression", options=RegressionOptions, make=Regression, restore=Regression.restore
    )
)
