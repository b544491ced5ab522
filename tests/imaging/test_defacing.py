"""The face goes, and nothing near to the brain changes, wherever the head lies."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from braintune.imaging.defacing import SPARED_MM, without_face
from braintune.imaging.nifti import Volume

SPACING = 4.0
# Of a head in MNI152 space, in millimetres: middles and radii.
BRAIN = ((0, -18, 5), (68, 86, 66))
SKIN = ((0, -18, -5), (84, 108, 95))
FACIAL = {
    "right eye": (32, 62, -38),
    "left eye": (-32, 62, -38),
    "nose": (0, 98, -50),
    "mouth": (0, 78, -88),
    "chin": (0, 70, -115),
}
KEPT = {"vertex": (0, -18, 85), "back of the head": (0, -120, 0), "ear": (80, -15, -20)}


def ellipsoid(points: np.ndarray, middle: tuple, radii: tuple) -> np.ndarray:
    return (((points - np.array(middle)) / np.array(radii)) ** 2).sum(axis=-1) < 1


def head(turn: np.ndarray, shift: np.ndarray) -> tuple[Volume, np.ndarray, np.ndarray]:
    """A head whose world is turned and moved against the template's: scan, brain, transform."""
    shape = (64, 72, 68)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -SPACING * (np.array(shape) - 1) / 2
    to_template = np.eye(4)
    to_template[:3, :3] = turn
    to_template[:3, 3] = shift
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    moved = to_template @ affine
    points = index @ moved[:3, :3].T + moved[:3, 3]
    brain = ellipsoid(points, *BRAIN)
    data = np.where(ellipsoid(points, *SKIN), 40.0, 0.0)
    for middle in FACIAL.values():
        data[ellipsoid(points, middle, (14, 14, 14))] = 60
    data[brain] = 100
    return Volume(data.astype(np.float32), affine), brain, to_template


def value_at(scan: Volume, to_template: np.ndarray, place: tuple) -> tuple[int, ...]:
    index = np.linalg.inv(to_template @ scan.affine) @ np.array([*place, 1.0])
    return tuple(index[:3].round().astype(int))


@settings(max_examples=12)
@given(angles=st.tuples(*[st.floats(-30, 30)] * 3), shift=st.tuples(*[st.floats(-10, 10)] * 3))
def test_face_goes_and_brain_stays(
    angles: tuple[float, float, float], shift: tuple[float, float, float]
) -> None:
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    scan, brain, to_template = head(turn, np.array(shift))
    found = without_face(scan, brain, to_template)
    near = ndimage.distance_transform_edt(~brain, sampling=SPACING) <= SPARED_MM
    assert np.array_equal(found[near], scan.data[near])
    for place in FACIAL.values():
        index = value_at(scan, to_template, place)
        if all(0 <= n < size for n, size in zip(index, scan.data.shape, strict=True)):
            assert found[index] == 0, place
    for name, place in KEPT.items():
        index = value_at(scan, to_template, place)
        if all(0 <= n < size for n, size in zip(index, scan.data.shape, strict=True)):
            assert found[index] == scan.data[index], name


def test_most_of_the_head_is_kept() -> None:
    scan, brain, to_template = head(np.eye(3), np.zeros(3))
    found = without_face(scan, brain, to_template)
    changed = found != scan.data
    assert 0.03 < changed.sum() / (scan.data > 0).sum() < 0.3
    assert not changed[brain].any()
    assert found.dtype == np.float32


def test_a_wrong_registration_can_not_cut_into_the_brain() -> None:
    scan, brain, to_template = head(np.eye(3), np.zeros(3))
    wrong = to_template.copy()
    wrong[1, 3] += 60  # the whole head seems to lie in front of the surface
    found = without_face(scan, brain, wrong)
    assert np.array_equal(found[brain], scan.data[brain])
    assert (without_face(scan, np.zeros_like(brain), wrong)[brain] == 0).any()
