"""Label maps on the grids of their images, and stores that hold both."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.imaging.grid import Grid, covering, ras_grid, resample_labels, snapped
from braintune.imaging.label_maps import LabelTable, read_label_map
from braintune.imaging.label_pictures import PALETTE, contour_slices
from braintune.imaging.labelled import prepare_labelled
from braintune.imaging.nifti import Volume
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe

TABLE = LabelTable((3, 40), ("small", "large"))


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.integers(2, 6)] * 3),
    st.floats(0.4, 3.0),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.integers(0, 999),
)
def test_a_covering_grid_holds_every_voxel_and_shares_the_lattice(
    shape: tuple[int, int, int], spacing: float, angles: tuple[float, ...], seed: int
) -> None:
    random = np.random.default_rng(seed)
    x, y, z = angles
    turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.linalg.qr(np.eye(3) + turn)[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * random.uniform(0.5, 3, 3)
    affine[:3, 3] = random.uniform(-50, 50, 3)
    volume = Volume(np.zeros(shape, dtype=np.float32), affine)
    inner = snapped(ras_grid((8, 8, 8), spacing, np.zeros(3)), volume)
    grid = covering(inner, volume)
    index = np.indices(shape).reshape(3, -1)
    there = np.linalg.inv(grid.affine) @ affine @ np.vstack([index, np.ones(index.shape[1])])
    assert there[:3].min() > -0.01
    assert (there[:3].max(axis=1) < np.array(grid.shape) - 1 + 0.01).all()
    offset = np.linalg.inv(inner.affine) @ grid.affine
    assert np.allclose(offset[:3, :3], np.eye(3), atol=1e-6)
    assert np.allclose(offset[:3, 3], np.round(offset[:3, 3]), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999))
def test_labels_take_the_nearest_voxel(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, (5, 6, 4)).astype(np.uint8)
    own = Grid((5, 6, 4), np.diag([1.0, 2, 1.5, 1]))
    affine = np.diag([*random.uniform(0.4, 2, 3), 1.0])
    affine[:3, 3] = random.uniform(-2, 2, 3)
    found = resample_labels(labels, own, Grid((6, 6, 6), affine))
    for place in np.ndindex(6, 6, 6):
        index = (np.linalg.inv(own.affine) @ affine @ [*place, 1])[:3]
        if np.abs(index - np.floor(index) - 0.5).min() < 1e-6:
            continue
        near = np.rint(index).astype(int)
        inside = (near >= 0).all() and (near < labels.shape).all()
        assert found[place] == (labels[tuple(near)] if inside else 0)


def test_values_are_numbered_in_their_order(tmp_path: Path) -> None:
    data = np.array([0, 40, 3, 3], dtype=np.int16).reshape(2, 2, 1)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "labels.nii")
    found = read_label_map(tmp_path / "labels.nii", Grid((2, 2, 1), np.eye(4)), TABLE)
    assert np.array_equal(found, np.array([0, 2, 1, 1], np.uint8).reshape(2, 2, 1))
    assert np.array_equal(TABLE.written(found), data)


def test_an_affine_of_few_digits_is_the_same_grid(tmp_path: Path) -> None:
    data = np.zeros((4, 4, 4), dtype=np.uint8)
    affine = np.eye(4) + 0.003
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "labels.nii")
    near = Grid((4, 4, 4), np.round(affine, 2))
    assert not read_label_map(tmp_path / "labels.nii", near, TABLE).any()


def test_image_and_labels_are_prepared_on_one_grid_and_kept_together(tmp_path: Path) -> None:
    labels = np.zeros((10, 12, 8), dtype=np.int16)
    labels[2:5, 3:9, 2:6], labels[5:8, 3:6, 2:6] = 3, 40
    affine = np.diag([-1.0, 1, 1, 1])
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii")
    image = (labels * 10 + 1).astype(np.float32)
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "image.nii")
    recipe = PrepareRecipe(spacing=1.0, shape=(12, 12, 12), intensity="none", brain="whole")
    scan, found = prepare_labelled(tmp_path / "image.nii", tmp_path / "labels.nii", recipe, TABLE)
    values = TABLE.written(found)
    assert (scan.image[0][values == 3] == 31).all()
    assert (scan.image[0][values == 40] == 401).all()
    assert (found > 0).sum() == (labels > 0).sum()

    store = PreparedStore.create(tmp_path / "store", recipe, {"small": 3, "large": 40})
    store.write("a", scan, "here", found)
    opened = PreparedStore.open(tmp_path / "store")
    assert np.array_equal(opened.read("a"), scan.image)
    assert np.array_equal(opened.read_labels("a"), found)
    into = np.empty(store.shape, dtype=np.float16)
    opened.read_into("a", into)
    assert np.array_equal(into, scan.image)
    assert opened.facts("a").voxels == scan.voxels
    assert store.fingerprint != PreparedStore(tmp_path, recipe).fingerprint
    assert store.fingerprint != PreparedStore(tmp_path, recipe, {"small": 4}).fingerprint
    for labels_of_another in (None, {"small": 4}):
        with pytest.raises(InputError, match="has label maps of"):
            PreparedStore.create(tmp_path / "store", recipe, labels_of_another)
    with pytest.raises(InputError, match="holds no scan 'b'"):
        opened.read_labels("b")


def test_contours_are_drawn_around_labels() -> None:
    image = np.random.default_rng(0).random((30, 40, 20))
    labels = np.zeros((30, 40, 20), dtype=np.uint8)
    labels[10:20, 10:30, 5:15] = 2
    reference = np.zeros_like(labels)
    reference[12:22, 10:30, 5:15] = 2
    picture = contour_slices(image, labels, reference)
    colors = set(map(tuple, picture.reshape(-1, 3).tolist()))
    assert PALETTE[1] in colors
    assert PALETTE[0] not in colors
    assert (255, 255, 255) in colors
    plain = contour_slices(image, np.zeros_like(labels))
    assert (plain[..., 0] == plain[..., 1]).all()
