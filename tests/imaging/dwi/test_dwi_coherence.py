"""Swapped and flipped axes of gradients are found by the fibres, and named."""

from pathlib import Path

import numpy as np
import pytest

from braintune.dwi_recipe import DwiRecipe
from braintune.imaging.dwi.coherence import AxisChange, axis_changes, better_change, coherence
from braintune.imaging.dwi.maps import tensor_maps
from braintune.imaging.dwi.series import read_dwi
from braintune.imaging.dwi.tensor import MAPS, fit_tensors
from braintune.imaging.nifti import ScanError
from imaging.dwi.carried_data import carried
from imaging.dwi.dwi_phantom import phantom, write

TRUSTED = DwiRecipe(gradients="trust")


def fitted(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Anisotropy, principal directions in the file's frame, mask and affine."""
    series = read_dwi(path, DwiRecipe())
    tensors = fit_tensors(series.data, series.gradients, series.mask, 50)
    return MAPS["fa"](tensors.values), tensors.principal, series.mask, series.affine


def index_of(path: Path) -> np.ndarray:
    return coherence(*fitted(path))


def mends(mending: AxisChange, change: AxisChange) -> bool:
    """Whether one change after the other leaves every direction, or turns every one around."""
    together = mending.matrix @ change.matrix
    return np.array_equal(together, np.eye(3)) or np.array_equal(together, -np.eye(3))


def test_there_are_24_different_changes() -> None:
    """All 48 signed orders of three axes, opposite ones being the same for a direction."""
    matrices = [change.matrix for change in axis_changes()]
    assert np.array_equal(matrices[0], np.eye(3))
    distinct = {tuple((sign * matrix).ravel()) for matrix in matrices for sign in (1, -1)}
    assert len(distinct) == 48


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SLA"])
def test_right_gradients_are_accepted(tmp_path: Path, orientation: str) -> None:
    path = write(phantom(noise=3), tmp_path / "sub-1_dwi.nii.gz", orientation=orientation)
    index = index_of(path)
    assert index.sum(axis=1).argmax() == 0
    assert better_change(index) is None


def test_wrong_gradients_are_found_and_the_change_mends_them(tmp_path: Path) -> None:
    """Of the 23 wrong tables, those that the phantom's near-symmetry hides may pass, no others."""
    path = write(phantom(noise=3), tmp_path / "sub-1_dwi.nii.gz", orientation="LIP")
    fa, principal, mask, affine = fitted(path)
    found = 0
    for change in axis_changes()[1:]:
        # A tensor of turned gradients is the turned tensor.
        mending = better_change(coherence(fa, principal @ change.matrix.T, mask, affine))
        if mending is not None:
            found += 1
            assert mends(mending, change)
    assert found >= 20


def test_the_refusal_names_the_change_and_the_users_word(tmp_path: Path) -> None:
    planted, path = phantom(noise=3), tmp_path / "sub-1_dwi.nii.gz"
    write(planted, path, rows=lambda rows: rows[[1, 0, 2]])
    with pytest.raises(ScanError, match=r"rows x, y, z become y, x, z\..*gradients: trust"):
        tensor_maps(path, DwiRecipe())
    trusted = tensor_maps(path, TRUSTED)
    right = tensor_maps(write(planted, path), DwiRecipe())
    for name in ("fa", "md"):
        np.testing.assert_allclose(trusted.maps[name], right.maps[name], atol=1e-4)


def test_real_gradients_are_accepted_and_wrong_ones_found(tmp_path: Path) -> None:
    """A thousand voxels that DIPY carries: enough to be sure of some wrong tables, and never wrong.

    A whole brain has a hundred times as many, and standard errors a tenth as large.
    """
    path, *_ = carried("small_64D", tmp_path)
    index = index_of(path)
    assert index.sum(axis=1).argmax() == 0
    assert better_change(index) is None
    bvec = path.with_name(path.name.replace(".nii.gz", ".bvec"))
    rows = np.loadtxt(bvec)
    found = 0
    for change in axis_changes()[1:]:
        np.savetxt(bvec, rows @ change.matrix.T)
        mending = better_change(index_of(path))
        if mending is not None:
            found += 1
            assert mends(mending, change)
    assert found >= 5


def test_what_has_no_fibres_is_accepted(tmp_path: Path) -> None:
    planted = phantom(((1000.0, 12),))
    isotropic = 100 * planted.brain[..., None] * np.exp(-planted.bvals * 0.8e-3)
    even = type(planted)(**{**planted.__dict__, "data": isotropic.astype(np.float32)})
    found = tensor_maps(write(even, tmp_path / "sub-1_dwi.nii.gz"), DwiRecipe())
    assert found.maps["fa"].max() < 0.01
