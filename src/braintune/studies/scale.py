"""How much data is needed: a study over nested shares of the training subjects."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from braintune.cohort.cohort import Cohort
from braintune.console import say
from braintune.errors import InputError
from braintune.files import write_json
from braintune.studies.compare import Conditions, run_study, write_scores
from braintune.studies.contexts import Context, contexts_of, metric_of, read_cohorts
from braintune.studies.curves import curve_document, make_curve, parse_wishes
from braintune.studies.external import read_external, refuse_shared_subjects
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import StudyPlan, plan_study
from braintune.studies.recipe import StudyRecipe
from braintune.studies.scores import Entry
from braintune.studies.table import entries_of, split_of, train_subjects
from braintune.studies.workers import Workers

FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
# A network learns nothing from fewer, and its validation rows tell nothing.
_FEWEST_ROWS = 8


def plan_scale(
    study: StudyRecipe, place: Path | None, wishes: Sequence[str]
) -> tuple[StudyPlan, dict[str, float]]:
    """Check a study of sizes, with nothing written.

    Raises:
        InputError: If something does not fit together, or a wish is of no score.
    """
    cohorts = read_cohorts(study, place)
    study = with_fractions(study, cohorts)
    external = read_external(study)
    refuse_shared_subjects(cohorts, external)
    hashes = {one.name: one.hash for one in external}
    planned = plan_study(study, contexts_of(study, cohorts), hashes)
    metrics = [metric_of(study, context.plan.task).name for context in planned.contexts]
    return planned, parse_wishes(wishes, metrics)


def with_fractions(study: StudyRecipe, cohorts: dict[str, Cohort]) -> StudyRecipe:
    """A study with its own shares, or with those of 5 to 100 % that its cohorts allow.

    Raises:
        InputError: If a share that the study names is too small.
    """
    if len(study.fractions) > 1:
        return study
    possible = []
    for fraction in FRACTIONS:
        one = study.model_copy(update={"fractions": [fraction]})
        try:
            contexts = contexts_of(one, cohorts)
        except InputError as error:
            if fraction == 1:
                raise
            say(f"Note: {100 * fraction:g} % of the training subjects are too few: {error}")
            continue
        fewest = min(len(fold.train) for context in contexts for fold in context.plan.folds)
        if fewest >= _FEWEST_ROWS:
            possible.append(fraction)
        else:
            say(f"Note: {100 * fraction:g} % of the training subjects are too few: {fewest} scans.")
    return study.model_copy(update={"fractions": possible})


def scale(
    study: StudyRecipe,
    place: Path | None,
    out: Path,
    make_workers: Callable[[StudyPlan], Workers],
    conditions: Conditions | None = None,
    wishes: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a study over sizes, or what is left of it, and fit its learning curves.

    Args:
        study: The study.
        place: The cohort, unless the study names its own.
        out: The study's folder, new or of the same splits.
        make_workers: Starts what does the fits.
        conditions: Where and how.
        wishes: Such as ``mae=5``.

    Returns:
        What scale.json says.

    Raises:
        InputError: If something does not fit together, or there are too few sizes.
        InterruptedFitError: If someone asked to stop.
    """
    planned, wanted = plan_scale(study, place, wishes)
    run, folder = run_study(planned.study, place, out, make_workers, conditions)
    write_scores(run, folder)
    document = scale_document(run, folder, wanted)
    write_json(folder.scale_file, document)
    return document


def scale_document(
    planned: StudyPlan, folder: StudyFolder, wishes: dict[str, float]
) -> dict[str, Any]:
    """The curves of all cohorts and targets."""
    groups: dict[tuple[str, str], list[Context]] = {}
    for context in planned.contexts:
        groups.setdefault((context.cohort, context.target), []).append(context)
    curves = [_group(planned, folder, group, wishes) for group in groups.values()]
    return {"baseline": planned.baseline.name, "seeds": planned.study.seeds, "groups": curves}


def _group(
    planned: StudyPlan, folder: StudyFolder, contexts: list[Context], wishes: dict[str, float]
) -> dict[str, Any]:
    splits = [split_of(folder, context) for context in contexts]
    metric = metric_of(planned.study, splits[0].task)
    found: dict[str, list[tuple[float, Entry]]] = {}
    incomplete: list[str] = []
    for context, split in zip(contexts, splits, strict=True):
        entries, missing = entries_of(planned, folder, context, split)
        for entry in entries:
            found.setdefault(entry.name, []).append((train_subjects(split), entry))
        incomplete += [one.name for one in missing]
    curves = [
        make_curve(name, metric, [entry for _, entry in points], [size for size, _ in points])
        for name, points in found.items()
        if name not in incomplete
    ]
    documents = [curve_document(curve, wishes) for curve in curves]
    sign = -1 if metric.higher_is_better else 1
    return {
        "cohort": contexts[0].cohort,
        "target": contexts[0].target,
        "metric": metric.name,
        "label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "fractions": [context.fraction for context in contexts],
        "curves": sorted(documents, key=lambda d: sign * d["points"][-1]["value"]),
        "incomplete": sorted(set(incomplete)),
    }
