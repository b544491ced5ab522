"""Intensities of tissues: like those of T1-weighted scans, or any at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from braintune.synthesis.labelmaps.numbering import Label
from braintune.synthesis.labelmaps.tissues import T1_POSITION, Tissue

# Positions on the grey scale of T1 (see `tissues`), and the intensities drawn for them with white
# matter at 1.
_KNOTS = (-1.0, 0.0, 1.0, 2.0, 3.0)
_T1_FLUID, _T1_CORTEX, _T1_FAT = (0.18, 0.38), (0.56, 0.76), (1.05, 1.5)
# How far a tissue may be from its position, so that tissues a step apart keep their order.
_T1_JITTER = 0.08
_T1_TEXTURE = (0.02, 0.06)
# Means from the whole scale, as in Billot et al. (Medical Image Analysis 86, 2023); standard
# deviations up to 35 of 255.
_ANY_TEXTURE = (0.0, 35 / 255)
_DARK_BACKGROUND = 0.5

FloatTable = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Contrast:
    """Intensities of labels.

    Attributes:
        mean: Of each label in the table.
        spread: Standard deviation within each label.
    """

    mean: FloatTable
    spread: FloatTable


def draw_contrast(
    chance: np.random.Generator, labels: Sequence[Label], kind: Literal["t1", "any"]
) -> Contrast:
    """Draw intensities; labels of one tissue have the same, one without a tissue has its own.

    Args:
        chance: Where they are drawn from.
        labels: The table of labels.
        kind: Like T1-weighted scans, where fluid is darker than cortex and cortex than white
            matter, which is 1; or any from 0 to 1.
    """
    tissues = list(Tissue)
    rows = [None if label.tissue is None else tissues.index(label.tissue) for label in labels]
    draw = _draw_t1 if kind == "t1" else _draw_any
    mean, spread = draw(chance, len(tissues) + sum(row is None for row in rows))
    own = iter(range(len(tissues), len(mean)))
    chosen = [next(own) if row is None else row for row in rows]
    return Contrast(mean[chosen].astype(np.float32), spread[chosen].astype(np.float32))


def _draw_t1(
    chance: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    scale = (
        0.0,
        chance.uniform(*_T1_FLUID),
        chance.uniform(*_T1_CORTEX),
        1.0,
        chance.uniform(*_T1_FAT),
    )
    known = np.array([T1_POSITION[tissue] for tissue in Tissue])
    jitter = chance.uniform(-_T1_JITTER, _T1_JITTER, len(known))
    fixed = [list(Tissue).index(tissue) for tissue in (Tissue.BACKGROUND, Tissue.WHITE)]
    jitter[fixed] = 0
    unknown = chance.uniform(0, 2, count - len(known))
    mean = np.interp(np.concatenate([known + jitter, unknown]), _KNOTS, scale)
    spread = chance.uniform(*_T1_TEXTURE, count)
    spread[list(Tissue).index(Tissue.BACKGROUND)] = 0
    return mean, spread


def _draw_any(
    chance: np.random.Generator, count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = chance.uniform(0, 1, count)
    spread = chance.uniform(*_ANY_TEXTURE, count)
    background = list(Tissue).index(Tissue.BACKGROUND)
    if chance.random() < _DARK_BACKGROUND:
        mean[background] = spread[background] = 0
    return mean, spread
