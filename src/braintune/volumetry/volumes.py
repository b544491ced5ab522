"""From the label maps of a cohort to one table: mm³, sides, head size, and what looks wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braintune.console import say
from braintune.errors import InputError, listing
from braintune.volumetry.finding import ScanMap
from braintune.volumetry.grading import asymmetries, grade
from braintune.volumetry.intracranial import (
    IntracranialSource,
    find_masks,
    from_column,
    from_labels,
)
from braintune.volumetry.measured import MapMeasure, MapWork, measure_maps
from braintune.volumetry.normalising import Residual, proportion
from braintune.volumetry.people import join_people
from braintune.volumetry.quality import QualityLimits, age_and_sex
from braintune.volumetry.schemes import schemes_of, structures_of, volume_table
from braintune.volumetry.structures import Structure, read_structures

ICV = "icv_mm3"
KEYS = ("participant_id", "session_id", "scan_id")
# What is added to a structure's name for its columns.
ENDINGS = {"none": "_mm3", "proportion": "_proportion", "residual": "_residual_mm3"}


@dataclass(frozen=True)
class VolumesRequest:
    """How volumes are measured.

    Attributes:
        labels: A table of labels for all maps; by default the table that lies with each map, or
            the numbering that it follows.
        cohort: Where people's age, sex and further columns are.
        normalise: How head size is taken out; it needs ``icv``.
        icv: Where intracranial volumes come from.
        reference: A column and the value that its reference rows have, for residuals; by default
            all rows are.
        partial_volume: Measure by the sum of probabilities instead of by voxels.
        limits: From where on a volume is flagged.
        workers: Processes; by default one a core.
    """

    labels: Path | None = None
    cohort: Path | None = None
    normalise: str = "none"
    icv: IntracranialSource | None = None
    reference: tuple[str, str] | None = None
    partial_volume: bool = False
    limits: QualityLimits = field(default_factory=QualityLimits)
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.normalise not in ENDINGS:
            msg = f"Unknown normalisation {self.normalise!r}. Available: {listing(ENDINGS)}."
            raise InputError(msg)
        if self.normalise != "none" and self.icv is None:
            msg = f"--normalise {self.normalise} needs the intracranial volume: name it with --icv."
            raise InputError(msg)
        if self.reference and (self.normalise != "residual" or self.cohort is None):
            msg = "--reference is for --normalise residual, and needs the table of --cohort."
            raise InputError(msg)
        if self.icv and self.icv.kind == "column" and self.cohort is None:
            msg = (
                f"--icv column:{self.icv.what} needs the table that has it: name it with --cohort."
            )
            raise InputError(msg)


@dataclass(frozen=True)
class Volumes:
    """What measuring a cohort gave.

    Attributes:
        table: One row a scan: ids, the cohort's columns, ``icv_mm3``, volumes, normalised volumes,
            asymmetries, and the flags of all structures.
        quality: One row a scan and structure.
        structures: What was measured, by the beginning of its columns.
        residual: The lines that residuals were taken from, None for other methods.
        adjusted_for: What outliers are unusual for: age, sex, both or neither.
        failed: The scans that could not be measured, with reasons.
        cautions: What a reader should know.
    """

    table: pd.DataFrame
    quality: pd.DataFrame
    structures: dict[str, Structure]
    residual: Residual | None
    adjusted_for: tuple[str, ...]
    failed: dict[str, str]
    cautions: tuple[str, ...]


def parse_reference(text: str) -> tuple[str, str]:
    """Read ``column=value``.

    Raises:
        InputError: If it is of no such form.

    Example:
        >>> parse_reference("dx=CN")
        ('dx', 'CN')
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise InputError(f"--reference {text!r} must look like dx=CN.")
    return name.strip(), value.strip()


def measure_volumes(maps: Sequence[ScanMap], request: VolumesRequest) -> Volumes:
    """Measure the label maps of a cohort.

    Args:
        maps: One a scan (see `find_label_maps`).
        request: How.

    Raises:
        InputError: If none of the maps can be measured, or the request does not fit them.
    """
    declared = read_structures(request.labels) if request.labels else None
    people, nameless = _people(maps, request)
    works = _works(maps, request, declared)
    measures, failed = measure_maps(works, request.workers)
    if not measures:
        raise InputError(f"No label map could be measured. {next(iter(failed.values()))}")
    schemes = schemes_of(measures, declared)
    structures = structures_of(schemes)
    volumes = volume_table(measures, schemes, request.partial_volume)
    people = people.set_index("scan_id", drop=False).loc[volumes.index]
    icv = _intracranial(measures, people, request)
    normalised, residual = _normalised(volumes, icv, people, request)
    design, adjusted_for = age_and_sex(people)
    quality = grade(measures, schemes, normalised, design, request.limits)
    table = _joined(people, volumes, normalised, icv, structures, request)
    table["flags"] = _flag_texts(quality).reindex(table["scan_id"]).to_numpy()
    cautions = [f"{name} has no row in {request.cohort}." for name in nameless]
    if icv is not None and icv.isna().any():
        cautions.append(f"No intracranial volume: {listing(icv.index[icv.isna()])}.")
    if len(table) < request.limits.fewest_rows:
        cautions.append(
            f"Outliers are not looked for in fewer than {request.limits.fewest_rows} scans."
        )
    for caution in (*cautions, *(f"Not measured: {k}: {v}" for k, v in failed.items())):
        say(caution)
    return Volumes(
        table, quality, structures, residual, tuple(adjusted_for), failed, tuple(cautions)
    )


def _people(maps: Sequence[ScanMap], request: VolumesRequest) -> tuple[pd.DataFrame, list[str]]:
    """Whose scans they are with what the cohort knows of them, and whom it does not know."""
    rows = [(m.participant_id, m.session_id, m.scan_id) for m in maps]
    keys = pd.DataFrame(rows, columns=list(KEYS), dtype="string")
    if request.cohort is None:
        return keys, []
    joined = join_people(keys, request.cohort)
    return joined.table, list(joined.nameless)


def _works(
    maps: Sequence[ScanMap], request: VolumesRequest, declared: dict[int, Structure] | None
) -> list[MapWork]:
    is_mask = request.icv is not None and request.icv.kind == "mask"
    masks = find_masks(request.icv, maps) if request.icv and is_mask else {}
    known = tuple(declared.values()) if declared else None
    return [MapWork(m, known, request.partial_volume, masks.get(m.scan_id)) for m in maps]


def _intracranial(
    measures: Sequence[MapMeasure], people: pd.DataFrame, request: VolumesRequest
) -> pd.Series | None:
    """The intracranial volume of each scan in mm³, NaN where there is none."""
    source = request.icv
    if source is None:
        return None
    if source.kind == "column":
        return from_column(source, people)
    if source.kind == "mask":
        values = [np.nan if m.mask_mm3 is None else m.mask_mm3 for m in measures]
    else:
        values = [from_labels(source, m.voxel_volumes()) for m in measures]
        if np.isnan(values).all():
            raise InputError(f"No map has the labels of --icv labels:{source.what}.")
    return pd.Series(values, index=people.index, dtype="float64")


def _normalised(
    volumes: pd.DataFrame, icv: pd.Series | None, people: pd.DataFrame, request: VolumesRequest
) -> tuple[pd.DataFrame, Residual | None]:
    """Volumes without head size; the volumes themselves where none is taken out."""
    if icv is None or request.normalise == "none":
        return volumes, None
    values, heads = volumes.to_numpy(), icv.to_numpy(dtype=np.float64)
    if request.normalise == "proportion":
        shares = proportion(values, heads)
        return pd.DataFrame(shares, index=volumes.index, columns=volumes.columns), None
    rows = _reference_rows(people, request.reference)
    residual = Residual.fit(values[rows], heads[rows])
    left = residual.apply(values, heads)
    return pd.DataFrame(left, index=volumes.index, columns=volumes.columns), residual


def _reference_rows(people: pd.DataFrame, reference: tuple[str, str] | None) -> Any:
    if reference is None:
        return np.ones(len(people), dtype=bool)
    name, value = reference
    if name not in people.columns:
        raise InputError(f"There is no column {name!r} for --reference {name}={value}.")
    rows = (people[name] == value).fillna(False).to_numpy(dtype=bool)
    if not rows.any():
        there = listing(sorted(people[name].dropna().unique()))
        raise InputError(f"No measured scan has {name} {value!r}; there are: {there}.")
    return rows


def _joined(
    people: pd.DataFrame,
    volumes: pd.DataFrame,
    normalised: pd.DataFrame,
    icv: pd.Series | None,
    structures: dict[str, Structure],
    request: VolumesRequest,
) -> pd.DataFrame:
    """Ids and the cohort's columns, then what was measured."""
    added: list[Any] = [] if icv is None else [icv.rename(ICV)]
    added.append(volumes.add_suffix(ENDINGS["none"]))
    if request.normalise != "none":
        added.append(normalised.add_suffix(ENDINGS[request.normalise]))
    added.append(asymmetries(volumes, structures).add_suffix("_asymmetry"))
    measured = pd.concat(added, axis=1)
    taken = sorted(set(measured.columns) & set(people.columns))
    if taken:
        msg = (
            f"{request.cohort} already has the columns {listing(taken)}, which are measured here."
            " Remove or rename them there."
        )
        raise InputError(msg)
    ids = [*KEYS, *[name for name in people.columns if name not in KEYS]]
    return pd.concat([people[ids], measured], axis=1).reset_index(drop=True)


def _flag_texts(quality: pd.DataFrame) -> pd.Series:
    """The flags of each scan that has some, such as ``hippocampus_left: at border``."""
    flagged = quality[quality["flags"] != ""]
    texts = flagged["structure"] + ": " + flagged["flags"]
    return texts.groupby(flagged["scan_id"]).agg("; ".join)
