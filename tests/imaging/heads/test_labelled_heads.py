"""Label maps of raw heads: prepared with the head, and brought back to the scan's own voxels."""

from pathlib import Path

import numpy as np
from heads_phantom import fake_head, placed, planted
from scipy import ndimage

from braintune.fitting.segmentation.native import decide
from braintune.imaging.grid import ras_grid, resample_labels
from braintune.imaging.heads.limits import dice
from braintune.imaging.label_maps import LabelTable
from braintune.imaging.labelled import prepare_labelled, prepare_whole
from braintune.imaging.nifti import Affine, write_volume
from braintune.recipe import PrepareRecipe

GRID = ras_grid((104, 120, 112), 2.0, np.array([4.0, -10.0, 2.0]))
RECIPE = PrepareRecipe.model_validate(
    {"spacing": 2.0, "shape": (84, 100, 84), "heads": {"bias": "none", "registration": "rigid"}}
)


def write_head(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """A tilted head in PSR order with a label on its right side only."""
    map_ = planted((12, 5, -8), (4, 0, 3), (1, 1, 1))
    head, share = fake_head()
    scan, brain = placed(head, map_, GRID), placed(share, map_, GRID) > 0.5
    inner = ndimage.binary_erosion(brain, iterations=5)
    labels = (inner & (np.indices(brain.shape)[0] > 60)).astype(np.uint8)
    order = GRID.affine @ np.array([[0, 0, 1, 0], [-1, 0, 0, 119], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    paths = folder / "sub-1_T1w.nii.gz", folder / "sub-1_dseg.nii.gz"
    written: list[np.ndarray] = []
    for path, values in zip(paths, (scan, labels), strict=True):
        written.append(np.ascontiguousarray(values.transpose(1, 2, 0)[::-1]))
        _write(path, written[-1], order)
    return *paths, written[-1]


def _write(path: Path, values: np.ndarray, affine: Affine) -> None:
    write_volume(path, values, affine)


def test_labels_of_a_raw_head_go_there_and_back(tmp_path: Path) -> None:
    image, label_map, labels = write_head(tmp_path)
    whole = prepare_whole(image, RECIPE)
    assert whole.native.shape == labels.shape
    there = resample_labels(labels, whole.native, whole.grid)
    chances = np.stack([there == 0, there == 1]).astype(np.float32)
    back = decide(chances, whole.grid, whole.native)
    assert dice(back > 0, labels > 0) > 0.97
    scan, prepared = prepare_labelled(image, label_map, RECIPE, LabelTable((1,), ("right",)))
    assert prepared.shape == scan.image.shape[1:] == RECIPE.shape
    assert (prepared > 0).sum() * 8 / labels.sum() / 8 > 0.97
    # In the prepared scan the label is on the right, which is where the first axis ends.
    assert ndimage.center_of_mass(prepared)[0] > RECIPE.shape[0] / 2
