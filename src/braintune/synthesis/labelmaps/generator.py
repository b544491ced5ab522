"""Scans made on the fly from label maps, with everything about them known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from braintune.errors import InputError
from braintune.synthesis.deformation import exponential
from braintune.synthesis.labelmaps.acquisition import (
    Acquisition,
    acquire,
    draw_acquisition,
    white_noise,
)
from braintune.synthesis.labelmaps.anatomies import Anatomies, looked_up, read_anatomies
from braintune.synthesis.labelmaps.contrast import Contrast, draw_contrast
from braintune.synthesis.labelmaps.effects import (
    Traits,
    chosen_effects,
    draw_traits,
    planted_changes,
)
from braintune.synthesis.labelmaps.growth import planted_displacement
from braintune.synthesis.labelmaps.masking import draw_edge, scaled, stripped
from braintune.synthesis.labelmaps.options import GeneratorOptions
from braintune.synthesis.labelmaps.planting import Planting
from braintune.synthesis.labelmaps.pose import (
    Pose,
    View,
    draw_pose,
    gathered,
    interpolated,
    source_positions,
)
from braintune.synthesis.labelmaps.structures import (
    HEAD,
    in_brain,
    members_of,
    mirrored,
    structures,
)


@dataclass(frozen=True)
class GeneratedBatch:
    """Generated scans and what is known of them.

    Attributes:
        indices: Which scans these are.
        images: Of shape (batch, 1, x, y, z), float32.
        labels: Positions in `LabelMapGenerator.table`, of shape (batch, x, y, z).
        volumes: In mm³, counted in the labels, of shape (batch, regions), in the order of
            `LabelMapGenerator.regions`.
        planted: How many times larger each structure was to be made than in its anatomy, of shape
            (batch, structures), in the order of `LabelMapGenerator.planted_structures`.
        traits: Of shape (batch, 3): age, disease and male, as in `Traits`.
        anatomies: The label map that each scan was made from.
    """

    indices: tuple[int, ...]
    images: torch.Tensor
    labels: torch.Tensor
    volumes: torch.Tensor
    planted: torch.Tensor
    traits: torch.Tensor
    anatomies: tuple[str, ...]


@dataclass(frozen=True)
class Draws:
    """All that chance decides of one scan but the numbers of its voxels.

    Attributes:
        anatomy: Which label map.
        traits: Who it is.
        changes: Log of how many times larger each structure is made.
        pose: How the head lies.
        contrast: Intensities of the labels.
        acquisition: What the scanner does.
        edge: Where the skull is stripped.
        seed: Of the numbers that voxels and deformations take.
    """

    anatomy: int
    traits: Traits
    changes: dict[str, float]
    pose: Pose
    contrast: Contrast
    acquisition: Acquisition
    edge: float
    seed: int


class LabelMapGenerator:
    """Makes scans from label maps; each is a function of the seed and its index alone.

    Args:
        options: Which scans are made.
        device: Where they are made. The numbers of the noise differ between kinds of devices.

    Attributes:
        options: The options as given.
        anatomies: The label maps on one grid.
        table: What the positions in label maps of a batch mean.
        regions: What volumes are measured of: labels by name, and groups of them.
        effects: What is planted, by structure.
        planted_structures: What effects are planted in; ``head`` is the size of everything.

    Raises:
        InputError: If a label map can't be used, or lacks a structure that is named.
    """

    def __init__(self, options: GeneratorOptions, device: str | torch.device = "cpu") -> None:
        self.options = options
        self.device = torch.device(device)
        self.anatomies: Anatomies = read_anatomies(options)
        self.table = self.anatomies.table
        known = self._known = structures(self.table)
        _check_tissues(options, known)
        effects = chosen_effects(options, known, list(self.table))
        self.effects = effects
        self.regions = tuple(known)
        self.planted_structures = tuple(effects)
        grown = {name: members_of(name, known) for name in effects if name != HEAD}
        self._grown = tuple(grown)
        self._labels = self.anatomies.labels.to(self.device)
        factor = self.anatomies.factor
        x, y, z = (n // factor for n in self.anatomies.shape)
        self._planting = Planting(self.table, grown, factor, (x, y, z), self.device)
        self._partners = _flip_table(self.table, grown)
        self._membership = torch.zeros(len(self.table), len(known), dtype=torch.float64)
        for column, members in enumerate(known.values()):
            self._membership[list(members), column] = 1
        self._view = View(
            options.shape,
            options.spacing,
            self.anatomies.shape,
            self.anatomies.spacing,
            factor,
        )

    def members(self, region: str) -> tuple[int, ...]:
        """The labels of a region, as positions in the table.

        Raises:
            InputError: If there is no such region.
        """
        return members_of(region, self._known)

    def batch(self, indices: Sequence[int]) -> GeneratedBatch:
        """Make some scans.

        A scan is the same in whatever batch it is made.

        Args:
            indices: Any whole numbers from 0; there is no last.
        """
        scans = [self._scan(int(index)) for index in indices]
        images, labels, draws = zip(*scans, strict=True)
        return GeneratedBatch(
            tuple(int(index) for index in indices),
            torch.stack(images)[:, None],
            torch.stack(labels),
            torch.stack([self._volumes(one) for one in labels]),
            torch.tensor([[np.exp(d.changes[n]) for n in self.planted_structures] for d in draws]),
            torch.tensor([[d.traits.age, d.traits.disease, d.traits.male] for d in draws]),
            tuple(self.anatomies.names[d.anatomy] for d in draws),
        )

    def batches(self, size: int, start: int = 0) -> Iterator[GeneratedBatch]:
        """Make batches without end, from an index on."""
        while True:
            yield self.batch(range(start, start + size))
            start += size

    def draw(self, index: int) -> Draws:
        """What chance decides of a scan.

        Raises:
            InputError: If the index is negative.
        """
        if index < 0:
            raise InputError(f"Scans are counted from 0; there is no scan {index}.")
        options = self.options
        # One source for each matter, so that a new draw in one changes nothing in another.
        who, where, what, how, rest = (
            np.random.default_rng([options.seed, index, matter]) for matter in range(5)
        )
        anatomy = int(rest.integers(len(self.anatomies.names)))
        person = self.anatomies.people[anatomy]
        traits = draw_traits(who, options, person)
        changes = planted_changes(who, self.effects, traits, person)
        head = changes.get(HEAD, 0.0)
        return Draws(
            anatomy,
            traits,
            changes,
            draw_pose(where, options.geometry, head, self._partners is not None),
            draw_contrast(what, self.table, options.contrast),
            draw_acquisition(how, options.shape, options.scanner),
            draw_edge(rest),
            int(rest.integers(2**62)),
        )

    def displacement(self, drawn: Draws) -> torch.Tensor:
        """The deformation of a scan's anatomy, as of `growth.planted_displacement`."""
        geometry = self.options.geometry
        millimetres = self.anatomies.spacing * self.anatomies.factor
        own = self._planting.fields.random(
            geometry.deformation / millimetres,
            geometry.smoothness / millimetres,
            torch.Generator().manual_seed(drawn.seed),
        )
        if not self._grown:
            return exponential(-own[None])
        coarse, fine = self._planting.levels(drawn.anatomy, self._labels[drawn.anatomy])
        changes = torch.tensor([drawn.changes[name] for name in self._grown], device=self.device)
        return planted_displacement(coarse, fine, changes, own)

    def _scan(self, index: int) -> tuple[torch.Tensor, torch.Tensor, Draws]:
        drawn = self.draw(index)
        noise = torch.Generator(self.device).manual_seed(drawn.seed + 1)
        anatomy = self._labels[drawn.anatomy]
        where = source_positions(self._view, drawn.pose, self.displacement(drawn))
        labels = gathered(anatomy, where)
        ideal = interpolated(self._ideal(anatomy, drawn.contrast, noise), where)
        image = acquire(ideal, drawn.acquisition, noise)
        if self.options.brain == "stripped":
            inside = looked_up(labels, [in_brain(label) for label in self.table])
            image = stripped(image, inside, drawn.edge, self.options.spacing)
        if drawn.pose.flipped and self._partners is not None:
            labels = self._partners.to(labels).index_select(0, labels.flatten().int())
            labels = labels.view(image.shape)
        return scaled(image, self.options.intensity), labels, drawn

    def _ideal(
        self, labels: torch.Tensor, contrast: Contrast, noise: torch.Generator
    ) -> torch.Tensor:
        """Intensities of an anatomy's voxels, of its shape."""
        flat = labels.flatten().int()
        mean, spread = (
            torch.from_numpy(table).to(self.device).index_select(0, flat)
            for table in (contrast.mean, contrast.spread)
        )
        return mean.addcmul_(spread, white_noise(spread, noise)).view(labels.shape)

    def _volumes(self, labels: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(labels.flatten(), minlength=len(self.table)).cpu().double()
        return counts @ self._membership * self.options.spacing**3


def _check_tissues(options: GeneratorOptions, known: dict[str, tuple[int, ...]]) -> None:
    """Refuse tissues for labels that there are not."""
    for name in options.tissues:
        members_of(name, known)


def _flip_table(table: Sequence[object], grown: dict[str, tuple[int, ...]]) -> torch.Tensor | None:
    """Each label's mirror image, None if labels or what grows have none."""
    partners = mirrored(table)  # type: ignore[arg-type]
    if partners is None:
        return None
    for members in grown.values():
        if {partners[position] for position in members} != set(members):
            return None
    return torch.tensor(partners)
