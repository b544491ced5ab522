"""Measuring the label maps of a cohort, several at once, each alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braintune.errors import InputError, listing
from braintune.imaging.nifti import ScanError
from braintune.parallel import check_workers, map_parallel
from braintune.synthesis.labelmaps.naming import name_table, read_names
from braintune.synthesis.labelmaps.reading import LabelMap, read_label_map
from braintune.volumetry.finding import ScanMap
from braintune.volumetry.intracranial import mask_mm3
from braintune.volumetry.measuring import Region, measure_map, voxel_mm3
from braintune.volumetry.probabilities import find_probabilities, read_probabilities
from braintune.volumetry.structures import Structure, name_values


@dataclass(frozen=True)
class MapWork:
    """One label map to be measured.

    Attributes:
        scan: The map and whose it is.
        declared: What the labels are, if a table says so for all maps.
        needs_probabilities: Every label must have probabilities.
        mask: The mask of the intracranial space, where that is measured.
    """

    scan: ScanMap
    declared: tuple[Structure, ...] | None
    needs_probabilities: bool
    mask: Path | None


@dataclass(frozen=True)
class MapMeasure:
    """What one label map gave.

    Attributes:
        scan: Whose map it is.
        regions: By label.
        names: Names of labels from the table that lies with the map, none if there is no table.
        voxel: Volume of a voxel in mm³.
        mask_mm3: Volume of the intracranial mask, None where none was measured.
    """

    scan: ScanMap
    regions: dict[int, Region]
    names: dict[int, str]
    voxel: float
    mask_mm3: float | None

    def voxel_volumes(self) -> dict[int, float]:
        """By label, voxels times their volume, in mm³."""
        return {value: r.voxels * self.voxel for value, r in self.regions.items()}

    def expected_volumes(self) -> dict[int, float]:
        """By label, the sum of probabilities times the volume of a voxel, in mm³."""
        return {value: r.expected_voxels * self.voxel for value, r in self.regions.items()}


def measure_maps(
    works: Sequence[MapWork], workers: int | None
) -> tuple[list[MapMeasure], dict[str, str]]:
    """Measure maps; what fails is told with its reason, and the others go on.

    Returns:
        What was measured, in the order of the work, and the reason of each scan that failed.
    """
    check_workers(workers)
    measured: dict[str, MapMeasure] = {}
    failed: dict[str, str] = {}
    for work, result in map_parallel("Measuring", measure_or_reason, works, workers):
        if isinstance(result, str):
            failed[work.scan.scan_id] = result
        else:
            measured[work.scan.scan_id] = result
    order = [work.scan.scan_id for work in works]
    return (
        [measured[name] for name in order if name in measured],
        {name: failed[name] for name in order if name in failed},
    )


def measure_or_reason(work: MapWork) -> MapMeasure | str:
    """Measure one map, or say why that can't be done."""
    try:
        return _measure(work)
    except InputError as error:
        return str(error)


def _measure(work: MapWork) -> MapMeasure:
    file = work.scan.file
    labels = read_label_map(file.path)
    names: dict[int, str] = {}
    if work.declared is not None:
        structures = {s.value: s for s in work.declared}
        _demand_declared(labels, set(structures), "the table of labels")
    else:
        table = name_table(file.path, file.root)
        names = read_names(table) if table else {}
        structures = name_values({*labels.values, *names}, names)
        if table:
            _demand_declared(labels, set(names), table.name)
    files = find_probabilities(file.path, structures)
    if work.needs_probabilities:
        _demand_probabilities(labels, structures, set(files))
    return MapMeasure(
        scan=work.scan,
        regions=measure_map(labels, read_probabilities(files, labels)),
        names=names,
        voxel=voxel_mm3(labels.affine),
        mask_mm3=mask_mm3(work.mask) if work.mask else None,
    )


def _demand_declared(labels: LabelMap, declared: set[int], table: str) -> None:
    unknown = [value for value in labels.values if value and value not in declared]
    if unknown:
        msg = (
            f"{labels.path} has the labels {listing(unknown)}, which {table} does not declare. Add"
            " them to it, or name the right table with --labels."
        )
        raise ScanError("labels", msg)


def _demand_probabilities(
    labels: LabelMap, structures: Mapping[int, Structure], there: set[int]
) -> None:
    without = [structures[v].name for v in labels.values if v and v not in there]
    if without:
        msg = (
            f"{labels.path} has no probability map of {listing(without)} beside it"
            " (…_label-NAME_probseg.nii.gz), which --partial-volume needs."
        )
        raise ScanError("probabilities", msg)
