"""A diffusion series of a brain whose tensors are known: rings of fibres in grey matter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

# Eigenvalues in mm²/s.
FIBRE = np.array([1.7e-3, 0.3e-3, 0.3e-3])
GREY, FLUID = 0.8e-3, 3.0e-3
# By definition; the tests hold what is fitted against it.
FIBRE_FA = float(np.sqrt(1.5 * ((FIBRE - FIBRE.mean()) ** 2).sum() / (FIBRE**2).sum()))
FIBRE_MD = float(FIBRE.mean() * 1e3)
SPACING = 2.5


@dataclass(frozen=True)
class Phantom:
    """What was planted, on a RAS grid.

    Attributes:
        data: Signals, of shape (x, y, z, volumes).
        affine: From voxel indices to world millimetres.
        bvals: In s/mm².
        directions: Gradients in the world's frame, of shape (volumes, 3).
        brain: Where signal is.
        fibre: Where fibres are.
        along: Their direction in the world's frame, of shape (x, y, z, 3).
    """

    data: np.ndarray
    affine: np.ndarray
    bvals: np.ndarray
    directions: np.ndarray
    brain: np.ndarray
    fibre: np.ndarray
    along: np.ndarray


def sphere(count: int, seed: int = 0) -> np.ndarray:
    """Directions spread evenly over the half sphere, turned at random."""
    k = np.arange(count) + 0.5
    z, turn = 1 - k / count, np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z**2)
    points = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(points @ rotation)


def phantom(
    shells: tuple[tuple[float, int], ...] = ((1000.0, 30),),
    *,
    unweighted: int = 2,
    noise: float = 0.0,
    seed: int = 0,
) -> Phantom:
    """Plant tensors and measure them.

    Args:
        shells: b-value and number of directions of each.
        unweighted: Volumes with b = 0.
        noise: Standard deviation in the real and the imaginary part; tissue's signal is 100.
        seed: Of noise and directions.
    """
    shape = (24, 26, 22)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -SPACING * (np.array(shape) - 1) / 2
    index = np.moveaxis(np.indices(shape), 0, -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    brain = ((world / np.array([26.0, 29, 24])) ** 2).sum(axis=-1) < 1
    axis = np.array([0.36, 0.48, 0.8])  # of unit length, along no plane of symmetry
    height = world @ axis
    out = world - height[..., None] * axis
    radius = np.linalg.norm(out, axis=-1)
    rings = [np.hypot(height - level, radius - 15) < 3.6 for level in (-11, 0, 11)]
    fibre = np.any(rings, axis=0) & brain
    along = np.cross(axis, out / np.maximum(radius, 1e-9)[..., None])
    fluid = (radius < 5) & (np.abs(height) < 10)
    directions = np.concatenate(
        [np.zeros((unweighted, 3)), *[sphere(n, seed + k) for k, (_, n) in enumerate(shells)]]
    )
    bvals = np.concatenate([np.zeros(unweighted), *[np.full(n, float(b)) for b, n in shells]])
    isotropic = np.where(fluid, FLUID, GREY)[..., None]
    cosine = along @ directions.T
    across, length = FIBRE[1], FIBRE[0] - FIBRE[1]
    rate = np.where(fibre[..., None], across + length * cosine**2, isotropic)
    proton = np.where(fluid, 350.0, 100.0) * brain
    data = proton[..., None] * np.exp(-bvals * rate)
    if noise:
        random = np.random.default_rng(seed)
        real, imaginary = random.normal(0, noise, (2, *data.shape))
        data = np.hypot(data + real, imaginary)
    return Phantom(data.astype(np.float32), affine, bvals, directions, brain, fibre, along)


def write(
    planted: Phantom,
    path: Path,
    *,
    orientation: str = "RAS",
    turn: np.ndarray | None = None,
    rows: Any = None,
    spacing: float = SPACING,
) -> Path:
    """Write a phantom as a BIDS series in any orientation.

    Args:
        planted: What to write.
        path: The image's name, ending in ``.nii.gz``.
        orientation: Where its array axes point to.
        turn: A rotation of the whole world, of shape (3, 3).
        rows: Changes the bvec's table, of shape (3, volumes), before it is written.
        spacing: Of the phantom's voxels, in millimetres.
    """
    affine = planted.affine.copy()
    turn = np.eye(3) if turn is None else turn
    affine[:3] = turn @ affine[:3]
    image = nib.Nifti1Image(planted.data, planted.affine)
    moved = image.as_reoriented(
        ornt_transform(io_orientation(planted.affine), axcodes2ornt(orientation))
    )
    change = np.linalg.inv(planted.affine) @ moved.affine
    image = nib.Nifti1Image(np.asarray(moved.dataobj), affine @ change)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    # FSL's words: along the array axes, and x the other way if the determinant is positive.
    axes = image.affine[:3, :3] / spacing
    table = axes.T @ turn @ planted.directions.T
    if np.linalg.det(axes) > 0:
        table[0] = -table[0]
    stem = path.name.split(".")[0]
    np.savetxt(path.with_name(f"{stem}.bval"), planted.bvals[None], fmt="%g")
    np.savetxt(path.with_name(f"{stem}.bvec"), table if rows is None else rows(table), fmt="%.8f")
    return path
