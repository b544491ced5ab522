"""What preparing a raw head gives: all that brings answers back to the scan's own space."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from braintune.imaging.grid import Grid
from braintune.imaging.nifti import Affine, FloatArray, Volume

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """What tells whether a head was prepared right; see `braintune.imaging.heads.limits`.

    Attributes:
        brain_ml: Volume of the brain mask in the scan's own space, in millilitres.
        overlap: Dice coefficient of the registered mask with the template's.
        similarity: Correlation with the template within its brain, from -1 to 1.
        border: Share of the mask's surface voxels that lie on the faces of the scan's grid.
        scales: Stretch from the scan to the template along its three principal directions.
        flags: What is doubtful, in words; empty if nothing is.
    """

    brain_ml: float
    overlap: float
    similarity: float
    border: float
    scales: tuple[float, float, float]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegisteredHead:
    """A head in its own space and in the template's.

    Attributes:
        native: The scan, reoriented to RAS and with its bias field taken away, in its own space.
        mask: Its brain, on the grid of ``native``.
        to_template: From the scan's world millimetres to the template's, of shape (4, 4).
        grid: Where the prepared voxels lie, in the template's millimetres.
        image: The scan on ``grid``, by one interpolation; not yet scaled.
        brain: The brain mask on ``grid``.
        stripped: Whether the scan came without skull.
        evidence: What tells whether all of it is right.
        seconds: What each step took.
    """

    native: Volume
    mask: Mask
    to_template: Affine
    grid: Grid
    image: FloatArray
    brain: Mask
    stripped: bool
    evidence: Evidence
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def moved(self) -> Affine:
        """From voxels of ``native`` to the template's millimetres, of shape (4, 4)."""
        return np.asarray(self.to_template @ self.native.affine)
