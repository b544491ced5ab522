"""All anatomies that scans are made from, on one grid in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from braintune.console import progress
from braintune.errors import InputError
from braintune.imaging.grid import ras_grid
from braintune.imaging.nifti import spacing_of
from braintune.synthesis.labelmaps.effects import Person
from braintune.synthesis.labelmaps.naming import name_table, read_names
from braintune.synthesis.labelmaps.numbering import Label, describe, known_table
from braintune.synthesis.labelmaps.options import GeneratorOptions
from braintune.synthesis.labelmaps.people import with_people
from braintune.synthesis.labelmaps.placing import middle_of, placed
from braintune.synthesis.labelmaps.reading import LabelMap, MapFile, find_maps, read_label_map
from braintune.synthesis.labelmaps.structures import in_brain
from braintune.synthesis.labelmaps.tissues import Tissue

# Millimetres between the points at which deformations are computed.
_LATTICE_MM = 4.0
# Millimetres kept around what the scans can show.
_MARGIN_MM = 8.0
_MOST_BYTES = 8 * 1024**3


@dataclass(frozen=True)
class Anatomies:
    """Label maps on one grid, with the brain in its middle.

    Attributes:
        labels: Positions in the table, of shape (anatomies, x, y, z), uint8 or int16.
        table: All labels that there are; the first is the background.
        names: What each anatomy is called.
        people: What is known of each person.
        spacing: Voxel size in millimetres.
        factor: Voxels along an axis between two points of the deformations' lattice.
    """

    labels: torch.Tensor
    table: tuple[Label, ...]
    names: tuple[str, ...]
    people: tuple[Person, ...]
    spacing: float
    factor: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        _, x, y, z = self.labels.shape
        return x, y, z


def read_anatomies(options: GeneratorOptions) -> Anatomies:
    """Read all label maps onto one grid.

    Raises:
        InputError: If one can't be used, they contradict each other, or don't fit in memory.
    """
    chosen = with_people(find_maps(options.maps), options.people)
    reader = _Reader(options)
    with progress("Reading label maps", len(chosen)) as bar:
        for file, _ in chosen:
            reader.add(file)
            bar.advance()
    labels, table = reader.gathered()
    return Anatomies(
        labels,
        table,
        tuple(file.path.name.split(".nii")[0] for file, _ in chosen),
        tuple(person for _, person in chosen),
        reader.spacing,
        reader.factor,
    )


class _Reader:
    """Brings one label map after the other onto the grid."""

    def __init__(self, options: GeneratorOptions) -> None:
        self._options = options
        self._table: dict[int, Label] = {0: Label(0, "background", Tissue.BACKGROUND)}
        self._positions = {0: 0}
        self._first: dict[int, Path] = {}
        self._tables: dict[Path, dict[int, str]] = {}
        self._maps: list[npt.NDArray[np.int16]] = []
        self._reach = np.zeros(3, dtype=int)
        self.spacing = 0.0
        self.factor = 1

    def add(self, file: MapFile) -> None:
        """Read one more."""
        found = read_label_map(file.path)
        for label in self._described(found, file):
            self._note(label, file.path)
        if not self._maps:
            # Finer maps are read at the spacing of the scans: the rest would not be seen.
            own = float(spacing_of(found.affine).mean())
            self.spacing = max(self._options.spacing, own)
            self.factor = max(1, round(_LATTICE_MM / self.spacing))
        self._maps.append(self._placed(found))

    def _described(self, found: LabelMap, file: MapFile) -> list[Label]:
        path = name_table(file.path, file.root)
        if path is not None and path not in self._tables:
            self._tables[path] = read_names(path)
        names = self._tables[path] if path else {}
        table = known_table({*found.values, *names}, names)
        labels = [describe(value, names, table) for value in found.values]
        chosen = self._options.tissues
        return [
            Label(label.value, label.name, chosen.get(label.name, label.tissue)) for label in labels
        ]

    def _note(self, label: Label, path: Path) -> None:
        """Keep a label in the table, and refuse one that means two things."""
        before = self._table.setdefault(label.value, label)
        if label.value and before.name != label.name:
            raise InputError(
                f"The label {label.value} is {before.name!r} in {self._first[label.value]} and"
                f" {label.name!r} in {path}. Take label maps of one numbering."
            )
        self._first.setdefault(label.value, path)
        self._positions.setdefault(label.value, len(self._positions))

    def _placed(self, found: LabelMap) -> npt.NDArray[np.int16]:
        """A label map around the brain's middle, as positions in the order of the first look."""
        size = found.values[-1] + 1
        lookup = np.zeros(size, dtype=np.int16)
        seen, brain, solid = np.zeros((3, size), dtype=bool)
        for value in found.values:
            lookup[value] = self._positions[value]
            brain[value] = in_brain(self._table[value])
            seen[value] = brain[value] or (value > 0 and self._options.brain == "head")
            # Fluid reaches down the spine, and would move the middle.
            solid[value] = brain[value] and self._table[value].tissue is not Tissue.CSF
        if not solid.any():
            raise InputError(f"{found.path} has no label of the brain, so nothing can be shown.")
        center = middle_of(found, solid[found.data])
        shape = self._view_shape()
        self._check_memory(len(self._maps) + 1, shape)
        # Volumes are counted in the result, so the nearest label is right wherever it comes from.
        values = placed(found, ras_grid(shape, self.spacing, center))
        self._extend_reach(seen[values])
        return lookup[values]

    def _view_shape(self) -> tuple[int, int, int]:
        """A grid that holds all that any scan may show."""
        geometry = self._options.geometry
        margin = 2 * (geometry.shift + _MARGIN_MM)
        widest = (1 + geometry.scale) * self._options.spacing
        if self._options.brain == "head":
            # A turned scan sees further along each axis; a brain alone does not reach that far.
            widest *= 1.1
        x, y, z = (
            2 * self.factor * math.ceil((n * widest + margin) / self.spacing / self.factor / 2)
            for n in self._options.shape
        )
        return x, y, z

    def _check_memory(self, count: int, shape: tuple[int, int, int]) -> None:
        if count * math.prod(shape) * 2 > _MOST_BYTES:
            raise InputError(
                f"Over {count - 1:,} label maps at {self.spacing:g} mm don't fit into"
                f" {_MOST_BYTES // 1024**3} GiB. Take fewer, a larger spacing or a smaller shape."
            )

    def _extend_reach(self, seen: npt.NDArray[np.bool_]) -> None:
        """Remember how far from the middle anything to be seen lies, along each axis."""
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            there = np.flatnonzero(seen.any(axis=others))
            if len(there):
                middle = (seen.shape[axis] - 1) / 2
                far = math.ceil(max(middle - there[0], there[-1] - middle))
                self._reach[axis] = max(self._reach[axis], far)

    def gathered(self) -> tuple[torch.Tensor, tuple[Label, ...]]:
        """All maps cut to what is seen, with labels in ascending order of value."""
        values = sorted(self._positions)
        order = np.zeros(len(values), dtype=np.int16)
        for position, value in enumerate(values):
            order[self._positions[value]] = position
        kind = np.uint8 if len(values) <= 256 else np.int16
        cut = [self._cut(n, axis) for axis, n in enumerate(self._maps[0].shape)]
        labels = np.stack([order[one[tuple(cut)]].astype(kind) for one in self._maps])
        # A border of background is what positions beyond the grid are given.
        labels[:, [0, -1]] = 0
        labels[:, :, [0, -1]] = 0
        labels[:, :, :, [0, -1]] = 0
        return torch.from_numpy(labels), tuple(self._table[value] for value in values)

    def _cut(self, size: int, axis: int) -> slice:
        margin = math.ceil(_MARGIN_MM / self.spacing)
        half = min(size / 2, self._reach[axis] + margin)
        # An even number of lattice cells, as the whole has, so that the middle stays where it is.
        cells = 2 * math.ceil(half / self.factor)
        length = min(size, cells * self.factor)
        start = (size - length) // 2
        return slice(start, start + length)


def pooled(masks: torch.Tensor, factor: int) -> torch.Tensor:
    """How many voxels of each lattice cell masks have, as uint8.

    Args:
        masks: Of shape (masks, x, y, z); axes are cut to whole cells.
        factor: Voxels of a cell along each axis.
    """
    if factor == 1:
        return masks.to(torch.uint8)
    counts = torch.nn.functional.avg_pool3d(masks[None].float(), factor)[0] * factor**3
    return counts.round().to(torch.uint8)


def looked_up(labels: torch.Tensor, table: Sequence[bool]) -> torch.Tensor:
    """Whether each voxel's label has a property, given for each position in the table."""
    return (
        torch.tensor(table, device=labels.device)
        .index_select(0, labels.flatten().int())
        .view(labels.shape)
    )
