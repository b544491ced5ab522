"""What looks wrong with a volume: its shape, its place, its side, or how rare it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import HuberRegressor

from braintune.cohort.labels import looks_numeric, numbers

FloatArray = npt.NDArray[np.float64]
# Of a normal distribution, the standard deviation for each median absolute deviation.
_SD_OF_MAD = 1.4826


@dataclass(frozen=True)
class QualityLimits:
    """From where on a volume is flagged.

    Attributes:
        outside_largest: Share of voxels outside the largest component.
        side_ratio: The larger side for each unit of the smaller one.
        z: Robust standard deviations from what is usual for age and sex (3.5 after Iglewicz and
            Hoaglin, How to Detect and Handle Outliers, 1993).
        uncertainty: Mean entropy in bits; 0.5 is that of a probability of 0.89.
        fewest_rows: Below as many scans nothing is called usual, and z is not computed.
    """

    outside_largest: float = 0.05
    side_ratio: float = 1.5
    z: float = 3.5
    uncertainty: float = 0.5
    fewest_rows: int = 10


def robust_z(values: FloatArray, design: FloatArray, fewest: int = 10) -> FloatArray:
    """How far values lie from a robust line, in robust standard deviations.

    The line is Huber's (scikit-learn), so that outliers do not draw it to them; the deviation is
    1.4826 times the median absolute residual.

    Args:
        values: Of shape (rows,), NaN where unknown.
        design: What the line depends on, of shape (rows, columns), of no columns for the median.
        fewest: Below as many known rows all is NaN.

    Returns:
        Of shape (rows,), NaN where a value or its design is.

    Example:
        >>> values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 90])
        >>> robust_z(values, np.zeros((10, 0))).round(1).tolist()[-2:]
        [0.9, 22.8]
    """
    z = np.full(len(values), np.nan)
    known = np.isfinite(values) & np.isfinite(design).all(axis=1)
    if known.sum() < fewest:
        return z
    y, x = values[known], design[known]
    x = x[:, x.std(axis=0) > 0]
    residual = y - np.median(y)
    spread = float(np.median(np.abs(residual)))
    if x.shape[1] and spread > 0:
        scaled = (x - x.mean(axis=0)) / x.std(axis=0)
        line = HuberRegressor(max_iter=1000).fit(scaled, residual / spread)
        residual = residual - spread * line.predict(scaled)
        residual = residual - np.median(residual)
    deviation = _SD_OF_MAD * float(np.median(np.abs(residual)))
    z[known] = residual / deviation if deviation > 0 else 0.0
    return z


def age_and_sex(table: pd.DataFrame) -> tuple[FloatArray, list[str]]:
    """What volumes usually depend on, as far as a table has it, and its names.

    Returns:
        Of shape (rows, columns), NaN where a value is missing.
    """
    columns, names = [], []
    if "age" in table and looks_numeric(table["age"]):
        columns.append(numbers(table["age"]).to_numpy())
        names.append("age")
    if "sex" in table and len(kinds := sorted(table["sex"].dropna().unique())) > 1:
        sexes = table["sex"].astype("string")
        for value in kinds[1:]:
            is_value = (
                (sexes == value).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
            )
            columns.append(is_value)
        names.append("sex")
    if not columns:
        return np.zeros((len(table), 0)), []
    return np.stack(columns, axis=1), names


def flags_of(row: Mapping[str, Any], limits: QualityLimits) -> list[str]:
    """What is wrong with one structure of one scan, a few words each.

    Args:
        row: Its voxels, outside_largest, border_voxels, side_ratio, z and uncertainty.
        limits: From where on something is wrong; what is NaN is not.
    """
    if row["voxels"] == 0:
        return ["absent"]
    found = {
        "disconnected": row["outside_largest"] > limits.outside_largest,
        "at border": row["border_voxels"] > 0,
        "sides differ": row["side_ratio"] > limits.side_ratio,
        "outlier": abs(row["z"]) > limits.z,
        "uncertain": row["uncertainty"] > limits.uncertainty,
    }
    return [name for name, is_so in found.items() if is_so]
