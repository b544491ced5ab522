"""Small pictures of label maps: contours over the slices that hold most of them."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from braintune.imaging.label_maps import Labels

Color = npt.NDArray[np.uint8]
# Told apart by people who see few colours, after Okabe and Ito; further labels begin anew.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)
_REFERENCE = (255, 255, 255)
_HEIGHT = 260
_MARGIN = 12


def contour_slices(
    image: npt.NDArray[np.floating], labels: Labels, reference: Labels | None = None
) -> Color:
    """A sagittal, a coronal and an axial slice with contours, front and top upwards.

    Each is the slice that most labelled voxels are in, or the middle one if there are none, cut to
    what is near to the labels.

    Args:
        image: Of shape (x, y, z), RAS+, voxels of one size along all axes.
        labels: Found ones, of the same shape, in colours.
        reference: True ones, in white beneath.

    Returns:
        Of shape (height, width, 3).
    """
    shown = labels if reference is None else np.where(labels, labels, reference)
    panels = [_panel(image, labels, reference, shown, axis) for axis in range(3)]
    height = max(panel.shape[0] for panel in panels)
    return np.concatenate([_padded(panel, height) for panel in panels], axis=1)


def color_png(picture: Color) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _panel(
    image: npt.NDArray[np.floating],
    labels: Labels,
    reference: Labels | None,
    shown: Labels,
    axis: int,
) -> Color:
    """One slice across an axis, enlarged, with contours."""
    others = tuple(a for a in range(3) if a != axis)
    counts = (shown > 0).sum(axis=others)
    place = int(counts.argmax()) if counts.any() else image.shape[axis] // 2
    box = [slice(place, place + 1) if a == axis else _near(shown, a) for a in range(3)]
    flat = [
        None if volume is None else np.rot90(volume[tuple(box)].squeeze(axis))
        for volume in (image, labels, reference)
    ]
    gray, found, true = flat
    assert gray is not None
    assert found is not None
    scale = max(1, _HEIGHT // max(gray.shape))
    picture = np.repeat(_enlarged(_gray(gray), scale)[..., None], 3, axis=2)
    if true is not None:
        picture[_edges(_enlarged(true, scale))] = _REFERENCE
    large = _enlarged(found, scale)
    outline = _edges(large)
    colors = np.array(PALETTE, dtype=np.uint8)
    picture[outline] = colors[(large[outline].astype(int) - 1) % len(PALETTE)]
    return np.ascontiguousarray(picture, dtype=np.uint8)


def _near(labels: Labels, axis: int) -> slice:
    """Where there are labels along an axis, and a margin; everything if there are none."""
    others = tuple(a for a in range(3) if a != axis)
    there = np.flatnonzero((labels > 0).any(axis=others))
    if not len(there):
        return slice(0, labels.shape[axis])
    # At least as wide as an axis of a small scan, so that the surroundings are seen.
    margin = max(_MARGIN, (there[-1] - there[0] + 1) // 2)
    return slice(max(int(there[0]) - margin, 0), int(there[-1]) + 1 + margin)


def _gray(values: npt.NDArray[np.floating]) -> Color:
    """The darkest and brightest 0.5 % are black and white; background, exactly 0, is black."""
    low, high = np.percentile(values, [0.5, 99.5])
    shown = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    return np.where(values == 0, 0, shown * 255).astype(np.uint8)


def _enlarged(values: npt.NDArray[np.generic], scale: int) -> npt.NDArray[np.uint8]:
    return np.kron(values, np.ones((scale, scale), dtype=np.uint8)).astype(np.uint8)


def _edges(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Labelled pixels beside one of another label."""
    padded = np.pad(labels, 1)
    inner = padded[1:-1, 1:-1]
    found = np.zeros(labels.shape, dtype=bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        neighbour = padded[rows : rows + labels.shape[0], columns : columns + labels.shape[1]]
        found |= neighbour != inner
    return found & (inner > 0)


def _padded(panel: Color, height: int) -> Color:
    above = (height - panel.shape[0]) // 2
    below = height - panel.shape[0] - above
    return np.pad(panel, ((above, below), (2, 2), (0, 0)))
