"""Telling which structure each voxel is of."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from torch import nn

from braintune.errors import InputError, listing
from braintune.imaging.label_maps import MOST_LABELS, LabelTable
from braintune.recipe import Recipe
from braintune.tasks.segmentation_losses import (
    cross_entropy,
    focal,
    labels_at,
    over_scales,
    soft_dice,
)
from braintune.tasks.task import TASKS, AnyTask, TaskEntry

_SIDED = re.compile(r"\b(left|right|lh|rh)\b")
Value = Annotated[int, Field(ge=1, le=65_535)]


class MapsOptions(BaseModel):
    """Which file is the label map of a scan.

    Attributes:
        suffix: Its BIDS suffix.
        desc: Its ``desc`` entity, where several label maps lie beside an image.
        column: In a table, the column of its path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suffix: str = "dseg"
    desc: str | None = None
    column: str = "label_path"


class SegmentationOptions(BaseModel):
    """Options of segmentation.

    Attributes:
        labels: The structures, by their values in label maps.
        others: What other values are: refused, or background.
        maps: Which files the label maps are.
        patch: Voxels that the network sees at once; by default all of ``prepare.shape``.
        foreground: Share of the training patches that are centred on a labelled voxel, of each
            structure as often.
        loss: Dice and cross-entropy, one of them, focal loss, or Dice and focal loss.
        dice_background: Whether Dice is averaged over the background too.
        gamma: Of the focal loss.
        deep_supervision: Whether coarser maps of the decoder learn the labels too.
        overlap: Of neighbouring patches of a scan, as a share of their edge.
        flips: Axes (x left–right, y front–back, z up–down) over whose mirror images predictions are
            averaged, if ``train.flip_average`` says so.
        mirrored: Pairs of values that swap when left and right do.
        largest: Whether only the largest connected part of each structure is kept.
        smallest: Parts of a structure below this volume are dropped, in mm³.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    labels: dict[Value, str] = Field(min_length=1, max_length=MOST_LABELS)
    others: Literal["refuse", "background"] = "refuse"
    maps: MapsOptions = MapsOptions()
    patch: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    foreground: float = Field(0.5, ge=0, le=1)
    loss: Literal["dice-ce", "dice", "ce", "focal", "dice-focal"] = "dice-ce"
    dice_background: bool = False
    gamma: NonNegativeFloat = 2.0
    deep_supervision: bool = False
    overlap: float = Field(0.25, ge=0, lt=1)
    flips: list[Literal["x", "y", "z"]] = Field(["x"], min_length=1)
    mirrored: list[tuple[int, int]] = Field([])
    largest: bool = False
    smallest: NonNegativeFloat = 0.0

    @field_validator("labels")
    @classmethod
    def _named_once(cls, labels: dict[int, str]) -> dict[int, str]:
        names = list(labels.values())
        if any(not name.strip() for name in names) or len(set(names)) < len(names):
            msg = "every label needs a name of its own"
            raise ValueError(msg)
        return dict(sorted(labels.items()))

    @model_validator(mode="after")
    def _pairs_are_labels(self) -> Self:
        mirrored = [value for pair in self.mirrored for value in pair]
        unknown = sorted(set(mirrored) - set(self.labels))
        if unknown:
            msg = f"mirrored names {listing(unknown)}, which labels does not have"
            raise ValueError(msg)
        if len(set(mirrored)) < len(mirrored):
            msg = "mirrored names a label twice"
            raise ValueError(msg)
        return self


@dataclass(frozen=True)
class Segmentation(AnyTask):
    """One structure, or the background, for every voxel.

    Attributes:
        target: What the label maps show, such as ``hippocampus``; output is named by it.
        options: The recipe's options.
    """

    target: str
    options: SegmentationOptions
    reads_maps: ClassVar[bool] = True

    @property
    def table(self) -> LabelTable:
        """The values of label maps and their names."""
        labels = self.options.labels
        return LabelTable(tuple(labels), tuple(labels.values()), self.options.others)

    @property
    def n_outputs(self) -> int:
        """One logit a structure, and one for the background, which is the first."""
        return len(self.options.labels) + 1

    @property
    def deep_supervision(self) -> bool:
        """Whether coarser maps of the decoder learn the labels too."""
        return self.options.deep_supervision

    @property
    def desc(self) -> str:
        """The target as the value of a BIDS entity, which has letters and digits only."""
        return "".join(c for c in self.target if c.isascii() and c.isalnum()) or "labels"

    @property
    def mirrored(self) -> torch.Tensor:
        """The class that each class becomes in a mirror, of shape (n_outputs,)."""
        values = self.table.values
        swapped = {a: b for pair in self.options.mirrored for a, b in (pair, pair[::-1])}
        numbers = [0, *[1 + values.index(swapped.get(value, value)) for value in values]]
        return torch.tensor(numbers)

    def input_shape(self, recipe: Recipe) -> tuple[int, int, int]:
        """Voxels along each axis of a patch, which is what the network sees at once."""
        return self.options.patch or recipe.prepare.shape

    def head(self, n_features: int) -> nn.Module:
        """A convolution of each voxel's vector alone."""
        return nn.Conv3d(n_features, self.n_outputs, 1)

    def loss(self, outputs: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """The loss of each scan.

        Args:
            outputs: Logits, of shape (batch, n_outputs, x, y, z), of the finest scale and, with
                deep supervision, of coarser ones.
            labels: Class numbers, of shape (batch, x, y, z).

        Returns:
            Of shape (batch,).
        """
        return over_scales(
            [self._loss(logits.float(), labels_at(labels, logits.shape[2:])) for logits in outputs]
        )

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        options = self.options
        parts = []
        names = options.loss.split("-")
        if "dice" in names:
            parts.append(soft_dice(logits, labels, options.dice_background))
        if "ce" in names:
            parts.append(cross_entropy(logits, labels))
        if "focal" in names:
            parts.append(focal(logits, labels, options.gamma))
        return torch.stack(parts).sum(dim=0)

    def check(self, recipe: Recipe) -> None:
        """Refuse what can't be meant with label maps.

        Raises:
            InputError: If the patch is larger than what is prepared, if training mixes or weighs
                scans by a value that they don't have, if mirror images would mix up sides, or if
                scans are diffusion series.
        """
        if recipe.prepare.dwi is not None:
            msg = (
                "Label maps belong to images of one channel, not to diffusion series. Leave"
                " 'prepare: {dwi: ...}' out, and give maps such as FA as scans."
            )
            raise InputError(msg)
        patch, shape, train = self.input_shape(recipe), recipe.prepare.shape, recipe.train
        if any(p > n for p, n in zip(patch, shape, strict=True)):
            msg = (
                f"The patch {list(patch)} is larger than 'prepare: {{shape: {list(shape)}}}'."
                " Make the shape at least as large."
            )
            raise InputError(msg)
        if train.mixes or train.balance != "none":
            msg = (
                "train.mixup, train.cutmix and train.balance are for tasks of one value a scan."
                " Leave them out; 'task: {foreground: ...}' balances the structures."
            )
            raise InputError(msg)
        self._check_sides(recipe)

    def _check_sides(self, recipe: Recipe) -> None:
        paired = {value for pair in self.options.mirrored for value in pair}
        sided = [
            name
            for value, name in self.options.labels.items()
            if value not in paired and _SIDED.search(re.sub(r"[^a-z]+", " ", name.lower()))
        ]
        mirrors = recipe.train.flip_average and "x" in self.options.flips
        augment = recipe.train.augment
        flips = augment.strength != "none" if augment.flip is None else augment.flip > 0
        if sided and (mirrors or flips):
            msg = (
                f"{listing(sided)}: labels of one side, but training or prediction mirrors scans."
                " Pair them, as in 'task: {mirrored: [[1, 2]]}', or set 'train: {flip_average:"
                " false, augment: {flip: 0}}'."
            )
            raise InputError(msg)

    def state(self) -> dict[str, Any]:
        """Target and options."""
        return {"target": self.target, "options": self.options.model_dump(mode="json")}

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Make a task from its state."""
        return cls(state["target"], SegmentationOptions.model_validate(state["options"]))


TASKS.add(
    TaskEntry(
        name="segmentation",
        options=SegmentationOptions,
        make=Segmentation,
        restore=Segmentation.restore,
    )
)
