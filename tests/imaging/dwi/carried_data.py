"""The diffusion series that DIPY's wheel carries, laid out as QSIPrep's outputs."""

from pathlib import Path

import nibabel as nib
import numpy as np
from dipy.data import get_fnames
from dipy.io.gradients import read_bvals_bvecs


def carried(name: str, folder: Path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """Data that DIPY's wheel carries, as a series with a mask of all its voxels with signal."""
    image_file, bval_file, bvec_file = get_fnames(name=name)
    image = nib.load(image_file)
    data = np.asarray(image.dataobj, dtype=np.float32)
    bvals, bvecs = read_bvals_bvecs(bval_file, bvec_file)
    path = folder / "sub-1_desc-preproc_dwi.nii.gz"
    nib.save(nib.Nifti1Image(data, image.affine), path)
    for source, end in ((bval_file, "bval"), (bvec_file, "bvec")):
        text = Path(source).read_text()
        (folder / f"sub-1_desc-preproc_dwi.{end}").write_text(text)
    mask = data[..., bvals <= 50].min(axis=-1) > 0
    masked = nib.Nifti1Image(mask.astype(np.uint8), image.affine)
    nib.save(masked, folder / "sub-1_desc-brain_mask.nii.gz")
    return path, data, bvals, np.nan_to_num(bvecs)
