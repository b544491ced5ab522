"""study.json: everything that the page and the terminal say of a study."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from braintune.evaluation.intervals import LEVEL, RESAMPLES
from braintune.studies.contexts import Context, Split, metric_of, read_split
from braintune.studies.external import external_entry, external_split
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import Cell, StudyPlan
from braintune.studies.scores import (
    Entry,
    Incomplete,
    demand_same_splits,
    read_entry,
    trivial_entries,
)
from braintune.studies.standing import ALPHA, Comparison, Standing
from braintune.studies.verdict import verdict
from braintune.tasks.task import Metric

_FEW_SUBJECTS = 50
_FEW_FOLDS = 4


def study_document(plan: StudyPlan, folder: StudyFolder) -> dict[str, Any]:
    """All contexts of a study, as far as they are done."""
    contexts = [one for context in plan.contexts for one in _contexts(plan, folder, context)]
    return {
        "baseline": plan.baseline.name,
        "choices": [choice.name for choice in plan.choices],
        "tuned": _tuned(plan),
        "seeds": plan.study.seeds,
        "alpha": ALPHA,
        "interval": {
            "level": LEVEL,
            "method": "percentile bootstrap over subjects",
            "resamples": RESAMPLES,
        },
        "fits": plan.n_fits,
        "complete": not any(context["incomplete"] for context in contexts),
        "contexts": contexts,
        "resumed": len(folder.events("resumed")),
        "killed": len(folder.events("process killed")),
    }


def _tuned(plan: StudyPlan) -> dict[str, Any] | None:
    tune = plan.study.tune
    if tune is None:
        return None
    return {"keys": list(tune.keys), "by": tune.by, "budget": tune.budget}


def split_of(folder: StudyFolder, context: Context) -> Split:
    """A context as the study's files tell it."""
    return read_split(
        folder.cohort_file(context.cohort),
        folder.splits_file(context.key),
        context.plan.recipe.task,
    )


def entries_of(
    plan: StudyPlan, folder: StudyFolder, context: Context, split: Split
) -> tuple[list[Entry], list[Incomplete]]:
    """The choices of a context that have all their fits, and those that have not."""
    of_name = {choice.name: choice for choice in plan.choices}
    cells: dict[str, list[Cell]] = {choice.name: [] for choice in plan.choices}
    for fold in range(len(context.plan.folds)):
        for name, of_choice in cells.items():
            of_choice.append(plan.cell(context, of_name[name], fold))
    found = [read_entry(folder, plan, of_choice, split) for of_choice in cells.values()]
    entries = [one for one in found if isinstance(one, Entry)]
    if entries:
        demand_same_splits(entries)
    return entries, [one for one in found if isinstance(one, Incomplete)]


def _contexts(plan: StudyPlan, folder: StudyFolder, context: Context) -> list[dict[str, Any]]:
    """A context, and the same networks on each external cohort that has the target."""
    split = split_of(folder, context)
    choices, incomplete = entries_of(plan, folder, context, split)
    found = [_context(plan, context, split, choices, incomplete)]
    for name in plan.external:
        if (elsewhere := external_split(folder, name, split)) is not None:
            entries = [external_entry(folder, name, entry, elsewhere) for entry in choices]
            found.append(_context(plan, context, elsewhere, entries, incomplete, name))
    return found


def _context(
    plan: StudyPlan,
    context: Context,
    split: Split,
    choices: Sequence[Entry],
    incomplete: Sequence[Incomplete],
    external: str | None = None,
) -> dict[str, Any]:
    metric = metric_of(plan.study, split.task)
    standing = Standing([*choices, *trivial_entries(split)], metric, split.folds)
    document: dict[str, Any] = {
        "key": context.key if external is None else f"{context.key}_on_{external}",
        "external": external,
        "cohort": context.cohort,
        "target": context.target,
        "fraction": context.fraction,
        "unit": getattr(split.task, "unit", ""),
        "metric": metric.name,
        "label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "splits": split.hash,
        "protocol": "external" if external else context.plan.recipe.protocol.kind,
        "folds": len(split.folds),
        "seeds": len(plan.study.seeds),
        "networks": max((entry.seeds for entry in choices), default=0) * len(split.folds),
        "subjects": len(np.unique(standing.entries[0].scored.subject)),
        "train_subjects": train_subjects(split),
        "test": standing.test,
        "pairs": len(standing.entries) * (len(standing.entries) - 1) // 2,
        "entries": _entries(plan, standing, split, metric),
        "groups": [list(group) for group in standing.groups()],
        "incomplete": [
            {"name": one.name, "done": one.done, "wanted": one.wanted, "reason": one.reason}
            for one in incomplete
        ],
        "cautions": _cautions(split, standing),
    }
    document["sentences"] = verdict(document)
    return document


def train_subjects(split: Split) -> float:
    """How many subjects a fold learns from, validation rows among them."""
    ids = split.cohort.table["participant_id"].to_numpy()
    learnt = [np.concatenate([fold.train, fold.validation]) for fold in split.folds]
    return float(np.mean([len(np.unique(ids[rows])) for rows in learnt]))


def _entries(
    plan: StudyPlan, standing: Standing, split: Split, metric: Metric
) -> list[dict[str, Any]]:
    names = [entry.name for entry in standing.entries]
    baseline = names.index(plan.baseline.name) if plan.baseline.name in names else None
    against = {} if baseline is None else standing.against(baseline)
    best = next((i for i, entry in enumerate(standing.entries) if not entry.is_trivial), None)
    ranks = standing.ranks()
    documents = []
    for number, entry in enumerate(standing.entries):
        around = standing.interval(number)
        document = {
            "name": entry.name,
            "trivial": entry.is_trivial,
            "value": around.value,
            "low": around.low,
            "high": around.high,
            "rank": float(ranks[number]),
            "folds": entry.by_fold(metric).mean(axis=1).tolist(),
            "seed_spread": _seed_spread(entry, metric),
            "metrics": {m.name: m.function(entry.scored) for m in split.task.metrics.values()},
            "against_baseline": _comparison(against.get(number)),
            "against_best": None,
            "below_best": best is not None and number > best,
            **_cost(entry),
        }
        if best is not None and number != best:
            document["against_best"] = _comparison(standing.pair(number, best))
        documents.append(document)
    return documents


def _seed_spread(entry: Entry, metric: Metric) -> float:
    """The standard deviation over seeds of the score over all folds."""
    if entry.seeds < 2:
        return float("nan")
    values = []
    for seed in range(entry.seeds):
        rows = np.flatnonzero(entry.scored.fold % entry.seeds == seed)
        values.append(metric.function(entry.scored.take(rows)))
    return float(np.std(values, ddof=1))


def _comparison(found: Comparison | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "p_holm": found.p_holm,
        "real": found.is_real,
    }


def _cost(entry: Entry) -> dict[str, Any]:
    """What a fit of the choice costs, in the middle, and what its search chose."""
    results = entry.results
    chosen = Counter(_settings(result["settings"]) for result in results if result["settings"])
    return {
        "trainable": results[0]["trainable"] if results else None,
        "parameters": results[0]["parameters"] if results else None,
        "seconds": float(np.median([r["seconds"] for r in results])) if results else None,
        "peak_mb": float(np.median([r["peak_mb"] for r in results])) if results else None,
        "chosen": dict(chosen.most_common()),
    }


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{key.rpartition('.')[2]} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in settings.items()
    )


def _cautions(split: Split, standing: Standing) -> Sequence[str]:
    found = []
    subjects = len(np.unique(standing.entries[0].scored.subject))
    if subjects < _FEW_SUBJECTS:
        found.append(
            f"Only {subjects} subjects are tested: the intervals are themselves uncertain."
        )
    if 1 < len(split.folds) < _FEW_FOLDS:
        found.append(
            f"With {len(split.folds)} folds the corrected test finds large differences only;"
            " five folds or more find smaller ones."
        )
    return found
