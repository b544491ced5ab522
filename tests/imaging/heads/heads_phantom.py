"""Heads with known answers: the template's brain in a skull and a scalp, placed by a known map."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, resample
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import Volume


def fake_head() -> tuple[Volume, Volume]:
    """A head in MNI152 space at 2 mm and the share of its voxels that is brain."""
    template = template_at(2.0)
    pad = 12
    t1 = np.pad(template.t1, pad)
    share = np.pad(template.share, pad)
    outside = ndimage.distance_transform_edt(share <= 0.5) * 2.0
    affine = template.grid.affine.copy()
    affine[:3, 3] -= 2.0 * pad
    # Bone to 6 mm, scalp to 12 mm, and a neck below.
    scalp = (outside > 6) & (outside <= 12)
    x, y, z = np.indices(t1.shape)
    neck = ((x - x.mean()) ** 2 + (y - 55) ** 2 < 28**2) & (z < 26) & (outside > 6)
    head = np.where(scalp | neck, 0.75, t1)
    noise = np.random.default_rng(0).normal(0, 0.02, t1.shape)
    data = np.abs(head + noise).astype(np.float32) * 900
    return Volume(data, affine), Volume(share, affine)


def placed(
    volume: Volume, native_to_template: npt.NDArray[np.float64], grid: Grid
) -> npt.NDArray[np.float32]:
    """The head in a scan of its own, which a map leads to the template."""
    own = np.asarray(np.linalg.inv(native_to_template) @ volume.affine)
    return resample(Volume(volume.data, own), grid)


def planted(
    turns: tuple[float, float, float],
    shift: tuple[float, float, float],
    scales: tuple[float, float, float],
) -> npt.NDArray[np.float64]:
    """A map from a scan to the template: turned by degrees, then stretched along its axes."""
    from scipy.spatial.transform import Rotation

    map_ = np.eye(4)
    turn = Rotation.from_euler("xyz", turns, degrees=True).as_matrix()
    map_[:3, :3] = np.diag(scales) @ turn
    map_[:3, 3] = shift
    return map_
