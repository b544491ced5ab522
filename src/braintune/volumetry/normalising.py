"""Taking the size of the head out of volumes, by a method that is always named.

``proportion`` divides by the intracranial volume. ``residual`` takes away the part of a volume that
a line over intracranial volume explains, and leaves millimetres (Buckner et al., NeuroImage 23,
2004): volume − slope · (ICV − mean ICV). The line is fitted on reference rows; where a model is
tested, these are training rows.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from braintune.errors import InputError

FloatArray = npt.NDArray[np.float64]
_FEWEST = 3


@dataclass(frozen=True)
class Residual:
    """Lines of volumes over intracranial volume.

    Attributes:
        slopes: mm³ of each structure for each mm³ of ICV, of shape (structures,).
        mean_icv: Mean ICV of the reference rows in mm³.
        rows: How many reference rows there were.
    """

    slopes: FloatArray
    mean_icv: float
    rows: int

    @classmethod
    def fit(cls, volumes: FloatArray, icv: FloatArray) -> Self:
        """Fit the lines; a value that is missing is left out of its structure's line alone.

        Args:
            volumes: Of shape (rows, structures), in mm³.
            icv: Of shape (rows,), in mm³.

        Raises:
            InputError: If fewer than three rows have an ICV, or all have the same.

        Example:
            >>> icv = np.array([1.0e6, 1.2e6, 1.4e6, 1.6e6])
            >>> line = Residual.fit((0.002 * icv + 500)[:, None], icv)
            >>> [round(float(v), 6) for v in line.apply((0.002 * icv + 500)[:, None], icv)[:, 0]]
            [3100.0, 3100.0, 3100.0, 3100.0]
        """
        known = np.isfinite(icv)
        if known.sum() < _FEWEST or np.ptp(icv[known]) == 0:
            msg = (
                f"Residual normalisation needs {_FEWEST} reference rows with different intracranial"
                f" volumes; there are {len(np.unique(icv[known]))}. Use proportion or none."
            )
            raise InputError(msg)
        slopes = [_slope(icv[known], column[known]) for column in volumes.T]
        return cls(np.array(slopes), float(icv[known].mean()), int(known.sum()))

    def apply(self, volumes: FloatArray, icv: FloatArray) -> FloatArray:
        """Volumes as if every head had the reference rows' mean size, NaN without an ICV."""
        return volumes - self.slopes * (icv - self.mean_icv)[:, None]


def proportion(volumes: FloatArray, icv: FloatArray) -> FloatArray:
    """Shares of the intracranial volume, NaN where it is not above 0."""
    return volumes / np.where(icv > 0, icv, np.nan)[:, None]


def _slope(x: FloatArray, y: FloatArray) -> float:
    """The least-squares slope over the rows that have both; 0 where they tell none."""
    known = np.isfinite(y)
    if known.sum() < 2 or np.ptp(x[known]) == 0:
        return 0.0
    # Scaled to unit spread, since mm³ of heads are millions.
    centred = x[known] - x[known].mean()
    return float((centred * (y[known] - y[known].mean())).sum() / (centred**2).sum())
