"""Deformations that grow and shrink structures by a planted amount, on a lattice of few points.

As in `braintune.synthesis.deformation`, a structure grows by the velocity field whose divergence is
that structure, and the flow of stationary velocities is invertible (Arsigny et al., MICCAI 2006).
How fast it must grow is first taken from the fields' linear effect on all structures, then mended
by what the flow, with the random deformation in it, does to them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from braintune.synthesis.deformation import exponential, positions, sample, smooth_noise

# Width, in lattice points, of the Gaussian that takes away what the lattice can't hold.
_SMOOTH = 0.6
# Points next to the border over which velocities fade, so that nothing flows across it.
_FADE = 3
# Combinations of rates that change volumes less than this share of what others do are left alone.
_LEAST_RESPONSE = 0.02
# Rates of growth beyond this would fold the lattice.
_FASTEST = 6.0


@dataclass(frozen=True)
class Growth:
    """What grows in one anatomy, on the lattice.

    Attributes:
        members: Share of each lattice cell that belongs to each structure, of shape
            (structures, x, y, z).
        partner: How much each cell gives way for the structures, of shape (x, y, z).
        solver: From wanted log changes of volume to rates of growth, as if these were linear, of
            shape (structures, structures).
    """

    members: torch.Tensor
    partner: torch.Tensor
    solver: torch.Tensor


class Fields:
    """Velocity fields on lattices of one shape.

    Args:
        shape: Points along the three axes.
        device: Where they are computed.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        self.shape = shape
        waves = np.meshgrid(
            np.fft.fftfreq(shape[0]),
            np.fft.fftfreq(shape[1]),
            np.fft.rfftfreq(shape[2]),
            indexing="ij",
        )
        square = sum(wave**2 for wave in waves)
        smooth = np.exp(-2 * (np.pi * _SMOOTH) ** 2 * square)
        square[0, 0, 0] = 1.0
        # The gradient of the solution of Poisson's equation, in the frequency domain.
        gradient = np.stack([-1j * wave * smooth / (2 * np.pi * square) for wave in waves])
        self._gradient = torch.from_numpy(gradient.astype(np.complex64)).to(device)
        self._smooth = torch.from_numpy(smooth.astype(np.float32)).to(device)
        self._fade = _fade(shape).to(device)

    def velocity(self, divergence: torch.Tensor) -> torch.Tensor:
        """The curl-free field of a divergence, in lattice points, of shape (3, x, y, z)."""
        spectrum = torch.fft.rfftn(divergence)
        field = torch.fft.irfftn(self._gradient * spectrum, s=self.shape, dim=(1, 2, 3))
        return field * self._fade

    def smoothed(self, divergence: torch.Tensor) -> torch.Tensor:
        """The divergence that the field of `velocity` has."""
        spectrum = torch.fft.rfftn(divergence, dim=(-3, -2, -1))
        return torch.fft.irfftn(self._smooth * spectrum, s=self.shape, dim=(-3, -2, -1))

    def random(self, size: float, scale: float, chance: torch.Generator) -> torch.Tensor:
        """A random smooth field.

        Args:
            size: Root mean square along each axis, in lattice points.
            scale: Distance over which it varies, in lattice points.
            chance: Where it is drawn from.
        """
        field = smooth_noise(self.shape, scale, chance).to(self._fade.device)
        return size * field * self._fade


def _fade(shape: tuple[int, int, int]) -> torch.Tensor:
    """1 inside, falling to 0 at the border, of the given shape."""
    fade = torch.ones(shape)
    for axis, n in enumerate(shape):
        depth = torch.minimum(torch.arange(n), n - 1 - torch.arange(n)).float()
        ramp = (depth / min(_FADE, n / 4)).clamp(0, 1)
        view = [1, 1, 1]
        view[axis] = n
        fade = fade * (0.5 - 0.5 * torch.cos(torch.pi * ramp)).view(view)
    return fade


def growth_of(members: torch.Tensor, partner: torch.Tensor, fields: Fields) -> Growth:
    """Find out how structures answer to rates of growth.

    Args:
        members: As in `Growth`.
        partner: As in `Growth`.
        fields: For lattices of their shape.
    """
    volumes = members.sum(dim=(1, 2, 3)).clamp_min(1e-6)
    source = members - partner * (volumes / partner.sum().clamp_min(1e-6)).view(-1, 1, 1, 1)
    divergence = fields.smoothed(source)
    response = torch.einsum("ixyz,jxyz->ij", members, divergence) / volumes[:, None]
    solver = torch.linalg.pinv(response.double(), rtol=_LEAST_RESPONSE).float()
    return Growth(members, partner, solver)


@dataclass(frozen=True)
class Level:
    """An anatomy's structures on a lattice, and the fields there are on it."""

    growth: Growth
    fields: Fields


def planted_displacement(
    coarse: Level, fine: Level, changes: torch.Tensor, own: torch.Tensor
) -> torch.Tensor:
    """Displacements that change structures by planted amounts, besides a random deformation.

    Args:
        coarse: The anatomy on a lattice of half as many points, where most is found out cheaply.
        fine: The anatomy on the lattice.
        changes: Log of how many times larger each structure is made, of shape (structures,).
        own: The random velocity field, in lattice points, of shape (3, x, y, z).

    Returns:
        From points of the deformed anatomy to those of the anatomy, in lattice points, of shape
        (1, 3, x, y, z).
    """
    halved = torch.nn.functional.avg_pool3d(own[None], 2)[0] / 2
    demand = changes
    for level, velocity, times in ((coarse, halved, 2), (fine, own, 1)):
        for _ in range(times):
            demand = demand + changes - log_changes(level.growth, _flow(level, demand, velocity))
    return _flow(fine, demand, own)


def _flow(level: Level, demand: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The flow that would change volumes by what is demanded, were it linear."""
    growth = level.growth
    rates = (growth.solver @ demand).clamp(-_FASTEST, _FASTEST)
    divergence = torch.einsum("i,ixyz->xyz", rates, growth.members)
    divergence -= growth.partner * (divergence.sum() / growth.partner.sum().clamp_min(1e-6))
    # Positions in the deformed anatomy map back to the anatomy: the inverse flow, hence the minus.
    return exponential(-(own + level.fields.velocity(divergence))[None])


def log_changes(growth: Growth, displacement: torch.Tensor) -> torch.Tensor:
    """Log of how many times larger a displacement makes each structure, of shape (structures,)."""
    after = sample(growth.members[None], positions(displacement))[0].sum(dim=(1, 2, 3))
    before = growth.members.sum(dim=(1, 2, 3))
    return torch.log(after.clamp_min(1e-3) / before.clamp_min(1e-3)) * (before > 0)
