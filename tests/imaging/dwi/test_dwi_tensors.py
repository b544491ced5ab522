"""Maps against planted tensors, and against DIPY's own way to make them."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel

from braintune.dwi_recipe import DwiRecipe
from braintune.imaging.dwi.gradients import world_frame
from braintune.imaging.dwi.maps import tensor_maps
from braintune.imaging.dwi.series import read_dwi
from braintune.imaging.dwi.tensor import MAPS, fit_tensors
from braintune.imaging.nifti import ScanError
from imaging.dwi.carried_data import carried
from imaging.dwi.dwi_phantom import FIBRE, FIBRE_FA, FIBRE_MD, FLUID, GREY, phantom, write

ALL = DwiRecipe(maps=("fa", "md", "ad", "rd"))
AXES = [
    "".join(letters)
    for order in itertools.permutations([("R", "L"), ("A", "P"), ("S", "I")])
    for letters in itertools.product(*order)
]


def test_planted_tensors_come_back(tmp_path: Path) -> None:
    planted = phantom()
    found = tensor_maps(write(planted, tmp_path / "sub-1_dwi.nii.gz"), ALL)
    fibre, brain = planted.fibre & found.mask, planted.brain & found.mask
    assert fibre.sum() > 500
    expected = {"fa": FIBRE_FA, "md": FIBRE_MD, "ad": FIBRE[0] * 1e3, "rd": FIBRE[1] * 1e3}
    for name, value in expected.items():
        np.testing.assert_allclose(found.maps[name][fibre], value, rtol=0.001)
    values = found.maps["md"][brain & ~fibre]
    assert set(np.round(values, 3)) == {np.float32(GREY * 1e3), np.float32(FLUID * 1e3)}
    assert found.maps["fa"][brain & ~fibre].max() < 0.01
    assert all((array[~found.mask] == 0).all() for array in found.maps.values())


def test_noise_leaves_the_planted_fa_within_one_percent(tmp_path: Path) -> None:
    """At a signal-to-noise ratio of 33, as good scanners give."""
    planted = phantom(((1000.0, 64),), noise=3)
    found = tensor_maps(write(planted, tmp_path / "sub-1_dwi.nii.gz"), ALL)
    fibre = planted.fibre & found.mask
    assert np.median(found.maps["fa"][fibre]) == pytest.approx(FIBRE_FA, rel=0.01)
    assert np.median(found.maps["md"][fibre]) == pytest.approx(FIBRE_MD, rel=0.01)


def test_the_mask_is_the_brain(tmp_path: Path) -> None:
    """Though fluid is 3.5 times as bright as tissue, and air is noise."""
    planted = phantom(noise=4)
    found = tensor_maps(write(planted, tmp_path / "sub-1_dwi.nii.gz"), DwiRecipe())
    both = (found.mask & planted.brain).sum()
    assert 2 * both / (found.mask.sum() + planted.brain.sum()) > 0.95


@pytest.mark.parametrize("orientation", AXES)
def test_directions_are_right_in_every_orientation(tmp_path: Path, orientation: str) -> None:
    planted = phantom(((1000.0, 12),))
    path = write(planted, tmp_path / "sub-1_dwi.nii.gz", orientation=orientation)
    series = read_dwi(path, DwiRecipe())
    tensors = fit_tensors(series.data, series.gradients, series.mask, 50)
    found = np.zeros((*series.mask.shape, 4))
    found[series.mask, :3] = tensors.principal @ world_frame(series.affine).T
    found[series.mask, 3] = MAPS["fa"](tensors.values)
    image = nib.Nifti1Image(found, series.affine)
    upright = np.asarray(nib.as_closest_canonical(image).dataobj)
    fibre = planted.fibre & (upright[..., 3] > 0)
    assert fibre.sum() > 500
    cosine = np.abs((upright[..., :3] * planted.along).sum(axis=-1))[fibre]
    assert cosine.min() > np.cos(np.radians(1))
    np.testing.assert_allclose(upright[..., 3][fibre], FIBRE_FA, rtol=0.01)


def test_directions_are_right_in_oblique_scans(tmp_path: Path) -> None:
    planted = phantom(((1000.0, 12),))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    for orientation in ("RAS", "LAS", "PIR"):
        path = write(planted, tmp_path / "o_dwi.nii.gz", orientation=orientation, turn=turn)
        series = read_dwi(path, DwiRecipe())
        tensors = fit_tensors(series.data, series.gradients, series.mask, 50)
        world = np.zeros((*series.mask.shape, 3))
        world[series.mask] = tensors.principal @ world_frame(series.affine).T
        inverse = np.linalg.inv(planted.affine) @ np.block(
            [[turn.T, np.zeros((3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]]
        )
        places = np.argwhere(series.mask) @ (inverse @ series.affine)[:3, :3].T
        places = np.round(places + (inverse @ series.affine)[:3, 3]).astype(int)
        fibre = planted.fibre[tuple(places.T)]
        along = planted.along[tuple(places[fibre].T)] @ turn.T
        cosine = np.abs((world[series.mask][fibre] * along).sum(axis=-1))
        assert fibre.sum() > 500
        assert cosine.min() > np.cos(np.radians(1))


@pytest.mark.parametrize(
    ("name", "recipe", "largest"),
    [
        ("small_64D", {}, 1500),
        ("small_25", {"shells": (2000,)}, 2000),
        ("small_101D", {}, 1590),
        ("small_101D", {"max_b": 5000}, 5000),
    ],
)
def test_maps_are_those_of_dipy(
    tmp_path: Path, name: str, recipe: dict[str, object], largest: float
) -> None:
    path, data, bvals, bvecs = carried(name, tmp_path)
    found = tensor_maps(path, ALL.model_copy(update=recipe))
    chosen = bvals <= largest
    table = gradient_table(bvals[chosen], bvecs=bvecs[chosen], b0_threshold=50)
    fit = TensorModel(table).fit(data[..., chosen], mask=found.mask)
    assert found.mask.sum() > 100
    expected = {"fa": fit.fa, "md": fit.md * 1e3, "ad": fit.ad * 1e3, "rd": fit.rd * 1e3}
    for key, values in expected.items():
        np.testing.assert_allclose(
            found.maps[key][found.mask], np.asarray(values)[found.mask], rtol=1e-3, atol=1e-4
        )


def test_high_shells_bend_mean_diffusivity_down_and_are_left_out(tmp_path: Path) -> None:
    """Why max_b is 1500: with two diffusing parts a voxel, a tensor of high b sees the slow one."""
    planted = phantom(((1000.0, 12), (3000.0, 12)))
    slow = planted.data * 0.5
    fast = 0.5 * planted.data[..., :1] * np.exp(-planted.bvals * 2e-3)
    mixed = type(planted)(**{**planted.__dict__, "data": (slow + fast).astype(np.float32)})
    path = write(mixed, tmp_path / "sub-1_dwi.nii.gz")
    low = tensor_maps(path, DwiRecipe())
    high = tensor_maps(path, DwiRecipe(shells=(3000,)))
    inside = low.mask & high.mask & planted.fibre
    assert (high.maps["md"][inside] < 0.9 * low.maps["md"][inside]).all()


def test_a_mask_beside_the_series_is_taken(tmp_path: Path) -> None:
    planted = phantom(((1000.0, 12),))
    path = write(planted, tmp_path / "sub-1_space-T1w_desc-preproc_dwi.nii.gz")
    half = planted.brain.copy()
    half[12:] = False
    mask = tmp_path / "sub-1_space-T1w_desc-brain_mask.nii.gz"
    nib.save(nib.Nifti1Image(half.astype(np.uint8), planted.affine), mask)
    assert np.array_equal(tensor_maps(path, DwiRecipe()).mask, half)
    nib.save(nib.Nifti1Image(half[:-1].astype(np.uint8), planted.affine), mask)
    with pytest.raises(ScanError, match="is on another grid"):
        tensor_maps(path, DwiRecipe())
    nib.save(nib.Nifti1Image(np.zeros(half.shape, np.uint8), planted.affine), mask)
    with pytest.raises(ScanError, match="empty mask"):
        tensor_maps(path, DwiRecipe())


def test_holes_count_in_the_brain_alone(tmp_path: Path) -> None:
    planted = phantom(((1000.0, 12),))
    planted.data[0, 0, 0, 3] = np.nan
    path = write(planted, tmp_path / "sub-1_dwi.nii.gz")
    assert np.isfinite(tensor_maps(path, DwiRecipe()).maps["fa"]).all()
    planted.data[11:13, 12, 11, 3] = np.inf
    with pytest.raises(ScanError, match=r"2 voxels in the brain that are NaN or infinite"):
        tensor_maps(write(planted, path), DwiRecipe())


def test_empty_volumes_and_images_are_refused(tmp_path: Path) -> None:
    planted = phantom(((1000.0, 12),))
    planted.data[..., 5] = 0
    path = write(planted, tmp_path / "sub-1_dwi.nii.gz")
    with pytest.raises(ScanError, match="no signal in volume 5 "):
        tensor_maps(path, DwiRecipe())
    planted.data[:] = 0
    with pytest.raises(ScanError, match="shows no brain"):
        tensor_maps(write(planted, path), DwiRecipe())
