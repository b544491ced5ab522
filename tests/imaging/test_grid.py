import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.processing import resample_from_to

from braintune.imaging.grid import (
    Grid,
    center_of_mass,
    ras_grid,
    resample,
    snapped,
    world_center,
)
from braintune.imaging.nifti import Volume

RANDOM = np.random.default_rng(0)
ORIENTATIONS = [
    axes
    for order in itertools.permutations(range(3))
    for flips in itertools.product([1, -1], repeat=3)
    for axes in [tuple(zip(order, flips, strict=True))]
]


def marked() -> Volume:
    """An RAS volume whose every voxel differs."""
    data = RANDOM.normal(size=(8, 9, 7)).astype(np.float32)
    return Volume(data, np.array([[2.0, 0, 0, -7], [0, 2, 0, -5], [0, 0, 2, 3], [0, 0, 0, 1]]))


def reoriented(volume: Volume, axes: tuple[tuple[int, int], ...]) -> Volume:
    image = nib.Nifti1Image(volume.data, volume.affine)
    moved = image.as_reoriented(np.array(axes))
    return Volume(np.asarray(moved.dataobj, dtype=np.float32), moved.affine)


@pytest.mark.parametrize("axes", ORIENTATIONS, ids=str)
def test_every_orientation_comes_back_exactly(axes: tuple[tuple[int, int], ...]) -> None:
    """All 48 ways to store one brain give one array: no flip goes unnoticed."""
    volume = marked()
    stored = reoriented(volume, axes)
    grid = snapped(ras_grid((8, 9, 7), 2.0, world_center(stored)), stored)
    assert np.array_equal(resample(stored, grid), volume.data)
    assert np.allclose(grid.affine, volume.affine)


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(3, 14)] * 3),
    shift=st.tuples(*[st.integers(-6, 6)] * 3),
    axes=st.sampled_from(ORIENTATIONS),
)
def test_crop_and_pad_move_no_voxel_in_the_world(
    shape: tuple[int, int, int],
    shift: tuple[int, int, int],
    axes: tuple[tuple[int, int], ...],
) -> None:
    stored = reoriented(marked(), axes)
    affine = marked().affine.copy()
    affine[:3, 3] += 2.0 * np.array(shift)
    result = resample(stored, Grid(shape, affine))
    reference = resample_from_to(
        nib.Nifti1Image(stored.data, stored.affine), (shape, affine), order=0
    )
    assert np.array_equal(result, np.asarray(reference.dataobj, dtype=np.float32))


def test_interpolation_agrees_with_nibabel_on_oblique_scans() -> None:
    volume = marked()
    turn = nib.eulerangles.euler2mat(0.2, 0.1, -0.3)
    affine = volume.affine.copy()
    affine[:3, :3] = turn @ affine[:3, :3]
    stored = Volume(volume.data, affine)
    grid = ras_grid((10, 10, 10), 2.0, world_center(stored))
    reference = resample_from_to(
        nib.Nifti1Image(stored.data, affine), (grid.shape, grid.affine), order=1
    )
    # Turned voxels look at most 1.5 times as wide, so that only little is smoothed away.
    inside = np.s_[3:-3, 3:-3, 3:-3]
    result = resample(stored, grid)[inside]
    assert np.corrcoef(result.ravel(), np.asarray(reference.dataobj)[inside].ravel())[0, 1] > 0.8


def test_coarser_grids_average_instead_of_skipping() -> None:
    fine = Volume(RANDOM.normal(size=(64, 64, 64)).astype(np.float32), np.eye(4))
    coarse = resample(fine, ras_grid((12, 12, 12), 4.0, world_center(fine)))
    assert 0.02 < coarse.std() < 0.25
    flat = Volume(np.ones((64, 64, 64), dtype=np.float32), np.eye(4))
    middle = resample(flat, ras_grid((12, 12, 12), 4.0, world_center(flat)))
    assert np.allclose(middle, 1, atol=1e-3)


def test_a_point_lands_where_it_is_in_the_world() -> None:
    data = np.zeros((40, 40, 40), dtype=np.float32)
    data[10:13, 20:23, 30:33] = 1
    affine = np.array([[0, 1.0, 0, -9], [-1.0, 0, 0, 4], [0, 0, 1.3, 0], [0, 0, 0, 1]])
    volume = Volume(data, affine)
    there = center_of_mass(volume, data > 0)
    assert np.allclose(there, (affine @ [11, 21, 31, 1])[:3])
    grid = ras_grid((30, 30, 30), 2.0, world_center(volume))
    moved = resample(volume, grid)
    assert np.allclose(center_of_mass(Volume(moved, grid.affine), moved > 0.1), there, atol=1.0)


def test_snapping_moves_less_than_a_voxel_and_only_like_lattices() -> None:
    volume = marked()
    wanted = ras_grid((6, 6, 6), 2.0, world_center(volume))
    assert np.abs(snapped(wanted, volume).affine - wanted.affine).max() <= 2.0
    other = ras_grid((6, 6, 6), 3.0, world_center(volume))
    assert snapped(other, volume) is other
