"""What every objective of pre-training is, and the registry that holds them.

To add one, write a file in this folder with an `Objective` and register an `ObjectiveEntry`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from braintune.models.backbone import Backbone, MapBackbone
from braintune.recipe import TaskRecipe
from braintune.registry import Registry, parse
from braintune.tasks.task import Task


@dataclass(frozen=True)
class Views:
    """A batch as an objective sees it, on the device that computes.

    Attributes:
        images: One or more views of each scan, each of shape (batch, channels, x, y, z), changed at
            random.
        targets: Encoded labels by column, of shape (batch,), NaN where unknown.
        labels: Positions in the table of labels, of shape (batch, x, y, z), where they are known.
        seeds: Of each scan, for what the objective draws itself.
    """

    images: tuple[torch.Tensor, ...]
    targets: Mapping[str, torch.Tensor]
    labels: torch.Tensor | None
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Knowledge:
    """What an objective is told of the scans before it learns.

    Attributes:
        shape: Voxels along x, y and z.
        tasks: A task for each column it asked for, fitted on the training rows.
        classes: The class of each position in the table of labels, where scans have labels.
    """

    shape: tuple[int, int, int]
    tasks: Mapping[str, Task]
    classes: tuple[int, ...] = ()


class Learner(nn.Module):
    """A backbone with what an objective puts on it: views in, the loss of each scan out.

    Args:
        backbone: What is pre-trained.

    Attributes:
        trains_decoder: Whether the decoder of a `MapBackbone` learns too, and is worth keeping.
    """

    trains_decoder = False

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        if isinstance(backbone, MapBackbone) and not self.trains_decoder:
            backbone.drop_decoder()

    def forward(self, views: Views) -> torch.Tensor:
        """The loss of each scan, of shape (batch,), float32."""
        raise NotImplementedError


class ObjectiveOptions(BaseModel):
    """Options of an objective."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Objective(ABC):
    """What is learnt without, or beside, the target of a study.

    Attributes:
        views: How many views of each scan there are.
        keeps_voxels: Whether voxels must stay where they are when scans are changed at random.
        needs_labels: Whether scans must have label maps.
        smallest_batch: Fewer scans at once can't be learnt from.
    """

    views = 1
    keeps_voxels = False
    needs_labels = False
    smallest_batch = 1

    def targets(self) -> Mapping[str, TaskRecipe]:
        """The columns that scans must have, each with how it is read."""
        return {}

    def may_lack(self, column: str) -> bool:
        """Whether scans may be without a value of a column."""
        del column
        return False

    @abstractmethod
    def learner(self, backbone: Backbone, knowledge: Knowledge) -> Learner:
        """Put the objective on a backbone, which may be on the meta device.

        Raises:
            InputError: If the backbone can't do it.
        """


@dataclass(frozen=True)
class ObjectiveEntry:
    """One objective of the registry.

    Attributes:
        name: The ``kind`` in recipes.
        options: Its options.
        make: Makes the objective from its options.
    """

    name: str
    options: type[ObjectiveOptions]
    make: Callable[[Any], Objective]


OBJECTIVES: Registry[ObjectiveEntry] = Registry("objective", "braintune.tasks.pretraining")


def make_objective(kind: str, options: dict[str, Any]) -> Objective:
    """The objective of a recipe.

    Raises:
        InputError: If there is no such kind or option, naming the nearest.

    Example:
        >>> make_objective("contrastive", {"temperature": 0.2}).views
        2
    """
    entry = OBJECTIVES.get(kind)
    return entry.make(parse(entry.options, options, "objective"))
