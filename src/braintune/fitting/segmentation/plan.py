"""A segmentation recipe and a cohort, checked against each other before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braintune.cohort.cohort import Cohort
from braintune.cohort.label_maps import with_label_maps
from braintune.errors import InputError
from braintune.evaluation.splits import Fold, split_cohort
from braintune.recipe import Recipe
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import make_any_task


@dataclass(frozen=True)
class SegmentationPlan:
    """All that a fit of label maps will do.

    Attributes:
        recipe: The recipe.
        cohort: The scans with their label maps, in the column ``label_path``.
        task: The task.
        folds: Who trains, validates and tests.
    """

    recipe: Recipe
    cohort: Cohort
    task: Segmentation
    folds: Sequence[Fold]


def plan_segmentation(
    recipe: Recipe, cohort: Cohort, *, exclude_missing: bool = False
) -> SegmentationPlan:
    """Check a recipe against a cohort, find the label maps, and split.

    Args:
        recipe: The recipe.
        cohort: The scans.
        exclude_missing: Leave out scans without a label map, with the reason.

    Raises:
        InputError: If the recipe says what label maps can't do, a label map is missing, or there
            are too few subjects.
    """
    task = make_any_task(recipe.task)
    assert isinstance(task, Segmentation)
    task.check(recipe)
    maps = task.options.maps
    cohort = with_label_maps(
        cohort, maps.suffix, maps.desc, maps.column, exclude_missing=exclude_missing
    )
    folds = split_cohort(
        cohort,
        lambda rows: np.zeros(len(rows), dtype=np.int64),
        recipe.protocol,
        recipe.train.validation,
        recipe.seed,
    )
    for fold in folds:
        if not len(fold.train) or not len(fold.validation):
            msg = f"Fold {fold.name} has too few subjects to train and to validate. Add subjects."
            raise InputError(msg)
    return SegmentationPlan(recipe, cohort, task, folds)
