"""How an error falls with the number of subjects learnt from: a power law above a floor.

The error is ``a * n ** -b + c``: it falls ever more slowly towards a floor c that no number of
subjects takes away (Hestness et al., 2017; Rosenfeld et al., ICLR 2020). For a given b the law is
linear in a and c, so that b is searched and the others are solved for.
"""

from dataclasses import dataclass

import numpy as np

from braintune.errors import InputError
from braintune.tasks.task import FloatArray

_SLOPES = np.geomspace(0.02, 3.0, 150)
# A floor needs one size more than the other two numbers of the law.
_FEWEST, _FEWEST_FOR_A_FLOOR = 3, 4


@dataclass(frozen=True)
class PowerLaws:
    """Laws of one or many curves, of shape (curves,) each.

    Attributes:
        scale: The error of one subject above the floor.
        slope: How fast it falls.
        floor: What is left.
    """

    scale: FloatArray
    slope: FloatArray
    floor: FloatArray

    def at(self, sizes: FloatArray) -> FloatArray:
        """The errors for some numbers of subjects, of shape (curves, sizes)."""
        rise = sizes[None, :] ** -self.slope[:, None]
        return np.asarray(self.scale[:, None] * rise + self.floor[:, None])

    def needed(self, error: float) -> FloatArray:
        """The subjects that an error takes, infinite where it is at or below the floor."""
        above = error - self.floor
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            needed = (self.scale / above) ** (1 / self.slope)
        return np.where(above > 0, needed, np.inf)


def fit_power_laws(sizes: FloatArray, errors: FloatArray) -> PowerLaws:
    """Fit a law to each curve by least squares, its scale and floor at or above zero.

    Args:
        sizes: Numbers of subjects, of shape (sizes,); three at least, four for a floor above zero.
        errors: Of shape (curves, sizes).

    Raises:
        InputError: If there are too few sizes.

    Example:
        >>> sizes = np.array([10.0, 20, 40, 80, 160])
        >>> law = fit_power_laws(sizes, (9 * sizes**-0.5 + 2)[None])
        >>> law.slope.round(2).tolist(), law.floor.round(1).tolist(), law.needed(2.5).round(-1)
        ([0.5], [2.0], array([320.]))
    """
    distinct = len(np.unique(sizes))
    if distinct < _FEWEST:
        msg = (
            f"A learning curve needs {_FEWEST} numbers of subjects or more, not {distinct}: give"
            " more 'fractions'."
        )
        raise InputError(msg)
    with_floor = distinct >= _FEWEST_FOR_A_FLOOR
    best = PowerLaws(*(np.full(len(errors), np.nan) for _ in range(3)))
    least = np.full(len(errors), np.inf)
    for slope in _finer(sizes, errors, with_floor):
        scale, floor, loss = _solved(sizes**-slope, errors, with_floor)
        better = loss < least
        least[better] = loss[better]
        best.scale[better], best.slope[better], best.floor[better] = (
            scale[better],
            slope,
            floor[better],
        )
    return best


def _finer(sizes: FloatArray, errors: FloatArray, with_floor: bool) -> FloatArray:
    """The slopes to try: all of them, and finer ones around the best of the mean curve."""
    mean = errors.mean(axis=0, keepdims=True)
    losses = [_solved(sizes**-slope, mean, with_floor)[2][0] for slope in _SLOPES]
    best = int(np.argmin(losses))
    around = _SLOPES[max(0, best - 1)], _SLOPES[min(len(_SLOPES) - 1, best + 1)]
    return np.concatenate([_SLOPES, np.linspace(*around, 40)])


def _solved(
    rise: FloatArray, errors: FloatArray, with_floor: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scale, floor and squared error of every curve for one slope."""
    about = rise - rise.mean()
    scale = (errors - errors.mean(axis=1, keepdims=True)) @ about / (about @ about)
    floor = errors.mean(axis=1) - scale * rise.mean()
    through_zero = errors @ rise / (rise @ rise)
    no_floor = (floor < 0) | (not with_floor)
    scale, floor = np.where(no_floor, through_zero, scale), np.where(no_floor, 0.0, floor)
    flat = scale < 0
    scale, floor = np.where(flat, 0.0, scale), np.where(flat, errors.mean(axis=1), floor)
    loss = ((scale[:, None] * rise + floor[:, None] - errors) ** 2).sum(axis=1)
    return scale, floor, loss
