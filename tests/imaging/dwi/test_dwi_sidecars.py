"""Which gradients and masks belong to a series."""

from pathlib import Path

import pytest

from braintune.imaging.dwi.sidecars import find_files
from braintune.imaging.inspect import inspect_scan
from braintune.imaging.nifti import ScanError
from imaging.dwi.dwi_phantom import phantom, write


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_of_the_same_name_come_first(tmp_path: Path) -> None:
    make(tmp_path, "dwi.bval", "dwi.bvec")
    make(tmp_path / "sub-01/dwi", *[f"sub-01_dwi.{end}" for end in ("nii.gz", "bval", "bvec")])
    found = find_files(tmp_path / "sub-01/dwi/sub-01_dwi.nii.gz")
    assert found.bval == tmp_path / "sub-01/dwi/sub-01_dwi.bval"
    assert found.mask is None
    assert len(found.all) == 3


def test_files_are_inherited_from_the_nearest_level(tmp_path: Path) -> None:
    """BIDS: a file above applies to what has all its entities; the nearest one wins."""
    make(tmp_path, "dwi.bval", "dwi.bvec", "acq-hi_dwi.bval", "sub-01/sub-01_dwi.bvec")
    for session in ("a", "b"):
        make(tmp_path, f"sub-01/ses-{session}/dwi/sub-01_ses-{session}_acq-lo_dwi.nii.gz")
    make(tmp_path, "sub-02/dwi/sub-02_dwi.nii.gz", "sub-01/ses-b/sub-01_ses-b_dwi.bval")
    first = find_files(tmp_path / "sub-01/ses-a/dwi/sub-01_ses-a_acq-lo_dwi.nii.gz")
    assert first.bval == tmp_path / "dwi.bval"
    assert first.bvec == tmp_path / "sub-01/sub-01_dwi.bvec"
    second = find_files(tmp_path / "sub-01/ses-b/dwi/sub-01_ses-b_acq-lo_dwi.nii.gz")
    assert second.bval == tmp_path / "sub-01/ses-b/sub-01_ses-b_dwi.bval"
    assert find_files(tmp_path / "sub-02/dwi/sub-02_dwi.nii.gz").bvec == tmp_path / "dwi.bvec"


def test_two_files_that_may_apply_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "dwi.bval", "dir-AP_dwi.bval", "dwi.bvec", "sub-01/dwi/sub-01_dir-AP_dwi.nii.gz")
    with pytest.raises(ScanError, match=r"b-values of dir-AP_dwi\.bval, dwi\.bval .*Keep one"):
        find_files(tmp_path / "sub-01/dwi/sub-01_dir-AP_dwi.nii.gz")


def test_files_of_others_are_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "sub-01/dwi/sub-01_dwi.nii.gz", "sub-01/dwi/sub-02_dwi.bval", "bold.bval")
    make(tmp_path.parent, "dwi.bval")  # above the dataset
    with pytest.raises(ScanError, match=r"no b-values: sub-01_dwi\.bval does not lie beside it"):
        find_files(tmp_path / "sub-01/dwi/sub-01_dwi.nii.gz")
    make(tmp_path, "sub-01/dwi/sub-01_dwi.bval")
    with pytest.raises(ScanError, match=r"no gradient directions: sub-01_dwi\.bvec"):
        find_files(tmp_path / "sub-01/dwi/sub-01_dwi.nii.gz")


def test_fsl_and_hcp_names_are_known(tmp_path: Path) -> None:
    make(tmp_path, "data.nii.gz", "bvals", "bvecs", "nodif_brain_mask.nii.gz", "b.nii", "b.bvals")
    found = find_files(tmp_path / "data.nii.gz")
    assert [path.name for path in found.all] == [
        "data.nii.gz",
        "bvals",
        "bvecs",
        "nodif_brain_mask.nii.gz",
    ]
    assert find_files(tmp_path / "b.nii").bval.name == "b.bvals"


def test_qsiprep_outputs_come_with_their_mask(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "ses-1" / "dwi"
    stem = "sub-01_ses-1_space-T1w_desc-"
    make(folder, *[f"{stem}preproc_dwi.{end}" for end in ("nii.gz", "bval", "bvec")])
    make(folder, f"{stem}brain_mask.nii.gz", "sub-01_ses-1_space-MNI_desc-brain_mask.nii.gz")
    found = find_files(folder / f"{stem}preproc_dwi.nii.gz")
    assert found.mask == folder / f"{stem}brain_mask.nii.gz"


def test_the_audit_looks_at_series_and_their_gradients(tmp_path: Path) -> None:
    path = write(phantom(((1000.0, 7),)), tmp_path / "sub-1_dwi.nii.gz")
    report = inspect_scan(path)
    assert report.problems == ()
    assert report.shape == (24, 26, 22, 9)
    (tmp_path / "sub-1_dwi.bval").write_text("0 1000")
    (problem,) = inspect_scan(path).problems
    assert problem.what == "gradients"
    assert "is of 2 volumes" in problem.remedy
