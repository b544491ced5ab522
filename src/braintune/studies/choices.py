"""The choices of a study: every method with every combination of the axes, and from scratch."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from braintune.errors import InputError, listing, nearest
from braintune.files import digest
from braintune.recipe import Recipe
from braintune.registry import parse
from braintune.studies.recipe import StudyRecipe, TuneRecipe, changed

SCRATCH = "scratch"
_FROM_SCRATCH = {"backbone": {"weights": "none"}, "adapter": {"name": "full"}}


@dataclass(frozen=True)
class Choice:
    """One thing to compare.

    Attributes:
        name: What people read, unique in the study.
        method: The method's name.
        settings: Its value on each axis.
        values: The recipe's plain values, with the base's target.
        tune: What is chosen on validation rows.
    """

    name: str
    method: str
    settings: dict[str, str]
    values: dict[str, Any] = field(repr=False)
    tune: TuneRecipe | None = None

    def recipe(self, task: dict[str, Any] | None, changes: dict[str, Any]) -> Recipe:
        """The recipe for a target, with further changes.

        Raises:
            InputError: If they do not fit together.
        """
        values = self.values if task is None else {**self.values, "task": task}
        try:
            return Recipe.parse(changed(values, changes))
        except InputError as error:
            raise InputError(f"The choice {self.name!r} is no right recipe:\n{error}") from None


def choices_of(study: StudyRecipe) -> list[Choice]:
    """All choices of a study; recipes that are equal under two names are there once.

    Training from scratch is always among them, once for each combination that it differs in.

    Raises:
        InputError: If a choice is no right recipe, methods have unequal budgets, or the baseline is
            no choice.
    """
    base = study.base.model_dump(mode="json", exclude_unset=True)
    methods = study.methods or {study.base.adapter.name: {}}
    found: dict[str, Choice] = {}
    for method, changes in methods.items():
        tune = _tune(study, method, changes)
        rest = {key: value for key, value in changes.items() if key != "tune"}
        for choice in _combined(study, method, changed(base, rest), tune):
            found.setdefault(_content(choice), choice)
    scratch: dict[str, list[Choice]] = {}
    for choice in _combined(study, SCRATCH, base, study.tune, _FROM_SCRATCH):
        scratch.setdefault(_content(choice), []).append(choice)
    for content, alike in scratch.items():
        if content not in found:
            found[content] = _without_idle_settings(alike, len(scratch))
    choices = list(found.values())
    twice = [name for name, count in Counter(c.name for c in choices).items() if count > 1]
    if twice:
        raise InputError(f"Two choices are called {listing(twice)}. Rename a method.")
    return choices


def baseline_of(study: StudyRecipe, choices: list[Choice]) -> Choice:
    """The choice that others are compared with.

    Raises:
        InputError: If the study names one that is not there.
    """
    if study.baseline is None:
        # Always there, under its own name or another.
        return min(choices, key=lambda c: (c.method != SCRATCH, not _is_scratch(c)))
    for choice in choices:
        if study.baseline in (choice.name, choice.method):
            return choice
    names = [choice.name for choice in choices]
    hint = nearest(study.baseline, names)
    raise InputError(
        f"The baseline {study.baseline!r} is no choice.{hint} Choices: {listing(names)}."
    )


def _tune(study: StudyRecipe, method: str, changes: dict[str, Any]) -> TuneRecipe | None:
    """What a method tunes; its own values take the place of the study's."""
    if study.tune is None or "tune" not in changes:
        if "tune" in changes:
            raise InputError(f"The method {method!r} has 'tune', but the study has none.")
        return study.tune
    if not isinstance(changes["tune"], dict):
        raise InputError(f"'tune' of the method {method!r} must hold dotted keys and values.")
    keys = {**study.tune.model_dump()["keys"], **changes["tune"]}
    own = parse(TuneRecipe, {**study.tune.model_dump(), "keys": keys}, f"methods.{method}.tune")
    if own.budget != study.tune.budget:
        msg = (
            f"The method {method!r} would try {own.budget} settings and others"
            f" {study.tune.budget}. An uneven budget favours a method: give each as many values."
        )
        raise InputError(msg)
    return own


def _combined(
    study: StudyRecipe,
    method: str,
    values: dict[str, Any],
    tune: TuneRecipe | None,
    last: dict[str, Any] | None = None,
) -> Iterator[Choice]:
    """A method with every combination of the axes."""
    axes = [
        [(axis, name, changes) for name, changes in _points(axis, points)]
        for axis, points in study.axes.items()
    ]
    for combination in product(*axes):
        merged = values
        for _, _, changes in combination:
            merged = changed(merged, changes)
        settings = {axis: name for axis, name, _ in combination}
        label = ", ".join([method, *settings.values()])
        yield Choice(label, method, settings, changed(merged, last or {}), tune)


def _points(axis: str, points: list[Any] | dict[str, dict[str, Any]]) -> list[tuple[str, Any]]:
    if isinstance(points, dict):
        return list(points.items())
    short = axis.rpartition(".")[2]
    return [
        (value if isinstance(value, str) else f"{short} {value}", {axis: value}) for value in points
    ]


def _content(choice: Choice) -> str:
    return digest(choice.recipe(None, {}).model_dump(mode="json"))


def _is_scratch(choice: Choice) -> bool:
    recipe = choice.recipe(None, {})
    return recipe.backbone.weights == "none" and recipe.adapter.name == "full"


def _without_idle_settings(alike: list[Choice], groups: int) -> Choice:
    """One of some equal choices, named by the axes that they agree on."""
    first = alike[0]
    if groups == 1:
        return Choice(SCRATCH, SCRATCH, {}, first.values, first.tune)
    same = {
        axis: value
        for axis, value in first.settings.items()
        if all(choice.settings[axis] == value for choice in alike)
    }
    return Choice(", ".join([SCRATCH, *same.values()]), SCRATCH, same, first.values, first.tune)
