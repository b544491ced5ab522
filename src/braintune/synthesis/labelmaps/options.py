"""What can be set of the label-map generator, typed, as a section of a recipe."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from braintune.recipe import Section
from braintune.synthesis.labelmaps.tissues import Tissue

_LARGEST_AXIS = 512
# A change of volume by more than this cannot be told from folding at the size of a voxel.
_LEAST, _MOST = -0.8, 4.0

Share = Annotated[float, Field(gt=_LEAST, lt=_MOST)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_list), Field(min_length=1)]


class PlantedEffect(Section):
    """What changes the volume of one structure, each as a share of it: 0.3 is +30 %.

    The changes multiply. Ages and severities go from 0 to 1.

    Attributes:
        change: In every scan.
        age: From the youngest to the oldest.
        disease: From none to the most severe.
        male: Of a male against a female.
        between: Standard deviation between people, by chance.
    """

    change: Share = 0.0
    age: Share = 0.0
    disease: Share = 0.0
    male: Share = 0.0
    between: float = Field(0.0, ge=0, lt=0.5)


class GeometryOptions(Section):
    """How far anatomies may be moved and bent besides what is planted.

    Attributes:
        rotation: Degrees about each axis, at most.
        shift: Millimetres along each axis, at most.
        scale: Share of the size along each axis, at most; all three together keep the volume.
        shear: Slope of each shear, at most.
        deformation: Root mean square of the random velocities, in millimetres.
        smoothness: Distance, in millimetres, over which the velocities vary.
        flip: Probability of swapping left and right, where every sided label has its partner.
    """

    rotation: float = Field(8.0, ge=0, le=180)
    shift: NonNegativeFloat = 4.0
    scale: float = Field(0.05, ge=0, lt=0.5)
    shear: float = Field(0.02, ge=0, lt=0.5)
    deformation: float = Field(2.0, ge=0, le=6)
    smoothness: float = Field(36.0, ge=16)
    flip: float = Field(0.5, ge=0, le=1)


class ScannerOptions(Section):
    """What a scanner does to images; every amount is the most that is drawn.

    Attributes:
        bias: Standard deviation of the log of the bias field.
        noise: Standard deviation of the noise, as a share of white matter's intensity.
        blur: Full width at half maximum of the blur, in voxels.
        thick: How many times thicker than a voxel slices may be.
        thick_share: Share of scans with thick slices, along one axis.
        ghosting: How much weaker every n-th line of k-space may be, as a share.
        ghosting_share: Share of scans with ghosts.
        gamma: Log of the exponent that bends intensities.
    """

    bias: float = Field(0.25, ge=0, le=2)
    noise: float = Field(0.06, ge=0, le=1)
    blur: float = Field(1.6, ge=0, le=8)
    thick: float = Field(2.5, ge=1, le=8)
    thick_share: float = Field(0.25, ge=0, le=1)
    ghosting: float = Field(0.3, ge=0, lt=1)
    ghosting_share: float = Field(0.2, ge=0, le=1)
    gamma: float = Field(0.2, ge=0, le=2)


class PeopleOptions(Section):
    """What is known of the people whose anatomies these are, from ``participants.tsv``.

    Their own age and sex are then where the planted effects start from, so the age of a generated
    scan is that of the anatomy, and no chance of the draw.

    Attributes:
        age: The column with the age in years.
        sex: The column with the sex, beginning with f or m.
        where: Which rows are taken, such as ``{split: train}``.
        years: The ages that count as 0 and 1.
        reach: How far the generated age may be from the anatomy's own, as a share of that range.
    """

    age: str | None = None
    sex: str | None = None
    where: dict[str, str] = Field(default_factory=dict)
    years: tuple[float, float] = (20.0, 85.0)
    reach: float = Field(1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.years[0] < self.years[1]:
            msg = f"years must be the youngest and the oldest age, not {list(self.years)}"
            raise ValueError(msg)
        return self


class GeneratorOptions(Section):
    """Which scans are made.

    Attributes:
        maps: Label maps, or folders of them (``*_dseg.nii.gz``, or any NIfTI where there is none).
        tissues: Kinds of tissue by label name, where the numbering and the name do not tell them.
        spacing: Voxel size of the scans, in millimetres.
        shape: Voxels of the scans along right, anterior and superior.
        contrast: Intensities like those of T1-weighted scans, or any at all.
        brain: Without the skull, or the whole head.
        intensity: As the recipe's preparation scales them; ``none`` leaves white matter near 1.
        effects: Planted effects by structure; None for the usual ones of those that there are.
        diseased: Share of scans with a disease, of random severity.
        people: What is known of the people; None plants all traits upon every anatomy.
        seed: The same seed gives the same scans.
    """

    maps: Paths
    tissues: dict[str, Tissue] = Field(default_factory=dict)
    spacing: PositiveFloat = Field(2.0, ge=0.5, le=16)
    shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (80, 96, 80)
    contrast: Literal["t1", "any"] = "t1"
    brain: Literal["stripped", "head"] = "stripped"
    intensity: Literal["none", "zscore", "minmax"] = "none"
    geometry: GeometryOptions = GeometryOptions()
    scanner: ScannerOptions = ScannerOptions()
    effects: dict[str, PlantedEffect] | None = None
    diseased: float = Field(0.5, ge=0, le=1)
    people: PeopleOptions | None = None
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not 8 <= min(self.shape) <= max(self.shape) <= _LARGEST_AXIS:
            msg = f"shape must have from 8 to {_LARGEST_AXIS} voxels along each axis"
            raise ValueError(msg)
        return self
