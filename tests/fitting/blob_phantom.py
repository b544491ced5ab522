"""Scans of two blobs, and what segments them within seconds."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def blob_values(**changes: Any) -> dict[str, Any]:
    """A recipe of label maps that fits in seconds; sections are replaced key by key."""
    recipe: dict[str, Any] = {
        "task": {
            "kind": "segmentation",
            "target": "two blobs",
            "labels": {3: "front", 7: "back"},
            "patch": [16, 16, 16],
        },
        "prepare": {"spacing": 2.0, "shape": [24, 24, 24], "brain": "whole"},
        "backbone": {"name": "unet", "channels": [6, 8], "norm": "instance"},
        "train": {
            "epochs": 24,
            "batch_size": 2,
            "lr": 1e-2,
            "average_last": 2,
            "keep": "last",
            "precision": "fp32",
            "augment": {"strength": "light", "flip": 0},
        },
        "protocol": {"kind": "hold-out"},
    }
    for section, change in changes.items():
        recipe[section] = {**recipe[section], **change}
    return recipe


def drawn_blobs(number: int, front: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan of two ellipsoids, one brighter, anywhere near its middle; and its labels.

    Args:
        number: The seed.
        front: What the axes of the front one are multiplied by.
    """
    random = np.random.default_rng(number)
    shape = (20 + number % 3, 22, 13)
    place = np.indices(shape).transpose(1, 2, 3, 0)
    middle = np.array([10, 7, 6]) + random.uniform(-1, 1, 3)
    labels = np.zeros(shape, dtype=np.uint8)
    for value, shift, size in ((3, 0.0, front), (7, 7.5, 1.0)):
        axes = size * np.array([4.2, 3.2, 2.6])
        inside = (((place - middle - [0, shift, 0]) / axes) ** 2).sum(axis=-1) < 1
        labels[inside] = value
    image = 20 * random.standard_normal(shape) + 100 + 100 * (labels == 3) + 200 * (labels == 7)
    return image.astype(np.float32), labels


def write_blobs(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Write a scan and its label map in the Decathlon layout."""
    image, labels = drawn_blobs(number)
    name = f"blobs_{number:03d}.nii.gz"
    for part, data in (("imagesTr", image), ("labelsTr", labels)):
        path = folder / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, AFFINE), path)
    return image, labels


def write_blob_cohort(folder: Path) -> Path:
    """Twelve labelled scans in the Decathlon layout, three of them for testing."""
    names = []
    for number in range(12):
        write_blobs(folder, number)
        names.append(f"blobs_{number:03d}.nii.gz")
    training = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    (folder / "dataset.json").write_text(json.dumps({"training": training}))
    split = ["test" if number % 4 == 1 else "train" for number in range(12)]
    pd.DataFrame({"file": names, "split": split}).to_csv(
        folder / "split.tsv", sep="\t", index=False
    )
    return folder
