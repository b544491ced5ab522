"""Whether a scan is like those that a run was trained on.

A network answers whatever it is shown. Two plain facts catch what most often goes wrong (another
contrast, a skull left on, another orientation, an atrophy beyond the training range): how well the
scan correlates with the mean training scan at low resolution, and how large its brain is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

_COARSE = (10, 12, 10)
# How many robust standard deviations beyond the training scans count as unlike them.
_REACH = 6.0
# A scanner that the fit has not seen may lower a correlation to this share of the usual one, a
# wrong orientation or contrast lowers it further.
_USUAL_SHARE = 0.8
# The least spreads assumed, so that very uniform training scans do not make every other unlike.
_LEAST_CORRELATION_SPREAD, _LEAST_VOLUME_SPREAD = 0.01, 0.04


@dataclass(frozen=True)
class Typicality:
    """What training scans look like.

    Attributes:
        mean: The mean training scan at low resolution, of shape (10, 12, 10).
        least_correlation: Scans that correlate less with it are unlike.
        volumes: Brain volumes, in millilitres, outside of which scans are unlike.
    """

    mean: npt.NDArray[np.float32]
    least_correlation: float
    volumes: tuple[float, float]

    def objections(self, image: npt.NDArray[np.float16], brain_ml: float) -> list[str]:
        """What makes a scan unlike the training scans; empty for one that is like them."""
        found = []
        correlation = _correlation(_coarse(image), self.mean)
        if not correlation >= self.least_correlation:
            found.append(
                f"looks unlike the training scans (correlation {correlation:.2f}, theirs is above"
                f" {self.least_correlation:.2f})"
            )
        low, high = self.volumes
        if not low <= brain_ml <= high:
            found.append(
                f"brain volume {brain_ml:.0f} mL is outside the training range"
                f" {low:.0f} to {high:.0f} mL"
            )
        return found

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "mean": [round(float(value), 4) for value in self.mean.ravel()],
            "least_correlation": self.least_correlation,
            "volumes": list(self.volumes),
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> "Typicality":
        """From plain values."""
        mean = np.array(state["mean"], dtype=np.float32).reshape(_COARSE)
        low, high = state["volumes"]
        return cls(mean, float(state["least_correlation"]), (float(low), float(high)))


def learn_typicality(
    images: Iterable[npt.NDArray[np.float16]], brain_ml: npt.NDArray[np.floating[Any]]
) -> Typicality:
    """Learn what the training scans look like."""
    coarse = np.stack([_coarse(image) for image in images])
    mean = coarse.mean(axis=0)
    correlations = np.array([_correlation(one, mean) for one in coarse])
    center, spread = _robust(correlations, _LEAST_CORRELATION_SPREAD)
    log_center, log_spread = _robust(np.log(brain_ml), _LEAST_VOLUME_SPREAD)
    return Typicality(
        mean=mean,
        least_correlation=float(
            min(correlations.min(), center - _REACH * spread, _USUAL_SHARE * center)
        ),
        volumes=(
            float(np.exp(log_center - _REACH * log_spread)),
            float(np.exp(log_center + _REACH * log_spread)),
        ),
    )


def _coarse(image: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    full = torch.from_numpy(image[:1].astype(np.float32))
    return np.asarray(F.adaptive_avg_pool3d(full, _COARSE)[0].numpy())


def _correlation(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _robust(values: npt.NDArray[np.floating[Any]], least: float) -> tuple[float, float]:
    """Median, and the standard deviation that the median absolute deviation tells."""
    center = float(np.median(values))
    return center, max(1.4826 * float(np.median(np.abs(values - center))), least)
