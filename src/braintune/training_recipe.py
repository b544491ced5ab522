"""How a network is trained, as a recipe says it: the section ``train``."""

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from braintune.section import Section


class AugmentRecipe(Section):
    """How training scans are changed at random: a strength, and what differs from it.

    A recipe may say the strength alone, as in ``augment: light``. What the amounts mean says
    `braintune.imaging.augment.Strength`.

    Example:
        >>> print(AugmentRecipe.model_validate({"strength": "light", "blur": 1}))
        light (blur 1)
    """

    model_config = ConfigDict(allow_inf_nan=False)

    strength: Literal["none", "light", "standard", "heavy"] = "standard"
    flip: float | None = Field(None, ge=0, le=1)
    rotate: float | None = Field(None, ge=0, le=180)
    scale: NonNegativeFloat | None = None
    shift: NonNegativeFloat | None = None
    elastic: NonNegativeFloat | None = None
    gain: NonNegativeFloat | None = None
    offset: NonNegativeFloat | None = None
    gamma: NonNegativeFloat | None = None
    bias: NonNegativeFloat | None = None
    noise: NonNegativeFloat | None = None
    crop: float | None = Field(None, ge=0, lt=1)
    blur: NonNegativeFloat | None = None
    low_resolution: float | None = Field(None, ge=1)
    ghosting: NonNegativeFloat | None = None
    cutout: float | None = Field(None, ge=0, le=1)

    @property
    def amounts(self) -> dict[str, float]:
        """The amounts that are not as the strength has them."""
        names = [name for name in type(self).model_fields if name != "strength"]
        return {n: value for n in names if (value := getattr(self, n)) is not None}

    def __str__(self) -> str:
        changes = ", ".join(f"{name} {value:g}" for name, value in self.amounts.items())
        return f"{self.strength} ({changes.replace('_', ' ')})" if changes else self.strength

    @model_validator(mode="before")
    @classmethod
    def _strength_alone(cls, values: Any) -> Any:
        return {"strength": values} if isinstance(values, str) else values

    @model_serializer(mode="wrap")
    def _short(self, _: SerializerFunctionWrapHandler) -> str | dict[str, Any]:
        amounts = self.amounts
        return {"strength": self.strength, **amounts} if amounts else self.strength


class TrainRecipe(Section):
    """The optimisation of one fold."""

    model_config = ConfigDict(allow_inf_nan=False)

    epochs: PositiveInt = 60
    batch_size: PositiveInt = 8
    accumulate: PositiveInt = 1
    optimiser: Literal["adamw", "adam-amsgrad", "sgd-nesterov"] = "adamw"
    momentum: float = Field(0.9, gt=0, lt=1)
    sam: PositiveFloat | None = None
    lr: PositiveFloat = 3e-4
    layer_decay: float | None = Field(None, gt=0, le=1)
    weight_decay: NonNegativeFloat = 0.01
    warmup: float = Field(0.1, ge=0, lt=1)
    schedule: Literal["cosine", "constant", "polynomial", "one-cycle"] = "cosine"
    power: PositiveFloat = 0.9
    clip: PositiveFloat | None = 1.0
    ema: float | None = Field(None, gt=0, lt=1)
    average_last: int | None = Field(None, ge=2)
    augment: AugmentRecipe = AugmentRecipe()
    mixup: float = Field(0.0, ge=0, le=1)
    cutmix: float = Field(0.0, ge=0, le=1)
    mix_alpha: PositiveFloat = 1.0
    drop_path: float | None = Field(None, ge=0, lt=1)
    balance: Literal["none", "weights", "sampler"] = "none"
    validation: float = Field(0.15, gt=0, lt=0.5)
    keep: Literal["best", "last"] = "best"
    patience: PositiveInt | None = None
    flip_average: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def mixes(self) -> bool:
        """Whether scans are mixed with others of their batch."""
        return self.mixup + self.cutmix > 0

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        for problem in (*self._idle(), *self._impossible()):
            raise ValueError(problem)
        return self

    def _idle(self) -> Iterator[str]:
        """Options that would change nothing as the others are."""
        fields = type(self).model_fields
        for name, owner, is_used in (
            ("momentum", "optimiser: sgd-nesterov", self.optimiser == "sgd-nesterov"),
            ("power", "schedule: polynomial", self.schedule == "polynomial"),
            ("mix_alpha", "mixup or cutmix", self.mixes),
        ):
            if not is_used and getattr(self, name) != fields[name].default:
                yield f"{name} belongs to {owner}, which is not set; leave {name} out or set that"

    def _impossible(self) -> Iterator[str]:
        """Options that cannot be right together."""
        if self.mixup + self.cutmix > 1:
            yield (
                f"mixup {self.mixup:g} and cutmix {self.cutmix:g} are shares of the scans, of"
                " which each is mixed in one way: they may be 1 together at most"
            )
        if self.mixes and self.batch_size < 2:
            yield "mixup and cutmix mix scans of one batch: set batch_size to 2 or more"
        if self.schedule == "one-cycle" and not self.warmup:
            yield "one-cycle rises over the warm-up: set warmup above 0, such as 0.3"
        if self.average_last is None:
            return
        if self.average_last > self.epochs:
            yield f"average_last {self.average_last} is more than there are epochs ({self.epochs})"
        if self.ema is not None:
            yield "average_last and ema are two averages of the weights: set one of them"
        if self.patience is not None:
            yield "with patience nobody knows which epochs are the last: leave average_last out"
        if self.keep == "best":
            yield "average_last keeps the average, not the best epoch: set 'keep: last'"
