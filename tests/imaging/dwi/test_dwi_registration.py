"""Series onto MNI152: planted poses are found, and left stays left."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage
from scipy.spatial.transform import Rotation

from braintune.imaging.dwi.maps import TensorMaps
from braintune.imaging.dwi.registration import to_template
from braintune.imaging.grid import Grid, ras_grid, resample
from braintune.imaging.nifti import ScanError, Volume
from braintune.imaging.preparation import prepare_scan
from braintune.recipe import PrepareRecipe
from imaging.dwi.dwi_phantom import Phantom, phantom, sphere, write

MAPS = ("fa", "md", "brain")
RECIPE = PrepareRecipe.model_validate(
    {
        "spacing": 4,
        "shape": [46, 55, 46],
        "intensity": "none",
        "dwi": {"maps": ["fa", "md"], "registration": "affine-9"},
    }
)


@pytest.fixture(scope="module")
def anatomy() -> dict[str, Volume]:
    """Planted maps in MNI152: fluid, grey matter, and white matter of uneven anisotropy."""
    grid = ras_grid((60, 72, 64), 3.0, np.array([0.0, -18.0, 8.0]))
    found = []
    for load in (
        datasets.load_mni152_wm_template,
        datasets.load_mni152_gm_template,
        datasets.load_mni152_brain_mask,
    ):
        image = load(resolution=2)
        data = np.asarray(image.dataobj, dtype=np.float32)
        found.append(resample(Volume(data, np.asarray(image.affine, dtype=float)), grid))
    white, grey, brain = found
    uneven = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=white.shape), 2)
    fluid = np.clip(1 - white - grey, 0, 1)
    fa = white * np.clip(0.45 + 10 * uneven, 0.15, 0.8) + 0.1 * grey
    md = 0.72 * white + 0.82 * grey + 2.6 * fluid
    maps = (fa, md, np.ones_like(fa))
    inside = brain > 0.5
    return {
        name: Volume(np.where(inside, values, 0).astype(np.float32), grid.affine)
        for name, values in zip(MAPS, maps, strict=True)
    }


def pose(seed: int, stretch: float = 0.05) -> np.ndarray:
    """A map from the template's world to a scan's."""
    random = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(random.normal(size=3) * 0.25).as_matrix()
    map_ = np.eye(4)
    map_[:3, :3] = turn @ np.diag(np.exp(random.normal(size=3) * stretch))
    map_[:3, 3] = random.normal(size=3) * 15
    return map_


def posed(anatomy: dict[str, Volume], map_: np.ndarray, spacing: float) -> dict[str, Volume]:
    """The planted maps on a scan's own grid."""
    middle = (map_ @ np.array([0.0, -18.0, 8.0, 1.0]))[:3]
    shape = tuple(int(np.ceil(edge / spacing)) for edge in (200, 230, 210))
    grid: Grid = ras_grid(shape, spacing, middle)  # type: ignore[arg-type]
    return {
        name: Volume(resample(Volume(v.data, map_ @ v.affine), grid), grid.affine)
        for name, v in anatomy.items()
    }


@pytest.mark.parametrize(
    ("kind", "stretch"),
    [("rigid", 0.0), ("affine-12", 0.05)],
)
def test_planted_poses_are_found(anatomy: dict[str, Volume], kind: str, stretch: float) -> None:
    map_ = pose(1, stretch)
    scan = posed(anatomy, map_, 3.0)
    mask = scan["brain"].data > 0.5
    maps = {name: scan[name].data * mask for name in ("fa", "md")}
    found = TensorMaps(maps, mask.astype(np.float32), mask, scan["fa"].affine)
    left = to_template(found, kind, Path("s")) @ map_  # type: ignore[arg-type]
    places = np.argwhere(anatomy["brain"].data > 0)
    points = nib.affines.apply_affine(anatomy["brain"].affine, places)
    moved = nib.affines.apply_affine(left, points)
    assert np.linalg.norm(moved - points, axis=1).max() < 1.0
    turn, _ = np.linalg.qr(left[:3, :3])
    turn = turn * np.sign(np.diag(turn))
    assert np.degrees(Rotation.from_matrix(turn).magnitude()) < 1.0


def series(scan: dict[str, Volume]) -> Phantom:
    """Signals of the planted maps: tensors with one axis, along smoothly turning directions."""
    fa, md = scan["fa"].data, scan["md"].data * 1e-3
    brain = scan["brain"].data > 0.5
    # With two equal small eigenvalues, λ = md (1 + 2a, 1 − a, 1 − a) and fa² = 3a² / (1 + 2a²).
    a = np.sqrt(fa**2 / (3 - 2 * fa**2))
    random = np.random.default_rng(1)
    along = np.stack(
        [ndimage.gaussian_filter(random.normal(size=fa.shape), 3) for _ in range(3)], -1
    )
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    directions = np.concatenate([np.zeros((1, 3)), sphere(12)])
    bvals = np.array([0.0, *[1000.0] * 12])
    cosine = along @ directions.T
    rate = md[..., None] * (1 - a[..., None] + 3 * a[..., None] * cosine**2)
    proton = np.where(scan["md"].data > 1.6, 250.0, 100.0) * brain
    data = (proton[..., None] * np.exp(-bvals * rate)).astype(np.float32)
    return Phantom(data, scan["fa"].affine, bvals, directions, brain, fa > 0.3, along)


@pytest.mark.parametrize("orientation", ["LAS", "PIR"])
def test_maps_come_to_lie_on_the_template(
    anatomy: dict[str, Volume], tmp_path: Path, orientation: str
) -> None:
    """With a marked left: a mirror image would be as good a brain, and wrong in silence."""
    marked = dict(anatomy)
    places = nib.affines.apply_affine(
        anatomy["fa"].affine, np.moveaxis(np.indices(anatomy["fa"].data.shape), 0, -1)
    )
    lesion = np.linalg.norm(places - [-35, -20, 20], axis=-1) < 14
    marked["md"] = Volume(
        np.where(lesion, 1.5, anatomy["md"].data).astype(np.float32), anatomy["md"].affine
    )
    scan = posed(marked, pose(3), 4.0)
    planted = series(scan)
    path = write(planted, tmp_path / "sub-1_dwi.nii.gz", orientation=orientation, spacing=4.0)
    image = prepare_scan(path, RECIPE)
    grid = Grid(RECIPE.shape, image.affine)
    for channel, name in enumerate(("fa", "md")):
        wanted = resample(marked[name], grid)
        inside = (image.image[1] != 0) & (resample(marked["brain"], grid) > 0.9)
        both = np.corrcoef(image.image[channel][inside].astype(float), wanted[inside])
        assert both[0, 1] > 0.9
        assert inside.sum() > 20_000
    centre = np.linalg.inv(image.affine) @ [-35, -20, 20, 1]
    mirrored = np.linalg.inv(image.affine) @ [35, -20, 20, 1]
    left, right = (
        ndimage.map_coordinates(image.image[1].astype(np.float32), at[:3, None], order=1)[0]
        for at in (centre, mirrored)
    )
    assert left == pytest.approx(1.5, abs=0.1)
    assert right < 1.1


def test_what_is_no_brain_is_refused(tmp_path: Path) -> None:
    path = write(phantom(((1000.0, 7),)), tmp_path / "sub-1_dwi.nii.gz")
    with pytest.raises(ScanError, match=r"could not be brought to MNI152.*registration: none"):
        prepare_scan(path, RECIPE)
