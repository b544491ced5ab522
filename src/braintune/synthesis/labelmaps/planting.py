"""What grows in each anatomy: computed when it is first needed, and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from braintune.synthesis.labelmaps.anatomies import looked_up, pooled
from braintune.synthesis.labelmaps.growth import Fields, Growth, Level, growth_of
from braintune.synthesis.labelmaps.numbering import Label
from braintune.synthesis.labelmaps.structures import in_brain
from braintune.synthesis.labelmaps.tissues import Tissue

# How much a cell gives way for what grows: white matter and the fluid around the brain most, other
# tissue of the brain less, and what is around the head hardly, so that it keeps its size.
_YIELDING = {Tissue.WHITE: 1.0, Tissue.CSF: 1.0, Tissue.CEREBELLAR_WHITE: 0.3}
_OTHER_BRAIN, _OUTSIDE = 0.2, 0.01


@dataclass(frozen=True)
class _Kept:
    """One anatomy in little memory: counts of voxels, and the solvers of both lattices."""

    members: torch.Tensor
    partner: torch.Tensor
    solvers: tuple[torch.Tensor, torch.Tensor]


class Planting:
    """The structures that grow, in one anatomy after the other.

    Args:
        table: All labels.
        grown: The labels of each structure that grows.
        factor: Voxels of a lattice cell along each axis.
        shape: Points of the lattice, an even number along each axis.
        device: Where the anatomies are.
    """

    def __init__(
        self,
        table: Sequence[Label],
        grown: Mapping[str, tuple[int, ...]],
        factor: int,
        shape: tuple[int, int, int],
        device: torch.device,
    ) -> None:
        self._table = table
        self._grown = grown
        self._factor = factor
        self.fields = Fields(shape, device)
        self._coarse = Fields((shape[0] // 2, shape[1] // 2, shape[2] // 2), device)
        self._kept: dict[int, _Kept] = {}

    def levels(self, number: int, labels: torch.Tensor) -> tuple[Level, Level]:
        """What grows in an anatomy, on the coarse lattice and on the fine one.

        Args:
            number: Which one.
            labels: Its labels, of shape (x, y, z).
        """
        if number not in self._kept:
            self._kept[number] = self._computed(labels)
        kept = self._kept[number]
        members = kept.members.float() / self._factor**3
        coarse = Growth(_halved(members), _halved(kept.partner[None])[0], kept.solvers[0])
        return (
            Level(coarse, self._coarse),
            Level(Growth(members, kept.partner, kept.solvers[1]), self.fields),
        )

    def _computed(self, labels: torch.Tensor) -> _Kept:
        counts = torch.cat([self._pooled(labels, set(m)) for m in self._grown.values()])
        busy = {position for structure in self._grown.values() for position in structure}
        partner = torch.zeros(self.fields.shape, device=labels.device)
        for weight, positions in self._yielding().items():
            partner += weight * self._pooled(labels, positions - busy)[0]
        members = counts.float() / self._factor**3
        coarse = growth_of(_halved(members), _halved(partner[None])[0], self._coarse)
        fine = growth_of(members, partner, self.fields)
        return _Kept(counts, partner, (coarse.solver, fine.solver))

    def _pooled(self, labels: torch.Tensor, positions: set[int]) -> torch.Tensor:
        chosen = [position in positions for position in range(len(self._table))]
        return pooled(looked_up(labels, chosen)[None], self._factor)

    def _yielding(self) -> dict[float, set[int]]:
        """The labels that give way, by how much."""
        found: dict[float, set[int]] = {}
        for position, label in enumerate(self._table):
            other = _OTHER_BRAIN if in_brain(label) else _OUTSIDE
            weight = other if label.tissue is None else _YIELDING.get(label.tissue, other)
            found.setdefault(weight, set()).add(position)
        return found


def _halved(masks: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool3d(masks[None], 2)[0]
