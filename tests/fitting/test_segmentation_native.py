"""Label maps land on the right voxels of the scan's own grid, whatever that is."""

import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from braintune.fitting.precision import Precision
from braintune.fitting.segmentation.inference import Window, probabilities
from braintune.fitting.segmentation.native import CleanUp, cleaned, decide, to_native
from braintune.fitting.segmentation.segmenter import Segmenter
from braintune.imaging.grid import Grid
from braintune.imaging.labelled import prepare_whole
from braintune.recipe import PrepareRecipe

PRECISION = Precision("fp32", channels_last=False)
PREPARE = PrepareRecipe(spacing=1.0, shape=(24, 24, 24), intensity="none", brain="whole")
ORIENTATIONS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def threshold(images: torch.Tensor) -> torch.Tensor:
    """A network that needs no training: above 1.5 is label 2, above 0.5 label 1."""
    edges = torch.stack([0.5 - images[:, 0], 2 * images[:, 0] - 1, 6 * images[:, 0] - 7], 1)
    return 50 * edges


def segmenter(prepare: PrepareRecipe = PREPARE, **window: Any) -> Segmenter:
    values = {"patch": (16, 16, 16), "overlap": 0.25, "mirrors": ((),), "classes": (0, 1, 2)}
    return Segmenter(
        [threshold],
        prepare,
        Window(**{**values, **window}),
        CleanUp(largest=False, smallest=0.0),
        PRECISION,
        torch.device("cpu"),
    )


def body() -> np.ndarray:
    """An object without any symmetry, of two labels, off the middle."""
    scan = np.zeros((22, 20, 18), dtype=np.float32)
    scan[3:12, 4:9, 5:10] = 1
    scan[3:6, 4:15, 5:8] = 1
    scan[9:12, 6:9, 8:15] = 2
    return scan


def turned(axes: tuple[int, ...], signs: tuple[int, ...]) -> nib.Nifti1Image:
    """The object in another order and direction of axes, at the same place of the world."""
    affine = np.eye(4)
    affine[:3, 3] = (5, -40, 12)
    image = nib.Nifti1Image(body(), affine)
    return image.as_reoriented(np.array(list(zip(axes, signs, strict=True)), dtype=float))


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_an_object_is_found_in_each_of_the_48_orientations(
    tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Half of these affines are left-handed."""
    image = turned(axes, signs)
    nib.save(image, tmp_path / "scan.nii")
    found = segmenter()(tmp_path / "scan.nii")
    assert np.array_equal(found.labels, np.asarray(image.dataobj).astype(np.uint8))
    assert np.array_equal(found.native.affine, image.affine)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.7, 1.0, 2.0), (1.5, 0.6, 1.0)])
@pytest.mark.parametrize("handed", [1, -1])
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_an_object_is_found_on_rotated_and_anisotropic_voxels(
    tmp_path: Path, spacing: tuple[float, ...], handed: int, angle: float
) -> None:
    """Nearly all voxels of a smooth body agree, and its middle lies where it was put."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) * spacing
    affine[:3, 0] *= handed
    affine[:3, 3] = (10, -20, 30)
    shape = tuple(int(30 / size) for size in spacing)
    index = np.indices(shape).reshape(3, -1)
    world = (affine[:3, :3] @ index + affine[:3, 3:]).T
    middle = affine[:3, :3] @ (np.array(shape) / 2 + (2 / np.array(spacing))) + affine[:3, 3]
    inside = np.linalg.norm((world - middle) / (9, 6, 7.5), axis=1) < 1
    image = inside.reshape(shape).astype(np.float32)
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "scan.nii")
    prepare = PREPARE.model_copy(update={"spacing": 0.8})
    found = segmenter(prepare)(tmp_path / "scan.nii").labels > 0
    overlap = 2 * (found & (image > 0)).sum() / (found.sum() + image.sum())
    assert found.shape == shape
    assert overlap > 0.93
    shift = np.subtract(ndimage.center_of_mass(found), ndimage.center_of_mass(image))
    assert np.abs(affine[:3, :3] @ shift).max() < 0.15


def test_all_of_a_scan_is_answered_for_not_only_the_prepared_shape(tmp_path: Path) -> None:
    scan = np.zeros((40, 30, 12), dtype=np.float32)
    scan[0:3, 2:6, 1:5], scan[36:40, 24:30, 8:12] = 1, 1
    nib.save(nib.Nifti1Image(scan, np.eye(4)), tmp_path / "scan.nii")
    prepare = PREPARE.model_copy(update={"shape": (16, 16, 16)})
    assert np.array_equal(segmenter(prepare)(tmp_path / "scan.nii").labels, scan.astype(np.uint8))


def test_a_scan_smaller_than_the_patch_is_padded(tmp_path: Path) -> None:
    scan = np.zeros((5, 30, 4), dtype=np.float32)
    scan[1:4, 10:20, 1:3] = 1
    nib.save(nib.Nifti1Image(scan, np.eye(4)), tmp_path / "scan.nii")
    found = segmenter(patch=(24, 24, 24))(tmp_path / "scan.nii")
    assert np.array_equal(found.labels, scan.astype(np.uint8))


def test_the_stored_part_is_the_prepared_scan(tmp_path: Path) -> None:
    """What is trained on is a cut-out of what is segmented."""
    image = turned((1, 0, 2), (1, -1, 1))
    nib.save(image, tmp_path / "scan.nii")
    scan = prepare_whole(tmp_path / "scan.nii", PREPARE)
    stored = scan.prepared()
    assert stored.image.shape == (1, 24, 24, 24)
    assert stored.image.sum() == body().sum()
    offset = (np.linalg.inv(stored.affine) @ scan.grid.affine)[:3, 3].astype(int)
    x, y, z = offset
    part = stored.image[0, x : x + 22, y : y + 20, z : z + 18]
    assert np.array_equal(part, body().astype(np.float16))


def test_patches_that_overlap_blend_to_the_whole() -> None:
    """A network that looks at each voxel alone gives the same by patches as at once."""
    image = torch.rand(1, 30, 21, 17) * 3
    window = Window((16, 16, 16), 0.5, ((),), (0, 1, 2))
    blended = probabilities([threshold], image, window, PRECISION)
    assert torch.allclose(blended, threshold(image[None]).softmax(1)[0], atol=1e-5)


def test_patches_of_nothing_are_background_and_not_computed() -> None:
    calls = []

    def counting(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return threshold(images) - 99

    image = torch.zeros(1, 32, 8, 8)
    image[:, :4] = 2
    window = Window((8, 8, 8), 0.0, ((),), (0, 1, 2))
    found = probabilities([counting], image, window, PRECISION)
    assert sum(calls) == 1
    assert (found[0, 8:] == 1).all()


def test_mirror_images_are_mirrored_back_and_sides_are_swapped() -> None:
    """A network that calls the lower half of an axis label 1, the upper label 2."""

    def halves(images: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, images.shape[2]).view(1, -1, 1, 1).expand_as(images[:, 0])
        return torch.stack([torch.full_like(ramp, -9.0), -9 * ramp, 9 * ramp], dim=1)

    image = torch.ones(1, 8, 8, 8)
    one = Window((8, 8, 8), 0.0, ((),), (0, 2, 1))
    plain = probabilities([halves], image, one, PRECISION)
    both = Window((8, 8, 8), 0.0, ((), (2,)), (0, 2, 1))
    # The mirrored network's answer, mirrored back and with its sides swapped, is its own.
    assert torch.allclose(probabilities([halves], image, both, PRECISION), plain, atol=1e-6)
    unswapped = Window((8, 8, 8), 0.0, ((), (2,)), (0, 1, 2))
    blurred = probabilities([halves], image, unswapped, PRECISION)
    assert torch.allclose(blurred[1], blurred[2], atol=1e-6)


def test_several_networks_are_averaged() -> None:
    image = torch.rand(1, 8, 8, 8)
    window = Window((8, 8, 8), 0.0, ((), (2,), (3,), (2, 3)), (0, 1, 2))
    other = lambda images: -threshold(images)  # noqa: E731
    apart = [probabilities([n], image, window, PRECISION) for n in (threshold, other)]
    together = probabilities([threshold, other], image, window, PRECISION)
    assert torch.allclose(together, (apart[0] + apart[1]) / 2, atol=1e-6)


def test_probabilities_are_resampled_and_then_decided() -> None:
    """On voxels twice as thick the likelier class wins, and they add up to one."""
    chances = np.zeros((2, 8, 8, 8), dtype=np.float32)
    chances[1, :, :, :4] = 1
    chances[0] = 1 - chances[1]
    grid, native = Grid((8, 8, 8), np.eye(4)), Grid((8, 8, 4), np.diag([1.0, 1, 2, 1]))
    native.affine[2, 3] = 0.5
    assert np.allclose(to_native(chances, grid, native).sum(axis=0), 1)
    assert np.array_equal(decide(chances, grid, native)[4, 4], [1, 1, 0, 0])
    far = np.eye(4)
    far[:3, 3] = 100
    beyond = to_native(chances, grid, Grid((2, 2, 2), far))
    assert (beyond[0] == 1).all()


def test_deciding_class_by_class_is_deciding_at_once() -> None:
    random = np.random.default_rng(0)
    chances = random.dirichlet([1, 1, 1, 1], (9, 8, 7)).transpose(3, 0, 1, 2).astype(np.float32)
    affine = np.diag([0.7, 1.3, 2.1, 1])
    affine[:3, 3] = (0.3, -1.0, 0.2)
    grid, native = Grid((9, 8, 7), np.eye(4)), Grid((12, 7, 4), affine)
    expected = to_native(chances, grid, native).argmax(axis=0)
    assert np.array_equal(decide(chances, grid, native), expected)
    assert len(np.unique(expected)) == 4


def test_small_and_stray_parts_are_dropped_of_each_label_for_itself() -> None:
    labels = np.zeros((12, 6, 6), dtype=np.uint8)
    labels[0:4, 0:2, 0:2] = 1
    labels[7:9, 0:2, 0:2] = 1
    labels[11, 5, 5] = 2
    labels[4, 2, 2] = 1  # touches the large part by a corner
    thick = np.diag([1.0, 1, 2, 1])
    assert cleaned(labels, thick, CleanUp(False, 0.0)) is labels
    largest = cleaned(labels, thick, CleanUp(True, 0.0))
    assert [(largest == n).sum() for n in (1, 2)] == [17, 1]
    small = cleaned(labels, thick, CleanUp(False, 16.0))
    assert [(small == n).sum() for n in (1, 2)] == [25, 0]
    assert not cleaned(labels, thick, CleanUp(False, 1e9)).any()
    assert labels.sum() == 27
