"""What differs between fits of different kinds of tasks; all else is `braintune.fitting.fit`'s."""

from pathlib import Path
from typing import Any, Protocol

from braintune.cohort.cohort import Cohort
from braintune.console import Progress
from braintune.fitting.fold import fit_fold
from braintune.fitting.machinery import Machinery
from braintune.fitting.plan import AnyPlan, FitPlan, plan_fit, refuse_equal_scans
from braintune.fitting.scoring import finish_run
from braintune.fitting.segmentation.fold import fit_segmentation_fold
from braintune.fitting.segmentation.plan import SegmentationPlan, plan_segmentation
from braintune.fitting.segmentation.scoring import finish_segmentation
from braintune.fitting.segmentation.store import labelled_store_for
from braintune.imaging.prepare import Prepared, fill_store
from braintune.imaging.prepare_labelled import fill_labelled_store
from braintune.imaging.store import PreparedStore
from braintune.imaging.stores import store_for
from braintune.recipe import Recipe
from braintune.run import RunFolder
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import make_any_task


class Procedure(Protocol):
    """The parts of a fit that depend on what is predicted."""

    def plan(self, recipe: Recipe, cohort: Cohort, exclude_broken: bool) -> AnyPlan:
        """Check a recipe against a cohort and split it."""
        ...

    def prepare(
        self, plan: Any, store: Path | None, workers: int | None, exclude_broken: bool
    ) -> Prepared:
        """Bring the scans into a store."""
        ...

    def truth(self, plan: Any) -> list[Any]:
        """What is learnt, by which another cohort is told from the one that a run began with."""
        ...

    def fit_fold(
        self,
        run: RunFolder,
        plan: Any,
        store: PreparedStore,
        number: int,
        machinery: Machinery,
        bar: Progress,
    ) -> None:
        """Train a fold's network, and test it."""
        ...

    def finish(self, run: RunFolder, plan: Any, store: PreparedStore) -> None:
        """Score a run from the files of its folds."""
        ...


class ValueProcedure:
    """Fits of one value a scan."""

    def plan(self, recipe: Recipe, cohort: Cohort, exclude_broken: bool) -> FitPlan:
        """Check a recipe against a cohort and split it."""
        del exclude_broken
        return plan_fit(recipe, cohort)

    def prepare(
        self, plan: FitPlan, store: Path | None, workers: int | None, exclude_broken: bool
    ) -> Prepared:
        """Bring the scans into a store; equal ones of two subjects are refused."""
        recipe = plan.recipe.prepare
        where = store or store_for(plan.cohort, recipe)
        prepared = fill_store(
            plan.cohort, where, recipe, workers=workers, exclude_broken=exclude_broken
        )
        refuse_equal_scans(prepared.cohort)
        return prepared

    def truth(self, plan: FitPlan) -> list[Any]:
        """The target of each scan."""
        columns = ["scan_id", plan.recipe.task.target]
        target: list[Any] = plan.cohort.table[columns].to_numpy().tolist()
        return target

    def fit_fold(
        self,
        run: RunFolder,
        plan: FitPlan,
        store: PreparedStore,
        number: int,
        machinery: Machinery,
        bar: Progress,
    ) -> None:
        """Train a fold's network, and test it."""
        fit_fold(run, plan, store, number, machinery, bar)

    def finish(self, run: RunFolder, plan: FitPlan, store: PreparedStore) -> None:
        """Score a run from the files of its folds."""
        finish_run(run, plan, store)


class SegmentationProcedure:
    """Fits of label maps."""

    def plan(self, recipe: Recipe, cohort: Cohort, exclude_broken: bool) -> SegmentationPlan:
        """Check a recipe against a cohort, find the label maps, and split."""
        return plan_segmentation(recipe, cohort, exclude_missing=exclude_broken)

    def prepare(
        self, plan: SegmentationPlan, store: Path | None, workers: int | None, exclude_broken: bool
    ) -> Prepared:
        """Bring the scans and their label maps into a store."""
        recipe, table = plan.recipe.prepare, plan.task.table
        prepared = fill_labelled_store(
            plan.cohort,
            store or labelled_store_for(plan.cohort, recipe, plan.task),
            recipe,
            table,
            workers=workers,
            exclude_broken=exclude_broken,
        )
        refuse_equal_scans(prepared.cohort)
        return prepared

    def truth(self, plan: SegmentationPlan) -> list[Any]:
        """The labels, and the scans that have them; the files' own states are the store's."""
        return [list(plan.task.table.values), plan.cohort.scan_ids]

    def fit_fold(
        self,
        run: RunFolder,
        plan: SegmentationPlan,
        store: PreparedStore,
        number: int,
        machinery: Machinery,
        bar: Progress,
    ) -> None:
        """Train a fold's network, and test it."""
        fit_segmentation_fold(run, plan, store, number, machinery, bar)

    def finish(self, run: RunFolder, plan: SegmentationPlan, store: PreparedStore) -> None:
        """Score a run from the files of its folds."""
        del store
        finish_segmentation(run, plan)


def procedure_of(recipe: Recipe) -> Procedure:
    """How a recipe's task is fitted.

    Raises:
        InputError: If there is no such task or option.
    """
    is_map = isinstance(make_any_task(recipe.task), Segmentation)
    return SegmentationProcedure() if is_map else ValueProcedure()
