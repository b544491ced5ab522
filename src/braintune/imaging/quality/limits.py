"""Which measures look wrong: beyond what a brain can be, or far from the rest of the cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from braintune.imaging.quality.signal import spread

# Robust standard deviations from the median (Iglewicz and Hoaglin, How to Detect and Handle
# Outliers, 1993).
FAR = 3.5
# Below as many scans nothing is called usual.
FEWEST_SCANS = 10


@dataclass(frozen=True)
class Limit:
    """From where on a measure is flagged.

    Attributes:
        text: What it measures, for tables and pages.
        unit: Its unit, empty for a ratio.
        bad: Which end is bad.
        low: Flagged below, whatever the cohort is like.
        high: Flagged above, whatever the cohort is like.
        least: A difference from the median that is too small to matter, however alike scans are.
        relative: Whether ``least`` is a share of the median.
        because: What a value beyond the fixed limits mostly means.
    """

    text: str
    unit: str
    bad: Literal["low", "high", "both"]
    low: float = -np.inf
    high: float = np.inf
    least: float = 0.0
    relative: bool = False
    because: str = ""


LIMITS: dict[str, Limit] = {
    "snr": Limit("signal to noise in white matter", "", "low", least=0.1, relative=True),
    "cnr": Limit(
        "contrast of grey and white matter for their noise",
        "",
        "low",
        low=0.3,
        least=0.1,
        relative=True,
        because="grey and white matter can't be told apart: another contrast, or misregistered",
    ),
    "fber": Limit("energy in the head for each in the air", "", "low", least=0.5, relative=True),
    "brain_ml": Limit(
        "volume of the brain mask",
        "ml",
        "both",
        low=600,
        high=2200,
        least=0.1,
        relative=True,
        because="no adult brain has this volume",
    ),
    "template_dice": Limit(
        "overlap of mask and template's mask",
        "",
        "low",
        low=0.85,
        least=0.02,
        because="the mask or the registration failed",
    ),
    "similarity": Limit(
        "correlation with the template",
        "",
        "low",
        low=0.35,
        least=0.05,
        because="the registration failed, or the scan is of another contrast",
    ),
    "border_cm2": Limit(
        "brain mask on the border of the field of view",
        "cm²",
        "high",
        high=2.0,
        because="the field of view cuts the brain off, or the mask leaks",
    ),
}


@dataclass(frozen=True)
class Flag:
    """One thing that looks wrong with a scan.

    Attributes:
        measure: Which measure.
        reason: A sentence with the value and what it was compared with.
    """

    measure: str
    reason: str


def flag_cohort(rows: Sequence[Mapping[str, float]]) -> list[list[Flag]]:
    """What looks wrong with each scan of a cohort.

    Args:
        rows: Measures by name, a mapping a scan; NaN where one is not known.

    Returns:
        A list for each scan, empty where nothing looks wrong.
    """
    flags: list[list[Flag]] = [[] for _ in rows]
    for name, limit in LIMITS.items():
        values = np.array([row[name] for row in rows], dtype=np.float64)
        usual = _usual(values, limit)
        for scan, value in enumerate(values):
            if (reason := _reason(float(value), limit, usual)) is not None:
                flags[scan].append(Flag(name, reason))
    return flags


def _usual(values: np.ndarray, limit: Limit) -> tuple[float, float] | None:
    """Median and distance from it that is far, or nothing for a small cohort."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST_SCANS:
        return None
    median = float(np.median(known))
    least = limit.least * abs(median) if limit.relative else limit.least
    return median, max(FAR * spread(known), least)


def _reason(value: float, limit: Limit, usual: tuple[float, float] | None) -> str | None:
    """Why a value looks wrong, or nothing."""
    if np.isnan(value):
        return None
    shown = f"{limit.text} is {_number(value)}{' ' + limit.unit if limit.unit else ''}"
    if value < limit.low:
        return f"{shown}, below {limit.low:g}: {limit.because}"
    if value > limit.high:
        return f"{shown}, above {limit.high:g}: {limit.because}"
    # What has a fixed limit alone, such as an area that is mostly 0, has no usual spread.
    if usual is None or limit.least == 0:
        return None
    median, far = usual
    is_far = (limit.bad != "high" and value < median - far) or (
        limit.bad != "low" and value > median + far
    )
    if not is_far:
        return None
    return f"{shown}, far from this cohort's median of {_number(median)}"


def _number(value: float) -> str:
    """A number as people read it.

    Example:
        >>> _number(1432.18), _number(0.91234), _number(12.345)
        ('1432', '0.912', '12.3')
    """
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}"
