"""The recipe: one typed YAML file that says all of a fit but where the cohort lies.

Sections that pick an entry of a registry (``task``, ``backbone``, ``adapter``) keep the entry's own
options as they stand; the entry checks them when the recipe is resolved.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from braintune.dwi_recipe import DwiRecipe as DwiRecipe
from braintune.errors import InputError
from braintune.heads_recipe import HeadsRecipe as HeadsRecipe
from braintune.heads_recipe import with_preset
from braintune.registry import parse
from braintune.section import Section as Section
from braintune.training_recipe import TrainRecipe as TrainRecipe

_LARGEST_RECIPE = 1_000_000
_LARGEST_AXIS = 1024


class Choice(BaseModel):
    """A part that names an entry of a registry; all further keys are that entry's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the entry."""
        return dict(self.model_extra or {})


class ScansRecipe(Section):
    """Which files of a BIDS cohort are its scans, or which column of a table names them.

    A filter that is left out matches anything.
    """

    suffix: str = "T1w"
    desc: str | None = None
    space: str | None = None
    session: str | list[str] | None = None
    acq: str | None = None
    dir: str | None = None
    run: str | None = None
    path: str = "path"


IntensityRule = Literal["zscore", "minmax", "percentile", "histogram", "white-peak", "none"]


class PrepareRecipe(Section):
    """How a scan becomes an array (see `braintune.imaging.preparation`).

    With ``like: weights``, what is not set here is as the backbone's weights were prepared. With
    ``preset: <name>``, it is as `braintune.heads_recipe` says.
    """

    like: Literal["weights"] | None = None
    spacing: PositiveFloat = 2.0
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (80, 96, 80)
    intensity: IntensityRule = "zscore"
    brain: Literal["nonzero", "foreground", "whole"] = "nonzero"
    center: Literal["grid", "brain"] = "grid"
    heads: HeadsRecipe | None = None
    dwi: DwiRecipe | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_preset(cls, values: Any) -> Any:
        return with_preset(values)

    @property
    def channels(self) -> int:
        """Channels of a prepared image: one, or one a map of a diffusion series."""
        return 1 if self.dwi is None else len(self.dwi.maps)

    @model_validator(mode="after")
    def _diffusion_brings_its_mask(self) -> Self:
        if self.dwi is not None and self.brain != "nonzero":
            msg = f"leave 'brain: {self.brain}' out: 'dwi:' makes its mask of the b = 0 images"
            raise ValueError(msg)
        if self.dwi is not None and self.heads is not None:
            msg = "a scan is either a raw head ('heads:') or a diffusion series ('dwi:')"
            raise ValueError(msg)
        if self.dwi is not None and self.intensity in {"histogram", "white-peak"}:
            msg = f"'intensity: {self.intensity}' is for T1w scans; maps take zscore or none"
            raise ValueError(msg)
        return self

    @field_validator("shape")
    @classmethod
    def _bounded(cls, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        if max(shape) > _LARGEST_AXIS:
            msg = f"an axis may have at most {_LARGEST_AXIS} voxels"
            raise ValueError(msg)
        return shape


class TaskRecipe(Choice):
    """What is predicted: the kind of task, the column, and the task's own options."""

    kind: str
    target: str


class BackboneRecipe(Choice):
    """The network and the weights it starts from."""

    name: str
    weights: str = "none"


class AdapterRecipe(Choice):
    """How the backbone is made trainable."""

    name: str = "full"


class CrossValidation(Section):
    """K folds of subjects; each subject is tested once."""

    kind: Literal["cross-validation"] = "cross-validation"
    folds: int = Field(5, ge=2)
    fraction: float = Field(1.0, gt=0, le=1)
    group: str = "participant_id"
    stratify: list[str] = Field([])


class HoldOut(Section):
    """One split that a column of the cohort gives."""

    kind: Literal["hold-out"] = "hold-out"
    column: str = "split"
    test: list[str] = Field(["test"])
    fraction: float = Field(1.0, gt=0, le=1)
    group: str = "participant_id"
    stratify: list[str] = Field([])


class LeaveOneSiteOut(Section):
    """As many folds as sites; each is tested by a model that has never seen it."""

    kind: Literal["leave-one-site-out"] = "leave-one-site-out"
    site: str = "site"
    fraction: float = Field(1.0, gt=0, le=1)
    group: str = "participant_id"
    stratify: list[str] = Field([])


# The key that chooses in each section that holds an entry's own options.
_CHOOSERS = {"task": "kind", "backbone": "name", "adapter": "name", "protocol": "kind"}
Protocol = Annotated[CrossValidation | HoldOut | LeaveOneSiteOut, Field(discriminator="kind")]


class RecipeFile(Section):
    """A whole YAML file.

    Attributes:
        called: What messages call it.
    """

    called: ClassVar[str] = "recipe"

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Build a recipe from plain values.

        Raises:
            InputError: One line a mistake, with the nearest right key for a misspelt one.
        """
        return parse(cls, values, "")

    @classmethod
    def read(cls, path: str | Path, overrides: list[str] | None = None) -> Self:
        """Read a YAML recipe and change it by ``section.key=value`` overrides.

        Raises:
            InputError: If the file is missing, no YAML, or says something that a recipe can't.
        """
        values = read_yaml(Path(path))
        for change in overrides or []:
            cls.change(values, change)
        try:
            return cls.parse(values)
        except InputError as error:
            raise InputError(f"{path} is not a right {cls.called}:\n{error}") from None

    @classmethod
    def change(cls, values: dict[str, Any], text: str) -> None:
        """Apply one override to plain values in place.

        Raises:
            InputError: If it is not of the form ``section.key=value``.
        """
        override(values, text)

    def dump(self) -> str:
        """The recipe as YAML that reads back as the same recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


class Recipe(RecipeFile):
    """All of a fit but where the cohort lies.

    Example:
        >>> recipe = Recipe.parse({"task": {"kind": "regression", "target": "age"},
        ...                        "backbone": {"name": "sfcn"}})
        >>> recipe.protocol.kind, recipe.adapter.name
        ('cross-validation', 'full')
    """

    task: TaskRecipe
    scans: ScansRecipe = ScansRecipe()
    prepare: PrepareRecipe = PrepareRecipe()
    backbone: BackboneRecipe
    adapter: AdapterRecipe = AdapterRecipe()
    train: TrainRecipe = TrainRecipe()
    protocol: Protocol = CrossValidation()
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _target_is_no_identifier(self) -> Self:
        if self.task.target in {"participant_id", "session_id", "scan_id"}:
            msg = f"the target {self.task.target!r} is an identifier, not something to predict"
            raise ValueError(msg)
        return self


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        InputError: If the file is missing, too large, no YAML or no mapping.
    """
    if not path.is_file():
        raise InputError(f"The recipe {path} does not exist.")
    if path.stat().st_size > _LARGEST_RECIPE:
        raise InputError(f"{path} is larger than 1 MB, which no recipe is.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a YAML file: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold sections such as 'task:' and 'backbone:'.")
    return values


def change_preparation(
    recipe: Recipe | None, overrides: list[str], filters: dict[str, str]
) -> tuple[ScansRecipe, PrepareRecipe]:
    """What preparing needs, from a recipe or from overrides of the defaults alone.

    Args:
        recipe: A recipe, or None.
        overrides: ``key=value`` or ``prepare.key=value`` changes of the preparation.
        filters: Changes of which scans are taken.

    Raises:
        InputError: If something is unknown.
    """
    values = recipe.prepare.model_dump(exclude_none=True) if recipe else {}
    if any(change.removeprefix("prepare.").startswith("preset=") for change in overrides):
        values = {}  # a preset stands for the whole preparation
    for change in overrides:
        override(values, change.removeprefix("prepare."))
    scans = recipe.scans.model_dump(exclude_none=True) if recipe else {}
    return (
        parse(ScansRecipe, {**scans, **filters}, "scans"),
        parse(PrepareRecipe, values, "prepare"),
    )


def override(values: dict[str, Any], change: str) -> None:
    """Apply one ``a.b=c`` to nested values in place.

    Raises:
        InputError: If it is not of that form.

    Example:
        >>> values = {"train": {"lr": 0.1}}
        >>> override(values, "train.lr=0.2")
        >>> values
        {'train': {'lr': 0.2}}
    """
    path, equals, text = change.partition("=")
    if not equals or not path:
        raise InputError(f"--set {change!r} must look like section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"--set {change!r}: {text!r} is not a YAML value.") from None
    try:
        assign(values, path, value)
    except InputError as error:
        raise InputError(f"--set {change!r}: {error}") from None


def assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Set one dotted key of nested values in place.

    Another task, backbone, adapter or protocol forgets the options of the one before.

    Raises:
        InputError: If the path goes through a value that is no section.

    Example:
        >>> values = {"adapter": {"name": "lora", "rank": 4}}
        >>> assign(values, "adapter.name", "full")
        >>> values
        {'adapter': {'name': 'full'}}
    """
    *sections, key = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise InputError(f"{path!r} can't be set: {section!r} is a value, not a section.")
    if len(sections) == 1 and key == _CHOOSERS.get(sections[0]) and value != values.get(key):
        _forget_options(sections[0], values, value)
    values[key] = value


def _forget_options(section: str, values: dict[str, Any], chosen: Any) -> None:
    """Drop, in place, the options of what was chosen before, which mean nothing to the new one."""
    models: dict[str, type[BaseModel]] = {
        "task": TaskRecipe,
        "backbone": BackboneRecipe,
        "adapter": AdapterRecipe,
    }
    for protocol in (CrossValidation, HoldOut, LeaveOneSiteOut):
        if protocol.model_fields["kind"].default == chosen:
            models["protocol"] = protocol
    # An unknown kind of protocol is refused by the recipe itself.
    kept = models[section].model_fields if section in models else values
    for name in [name for name in values if name not in kept]:
        del values[name]
