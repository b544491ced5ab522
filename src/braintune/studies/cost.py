"""What a study would take, told before it runs: counts for each choice, and honest hours.

A step of each choice is timed on blank scans, or its finished fits are asked. What is not timed,
because there are many choices, takes what the timed ones take for each byte of activations.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braintune.fitting.batches import steps_per_epoch
from braintune.fitting.network import RecipeAudit, audit_recipe, input_shape, make_network
from braintune.parallel import available_cores
from braintune.recipe import Recipe
from braintune.studies.choices import Choice
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import StudyPlan
from braintune.tasks.task import Task

# Seconds that all timed steps together may take.
_TIMING = 20.0


@dataclass(frozen=True)
class Pace:
    """How fast a choice learns.

    Attributes:
        seconds: For a scan, forward and backward.
        setup: Before the first step.
        source: ``"earlier fits"``, ``"a timed step"``, or ``"scaled"`` from other choices.
    """

    seconds: float
    setup: float
    source: str


def plan_document(plan: StudyPlan, out: Path | None, workers: int | None = None) -> dict[str, Any]:
    """What ``--dry-run`` says.

    Args:
        plan: The study.
        out: Its folder, if it was begun.
        workers: How many fits would run at once; by default as many as there are cores.
    """
    audits = {c.name: _audit(plan, c) for c in plan.choices}
    paces = _paces(plan, audits, _earlier(out))
    choices = [_choice(plan, choice, audits[choice.name], paces) for choice in plan.choices]
    places = workers or torch.cuda.device_count() or available_cores()
    seconds = sum(choice["seconds"] for choice in choices)
    return {
        "fits": plan.n_fits,
        "cells": plan.folds * len(plan.choices),
        "seeds": plan.study.seeds,
        "budget": plan.study.tune.budget if plan.study.tune else 1,
        "baseline": plan.baseline.name,
        "choices": choices,
        "contexts": [_context(context) for context in plan.contexts],
        "seconds": seconds,
        "at_once": places,
        "elapsed": seconds / places,
    }


def _context(context: Any) -> dict[str, Any]:
    folds = context.plan.folds
    return {
        "key": context.key,
        "cohort": context.cohort,
        "target": context.target,
        "fraction": context.fraction,
        "subjects": context.plan.cohort.n_subjects,
        "scans": len(context.plan.cohort),
        "folds": len(folds),
        "train_rows": float(np.mean([len(fold.train) for fold in folds])),
        "splits": context.hash,
    }


def _audit(plan: StudyPlan, choice: Choice) -> RecipeAudit:
    """Counts of a choice for its first target; a further one differs in the head alone."""
    context = plan.contexts[0]
    return audit_recipe(plan.subjects[context.key, choice.name].recipe, context.plan.task)


def _choice(
    plan: StudyPlan, choice: Choice, audit: RecipeAudit, paces: dict[str, Pace]
) -> dict[str, Any]:
    pace = paces[choice.name]
    seconds = 0.0
    for context in plan.contexts:
        train = plan.subjects[context.key, choice.name].recipe.train
        for fold in context.plan.folds:
            size = train.batch_size * train.accumulate
            scans = train.epochs * steps_per_epoch(len(fold.train), size) * size
            # Validation after each epoch and the test are forward passes, a third of a step.
            seen = train.epochs * len(fold.validation) + len(fold.test)
            one = pace.setup + pace.seconds * (scans + seen / 3)
            seconds += plan.fits_of_cell(choice) * one
    return {
        "name": choice.name,
        "method": choice.method,
        "settings": choice.settings,
        "fits": plan.folds * plan.fits_of_cell(choice),
        "trials": choice.tune.budget if choice.tune else 1,
        "trainable": audit.parameters.trainable,
        "parameters": audit.parameters.total,
        "memory_bytes": sum(audit.memory.values()),
        "seconds": seconds,
        "estimated_from": pace.source,
    }


def _paces(
    plan: StudyPlan, audits: dict[str, RecipeAudit], earlier: dict[str, float]
) -> dict[str, Pace]:
    """How fast each choice learns, measured while there is time and scaled after that."""
    found = {name: Pace(earlier[name], 0.0, "earlier fits") for name in audits if name in earlier}
    began = time.monotonic()
    context = plan.contexts[0]
    for choice in plan.choices:
        if choice.name in found:
            continue
        if found and time.monotonic() - began > _TIMING:
            break
        recipe = plan.subjects[context.key, choice.name].recipe
        found[choice.name] = time_step(recipe, context.plan.task)
    size = {name: audit.memory["activations"] for name, audit in audits.items()}
    each = np.median([pace.seconds / size[name] for name, pace in found.items()])
    setup = float(np.median([pace.setup for pace in found.values()]))
    return {
        name: found.get(name, Pace(float(each) * size[name], setup, "scaled")) for name in audits
    }


def time_step(recipe: Recipe, task: Task) -> Pace:
    """Seconds that a scan takes in a training step, on blank scans and random weights."""
    began = time.monotonic()
    fresh = recipe.backbone.model_copy(update={"weights": "none"})
    recipe = recipe.model_copy(update={"backbone": fresh})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    count = min(recipe.train.batch_size, 4)
    network = make_network(recipe, task).to(device)
    shape = input_shape(recipe)
    images = torch.randn(count, shape.channels, *shape.shape, device=device)
    setup = time.monotonic() - began
    times = []
    for _ in range(2):  # the first one is slower
        began = time.monotonic()
        network(images).float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - began)
    return Pace(times[-1] / count, setup + times[0] - times[-1], "a timed step")


def _earlier(out: Path | None) -> dict[str, float]:
    """Seconds a scan of the finished fits of each choice."""
    found: dict[str, list[float]] = {}
    if out is None or not StudyFolder(out).identity_file.exists():
        return {}
    folder = StudyFolder(out)
    for path in folder.path.glob("fits/*/*/result.json"):
        result = folder.result(path.parent.name)
        if result is not None:
            scans = result["epochs"] * (result["train_rows"] + result["validation_rows"] / 3)
            found.setdefault(result["choice"], []).append(result["seconds"] / max(scans, 1))
    return {name: float(np.median(values)) for name, values in found.items()}
