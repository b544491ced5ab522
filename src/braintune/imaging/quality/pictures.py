"""A strip of pictures of one scan: as it came with its mask, and registered with the template."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, covering, ras_grid, resample, resample_labels, world_center
from braintune.imaging.nifti import Affine, FloatArray, Volume
from braintune.imaging.quality.template import Template

Mask = npt.NDArray[np.bool_]
Color = npt.NDArray[np.uint8]
# Told apart by people who see few colours, after Okabe and Ito.
MASK_COLOR, TEMPLATE_COLOR = (230, 159, 0), (86, 180, 233)
# Pixels of a panel, and millimetres that it shows.
_SIDE, _SHOWN_MM = 160, 240.0
_PIXEL_MM = _SHOWN_MM / _SIDE
# Planes, in MNI millimetres, that show ventricles, temporal lobes and vertex.
_PLANES = (2.0, -18.0, 8.0)


@dataclass(frozen=True)
class _Slices:
    """Three planes of a scan, with the mask that is drawn on them."""

    scan: FloatArray
    mask: Mask
    middle: tuple[int, int, int]


def strip(volume: Volume, mask: Mask, to_template: Affine, template: Template) -> Color:
    """Three planes of a scan with its mask's outline, then three registered with the template's.

    Args:
        volume: The scan in its own space.
        mask: Its brain, of the same shape.
        to_template: From the scan's world millimetres to the template's, of shape (4, 4).
        template: Whose brain and tissues are outlined on the registered scan.

    Returns:
        Of shape (height, width, 3): sagittal, coronal and axial, twice.
    """
    own = _own_slices(volume, mask)
    grid = template.grid
    moved = resample(Volume(volume.data, np.asarray(to_template @ volume.affine)), grid)
    edges = _edges(template)
    index = np.linalg.inv(grid.affine) @ np.array([*_PLANES, 1.0])
    middle = (round(float(index[0])), round(float(index[1])), round(float(index[2])))
    registered = _Slices(moved, edges, middle)
    window = _window(volume.data[mask] if mask.any() else volume.data)
    return np.concatenate(
        [
            *_panels(own, window, MASK_COLOR, outline=True),
            np.full((_SIDE, 6, 3), 40, np.uint8),
            *_panels(registered, window, TEMPLATE_COLOR, outline=False),
        ],
        axis=1,
    )


def plain_strip(volume: Volume) -> Color:
    """Three planes of a scan alone, for one that failed before it had a mask.

    Returns:
        Of shape (height, width, 3).
    """
    data = np.nan_to_num(volume.data, posinf=0, neginf=0)
    empty = np.zeros(data.shape, dtype=bool)
    own = _own_slices(Volume(data, volume.affine), empty)
    return np.concatenate(_panels(own, _window(data), MASK_COLOR, outline=True), axis=1)


def _own_slices(volume: Volume, mask: Mask) -> _Slices:
    """The scan on a RAS grid of the panels' pixels, without turning or scaling it otherwise."""
    grid = covering(ras_grid((1, 1, 1), _PIXEL_MM, world_center(volume)), volume)
    x, y, z = mask.shape
    moved = resample_labels(mask.astype(np.uint8), Grid((x, y, z), volume.affine), grid) > 0
    shown = moved if moved.any() else np.ones(grid.shape, dtype=bool)
    center = ndimage.center_of_mass(shown)
    middle = (round(center[0]), round(center[1]), round(center[2]))
    return _Slices(resample(volume, grid), moved, middle)


def _edges(template: Template) -> Mask:
    """The rim of the template's brain and of its white matter."""
    brain = template.brain & ~ndimage.binary_erosion(template.brain)
    white = ndimage.binary_opening(template.white)
    return np.asarray(brain | (white & ~ndimage.binary_erosion(white)))


def _window(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.percentile(values, [0.5, 99.5])
    return min(float(low), 0.0) if low >= 0 else float(low), float(high)


def _panels(
    slices: _Slices, window: tuple[float, float], color: Sequence[int], *, outline: bool
) -> list[Color]:
    """The three planes, front and top upwards, each in a black square."""
    low, high = window
    panels = []
    for axis in range(3):
        gray, mask = (
            np.rot90(np.take(v, slices.middle[axis], axis=axis)) for v in (slices.scan, slices.mask)
        )
        shown = np.clip((gray - low) / max(high - low, 1e-6), 0, 1) * 255
        picture = np.repeat(shown.astype(np.uint8)[..., None], 3, axis=2)
        rim = mask & ~ndimage.binary_erosion(mask) if outline else mask
        picture[rim] = color
        panels.append(_framed(picture))
    return panels


def _framed(picture: Color) -> Color:
    """A picture in the middle of a black square, cut where it is larger."""
    framed = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    source, target = [], []
    for size in picture.shape[:2]:
        shift = (_SIDE - size) // 2
        target.append(slice(max(shift, 0), max(shift, 0) + min(size, _SIDE)))
        source.append(slice(max(-shift, 0), max(-shift, 0) + min(size, _SIDE)))
    framed[tuple(target)] = picture[tuple(source)]
    return framed
