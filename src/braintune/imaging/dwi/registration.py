"""A diffusion series onto the MNI152 template, by what its tensors say of tissue.

The template is T1w: fluid dark, grey matter grey, white matter bright. A b = 0 image shows fluid
brightest and hardly tells grey from white matter, but the tensor does: fluid diffuses fast, and
white matter in one direction. So an image like the template's is made of both, and registered as
a skull-stripped T1w scan is. Maps of the tensor's size and shape do not depend on its direction, so
nothing needs to be turned after a registration.
"""

from pathlib import Path

import numpy as np

from braintune.heads_recipe import Registration
from braintune.imaging.dwi.maps import TensorMaps
from braintune.imaging.grid import resample
from braintune.imaging.heads.aligning import Level, align
from braintune.imaging.heads.searching import likely_poses
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import Affine, FloatArray, ScanError, Volume

# Mean diffusivity of tissue and of fluid, in 10⁻³ mm²/s, and anisotropy of white matter.
_TISSUE_MD, _FLUID_MD, _WHITE_FA = 0.9, 2.2, 0.4
# What the template shows for grey matter, and for white matter.
_GREY, _WHITE = 0.6, 0.9
_POSES = 3
_COARSE = Level(spacing=8.0)
_FINE = Level(spacing=4.0)
_OVERLAP_SPACING = 4.0
# Dice coefficient of the brain with the template's: right maps give 0.9, loose masks 0.83
_LEAST_OVERLAP = 0.75


def to_template(found: TensorMaps, kind: Registration, path: Path) -> Affine:
    """The map from a series' world millimetres to the template's, of shape (4, 4).

    Args:
        found: The series' maps.
        kind: The degrees of freedom.
        path: The series, for the message.

    Raises:
        ScanError: If the brain does not come to lie on the template's.
    """
    if kind == "none":
        return np.eye(4)
    image = Volume(t1_like(found), found.affine)
    tried = [align(image, pose, "rigid", _COARSE) for pose in likely_poses(image, _POSES)]
    coarse = min(tried, key=lambda pair: pair[1])[0]
    map_, _ = align(image, align(image, coarse, kind, _COARSE)[0], kind, _FINE)
    moved = np.asarray(np.linalg.inv(map_))
    overlap = _overlap(found, moved)
    if overlap < _LEAST_OVERLAP:
        msg = (
            f"{path} could not be brought to MNI152 space: its brain mask and the template's have a"
            f" Dice coefficient of {overlap:.2f}. Lay a brain mask beside it (desc-brain_mask), or"
            " set 'prepare: {dwi: {registration: none}}'."
        )
        raise ScanError("registration", msg)
    return moved


def t1_like(found: TensorMaps) -> FloatArray:
    """An image with the template's contrast: fluid 0, grey matter 0.6, white matter 0.9."""
    solid = (_FLUID_MD - found.maps["md"]) / (_FLUID_MD - _TISSUE_MD)
    white = found.maps["fa"] / _WHITE_FA
    image = np.clip(solid, 0, 1) * (_GREY + (_WHITE - _GREY) * np.clip(white, 0, 1))
    return np.where(found.mask, image, 0).astype(np.float32)


def _overlap(found: TensorMaps, moved: Affine) -> float:
    template = template_at(_OVERLAP_SPACING)
    own = Volume(found.mask.astype(np.float32), np.asarray(moved @ found.affine))
    mask = resample(own, template.grid) > 0.5
    return float(2 * (mask & template.brain).sum() / (mask.sum() + template.brain.sum()))
