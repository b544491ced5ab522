"""One row a scan and structure: all that its quality is judged by, and the flags."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.volumetry.measured import MapMeasure
from braintune.volumetry.measuring import Region
from braintune.volumetry.quality import QualityLimits, flags_of, robust_z
from braintune.volumetry.schemes import Scheme
from braintune.volumetry.structures import Structure, pairs

FloatArray = npt.NDArray[np.float64]


def asymmetries(volumes: pd.DataFrame, structures: dict[str, Structure]) -> pd.DataFrame:
    """(left − right) / (left + right) of each structure with two sides, from −1 to 1.

    Args:
        volumes: One column a structure, in mm³.
        structures: What the columns are.

    Returns:
        One column a pair, named by what both sides are called; NaN where both are 0.
    """
    columns = {}
    for base, (left, right) in pairs(structures.values()).items():
        total = volumes[left.key] + volumes[right.key]
        columns[base] = (volumes[left.key] - volumes[right.key]) / total.where(total > 0)
    return pd.DataFrame(columns, index=volumes.index)


def grade(
    measures: Sequence[MapMeasure],
    schemes: Sequence[Scheme],
    judged: pd.DataFrame,
    design: FloatArray,
    limits: QualityLimits,
) -> pd.DataFrame:
    """Judge every structure of every scan.

    Args:
        measures: What the maps gave.
        schemes: What their labels are.
        judged: The volumes that outliers are looked for in, one row a scan, one column a structure.
        design: Age and sex, of shape (scans, columns).
        limits: From where on a volume is flagged.
    """
    z = {key: robust_z(judged[key].to_numpy(), design, limits.fewest_rows) for key in judged}
    rows = []
    for number, (measure, scheme) in enumerate(zip(measures, schemes, strict=True)):
        ratios = _ratios(measure, scheme)
        for value, structure in scheme.items():
            region = measure.regions.get(value, _nothing(value))
            rows.append(
                _row(measure, structure, region)
                | {
                    "side_ratio": ratios.get(structure.base, float("nan")),
                    "z": float(z[structure.key][number]),
                }
            )
    for row in rows:
        row["flags"] = ", ".join(flags_of(row, limits))
    return pd.DataFrame(rows)


def _nothing(value: int) -> Region:
    return Region(value, 0, float("nan"), 0.0, 0, float("nan"))


def _row(measure: MapMeasure, structure: Structure, region: Region) -> dict[str, Any]:
    return {
        "participant_id": measure.scan.participant_id,
        "session_id": measure.scan.session_id,
        "scan_id": measure.scan.scan_id,
        "structure": structure.key,
        "label": structure.value,
        "name": structure.name,
        "voxels": region.voxels,
        "outside_largest": region.outside_largest,
        "border_voxels": region.at_border,
        "uncertainty": region.uncertainty,
    }


def _ratios(measure: MapMeasure, scheme: Scheme) -> dict[str, float]:
    """The larger side for each unit of the smaller, by what both sides are called."""
    ratios = {}
    for base, sides in pairs(scheme.values()).items():
        counts = [measure.regions.get(s.value, _nothing(s.value)).voxels for s in sides]
        ratios[base] = max(counts) / min(counts) if min(counts) else float("inf")
    return ratios
