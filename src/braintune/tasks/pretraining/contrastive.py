"""Contrastive pre-training: SimCLR, and its kin that knows a continuous label of each scan."""

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import Backbone
from braintune.recipe import TaskRecipe
from braintune.tasks.pretraining.objective import (
    OBJECTIVES,
    Knowledge,
    Learner,
    Objective,
    ObjectiveEntry,
    ObjectiveOptions,
    Views,
)


class ContrastiveOptions(ObjectiveOptions):
    """Options of contrastive pre-training.

    Attributes:
        temperature: What similarities are divided by.
        width: Length of the projections that are compared.
        hidden: Width of the projection head's hidden layer; by default that of the features.
        label: A column of numbers, such as age; scans of like values then attract each other.
        sigma: How far apart values are like, in the label's unit: the kernel's standard deviation.
        partial: Whether some scans may lack the label; each of them is like itself alone.
    """

    temperature: PositiveFloat = 0.1
    width: PositiveInt = Field(128, le=65_536)
    hidden: PositiveInt | None = Field(None, le=65_536)
    label: str | None = None
    sigma: PositiveFloat | None = None
    partial: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.label is None) != (self.sigma is None):
            msg = "label and sigma belong together: the kernel's width is in the label's unit"
            raise ValueError(msg)
        if self.partial and self.label is None:
            msg = "partial belongs to label, which is not set"
            raise ValueError(msg)
        return self


def kernel(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """How like the labels of scans are: a Gaussian of their difference.

    A scan without a label is like itself alone.

    Args:
        values: Of shape (batch,), NaN where unknown.
        sigma: Standard deviation of the Gaussian.

    Returns:
        Of shape (batch, batch), 1 on the diagonal.

    Example:
        >>> kernel(torch.tensor([20.0, 20.0, 80.0, torch.nan]), 5.0).round()[0]
        tensor([1., 1., 0., 0.])
    """
    squared = (values[:, None] - values[None, :]).square() / (2 * sigma**2)
    alike = torch.exp(-squared).nan_to_num(0.0)
    return alike.masked_fill(torch.eye(len(values), dtype=torch.bool, device=values.device), 1.0)


def contrastive_losses(
    first: torch.Tensor, second: torch.Tensor, temperature: float, alike: torch.Tensor | None = None
) -> torch.Tensor:
    """How hard it is to find a scan's other view, or views of like scans, among all of a batch.

    NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1), or, with likenesses of labels, y-aware
    InfoNCE (Dufumier et al. 2021, arXiv 2106.08808, equation 2) in its form over both views: each
    of the other projections is a positive as much as its label is like, and the weights of an
    anchor sum to 1. Where each scan is like itself alone, both are the same.

    Args:
        first: Projections of one view of each scan, of shape (batch, width).
        second: Of another view.
        temperature: What cosine similarities are divided by.
        alike: From 0 to 1, of shape (batch, batch), 1 on the diagonal.

    Returns:
        The mean over both views of each scan, of shape (batch,).
    """
    count = len(first)
    projections = F.normalize(torch.cat([first, second]).float(), dim=1)
    itself = torch.eye(2 * count, dtype=torch.bool, device=first.device)
    logits = (projections @ projections.T / temperature).masked_fill(itself, -torch.inf)
    chosen = logits.log_softmax(dim=1).masked_fill(itself, 0.0)
    if alike is None:
        alike = torch.eye(count, device=first.device)
    weights = alike.float().repeat(2, 2).masked_fill(itself, 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    losses = -(weights * chosen).sum(dim=1)
    return (losses[:count] + losses[count:]) / 2


class ContrastiveLearner(Learner):
    """Two views through backbone and projection head, a perceptron of two layers."""

    def __init__(self, backbone: Backbone, options: ContrastiveOptions) -> None:
        super().__init__(backbone)
        self._options = options
        hidden = options.hidden or backbone.n_features
        self.projection = nn.Sequential(
            nn.Linear(backbone.n_features, hidden), nn.ReLU(), nn.Linear(hidden, options.width)
        )

    def forward(self, views: Views) -> torch.Tensor:
        """The loss of each scan, of shape (batch,)."""
        # Together, so that norms over the batch see both views.
        both = self.projection(self.backbone(torch.cat(views.images)))
        first, second = both.float().chunk(2)
        alike = None
        if self._options.label is not None and self._options.sigma is not None:
            alike = kernel(views.targets[self._options.label], self._options.sigma)
        return contrastive_losses(first, second, self._options.temperature, alike)


class Contrastive(Objective):
    """Telling views of one scan, or of like scans, from those of others."""

    views = 2
    smallest_batch = 2

    def __init__(self, options: ContrastiveOptions) -> None:
        self._options = options

    def targets(self) -> Mapping[str, TaskRecipe]:
        """The label, if there is one."""
        label = self._options.label
        return {label: TaskRecipe(kind="regression", target=label)} if label else {}

    def may_lack(self, column: str) -> bool:
        """Whether the label is said to be partial."""
        del column
        return self._options.partial

    def learner(self, backbone: Backbone, knowledge: Knowledge) -> ContrastiveLearner:
        """Backbone and projection head."""
        del knowledge
        return ContrastiveLearner(backbone, self._options)


OBJECTIVES.add(ObjectiveEntry("contrastive", ContrastiveOptions, Contrastive))
