"""Predicting a number as a distribution over bins (Peng et al., Med. Image Anal. 2021).

The head gives one logit a bin. The label of a scan is a normal distribution around its value, cut
into the bins; the loss is the divergence from it (Kullback and Leibler), and the prediction the
mean of the predicted distribution.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, model_validator
from torch import nn

from braintune.tasks.head import make_head
from braintune.tasks.regression import Regression
from braintune.tasks.task import TASKS, FloatArray, TaskEntry, TaskOptions

_MARGIN = 1.0


class SoftLabelOptions(TaskOptions):
    """Options of regression over bins.

    Attributes:
        bins: How many there are, equally wide; 40 as published.
        low: Where the first begins; by default one bin below the least of the training rows.
        high: Where the last ends; by default one bin above the largest of the training rows.
        sigma: Standard deviation of the labels, in bins.
        unit: What the target is measured in, for the report.
        adjust_bias: Whether to report the error adjusted for the pull to the mean too; by default
            if the target is age.
    """

    bins: int = Field(40, ge=3)
    low: float | None = None
    high: float | None = None
    sigma: PositiveFloat = 1.0
    unit: str = ""
    adjust_bias: bool | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            msg = f"low {self.low} must be below high {self.high}"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class SoftLabelRegression(Regression):
    """A number, learnt as a distribution over bins.

    Attributes:
        target: The column.
        options: The recipe's options.
        center: Middle of the bins' range.
        scale: Width of a bin.
    """

    options: SoftLabelOptions  # type: ignore[assignment]

    def fit(self, truth: FloatArray) -> Self:
        """The bins' range, where the recipe does not give it."""
        low, high, bins = self.options.low, self.options.high, self.options.bins
        reach = max(float(truth.max() - truth.min()), 1e-6) * _MARGIN / (bins - 2 * _MARGIN)
        low = float(truth.min()) - reach if low is None else low
        high = float(truth.max()) + reach if high is None else high
        return replace(self, center=(low + high) / 2, scale=(high - low) / bins)

    def head(self, n_features: int) -> nn.Module:
        """From features to one logit a bin."""
        return make_head(self.options.head, n_features, self.options.bins)

    def edges(self) -> torch.Tensor:
        """Where bins begin and end, of shape (bins + 1,)."""
        steps = torch.arange(self.options.bins + 1, dtype=torch.float32)
        return self.center + (steps - self.options.bins / 2) * self.scale

    def labels(self, truth: torch.Tensor) -> torch.Tensor:
        """The distributions of values, of shape (batch, bins); a value off the bins is at an end.

        Example:
            >>> options = SoftLabelOptions(bins=4, low=0, high=4, sigma=0.1)
            >>> task = SoftLabelRegression("age", options).fit(torch.tensor([0.0, 4.0]).numpy())
            >>> task.labels(torch.tensor([1.5])).round()
            tensor([[0., 1., 0., 0.]])
        """
        edges = self.edges().to(truth.device)
        middle = truth.clamp(float(edges[0]), float(edges[-1]))[:, None]
        below = torch.special.ndtr((edges - middle) / (self.options.sigma * self.scale))
        mass = below.diff(dim=1)
        return mass / mass.sum(dim=1, keepdim=True)

    def loss(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Divergence of each scan's distribution from its label."""
        predicted = F.log_softmax(outputs.float(), dim=1)
        return F.kl_div(predicted, self.labels(truth), reduction="none").sum(dim=1)

    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Means of the predicted distributions, in the target's unit."""
        edges = self.edges().to(outputs.device)
        centers = (edges[1:] + edges[:-1]) / 2
        return (outputs.float().softmax(dim=1) @ centers)[:, None]

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Make a task from its state."""
        options = SoftLabelOptions.model_validate(state["options"])
        return cls(state["target"], options, state["center"], state["scale"])


TASKS.add(
    TaskEntry(
        name="soft-label-regression",
        options=SoftLabelOptions,
        make=SoftLabelRegression,
        restore=SoftLabelRegression.restore,
    )
)
