"""The weight record: what one published or self-made set of weights is, needs and holds."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator

from braintune.errors import InputError, listing
from braintune.registry import Registry

_HASH = re.compile(r"[0-9a-f]{8,64}")


class Part(BaseModel):
    """A part of a record: no unknown keys, no changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Part):
    """Where a weight set is published.

    Attributes:
        url: The file, at a pinned revision where the host has revisions.
        revision: That revision, or None where the host keeps no history.
        sha256: The file's hash in hex, or as many of its first digits (8 at least) as the
            publisher tells; None where nobody tells.
        size: Bytes, where known.
        gated: Whether the host gives the file only to accounts that accepted its licence.
        manual: How to get the file where no program may, such as behind a form; without a URL.
    """

    url: str | None = None
    revision: str | None = None
    sha256: str | None = None
    size: PositiveInt | None = None
    gated: bool = False
    manual: str | None = None

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, digits: str | None) -> str | None:
        if digits is not None and not _HASH.fullmatch(digits):
            msg = "sha256 must be 8 to 64 lower-case hexadecimal digits"
            raise ValueError(msg)
        return digits

    @property
    def file(self) -> str:
        """The file's name."""
        return (self.url or "").partition("?")[0].rpartition("/")[2] or "weights"


class ExpectedPreparation(Part):
    """The preparation that the weights were trained on; None where it is free or unknown.

    Attributes:
        spacing: Edge of a voxel in mm.
        shape: Voxels along x, y and z.
        intensity: Rule of `prepare.intensity`.
        brain: Region of `prepare.brain`.
        words: What the publication did, in words, where a recipe can't say it.
    """

    spacing: PositiveFloat | None = None
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    intensity: Literal["zscore", "minmax", "percentile", "none"] | None = None
    brain: Literal["nonzero", "foreground", "whole"] | None = None
    words: str = ""

    def values(self) -> dict[str, Any]:
        """What it says of a recipe's ``prepare`` section."""
        return {
            key: value
            for key, value in self.model_dump(exclude={"words"}).items()
            if value is not None
        }


class Conversion(Part):
    """How the publisher's checkpoint becomes the backbone's own keys; patterns match whole keys.

    Attributes:
        container: Keys to go down to the tensors, such as ``("state_dict",)``.
        strip: A prefix that every tensor's key has, such as ``"module."``.
        unused: Patterns of keys that are not taken, such as the head's; before renaming.
        rename: (pattern, replacement) pairs; of each key the first that matches applies.
        steps: Names of further steps of `braintune.models.weights.conversion`, in order.
    """

    container: tuple[str, ...] = ()
    strip: str = ""
    unused: tuple[str, ...] = ()
    rename: tuple[tuple[str, str], ...] = ()
    steps: tuple[str, ...] = ()


class Adaptation(Part):
    """What may differ between the set and the network that it is loaded into.

    Attributes:
        first_layer: Pattern of the keys of what sees the images, whose channels may differ.
        inflate: Whether kernels of 2D images become 3D kernels.
        positions: For each position embedding, by its key, the set's own grid of tokens, as (extra
            tokens, tokens along each axis).
        relative: Pattern of the keys of relative position tables, resized along their first axis.
        new: Patterns of the backbone's keys that the set does not hold, which start at random.
    """

    first_layer: str | None = None
    inflate: bool = False
    positions: dict[str, tuple[int, tuple[int, ...]]] = {}
    relative: str | None = None
    new: tuple[str, ...] = ()


class Learning(Part):
    """How a set was made here.

    Attributes:
        objective: What was learnt.
        scans: How many different scans of each source were seen.
        epochs: How many epochs.
        steps: How many steps of the optimiser.
    """

    objective: str
    scans: dict[str, int]
    epochs: PositiveInt
    steps: PositiveInt


class WeightRecord(Part):
    """One set of weights of one backbone.

    Attributes:
        backbone: The architecture.
        tag: What recipes call it: ``backbone: {name: <backbone>, weights: <tag>}``.
        options: Backbone options that the set needs; a recipe that sets others is refused.
        summary: One line.
        source: Where the file is; None for sets made here.
        licence: SPDX identifier or name of the licence.
        non_commercial: Whether the licence forbids commercial use.
        citation: The publication.
        cohorts: Names of the cohorts that the set has seen.
        channels: Image channels of the network that was trained.
        prepare: The preparation that it expects.
        conversion: From the published file to the backbone's keys.
        adaptation: What may differ between the set and the network.
        quirks: What else one must know.
        learning: How it was made, for sets made here.

    Example:
        >>> record = WeightRecord(backbone="sfcn", tag="mine", licence="MIT", citation="–")
        >>> record.name
        'sfcn.mine'
    """

    backbone: str
    tag: str = Field(pattern=r"[a-z0-9][a-z0-9-]*")
    options: dict[str, Any] = {}
    summary: str = ""
    source: Source | None = None
    licence: str
    non_commercial: bool = False
    citation: str
    cohorts: tuple[str, ...] = ()
    channels: PositiveInt = 1
    prepare: ExpectedPreparation = ExpectedPreparation()
    conversion: Conversion = Conversion()
    adaptation: Adaptation = Adaptation()
    quirks: tuple[str, ...] = ()
    learning: Learning | None = None

    @property
    def name(self) -> str:
        """The record's full name, ``backbone.tag``."""
        return f"{self.backbone}.{self.tag}"

    def demand_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """A recipe's backbone options with those that the set needs.

        Raises:
            InputError: If the recipe sets one to another value, which would be another network.
        """
        wrong = [
            f"{key}: {given[key]}"
            for key, value in self.options.items()
            if key in given and _choice(given[key]) != value
        ]
        if wrong:
            needed = ", ".join(f"{key}: {value}" for key, value in self.options.items())
            msg = (
                f"The weights {self.name} belong to a network with {needed}, but the recipe says"
                f" {listing(wrong)}. Even where keys and shapes match, the function would be"
                " another one. Leave the options out, or set 'weights: none'."
            )
            raise InputError(msg)
        return {**self.options, **given}


def _choice(value: Any) -> Any:
    """What is chosen, where a choice comes with options of its own, such as ``encoder``."""
    return value["name"] if isinstance(value, dict) and "name" in value else value


WEIGHTS: Registry[WeightRecord] = Registry("weight record", "braintune.models.records")


def records_of(backbone: str) -> list[WeightRecord]:
    """All records of a backbone, by tag."""
    return [r for r in map(WEIGHTS.get, WEIGHTS.names()) if r.backbone == backbone]


def find_record(backbone: str, tag: str) -> WeightRecord:
    """The record of a backbone's weights.

    Raises:
        InputError: If there is none; the message names those that there are.
    """
    records = {record.tag: record for record in records_of(backbone)}
    if tag in records:
        return records[tag]
    tags = listing(records, limit=20) or "none"
    msg = (
        f"There are no weights {tag!r} of {backbone}. There are: {tags}. Else give 'none', the path"
        " of a .safetensors file, or a weight folder."
    )
    raise InputError(msg)
