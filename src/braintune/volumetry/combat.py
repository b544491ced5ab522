"""ComBat: sites' shifts and scales taken out of numbers, learnt on some rows, applied to others.

The model of Johnson, Li and Rabinovic (Biostatistics 8, 2007), for imaging that of Fortin et al.
(NeuroImage 167, 2018): each feature is a mean, a line over what is kept, and for each site a shift
and a scale of the rest. Shifts and scales are shrunk to those that the site has in other features,
by empirical Bayes. neuroCombat applies its estimates to further rows with the mean of the old rows'
lines, so what should be kept is not; here each row has a line of its own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_STEPS, _CONVERGED = 1000, 1e-8
# With fewer rows a site has no scale of its own.
FEWEST_ROWS = 2


@dataclass(frozen=True)
class ComBat:
    """What was learnt.

    Attributes:
        sites: Names of the sites.
        mean: Of each feature over sites, of shape (features,).
        lines: Of each feature over what is kept, of shape (kept, features).
        scale: Standard deviation of each feature's rest, of shape (features,).
        shifts: Of each site, in such standard deviations, of shape (sites, features).
        spreads: Of each site, as a factor of them, of shape (sites, features).
    """

    sites: tuple[str, ...]
    mean: FloatArray
    lines: FloatArray
    scale: FloatArray
    shifts: FloatArray
    spreads: FloatArray

    @classmethod
    def fit(cls, values: FloatArray, site: npt.NDArray[np.object_], kept: FloatArray) -> "ComBat":
        """Learn from rows.

        Args:
            values: Of shape (rows, features), NaN where missing.
            site: Of each row; those of fewer than two rows get no estimate.
            kept: What must stay, such as age and sex, of shape (rows, kept), without gaps.
        """
        names, counts = np.unique(site.astype(str), return_counts=True)
        names = names[counts >= FEWEST_ROWS]
        rows = np.isin(site.astype(str), names)
        values, kept = values[rows], kept[rows]
        member = site[rows].astype(str)[:, None] == names
        count = values.shape[1]
        mean, scale = np.zeros(count), np.ones(count)
        lines = np.zeros((kept.shape[1], count))
        rest = np.full_like(values, np.nan)
        for feature in range(count):
            there = ~np.isnan(values[:, feature])
            if not there.any():
                continue
            design = np.hstack([member[there].astype(np.float64), kept[there]])
            y = values[there, feature]
            # The least squares of least norm: a site without a value, or kept columns that say the
            # same, have no estimate of their own.
            fitted, *_ = np.linalg.lstsq(design, y, rcond=None)
            shares = member[there].mean(axis=0)
            mean[feature] = shares @ fitted[: len(names)]
            lines[:, feature] = fitted[len(names) :]
            scale[feature] = max(float((y - design @ fitted).std()), 1e-12)
            rest[there, feature] = (y - mean[feature] - kept[there] @ lines[:, feature]) / scale[
                feature
            ]
        found = [_site(rest[member[:, number]]) for number in range(len(names))]
        shifts = np.array([shift for shift, _ in found]).reshape(len(names), count)
        spreads = np.array([spread for _, spread in found]).reshape(len(names), count)
        return cls(tuple(names.tolist()), mean, lines, scale, shifts, np.sqrt(spreads))

    def apply(
        self, values: FloatArray, site: npt.NDArray[np.object_], kept: FloatArray
    ) -> FloatArray:
        """Take the sites out of rows, by what was learnt; nothing is learnt from these rows.

        Args:
            values: Of shape (rows, features), NaN where missing.
            site: Of each row; an unknown one is taken for a site without shift and scale.
            kept: What must stay, of shape (rows, kept), without gaps.
        """
        line = self.mean + kept @ self.lines
        rest = (values - line) / self.scale
        place = {name: number for number, name in enumerate(self.sites)}
        for name in np.unique(site.astype(str)):
            if name in place:
                rows, number = site.astype(str) == name, place[name]
                rest[rows] = (rest[rows] - self.shifts[number]) / self.spreads[number]
        return rest * self.scale + line


def _site(rest: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The shrunken shift and variance of each feature at one site, of shape (features,) each.

    The shifts have a normal prior over features, the variances an inverse gamma one, whose moments
    are those of the site's own estimates. Each is the other's mean given the data, until neither
    moves.
    """
    count = (~np.isnan(rest)).sum(axis=0)
    known = count >= FEWEST_ROWS
    shift, variance = np.zeros(rest.shape[1]), np.ones(rest.shape[1])
    if not known.any():
        return shift, variance
    part, n = rest[:, known], count[known]
    raw = np.nanmean(part, axis=0)
    raw_variance = np.nanvar(part, axis=0, ddof=1)
    raw_variance[raw_variance == 0] = 1.0
    if len(raw) < 2:
        # One feature has no others to be shrunk to.
        shift[known], variance[known] = raw, raw_variance
        return shift, variance
    mean, spread = raw.mean(), raw.var(ddof=1)
    middle, width = raw_variance.mean(), max(raw_variance.var(ddof=1), 1e-12)
    a, b = (2 * width + middle**2) / width, (middle * width + middle**3) / width
    now, now_variance = raw, raw_variance
    for _ in range(_STEPS):
        new = (spread * n * raw + now_variance * mean) / (spread * n + now_variance)
        squares = np.nansum((part - new) ** 2, axis=0)
        new_variance = (0.5 * squares + b) / (n / 2 + a - 1)
        moved = max(np.abs(new - now).max(), np.abs(new_variance - now_variance).max())
        now, now_variance = new, new_variance
        if moved < _CONVERGED:
            break
    shift[known], variance[known] = now, now_variance
    return shift, variance
