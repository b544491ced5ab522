"""Simulated tables and label maps with a planted effect of a disease."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from braintune.cohort.tables import write_table_text


def planted_table(effect: float, subjects: int = 120, seed: int = 0) -> pd.DataFrame:
    """Volumes of which one differs between CN and AD by so many standard deviations.

    The best classifier of it has the ROC-AUC Φ(effect / √2).
    """
    random = np.random.default_rng(seed)
    sick = np.arange(subjects) % 2 == 1
    icv = random.normal(1.5e6, 1e5, subjects)
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{i:03d}" for i in range(subjects)],
            "dx": np.where(sick, "AD", "CN"),
            "age": random.normal(72, 6, subjects).round(1),
            "sex": random.choice(["F", "M"], subjects),
            "icv_mm3": icv.round(),
            "hippocampus_left_mm3": (3000 - 300 * effect * sick + random.normal(0, 300, subjects)),
            "putamen_left_mm3": random.normal(5000, 400, subjects),
        }
    )


def save_table(table: pd.DataFrame, path: Path) -> Path:
    path.write_text(write_table_text(table))
    return path


def planted_maps(root: Path, slices: list[int], other: int = 6) -> Path:
    """Label maps of two blocks a subject; the left one has so many slices of 16 voxels."""
    for number, count in enumerate(slices):
        data = np.zeros((12, 8, 26), np.uint8)
        data[1:5, 2:6, 1 : 1 + count] = 1
        data[7:11, 2:6, 1 : 1 + other] = 2
        name = f"sub-{number:03d}"
        path = root / name / "anat" / f"{name}_dseg.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    (root / "dseg.tsv").write_text("index\tname\n1\tLeft hippocampus\n2\tRight hippocampus\n")
    return root
