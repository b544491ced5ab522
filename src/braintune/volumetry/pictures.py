"""Pictures of the scans that were flagged, with their labels drawn in, for the group page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from braintune.files import write_bytes, write_json
from braintune.imaging.grid import Grid, resample
from braintune.imaging.nifti import ScanError, Volume, read_volume
from braintune.imaging.pictures import png
from braintune.synthesis.labelmaps.reading import read_label_map
from braintune.volumetry.finding import ScanMap
from braintune.volumetry.volumes import Volumes

CASES = Path("figures", "cases.json")
_MOST = 12
_SIDE = 96
_OTHER, _WORST = np.array([60, 150, 255]), np.array([255, 120, 40])

Rgb = npt.NDArray[np.uint8]
Panel = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """A structure that was flagged.

    Attributes:
        scan_id: Of which scan.
        structure: Which structure.
        label: Its number.
        flags: What is wrong.
    """

    scan_id: str
    structure: str
    label: int
    flags: str


def worst_cases(quality: pd.DataFrame) -> list[Case]:
    """The structures with the most flags, of those the rarest volumes first; one a scan."""
    flagged = quality[quality["flags"] != ""]
    flagged = flagged.assign(
        count=flagged["flags"].str.count(",") + 1, rarity=flagged["z"].abs().fillna(0)
    )
    flagged = flagged.sort_values(["count", "rarity"], ascending=False, kind="stable")
    chosen = flagged.drop_duplicates("scan_id").head(_MOST)
    return [
        Case(str(row["scan_id"]), str(row["structure"]), int(row["label"]), str(row["flags"]))
        for row in chosen.to_dict("records")
    ]


def write_pictures(
    volumes: Volumes, maps: Sequence[ScanMap], images: Mapping[str, Path], out: Path
) -> None:
    """Draw the worst cases, on their images where these are at hand.

    Args:
        volumes: What was measured.
        maps: The label maps.
        images: By scan, the image that was segmented; on any grid of the same world.
        out: The derivative.
    """
    files = {scan.scan_id: scan.file.path for scan in maps}
    cases = []
    for number, case in enumerate(worst_cases(volumes.quality), start=1):
        name = f"{number}.png"
        picture = draw_case(files[case.scan_id], images.get(case.scan_id), case.label)
        write_bytes(out / CASES.parent / name, png(picture))
        cases.append({**vars(case), "picture": name})
    write_json(out / CASES, cases)


def draw_case(labels: Path, image: Path | None, value: int) -> Rgb:
    """A sagittal, a coronal and an axial slice through a label, front and top upwards.

    Args:
        labels: The label map.
        image: The scan, black where it can't be read or there is none.
        value: The label that the slices go through; it is orange, the others are blue.

    Returns:
        Of shape (height, width, 3).
    """
    read = read_label_map(labels)
    shape = (read.data.shape[0], read.data.shape[1], read.data.shape[2])
    grey = _background(image, Grid(shape, read.affine))
    mask = read.data == value if (read.data == value).any() else read.data > 0
    axes, flips = _orientation(read.affine)
    centre = ndimage.center_of_mass(mask)
    found, other = _turned(mask, axes, flips), _turned(read.data > 0, axes, flips)
    scan = _turned(grey, axes, flips)
    middle = [round(centre[axis]) for axis in axes]
    middle = [n - 1 - m if f else m for n, m, f in zip(scan.shape, middle, flips, strict=True)]
    spacing = np.sqrt((read.affine[:3, :3] ** 2).sum(axis=0))[axes]
    panels = []
    for axis in range(3):
        planes = [np.rot90(np.take(v, middle[axis], axis=axis)) for v in (scan, other, found)]
        sizes = np.delete(spacing, axis)[::-1]
        panels.append(_fitted(_painted(*planes), sizes))
    return np.concatenate(panels, axis=1)


def _background(image: Path | None, grid: Grid) -> Panel:
    """The image on the label map's grid as grey values from 0 to 1."""
    if image is None:
        return np.zeros(grid.shape, np.float32)
    try:
        volume = read_volume(image)
    except ScanError:
        return np.zeros(grid.shape, np.float32)
    values = resample(Volume(np.nan_to_num(volume.data), volume.affine), grid)
    low, high = np.percentile(values, [1, 99.5])
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _orientation(affine: npt.NDArray[np.float64]) -> tuple[list[int], list[bool]]:
    """Which array axis runs along right, anterior and superior, and whether it runs backwards."""
    unit = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    left = [0, 1, 2]
    axes = []
    for world in range(3):
        best = max(left, key=lambda axis: abs(unit[world, axis]))
        left.remove(best)
        axes.append(best)
    return axes, [bool(unit[world, axis] < 0) for world, axis in enumerate(axes)]


def _turned(data: Panel, axes: list[int], flips: list[bool]) -> Panel:
    backwards = tuple(axis for axis, flip in enumerate(flips) if flip)
    return np.flip(data.transpose(axes), backwards)


def _painted(grey: Panel, other: Panel, found: Panel) -> Rgb:
    """A slice with the outlines of the labels."""
    colour = np.repeat((grey * 255)[..., None], 3, axis=2)
    for mask, paint in ((other, _OTHER), (found, _WORST)):
        rim = mask & ~ndimage.binary_erosion(mask)
        shade = np.where(rim, 1.0, 0.25 if not grey.any() else 0.0)[..., None]
        colour = np.where(mask[..., None], (1 - shade) * colour + shade * paint, colour)
    return colour.astype(np.uint8)


def _fitted(panel: Rgb, sizes: npt.NDArray[np.float64]) -> Rgb:
    """A panel of square pixels, within a black square."""
    extent = np.array(panel.shape[:2]) * sizes
    wanted = np.maximum(1, np.round(extent / extent.max() * _SIDE)).astype(int)
    rows = (np.arange(wanted[0]) * panel.shape[0] // wanted[0]).astype(int)
    columns = (np.arange(wanted[1]) * panel.shape[1] // wanted[1]).astype(int)
    framed = np.zeros((_SIDE, _SIDE, 3), np.uint8)
    top, left = (_SIDE - wanted[0]) // 2, (_SIDE - wanted[1]) // 2
    framed[top : top + wanted[0], left : left + wanted[1]] = panel[rows][:, columns]
    return framed
