"""A head of ellipsoids whose labels, names and volumes are known, for the tests of label maps."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from braintune.registry import parse
from braintune.synthesis.labelmaps.options import GeneratorOptions

NAMES = {
    0: "background",
    1: "skull",
    2: "csf",
    3: "left cerebral cortex",
    4: "right cerebral cortex",
    5: "left cerebral white matter",
    6: "right cerebral white matter",
    7: "left lateral ventricle",
    8: "right lateral ventricle",
    9: "left hippocampus",
    10: "right hippocampus",
    11: "blob",
}
# Nothing but what is planted.
STILL: dict[str, Any] = {
    "rotation": 0,
    "shift": 0,
    "scale": 0,
    "shear": 0,
    "deformation": 0,
    "flip": 0,
}
CLEAN: dict[str, Any] = {
    "bias": 0,
    "noise": 0,
    "blur": 0,
    "thick_share": 0,
    "ghosting_share": 0,
    "gamma": 0,
}


def phantom(spacing: float = 3.0, bend: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a head, of shape (x, y, z), and their affine; the bend makes heads differ."""
    n = np.ceil(np.array([168, 192, 168]) / spacing / 2).astype(int) * 2
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -spacing * (n - 1) / 2
    axes = [(np.arange(m) - (m - 1) / 2) * spacing for m in n]
    x, y, z = np.meshgrid(*axes, indexing="ij")

    def ball(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        parts = zip((x, y, z), center, radii, strict=True)
        return sum(((a - c) / r) ** 2 for a, c, r in parts) < 1

    labels = np.zeros(tuple(n), dtype=np.int16)
    right = x > 0
    labels[ball((0, 0, 0), (76 * bend, 90, 76))] = 1
    labels[ball((0, 0, 0), (70 * bend, 84, 70))] = 2
    for value, inside in (
        (3, ball((0, 0, 0), (64 * bend, 78, 64))),
        (5, ball((0, 0, 0), (50, 64, 50))),
        (7, ball((-14, 5, 5), (11, 26, 13)) | ball((14, 5, 5), (11, 26, 13))),
        (9, ball((-30, -10, -20), (9, 18, 9)) | ball((30, -10, -20), (9, 18, 9))),
    ):
        labels[inside] = value
        labels[inside & right] = value + 1
    labels[ball((0, -40, 15), (8, 8, 8))] = 11
    return labels, affine


def write_map(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.int16 if labels.dtype.kind in "iub" else np.float32
    nib.save(nib.Nifti1Image(labels.astype(kind), affine), path)
    return path


def write_names(path: Path, names: dict[int, str]) -> Path:
    lines = ["index\tname", *(f"{value}\t{name}" for value, name in names.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_phantoms(folder: Path, count: int = 2, spacing: float = 3.0) -> Path:
    """A folder of label maps with the table of their names."""
    for number in range(count):
        labels, affine = phantom(spacing, 1 - 0.06 * number)
        write_map(folder / f"sub-{number + 1:02d}_dseg.nii.gz", labels, affine)
    write_names(folder / "dseg.tsv", NAMES)
    return folder


def options_for(maps: Path, **values: Any) -> GeneratorOptions:
    """Options for small, quick scans."""
    small = {"maps": str(maps), "spacing": 3.0, "shape": [56, 64, 56]}
    return parse(GeneratorOptions, {**small, **values}, "")
