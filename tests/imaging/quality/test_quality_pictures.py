"""The strip shows the scan upright, whatever its orientation, with outlines where they belong."""

import numpy as np
import pytest

from braintune.imaging.nifti import Volume
from braintune.imaging.quality.pictures import (
    MASK_COLOR,
    TEMPLATE_COLOR,
    plain_strip,
    strip,
)
from braintune.imaging.quality.template import quality_template


def painted(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(color)).all(axis=2)


def halves(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = picture.shape[1] // 2
    return picture[:, :middle], picture[:, middle:]


def test_mask_is_drawn_on_the_native_and_template_on_the_registered_half() -> None:
    template = quality_template()
    volume = Volume(template.t1, template.grid.affine)
    native, registered = halves(strip(volume, template.brain, np.eye(4), template))
    assert painted(native, MASK_COLOR).sum() > 300
    assert not painted(native, TEMPLATE_COLOR).any()
    assert painted(registered, TEMPLATE_COLOR).sum() > 300
    assert not painted(registered, MASK_COLOR).any()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flipped", [(), (0,), (0, 1, 2)])
def test_the_picture_is_the_same_for_every_storage_order(
    order: tuple[int, int, int], flipped: tuple[int, ...]
) -> None:
    template = quality_template()
    affine = np.array(template.grid.affine)
    data, mask = template.t1, template.brain
    reference = strip(Volume(data, affine), mask, np.eye(4), template)
    turned = affine[:, [*order, 3]]
    data, mask = data.transpose(order), mask.transpose(order)
    for axis in flipped:
        turned[:3, 3] += turned[:3, axis] * (data.shape[axis] - 1)
        turned[:3, axis] *= -1
    volume = Volume(np.ascontiguousarray(np.flip(data, flipped)), turned)
    same = strip(volume, np.ascontiguousarray(np.flip(mask, flipped)), np.eye(4), template)
    assert np.abs(reference.astype(int) - same.astype(int)).mean() < 2


def test_the_registered_half_is_moved_by_the_transform_alone() -> None:
    template = quality_template()
    own = np.eye(4)
    own[:3, 3] = [30, -20, 10]
    moved = Volume(template.t1, own @ template.grid.affine)
    _, right = halves(strip(moved, template.brain, np.linalg.inv(own), template))
    here = Volume(template.t1, template.grid.affine)
    _, reference = halves(strip(here, template.brain, np.eye(4), template))
    assert np.abs(right.astype(int) - reference.astype(int)).mean() < 1


def test_a_scan_without_a_mask_has_a_picture_too() -> None:
    data = np.zeros((40, 30, 20), np.float32)
    data[10:30, 10:20, 5:15] = 100
    data[0, 0, 0] = np.nan
    picture = plain_strip(Volume(data, np.diag([4.0, 4, 4, 1])))
    assert picture.max() == 255
    assert not painted(picture, MASK_COLOR).any()
