"""Comparing the choices of a study: plan, prepare, fit, score."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from braintune.cohort.tables import write_table_text
from braintune.files import write_json, write_text
from braintune.parallel import check_workers
from braintune.run import describe_environment
from braintune.studies.contexts import contexts_of, read_cohorts
from braintune.studies.execute import Execution
from braintune.studies.external import read_external, refuse_shared_subjects
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import StudyPlan, plan_study
from braintune.studies.prepare import check_fits, prepare_cohorts, write_cohorts
from braintune.studies.recipe import StudyRecipe
from braintune.studies.table import study_document
from braintune.studies.workers import Workers

_COLUMNS = ("value", "low", "high", "rank", "trainable", "seconds", "peak_mb")


@dataclass(frozen=True)
class Conditions:
    """Where and how a study runs, which changes no score.

    Attributes:
        workers: Processes that prepare, and fit.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        exclude_broken: Leave out scans that can't be prepared.
        retry: Try failed fits again.
    """

    workers: int | None = None
    accelerator: str = "auto"
    exclude_broken: bool = False
    retry: bool = False


def plan(study: StudyRecipe, place: Path | None) -> StudyPlan:
    """Check a study against its cohorts, with nothing written and no scan prepared.

    Args:
        study: The study.
        place: The cohort, unless the study names its own.

    Raises:
        InputError: If something does not fit together.
    """
    cohorts, external = read_cohorts(study, place), read_external(study)
    refuse_shared_subjects(cohorts, external)
    hashes = {one.name: one.hash for one in external}
    return plan_study(study, contexts_of(study, cohorts), hashes)


def compare(
    study: StudyRecipe,
    place: Path | None,
    out: Path,
    make_workers: Callable[[StudyPlan], Workers],
    conditions: Conditions | None = None,
) -> dict[str, Any]:
    """Run a study, or what is left of it, and score it.

    Returns:
        What study.json says.

    Raises:
        InputError: If something does not fit together; nothing is written then.
        InterruptedFitError: If someone asked to stop.
    """
    return write_scores(*run_study(study, place, out, make_workers, conditions))


def run_study(
    study: StudyRecipe,
    place: Path | None,
    out: Path,
    make_workers: Callable[[StudyPlan], Workers],
    conditions: Conditions | None = None,
) -> tuple[StudyPlan, StudyFolder]:
    """Do all fits of a study that are not done.

    Args:
        study: The study.
        place: The cohort, unless the study names its own.
        out: The study's folder, new or of the same splits.
        make_workers: Starts what does the fits.
        conditions: Where and how.

    Returns:
        The plan and the folder, from which everything is scored.

    Raises:
        InputError: If something does not fit together; nothing is written then.
        InterruptedFitError: If someone asked to stop.
    """
    conditions = conditions or Conditions()
    check_workers(conditions.workers)
    folder = StudyFolder(out)
    folder.check_free()
    cohorts = read_cohorts(study, place)
    external = read_external(study)
    refuse_shared_subjects(cohorts, external)
    planned = plan_study(study, contexts_of(study, cohorts))
    check_fits(planned, conditions.workers)
    prepared = prepare_cohorts(
        planned, cohorts, external, conditions.workers, conditions.exclude_broken
    )
    planned = plan_study(study, contexts_of(study, prepared.cohorts), prepared.hashes)
    folder.begin(study, planned.contexts)
    write_cohorts(folder, prepared)
    write_json(folder.environment_file, describe_environment())
    if conditions.retry:
        forget_failures(folder)
    workers = make_workers(planned)
    try:
        Execution(planned, folder, prepared.stores, conditions.accelerator).run(workers)
    finally:
        workers.close()
    return planned, folder


def write_scores(planned: StudyPlan, folder: StudyFolder) -> dict[str, Any]:
    """Score a study from its files."""
    document = study_document(planned, folder)
    for context in document["contexts"]:
        folder.note("test opened", context=context["key"], entries=len(context["entries"]))
    write_text(folder.leaderboard_file, write_table_text(leaderboard(document)))
    write_json(folder.document_file, document)
    return document


def leaderboard(document: dict[str, Any]) -> pd.DataFrame:
    """One row an entry and context."""
    rows = []
    for context in document["contexts"]:
        place = {name: context[name] for name in ("cohort", "target", "fraction", "metric")}
        for entry in context["entries"]:
            row = {**place, "name": entry["name"], **{c: entry[c] for c in _COLUMNS}}
            for other in ("baseline", "best"):
                found = entry[f"against_{other}"] or {}
                row[f"minus_{other}"] = found.get("difference")
                row[f"p_holm_{other}"] = found.get("p_holm")
            rows.append(row)
    return pd.DataFrame(rows)


def forget_failures(folder: StudyFolder) -> None:
    """Let every failed fit be tried again."""
    for path in folder.path.glob("fits/*/*/failed.json"):
        folder.forget_failure(path.parent.name)
