"""The study file: a base recipe, what is varied, what is tuned, and where the fits run."""

from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from braintune.errors import InputError, listing
from braintune.recipe import Recipe, RecipeFile, assign, override, read_yaml
from braintune.section import Section

# What decides who is tested, or which chance a fit has: the study says it once for all choices.
_SHARED = {
    "protocol": "'base' for the protocol and 'fractions' for shares of the subjects",
    "seed": "'seeds'",
    "scans": "'base'",
    "train.validation": "'base'",
    "task.target": "'targets'",
}
_GRID_LIMIT = 1000


class RangeRecipe(Section):
    """A range to search, by its logarithm unless said otherwise."""

    low: float
    high: float
    log: bool = True

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            msg = f"low {self.low:g} must be below high {self.high:g}, and above 0 if log is true"
            raise ValueError(msg)
        return self


class TuneRecipe(Section):
    """What is chosen for each method and fold on its validation rows, with one budget for all.

    Attributes:
        keys: Dotted keys of the recipe, each with values to try or a range.
        by: Every combination (``grid``), or `optuna`'s TPE.
        trials: Fits a search may use; by default all combinations of a grid, and 16 otherwise.
        halving: With optuna, stop trials early that are not among the best so far: the share
            ``1 / halving`` goes on at each rung.
    """

    keys: dict[str, list[Any] | RangeRecipe] = Field(min_length=1)
    by: Literal["grid", "optuna"] = "grid"
    trials: PositiveInt | None = None
    halving: int | None = Field(None, ge=2)

    @model_validator(mode="after")
    def _can_be_searched(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        found = [f"{key} has no values" for key, values in self.keys.items() if values == []]
        ranges = [key for key, values in self.keys.items() if isinstance(values, RangeRecipe)]
        if self.by == "grid":
            if ranges:
                found.append(f"a grid needs lists of values; {listing(ranges)} is a range")
            elif self.trials not in (None, self.budget):
                found.append(f"this grid has {self.budget} combinations, not {self.trials}")
            elif self.budget > _GRID_LIMIT:
                found.append(f"this grid has more than {_GRID_LIMIT} combinations")
            if self.halving:
                found.append("halving belongs to 'by: optuna'")
        return found

    @property
    def budget(self) -> int:
        """Fits that a search uses."""
        if self.by == "optuna":
            return self.trials or 16
        count = 1
        for values in self.keys.values():
            count *= len(values) if isinstance(values, list) else 1
        return count


class ClusterRecipe(Section):
    """Jobs of a batch system, each a worker that takes one fit at a time (see dask-jobqueue).

    Attributes:
        queue: Partition or queue.
        account: Whom to charge.
        cores: Of a job.
        memory: Of a job, such as ``16GB``.
        walltime: Of a job, such as ``04:00:00``; a fit that does not end in it goes on in the next.
        jobs: At most so many at once.
        directives: Further lines for the job's head, such as ``--gres=gpu:1``.
        prologue: Shell lines before the worker starts, such as ``module load cuda``.
        folder: Where workers put temporary files.
    """

    queue: str | None = None
    account: str | None = None
    cores: PositiveInt = 1
    memory: str = "8GB"
    walltime: str = "04:00:00"
    jobs: PositiveInt = 8
    directives: list[str] = Field([])
    prologue: list[str] = Field([])
    folder: str | None = None


class StudyRecipe(RecipeFile):
    """A whole study.

    Attributes:
        base: The recipe that everything else changes: a path, seen from the study file, or the
            recipe itself.
        set: Changes of the base by dotted keys.
        methods: Named sets of changes; ``tune`` among them replaces the values to try.
        axes: Each a dotted key with values, or named sets of changes; all are combined.
        tune: What is chosen on validation rows.
        seeds: Of the fits; the splits are those of the base's own seed.
        fractions: Shares of the training subjects.
        targets: Columns, each with its section ``task`` if it differs from the base's.
        cohorts: Names and places; by default the one that the command is given.
        external: Names and places of cohorts that every network predicts and none learns from.
        baseline: The choice that the others are compared with; by default from scratch.
        metric: The score; by default the headline of each target's task.
        cluster: Jobs of a batch system.
    """

    called: ClassVar[str] = "study"

    base: Recipe
    methods: dict[str, dict[str, Any]] = Field({})
    axes: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field({})
    tune: TuneRecipe | None = None
    seeds: list[NonNegativeInt] = Field([0], min_length=1)
    fractions: list[PositiveFloat] = Field([1.0], min_length=1)
    targets: dict[str, dict[str, Any]] = Field({})
    cohorts: dict[str, str] = Field({})
    external: dict[str, str] = Field({})
    baseline: str | None = None
    metric: str | None = None
    cluster: ClusterRecipe = ClusterRecipe()

    @classmethod
    def read(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a study file, with the recipe that it is built on.

        Overrides of a recipe's sections, such as ``train.epochs=4``, change the base.

        Raises:
            InputError: If a file is missing, no YAML, or says something that a study can't.
        """
        path = Path(path)
        values = read_yaml(path)
        for change in overrides or []:
            section = change.partition("=")[0].partition(".")[0]
            of_base = "base" in values and section in Recipe.model_fields
            override(values.setdefault("set", {}) if of_base else values, change)
        try:
            return cls.parse(whole_study(values, path.parent))
        except InputError as error:
            raise InputError(f"{path} is not a right study:\n{error}") from None

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        found = []
        for name, values in (("seeds", self.seeds), ("fractions", self.fractions)):
            if len(set(values)) < len(values):
                found.append(f"{name} names a value twice")
        if max(self.fractions) > 1:
            found.append("fractions are shares: at most 1")
        found += [
            f"the axis {axis} has no values" for axis, points in self.axes.items() if not points
        ]
        for key in self._changed():
            found += [
                f"{key!r} would give choices other splits or other targets: say it in {remedy}"
                for shared, remedy in _SHARED.items()
                if key == shared or key.startswith(f"{shared}.")
            ]
        return found

    def _changed(self) -> list[str]:
        """Dotted keys that choices set."""
        keys = [] if self.tune is None else list(self.tune.keys)
        for changes in self.methods.values():
            keys += flat({name: value for name, value in changes.items() if name != "tune"})
        for axis, points in self.axes.items():
            if isinstance(points, dict):
                for changes in points.values():
                    keys += flat(changes)
            else:
                keys.append(axis)
        return keys


def flat(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes as dotted keys; what chooses an entry comes before that entry's options.

    Example:
        >>> flat({"adapter": {"rank": 4, "name": "lora"}, "train.lr": 0.1})
        {'adapter.name': 'lora', 'adapter.rank': 4, 'train.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict) and "." not in key:
            first = sorted(value, key=lambda name: name not in {"name", "kind"})
            found |= {f"{key}.{name}": value[name] for name in first}
        else:
            found[key] = value
    return found


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a recipe with changes; the old ones stay as they are."""
    copy = deepcopy(values)
    for key, value in flat(changes).items():
        assign(copy, key, value)
    return copy


def whole_study(values: dict[str, Any], folder: Path = Path()) -> dict[str, Any]:
    """A study's values with its base as a whole recipe; a plain recipe is a study of itself.

    Args:
        values: As read.
        folder: From which a base's path is seen.

    Raises:
        InputError: If there is no base.
    """
    if "base" not in values and "task" in values:
        return {"base": values}
    base, changes = values.get("base"), values.get("set", {})
    if isinstance(base, str):
        base = read_yaml(folder / base)
    if not isinstance(base, dict):
        raise InputError("A study needs 'base': the path of a recipe, or a recipe.")
    if not isinstance(changes, dict):
        raise InputError("'set' must hold dotted keys and values, such as 'train.epochs: 40'.")
    targets = values.get("targets", {})
    if isinstance(targets, list):
        targets = {str(name): {} for name in targets}
    elif isinstance(targets, dict):
        targets = {str(name): section or {} for name, section in targets.items()}
    seeds = values.get("seeds", [0])
    rest = {key: value for key, value in values.items() if key != "set"}
    return {
        **rest,
        "base": changed(base, changes),
        "targets": targets,
        "seeds": list(range(seeds)) if isinstance(seeds, int) else seeds,
        "tune": _with_numbers(values.get("tune")),
    }


def _with_numbers(tune: Any) -> Any:
    """YAML takes ``1e-3`` for text; here it is a number."""
    if not isinstance(tune, dict) or not isinstance(tune.get("keys"), dict):
        return tune
    keys = {
        key: [number(value) for value in values] if isinstance(values, list) else values
        for key, values in tune["keys"].items()
    }
    return {**tune, "keys": keys}


def number(value: Any) -> Any:
    """A number that YAML took for text, or the value as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
