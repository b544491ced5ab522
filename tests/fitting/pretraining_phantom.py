"""Balls of known size as label maps, and tiny recipes of pre-training on scans made from them."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from braintune.pretraining_recipe import PretrainRecipe
from synthesis.labelmap_phantom import CLEAN, STILL, write_names

# A ball in another one; only the size of the whole head varies, by chance.
GENERATOR = {
    "geometry": {**STILL, "shift": 4.0},
    "scanner": {**CLEAN, "noise": 0.02},
    "effects": {"head": {"between": 0.3}},
}
VIT = {"name": "vit", "patch": 4, "width": 48, "depth": 2, "heads": 4, "hidden": 96}
SFCN = {"name": "sfcn", "channels": [8, 16], "norm": "instance"}
UNET = {"name": "unet", "channels": [4, 8], "norm": "instance"}
PREPARE = {"spacing": 10.0, "shape": [16, 16, 16]}


def write_balls(folder: Path, count: int = 2) -> Path:
    """Label maps of two nested balls at 5 mm, named by their table."""
    n = 32
    axes = [(np.arange(n) - (n - 1) / 2) * 5.0] * 3
    x, y, z = np.meshgrid(*axes, indexing="ij")
    affine = np.diag([5.0, 5, 5, 1])
    affine[:3, 3] = -5 * (n - 1) / 2
    folder.mkdir(parents=True)
    for number in range(count):
        labels = np.zeros((n, n, n), dtype=np.int16)
        labels[x**2 + y**2 + z**2 < 45**2] = 1
        labels[(x - 10 * number) ** 2 + y**2 + z**2 < 22**2] = 2
        name = folder / f"sub-ball{number}_dseg.nii.gz"
        nib.save(nib.Nifti1Image(labels, affine), name)
    write_names(folder / "dseg.tsv", {0: "background", 1: "white matter", 2: "csf"})
    return folder


def values(sources: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A recipe that pre-trains in a second; sections are replaced key by key."""
    recipe: dict[str, Any] = {
        "objective": {"kind": "contrastive"},
        "backbone": SFCN,
        "prepare": PREPARE,
        "train": {"epochs": 2, "batch_size": 4, "lr": 3e-3, "augment": "light"},
        "sources": sources,
        "scans_per_epoch": 12,
    }
    for name, section in sections.items():
        recipe[name] = {**recipe["train"], **section} if name == "train" else section
    return recipe


def made(maps: Path, **more: Any) -> dict[str, Any]:
    """One source: scans made from label maps."""
    return {"made": {"maps": str(maps), "generator": GENERATOR, **more}}


def tiny(sources: dict[str, Any], **sections: Any) -> PretrainRecipe:
    """`values` as a recipe."""
    return PretrainRecipe.parse(values(sources, **sections))
