"""What the labels of a cohort's maps are called, map by map, and their volumes in one table."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from braintune.volumetry.measured import MapMeasure
from braintune.volumetry.structures import Structure, name_values

Scheme = Mapping[int, Structure]


def schemes_of(
    measures: Sequence[MapMeasure], declared: Mapping[int, Structure] | None
) -> list[Scheme]:
    """The labels that each map has or should have, one scheme a map.

    Maps that share a table of names (or have none) share the labels that any of them has, so that
    a structure which one scan lacks is known to be missing there.
    """
    shared: dict[tuple[tuple[int, str], ...], set[int]] = {}
    for measure in measures:
        shared.setdefault(_names_key(measure), set()).update(measure.regions)
    named: dict[tuple[tuple[int, str], ...], Scheme] = {}
    for key, values in shared.items():
        if declared is not None:
            named[key] = {value: declared[value] for value in sorted(values)}
        else:
            named[key] = name_values(values, dict(key))
    return [named[_names_key(measure)] for measure in measures]


def structures_of(schemes: Sequence[Scheme]) -> dict[str, Structure]:
    """All structures by the beginning of their columns, in the order of their numbers."""
    everything = [s for scheme in schemes for s in scheme.values()]
    return {s.key: s for s in sorted(everything, key=lambda s: (s.value, s.key))}


def volume_table(
    measures: Sequence[MapMeasure], schemes: Sequence[Scheme], partial_volume: bool
) -> pd.DataFrame:
    """Volumes in mm³, one row a scan (its id is the index), one column a structure.

    Args:
        measures: What the maps gave.
        schemes: What their labels are.
        partial_volume: From probabilities instead of voxels.

    Returns:
        A label that a map should have and lacks is 0; one that its scheme does not know is NaN.
    """
    rows = []
    for measure, scheme in zip(measures, schemes, strict=True):
        mm3 = measure.expected_volumes() if partial_volume else measure.voxel_volumes()
        rows.append({s.key: mm3.get(value, 0.0) for value, s in scheme.items()})
    index = pd.Index([measure.scan.scan_id for measure in measures], name="scan_id")
    return pd.DataFrame(rows, index=index, columns=list(structures_of(schemes)), dtype=np.float64)


def _names_key(measure: MapMeasure) -> tuple[tuple[int, str], ...]:
    return tuple(sorted(measure.names.items()))
