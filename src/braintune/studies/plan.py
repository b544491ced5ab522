"""The graph of a study: independent cells, each a search and the fits of its seeds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from braintune.errors import InputError
from braintune.files import digest
from braintune.fitting.starting import settle
from braintune.models.weights.loading import WeightSet, find_weights
from braintune.models.weights.places import demand_file
from braintune.models.weights.tensors import sha256_of
from braintune.recipe import Recipe
from braintune.studies.choices import Choice, baseline_of, choices_of
from braintune.studies.contexts import Context
from braintune.studies.recipe import StudyRecipe, changed
from braintune.studies.search import Trial, grid


@dataclass(frozen=True)
class Fit:
    """One training of one network: a choice on one fold, with one seed and its tuned settings.

    Attributes:
        id: A hash of all that decides what comes out.
        context: The context's key.
        choice: The choice's name.
        fold: From 0.
        seed: Of the fit.
        settings: What is tuned.
        earlier: Trials of its search that may stop it early; none for most fits.
    """

    id: str
    context: str
    choice: str
    fold: int
    seed: int
    settings: dict[str, Any]
    earlier: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A choice with a target: what all of its folds and seeds share.

    Attributes:
        choice: The choice.
        recipe: Its recipe, settled with its weights.
        hash: Of the recipe and the weights.
    """

    choice: Choice
    recipe: Recipe
    hash: str

    @cached_property
    def values(self) -> dict[str, Any]:
        """The recipe as plain values."""
        return self.recipe.model_dump(mode="json")

    def tuned(self, settings: dict[str, Any], seed: int) -> Recipe:
        """The recipe of one fit."""
        return Recipe.parse(changed(self.values, {**settings, "seed": seed}))


@dataclass(frozen=True)
class Cell:
    """What is done on one fold for one choice; cells do not know of each other."""

    context: Context
    subject: Subject
    fold: int
    external: dict[str, str] = field(default_factory=dict)

    def fit(self, seed: int, settings: dict[str, Any], earlier: tuple[Trial, ...] = ()) -> Fit:
        """One fit of the cell, known by its content."""
        facts = [self.subject.hash, self.context.hash, self.fold, seed, settings]
        if self.external:
            facts.append(self.external)
        if earlier:
            facts.append([trial.settings for trial in earlier])
        choice = self.subject.choice.name
        return Fit(digest(facts), self.context.key, choice, self.fold, seed, settings, earlier)


@dataclass(frozen=True)
class StudyPlan:
    """All of a study, checked.

    Attributes:
        study: The study.
        choices: What is compared.
        baseline: The choice that the others are compared with.
        contexts: In what.
        subjects: By context key and choice name.
        external: Names of the external cohorts and the hash of their scans.
    """

    study: StudyRecipe
    choices: list[Choice]
    baseline: Choice
    contexts: list[Context]
    subjects: dict[tuple[str, str], Subject] = field(repr=False)
    external: dict[str, str] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        """All cells; the choices of a fold come together, so that early tables are fair."""
        for context in self.contexts:
            for fold in range(len(context.plan.folds)):
                for choice in self.choices:
                    yield self.cell(context, choice, fold)

    def cell(self, context: Context, choice: Choice, fold: int) -> Cell:
        """One cell."""
        return Cell(context, self.subjects[context.key, choice.name], fold, self.external)

    def first_fits(self) -> Iterator[Fit]:
        """The fits that depend on no other."""
        for cell in self.cells():
            tune = cell.subject.choice.tune
            if tune is None:
                yield from (cell.fit(seed, {}) for seed in self.study.seeds)
            elif tune.by == "grid":
                yield from (cell.fit(self.study.seeds[0], settings) for settings in grid(tune))

    def fits_of_cell(self, choice: Choice) -> int:
        """How many fits a cell of a choice takes; a search's best is the first seed's fit."""
        trials = choice.tune.budget - 1 if choice.tune else 0
        return trials + len(self.study.seeds)

    @cached_property
    def folds(self) -> int:
        """Folds of all contexts."""
        return sum(len(context.plan.folds) for context in self.contexts)

    @cached_property
    def n_fits(self) -> int:
        """How many fits there are."""
        return self.folds * sum(self.fits_of_cell(choice) for choice in self.choices)


def plan_study(
    study: StudyRecipe, contexts: list[Context], external: dict[str, str] | None = None
) -> StudyPlan:
    """Check every choice with every target.

    Args:
        study: The study.
        contexts: What choices are compared in.
        external: Names of the external cohorts and the hash of their scans.

    Raises:
        InputError: If a choice is no right recipe, or its weights are not there.
    """
    choices = choices_of(study)
    baseline = baseline_of(study, choices)
    hashes: dict[Path, str] = {}
    by_target: dict[tuple[str, str], Subject] = {}
    subjects = {}
    for context in contexts:
        for choice in choices:
            key = (context.target, choice.name)
            if key not in by_target:
                by_target[key] = _subject(choice, context.task, study, hashes)
            subjects[context.key, choice.name] = by_target[key]
    return StudyPlan(study, choices, baseline, contexts, subjects, external or {})


def _subject(
    choice: Choice, task: dict[str, Any], study: StudyRecipe, hashes: dict[Path, str]
) -> Subject:
    """A choice for a target; each value of a grid is tried on it, which finds wrong ones now."""
    # What the choice says of the task, such as its loss, stands above the target's section.
    own = {
        key: value
        for key, value in choice.values["task"].items()
        if study.base.task.model_dump(mode="json").get(key) != value
    }
    recipe = settle(choice.recipe({**task, **own}, {}))
    facts: list[Any] = [recipe.model_dump(mode="json", exclude={"seed", "protocol"})]
    weights = find_weights(recipe.backbone.name, recipe.backbone.weights)
    if weights is not None:
        _demand_there(weights, choice)
        if weights.path not in hashes:
            hashes[weights.path] = sha256_of(weights.path)
        facts.append(hashes[weights.path])
    subject = Subject(choice, recipe, digest(facts))
    if choice.tune is not None and choice.tune.by == "grid":
        for settings in grid(choice.tune):
            try:
                subject.tuned(settings, 0)
            except InputError as error:
                msg = f"The choice {choice.name!r} can't be tuned with {settings}:\n{error}"
                raise InputError(msg) from None
    return subject


def _demand_there(weights: WeightSet, choice: Choice) -> None:
    """Refuse a choice whose weights are not on this computer.

    Raises:
        InputError: With how to get them.
    """
    if weights.path.is_file():
        return
    if weights.record is not None:
        demand_file(weights.record)
    msg = (
        f"The choice {choice.name!r} starts from {weights.path}, which does not exist. Make it with"
        " 'braintune pretrain', or leave the choice out."
    )
    raise InputError(msg)
