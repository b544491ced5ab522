"""Supervised pre-training on labels that come for free: several at once, one head each."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ConfigDict, Field, PositiveFloat
from torch import nn

from braintune.models.backbone import Backbone
from braintune.recipe import TaskRecipe
from braintune.registry import parse
from braintune.tasks.pretraining.objective import (
    OBJECTIVES,
    Knowledge,
    Learner,
    Objective,
    ObjectiveEntry,
    ObjectiveOptions,
    Views,
)
from braintune.tasks.task import TASKS, Task, make_task


class TargetOptions(ObjectiveOptions):
    """One label that is learnt.

    Attributes:
        kind: The task; all further keys are its options.
        weight: What its loss is multiplied by.
        partial: Whether some scans may lack it; they then learn from their other labels.
    """

    model_config = ConfigDict(extra="allow")

    kind: str = "regression"
    weight: PositiveFloat = 1.0
    partial: bool = False


class SupervisedOptions(ObjectiveOptions):
    """Options of supervised pre-training.

    Attributes:
        targets: The labels, by column.
    """

    targets: dict[str, TargetOptions] = Field(min_length=1, max_length=1000)


class SupervisedLearner(Learner):
    """A head a label on shared features; losses are weighted and summed.

    Args:
        backbone: What is pre-trained.
        tasks: Each label's task, fitted on the training rows.
        weights: What each loss is multiplied by.
    """

    def __init__(
        self, backbone: Backbone, tasks: Mapping[str, Task], weights: Mapping[str, float]
    ) -> None:
        super().__init__(backbone)
        self._tasks, self._weights = dict(tasks), dict(weights)
        self.heads = nn.ModuleList(task.head(backbone.n_features) for task in tasks.values())

    def forward(self, views: Views) -> torch.Tensor:
        """The weighted sum of the losses of the labels that each scan has, of shape (batch,)."""
        features = self.backbone(views.images[0])
        total = torch.zeros(len(features), device=features.device)
        for (name, task), head in zip(self._tasks.items(), self.heads, strict=True):
            truth = views.targets[name]
            known = ~truth.isnan()
            losses = task.loss(head(features).float(), torch.where(known, truth, 0.0))
            total = total + self._weights[name] * torch.where(known, losses, 0.0)
        return total

    def predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each head predicts, in the label's unit or as probabilities, (batch, columns)."""
        features = self.backbone(images)
        pairs = zip(self._tasks.items(), self.heads, strict=True)
        return {name: task.predict(head(features)) for (name, task), head in pairs}


class Supervised(Objective):
    """Labels of scans, several at once."""

    def __init__(self, options: SupervisedOptions) -> None:
        self._options = options
        # Unknown tasks and options are found now, not when the scans are read.
        for name, target in options.targets.items():
            entry = TASKS.get(target.kind)
            parse(entry.options, _own(target), f"objective.targets.{name}")
        for recipe in self.targets().values():
            make_task(recipe)

    def targets(self) -> Mapping[str, TaskRecipe]:
        """The labels."""
        return {
            name: TaskRecipe.model_validate({"kind": t.kind, "target": name, **_own(t)})
            for name, t in self._options.targets.items()
        }

    def may_lack(self, column: str) -> bool:
        """Whether the label is said to be partial."""
        return self._options.targets[column].partial

    def learner(self, backbone: Backbone, knowledge: Knowledge) -> SupervisedLearner:
        """A head a label."""
        weights = {name: target.weight for name, target in self._options.targets.items()}
        return SupervisedLearner(backbone, knowledge.tasks, weights)


def _own(target: TargetOptions) -> dict[str, Any]:
    """The options that belong to the task."""
    return dict(target.model_extra or {})


OBJECTIVES.add(ObjectiveEntry("supervised", SupervisedOptions, Supervised))
