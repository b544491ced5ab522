"""What every task is, and the registry that holds them.

To add one, write a file in this folder with a `Task` and register a `TaskEntry`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from braintune.errors import InputError
from braintune.recipe import Recipe, TaskRecipe
from braintune.registry import Registry, parse
from braintune.tasks.head import HeadOptions

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scored:
    """Predictions beside the truth, one row a scan.

    Attributes:
        truth: Class indices or values, of shape (scans,).
        predicted: Class probabilities, of shape (scans, classes), or values, of shape (scans, 1).
        decided: The class decided for, or the value, of shape (scans,).
        fold: The fold that tested the scan, of shape (scans,).
        subject: A number for each subject, of shape (scans,).
    """

    truth: FloatArray
    predicted: FloatArray
    decided: FloatArray
    fold: IntArray
    subject: IntArray

    def take(self, rows: npt.NDArray[np.intp]) -> "Scored":
        """Some rows, any number of times."""
        return Scored(
            self.truth[rows],
            self.predicted[rows],
            self.decided[rows],
            self.fold[rows],
            self.subject[rows],
        )

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True)
class Metric:
    """A number that says how good predictions are.

    Attributes:
        name: Its key in metrics.json.
        label: What people read.
        function: From predictions to the number, NaN where it is not defined.
        higher_is_better: Which way is up.
        chance: What predictions that know nothing get, where that is a constant.
    """

    name: str
    label: str
    function: Callable[[Scored], float]
    higher_is_better: bool = True
    chance: float | None = None


class TaskOptions(BaseModel):
    """Options that every task has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: HeadOptions = HeadOptions()


class AnyTask(ABC):
    """What all tasks share: a head on a backbone, and a state to be made again from.

    Attributes:
        target: What is predicted: a column of values, or what label maps show.
        reads_maps: Whether the head reads the backbone's maps, one vector a voxel, and not its one
            feature vector a scan.
    """

    target: str
    reads_maps: ClassVar[bool] = False

    @property
    def deep_supervision(self) -> bool:
        """Whether coarser maps learn the target too."""
        return False

    def input_shape(self, recipe: Recipe) -> tuple[int, int, int]:
        """Voxels along each axis that the network sees at once: all that is prepared."""
        return recipe.prepare.shape

    @abstractmethod
    def head(self, n_features: int) -> nn.Module:
        """The module from features, or maps, to outputs."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `restore` needs to make this task again."""


class Task(AnyTask):
    """One kind of value a scan: how it is read, learnt, predicted and scored.

    Attributes:
        target: The column.
    """

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """How many numbers are predicted for a scan: one, or one a class."""

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """All metrics by name; the first is the headline."""

    @abstractmethod
    def read(self, column: pd.Series) -> tuple[Self, FloatArray]:
        """Learn the target's classes, if it has any, and encode it.

        Args:
            column: The target, as text.

        Returns:
            The task that knows them, and one number a scan, NaN where there is none to learn from.

        Raises:
            InputError: If the column can't be this task's target.
        """

    def encode(self, column: pd.Series) -> FloatArray:
        """Encode another cohort's target as `read` encoded the one that this task knows.

        Returns:
            One number a scan, NaN where there is none, or one that this task does not know.
        """
        return self.read(column)[1]

    @abstractmethod
    def fit(self, truth: FloatArray) -> Self:
        """Learn what the loss needs, such as the mean, from training rows alone."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """The loss of each scan, of shape (batch,)."""

    @abstractmethod
    def predict(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities or values from outputs, of shape (batch, columns)."""

    @abstractmethod
    def strata(self, truth: FloatArray) -> IntArray:
        """Groups of like scans, for stratified splits and balanced training."""

    @abstractmethod
    def decide(self, predicted: FloatArray, threshold: float) -> FloatArray:
        """The class decided for, or the value itself, of shape (scans,)."""

    @abstractmethod
    def find_threshold(self, truth: FloatArray, predicted: FloatArray) -> float:
        """The operating point, from validation rows; NaN where the task has none."""

    @abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns of ``predicted`` in tables."""

    @abstractmethod
    def describe(self, encoded: FloatArray) -> list[str]:
        """Encoded values as people wrote them."""


@dataclass(frozen=True)
class TaskEntry:
    """One kind of task of the registry.

    Attributes:
        name: The ``kind`` in recipes.
        options: Its options.
        make: Makes the task from the target and the options.
        restore: Makes the task from what `AnyTask.state` gave.
    """

    name: str
    options: type[BaseModel]
    make: Callable[[str, Any], AnyTask]
    restore: Callable[[dict[str, Any]], AnyTask]


TASKS: Registry[TaskEntry] = Registry("task", "braintune.tasks")


def make_any_task(recipe: TaskRecipe) -> AnyTask:
    """The task of a recipe, of whatever kind.

    Raises:
        InputError: If there is no such kind or option, naming the nearest.
    """
    entry = TASKS.get(recipe.kind)
    return entry.make(recipe.target, parse(entry.options, recipe.options, "task"))


def make_task(recipe: TaskRecipe) -> Task:
    """The task of a recipe that predicts one value a scan.

    Raises:
        InputError: If there is no such kind or option, naming the nearest, or the kind is another.
    """
    task = make_any_task(recipe)
    if not isinstance(task, Task):
        raise InputError(f"'task: {{kind: {recipe.kind}}}' predicts no value of a scan.")
    return task
