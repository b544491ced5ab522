"""Raw heads with planted maps and known brains."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from heads_phantom import fake_head, placed, planted
from scipy.spatial.transform import Rotation

from braintune.heads_recipe import HeadsRecipe
from braintune.imaging.grid import Grid, ras_grid, resample
from braintune.imaging.heads.limits import dice
from braintune.imaging.heads.native import labels_to_native, map_to_native
from braintune.imaging.heads.preparing import prepare_head, register_head, to_ras
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.nifti import ScanError, Volume, write_volume
from braintune.recipe import PrepareRecipe

GRID = ras_grid((112, 128, 120), 2.0, np.array([4.0, -6.0, 0.0]))
NAME = Path("sub-1_T1w.nii.gz")
# The brain's middle and points around it, in the template's millimetres.
POINTS = np.array([[0, -20, 10], [50, -20, 10], [-50, -20, 10], [0, 50, 10], [0, -80, 0.0]])


def recipe(**heads: object) -> PrepareRecipe:
    return PrepareRecipe.model_validate(
        {"spacing": 3.0, "shape": (60, 72, 60), "heads": {"bias": "none", **heads}}
    )


def errors(head: RegisteredHead, map_: np.ndarray) -> tuple[float, float]:
    """Largest distance, in mm, of points that both maps take to the template, and the angle."""
    scan = POINTS @ np.linalg.inv(map_)[:3, :3].T + np.linalg.inv(map_)[:3, 3]
    found = scan @ head.to_template[:3, :3].T + head.to_template[:3, 3]
    left, _, right = np.linalg.svd(head.to_template[:3, :3] @ np.linalg.inv(map_[:3, :3]))
    angle = np.degrees(np.linalg.norm(Rotation.from_matrix(left @ right).as_rotvec()))
    return float(np.linalg.norm(found - POINTS, axis=1).max()), float(angle)


CASES = {
    "straight": ((0, 0, 0), (0, 0, 0), (1.08, 1.05, 1.1)),
    "turned by 30 degrees": ((30, 8, -12), (8, -5, 6), (1.07, 1.07, 1.07)),
    "on one shoulder": ((-15, -22, 15), (-12, 10, 0), (1.0, 1.12, 1.05)),
}


@pytest.fixture(scope="session", params=CASES)
def registered(request: pytest.FixtureRequest) -> tuple[RegisteredHead, np.ndarray, np.ndarray]:
    map_ = planted(*CASES[request.param])
    head, share = fake_head()
    scan = Volume(placed(head, map_, GRID), GRID.affine)
    truth = placed(share, map_, GRID) > 0.5
    return register_head(scan, recipe(), NAME), map_, truth


def test_planted_maps_are_found(registered: tuple[RegisteredHead, np.ndarray, np.ndarray]) -> None:
    head, map_, _ = registered
    distance, angle = errors(head, map_)
    assert distance < 1.5
    assert angle < 1.0


def test_the_brain_is_found(registered: tuple[RegisteredHead, np.ndarray, np.ndarray]) -> None:
    head, _, truth = registered
    assert dice(head.mask, truth) > 0.96
    assert head.evidence.flags == ()
    assert not head.stripped


def test_maps_and_labels_come_back(
    registered: tuple[RegisteredHead, np.ndarray, np.ndarray],
) -> None:
    head, _, _ = registered
    back = map_to_native(head.brain.astype(np.float32), head.grid, head.to_template, GRID)
    assert dice(back > 0.5, head.mask) > 0.97
    labels = labels_to_native(head.brain.astype(np.uint8) * 7, head.grid, head.to_template, GRID)
    assert set(np.unique(labels)) == {0, 7}
    assert dice(labels > 0, head.mask) > 0.97
    # One voxel of the left stays on the left.
    spot = np.zeros(head.grid.shape, dtype=np.float32)
    spot[15, 40, 30] = 1
    place = np.unravel_index(
        map_to_native(spot, head.grid, head.to_template, GRID).argmax(), GRID.shape
    )
    world = head.to_template @ GRID.affine @ np.array([*place, 1])
    wanted = head.grid.affine @ np.array([15, 40, 30, 1])
    assert np.linalg.norm(world - wanted) < 2.5


def test_the_same_scan_gives_the_same_numbers() -> None:
    head, _ = fake_head()
    scan = Volume(placed(head, np.eye(4), GRID), GRID.affine)
    mild = recipe(bias="n4", registration="rigid")
    one, other = (register_head(scan, mild, NAME) for _ in range(2))
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)
    # No stretch: lengths stay.
    assert np.allclose(np.linalg.svd(one.to_template[:3, :3])[1], 1)


def test_a_scan_without_skull_is_known_for_one() -> None:
    head, share = fake_head()
    map_ = planted((5, 0, 0), (0, 0, 5), (1.05, 1.05, 1.05))
    brain = placed(share, map_, GRID) > 0.5
    scan = Volume(np.where(brain, placed(head, map_, GRID), 0).astype(np.float32), GRID.affine)
    found = register_head(scan, recipe(), NAME)
    assert found.stripped
    assert dice(found.mask, brain) > 0.995
    assert errors(found, map_)[0] < 1.5


def test_a_known_mask_is_kept() -> None:
    head, share = fake_head()
    mask = placed(share, np.eye(4), GRID) > 0.5
    scan = Volume(placed(head, np.eye(4), GRID), GRID.affine)
    found = register_head(scan, recipe(), NAME, mask)
    assert np.array_equal(found.mask, mask)
    assert errors(found, np.eye(4))[0] < 1.5


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_no_orientation_swaps_sides(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    """All 48 ways to store the same scan are the same scan in RAS, its lesion on the left."""
    data = np.zeros((9, 11, 13), dtype=np.float32)
    data[1, 7, 4] = 1  # on the left, in front, below
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    affine[:3, 3] = [-8, -12, -20]
    stored = data.transpose(axes)
    index = np.zeros((4, 4))
    index[3, 3] = 1
    for own, axis in enumerate(axes):
        index[axis, own] = signs[own]
        if signs[own] < 0:
            index[axis, 3] = data.shape[axis] - 1
    stored = stored[tuple(slice(None, None, sign) for sign in signs)]
    back = to_ras(Volume(np.ascontiguousarray(stored), affine @ index))
    assert np.allclose(back.affine, affine)
    assert np.array_equal(back.data, data)


def test_noise_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).random((60, 60, 60)).astype(np.float32)
    path = tmp_path / "noise.nii.gz"
    write_volume(path, noise, np.diag([3.0, 3, 3, 1]))
    with pytest.raises(ScanError, match="could not be brought to the template"):
        prepare_head(path, recipe())


def test_half_a_head_and_thick_slices_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((60, 60, 20)).astype(np.float32)
    for spacing, message in ((3.0, "holds no whole head"), (9.0, "too thick")):
        path = tmp_path / f"{spacing}.nii.gz"
        write_volume(path, values, np.diag([spacing, spacing, spacing, 1]))
        with pytest.raises(ScanError, match=message):
            prepare_head(path, recipe())


def test_one_interpolation_keeps_what_a_grid_can_hold() -> None:
    """On a scan that needs no move, the image is the scan itself at the template's voxels."""
    head, _ = fake_head()
    scan = Volume(placed(head, np.eye(4), GRID), GRID.affine)
    plain = recipe(registration="none", skull="keep")
    found = register_head(scan, plain, NAME)
    assert np.array_equal(found.to_template, np.eye(4))
    wanted = resample(scan, Grid(found.image.shape, found.grid.affine))
    assert np.array_equal(found.image, wanted)


def test_presets_are_plain_settings() -> None:
    preset = PrepareRecipe.model_validate({"preset": "mni-2mm", "heads": {"bias": "none"}})
    assert preset.shape == (91, 109, 91)
    assert preset.heads == HeadsRecipe(bias="none", registration="affine-9")
    assert PrepareRecipe.model_validate(preset.model_dump()) == preset
    with pytest.raises(ValueError, match="unknown preset 'mni-2'"):
        PrepareRecipe.model_validate({"preset": "mni-2"})
