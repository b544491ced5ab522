"""The recipe of pre-training: what a backbone learns before any cohort of its own is looked at."""

import re
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from braintune.recipe import (
    BackboneRecipe,
    Choice,
    PrepareRecipe,
    RecipeFile,
    ScansRecipe,
)
from braintune.registry import parse
from braintune.section import Section
from braintune.training_recipe import TrainRecipe

# Options of `TrainRecipe` that a fit needs and pre-training has no use for.
_OF_FITS = (
    "mixup",
    "cutmix",
    "mix_alpha",
    "balance",
    "validation",
    "patience",
    "flip_average",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]*")
Values = dict[str, str | list[str]]


class ObjectiveRecipe(Choice):
    """What is learnt; all further keys are the objective's options."""

    kind: str


class PretrainTraining(TrainRecipe):
    """The optimisation; without validation rows, the last weights or an average are kept."""

    keep: Literal["last"] = "last"

    @model_validator(mode="after")
    def _of_pretraining(self) -> Self:
        fields = type(self).model_fields
        for name in _OF_FITS:
            if getattr(self, name) != fields[name].default:
                msg = f"{name} belongs to fits and means nothing in pre-training; leave it out"
                raise ValueError(msg)
        return self


class CohortRecipe(Section):
    """Scans of a cohort.

    Attributes:
        cohort: BIDS dataset or derivative, prepared store, or TSV/CSV table.
        scans: Which files of it.
        where: Which rows, such as ``{split: train}``; a list takes any of its values.
    """

    cohort: str
    scans: ScansRecipe = ScansRecipe()
    where: Values = Field(default_factory=dict)


class SourceRecipe(Section):
    """Where scans come from: a cohort, or a generator that makes them from label maps.

    Attributes:
        cohort: BIDS dataset or derivative, prepared store, or TSV/CSV table; real or simulated.
        scans: Which files of the cohort.
        where: Which rows of the cohort.
        maps: Label maps, or folders of them, that scans are made from while training goes on.
        generator: Options of the generator, as of `braintune.synthesis.labelmaps.options`.
        distinct: How many different scans the generator makes; by default no scan is shown twice.
        weight: Its share of the scans, relative to the other sources.
    """

    cohort: str | None = None
    scans: ScansRecipe = ScansRecipe()
    where: Values = Field(default_factory=dict)
    maps: str | list[str] | None = None
    generator: dict[str, Any] = Field(default_factory=dict)
    distinct: PositiveInt | None = None
    weight: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cohort is None) == (self.maps is None):
            msg = "a source is either a 'cohort' or made from label 'maps': set one of the two"
            raise ValueError(msg)
        idle = {"scans", "where"} if self.maps else {"generator", "distinct"}
        if wrong := sorted(idle & self.model_fields_set - self._defaults()):
            other = "made from label maps" if self.maps else "read from a cohort"
            msg = f"{', '.join(wrong)} mean nothing to a source that is {other}; leave them out"
            raise ValueError(msg)
        return self

    def _defaults(self) -> set[str]:
        """The fields that are as they are by default, though they may be spelt out."""
        fields = type(self).model_fields
        return {
            n
            for n, f in fields.items()
            if getattr(self, n) == f.get_default(call_default_factory=True)
        }


class ExcludedRecipe(CohortRecipe):
    """A cohort that must not be seen, such as the one that will be tested on.

    Attributes:
        by: What tells that a subject is the same: the id or the image, or, where different people
            of two studies have the same ids, the image alone.
    """

    by: Literal["id or image", "image"] = "id or image"


class ProbeRecipe(CohortRecipe):
    """A linear probe of the frozen features while training goes on.

    Attributes:
        target: The column that is predicted.
        kind: Ridge regression, or logistic regression.
        every: Epochs between two looks; the last epoch is always looked at.
        folds: Of the cross-validation over subjects.
    """

    target: str
    kind: Literal["regression", "classification"]
    every: PositiveInt = 5
    folds: int = Field(5, ge=2)


class PretrainRecipe(RecipeFile):
    """All of a pre-training.

    Attributes:
        objective: What is learnt.
        backbone: The network, and the weights it starts from.
        prepare: How scans become arrays; generated ones are made on the same grid.
        train: The optimisation.
        sources: Where scans come from, by name.
        scans_per_epoch: By default as many as the cohorts have; a must where scans are generated.
        exclude: Cohorts that must not be seen, by name.
        probe: A cohort that the features are tried on while training goes on.
        seed: Of all chance.

    Example:
        >>> recipe = PretrainRecipe.parse({"objective": {"kind": "masked"},
        ...     "backbone": {"name": "nit"}, "sources": {"mine": {"cohort": "cohort"}}})
        >>> recipe.train.keep, recipe.sources["mine"].weight
        ('last', 1.0)
    """

    called: ClassVar[str] = "recipe of pre-training"

    objective: ObjectiveRecipe
    backbone: BackboneRecipe
    prepare: PrepareRecipe = PrepareRecipe()
    train: PretrainTraining = PretrainTraining()
    sources: dict[str, SourceRecipe] = Field(min_length=1, max_length=100)
    scans_per_epoch: PositiveInt | None = None
    exclude: dict[str, ExcludedRecipe] = Field(default_factory=dict)
    probe: ProbeRecipe | None = None
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name in self.sources:
            if not _NAME.fullmatch(name):
                msg = f"the source {name!r} needs a name of letters, digits, '.', '_' and '-'"
                raise ValueError(msg)
        generated = [name for name, source in self.sources.items() if source.maps]
        if generated and self.scans_per_epoch is None:
            msg = f"set scans_per_epoch: {generated[0]} makes scans without end"
            raise ValueError(msg)
        if self.prepare.dwi is not None:
            msg = "pre-training takes scans of one channel; leave prepare.dwi out"
            raise ValueError(msg)
        return self

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Build a recipe from plain values.

        Raises:
            InputError: One line a mistake, with the nearest right key for a misspelt one.
        """
        # Named parts first: of these the messages can say which keys there are.
        for section, model in (("sources", SourceRecipe), ("exclude", ExcludedRecipe)):
            parts = values.get(section)
            if isinstance(parts, dict):
                for name, part in parts.items():
                    parse(model, part, f"{section}.{name}")
        return parse(cls, values, "")

    @classmethod
    def change(cls, values: dict[str, Any], text: str) -> None:
        """Apply one override to plain values in place."""
        objective = values.get("objective")
        if text.startswith("objective.kind=") and isinstance(objective, dict):
            # The options of another objective mean nothing to this one.
            values["objective"] = {"kind": objective.get("kind")}
        super().change(values, text)
