"""Small pictures of scans, for contact sheets and reports."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Gray = npt.NDArray[np.uint8]


def three_slices(image: npt.NDArray[np.floating]) -> Gray:
    """The middle sagittal, coronal and axial slice beside each other, front and top upwards.

    Args:
        image: Of shape (x, y, z), RAS+.

    Returns:
        Grey values of shape (height, width). The background, which is exactly 0, is black, and so
        are the darkest 0.5 % of the rest; the brightest 0.5 % are white.
    """
    volume = image.astype(np.float32)
    seen = volume[volume != 0]
    low, high = np.percentile(seen, [0.5, 99.5]) if len(seen) else (0.0, 0.0)
    black = min(low, 0.0)
    if low == high:
        low = black
    volume[volume == 0] = black
    middle = [n // 2 for n in volume.shape]
    views = [volume[middle[0]], volume[:, middle[1]], volume[:, :, middle[2]]]
    height = max(view.shape[1] for view in views)
    panels = []
    for view in views:
        upright = np.rot90(view)
        above = (height - upright.shape[0]) // 2
        below = height - upright.shape[0] - above
        panels.append(np.pad(upright, ((above, below), (0, 0)), constant_values=black))
    row = np.concatenate(panels, axis=1)
    return (np.clip((row - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def sheet(pictures: list[Gray], columns: int) -> Gray:
    """Pictures of one size in rows, with a thin dark line between them."""
    height, width = pictures[0].shape
    rows = -(-len(pictures) // columns)
    result = np.full((rows * (height + 2), columns * (width + 2)), 40, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + 2), (number % columns) * (width + 2)
        result[top : top + height, left : left + width] = picture
    return result


def png(picture: Gray) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
