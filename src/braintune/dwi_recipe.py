"""The recipe's section on diffusion series, typed."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from braintune.heads_recipe import Registration
from braintune.section import Section

MapName = Literal["fa", "md", "ad", "rd"]


class DwiRecipe(Section):
    """How a diffusion series becomes maps of its tensor (see `braintune.imaging.dwi`).

    Attributes:
        maps: What the store's channels hold, in this order: fractional anisotropy; mean, axial and
            radial diffusivity in 10⁻³ mm²/s.
        shells: The b-values, in s/mm², that the tensor is fitted to, beside b = 0; by default all
            up to ``max_b``.
        max_b: Largest b-value of the fit where ``shells`` names none. Above about 1500 s/mm² the
            signal's logarithm bends away from the tensor's straight line, which makes mean
            diffusivity too small (Jensen and Helpern, NMR Biomed. 23, 2010).
        b0_threshold: Volumes up to this b-value are b = 0.
        shell_tolerance: b-values that follow each other within this distance are one shell.
        gradients: ``"check"`` refuses series whose fibres hang together clearly better with other
            signs or another order of the bvec's axes; ``"trust"`` takes the bvec as it is.
        registration: Degrees of freedom to the MNI152 template; ``"none"`` leaves the brain where
            it is.
    """

    maps: tuple[MapName, ...] = Field(("fa", "md"), min_length=1)
    shells: tuple[PositiveFloat, ...] | None = Field(None, min_length=1)
    max_b: PositiveFloat = 1500.0
    b0_threshold: NonNegativeFloat = 50.0
    shell_tolerance: PositiveFloat = 100.0
    gradients: Literal["check", "trust"] = "check"
    registration: Registration = "affine-9"

    @field_validator("maps")
    @classmethod
    def _each_once(cls, maps: tuple[MapName, ...]) -> tuple[MapName, ...]:
        if len(set(maps)) < len(maps):
            msg = "each map may be named once"
            raise ValueError(msg)
        return maps

    @model_validator(mode="after")
    def _shells_are_weighted(self) -> Self:
        if self.shells is not None and min(self.shells) <= self.b0_threshold:
            msg = (
                f"a shell lies above b0_threshold {self.b0_threshold:g}; volumes up to it are"
                " b = 0, which every fit has"
            )
            raise ValueError(msg)
        return self
