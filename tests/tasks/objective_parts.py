"""Small networks, views and labels that objectives of pre-training are tried on."""

from collections.abc import Mapping
from typing import Any

import torch

from braintune.models.backbone import Backbone, InputShape, build_backbone
from braintune.tasks.pretraining.objective import (
    Knowledge,
    Learner,
    Views,
    make_objective,
)
from braintune.tasks.task import Task, make_task

SHAPE = (16, 16, 16)
VIT = {"patch": 4, "width": 24, "depth": 2, "heads": 2, "hidden": 32}
SFCN = {"channels": [4, 8], "norm": "instance"}
UNET = {"channels": [2, 4], "norm": "instance"}


def backbone_of(name: str, options: dict[str, Any]) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(name, InputShape(1, SHAPE), options)


def learner_of(
    kind: str,
    backbone: Backbone,
    tasks: Mapping[str, Task] | None = None,
    classes: tuple[int, ...] = (),
    **options: Any,
) -> Learner:
    return make_objective(kind, options).learner(backbone, Knowledge(SHAPE, tasks or {}, classes))


def images_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))


def views_of(*images: torch.Tensor, **known: Any) -> Views:
    seeds = tuple(range(len(images[0])))
    return Views(images, known.get("targets", {}), known.get("labels"), seeds)


def fitted(**targets: dict[str, Any]) -> dict[str, Task]:
    from braintune.recipe import TaskRecipe

    return {
        name: make_task(TaskRecipe.model_validate({"target": name, **values}))
        for name, values in targets.items()
    }
