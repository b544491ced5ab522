"""Before the first fit: scans prepared once for all, and everything refused that would be wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import write_table_text
from braintune.console import say
from braintune.errors import InputError
from braintune.files import write_text
from braintune.fitting.network import outline
from braintune.fitting.overlap import refuse_seen
from braintune.fitting.plan import refuse_equal_scans
from braintune.fitting.starting import read_start
from braintune.imaging.prepare import fill_store
from braintune.imaging.stores import store_for
from braintune.recipe import PrepareRecipe
from braintune.studies.external import External, refuse_shared_subjects
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import StudyPlan


@dataclass(frozen=True)
class PreparedCohorts:
    """The scans of a study.

    Attributes:
        cohorts: By name, with the scans that all preparations keep.
        external: Those that are predicted only.
        stores: By cohort name and preparation.
    """

    cohorts: dict[str, Cohort]
    external: list[External]
    stores: dict[tuple[str, str], Path]

    @property
    def hashes(self) -> dict[str, str]:
        """The external cohorts' names and the hash of their scans."""
        return {external.name: external.hash for external in self.external}


def preparations(plan: StudyPlan) -> dict[tuple[str, str], PrepareRecipe]:
    """Each preparation of each cohort that some fit needs."""
    found = {}
    for (key, _), subject in plan.subjects.items():
        cohort = next(context.cohort for context in plan.contexts if context.key == key)
        recipe = subject.recipe.prepare
        found[cohort, recipe.model_dump_json()] = recipe
    return found


def prepare_cohorts(
    plan: StudyPlan,
    cohorts: dict[str, Cohort],
    external: Sequence[External] = (),
    workers: int | None = None,
    exclude_broken: bool = False,
) -> PreparedCohorts:
    """Bring the scans of every cohort into a store for each preparation.

    Raises:
        InputError: If scans fail, two subjects have equal ones, or a scan of an external cohort is
            in one that is learnt from.
    """
    stores: dict[tuple[str, str], Path] = {}
    everything = {**cohorts, **{one.name: one.cohort for one in external}}
    kept = dict(everything)
    needed = preparations(plan)
    for one, (text, recipe) in product(external, {t: r for (_, t), r in needed.items()}.items()):
        needed[one.name, text] = recipe
    for (name, text), recipe in needed.items():
        where = store_for(everything[name], recipe)
        prepared = fill_store(
            kept[name], where, recipe, workers=workers, exclude_broken=exclude_broken
        )
        refuse_equal_scans(prepared.cohort)
        stores[name, text] = prepared.store.path
        first = "brain_ml" not in kept[name].table.columns
        kept[name] = prepared.cohort if first else _without(kept[name], prepared.cohort)
    learnt = {name: kept[name] for name in cohorts}
    elsewhere = [External(one.name, kept[one.name]) for one in external]
    refuse_shared_subjects(learnt, elsewhere)
    return PreparedCohorts(learnt, elsewhere, stores)


def check_fits(plan: StudyPlan, workers: int | None = None) -> None:
    """Refuse networks that can't be made, and weights that do not load or have seen test rows.

    Raises:
        InputError: With the choice that it is of.
    """
    done: set[tuple[str, str, str]] = set()
    made: set[tuple[str, str]] = set()
    for context in plan.contexts:
        tested = np.unique(np.concatenate([fold.test for fold in context.plan.folds])).tolist()
        for choice in plan.choices:
            recipe = plan.subjects[context.key, choice.name].recipe
            if (context.target, choice.name) not in made:
                made.add((context.target, choice.name))
                with _named(choice.name):
                    outline(recipe, context.plan.task)
            key = (context.cohort, context.target, recipe.backbone.model_dump_json())
            if key in done:
                continue
            done.add(key)
            with _named(choice.name):
                start = read_start(recipe, context.plan.cohort)
            if start is None:
                continue
            refuse_seen(start.weights.path, context.plan.cohort, tested, workers)
            for warning in start.warnings():
                say(f"Note: {warning}")


@contextmanager
def _named(choice: str) -> Iterator[None]:
    """Say which choice an error is of."""
    try:
        yield
    except InputError as error:
        raise InputError(f"The choice {choice!r}: {error}") from None


def write_cohorts(folder: StudyFolder, prepared: PreparedCohorts) -> None:
    """Write the tables that fits and baselines read."""
    elsewhere = {one.name: one.cohort for one in prepared.external}
    for name, cohort in {**prepared.cohorts, **elsewhere}.items():
        people = cohort.table.drop(columns=["path", "label_path"], errors="ignore")
        write_text(folder.cohort_file(name), write_table_text(people.assign(path="")))


def _without(cohort: Cohort, kept: Cohort) -> Cohort:
    """A cohort without the scans that another preparation could not use."""
    wanted = cohort.table["scan_id"].isin(kept.table["scan_id"])
    smaller = cohort.keep(wanted, "another preparation of the study could not use it")
    return replace(smaller, exclusions=(*cohort.exclusions, *kept.exclusions))
