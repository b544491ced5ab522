"""Masks that users have: found by subject and session, and refused where they don't fit."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError
from braintune.imaging.masks.bringing import bring_mask
from braintune.imaging.masks.found import MASK_PATH, with_masks
from braintune.imaging.nifti import ScanError, Volume, write_volume


def cohort(*scans: tuple[str, str | None]) -> Cohort:
    rows = []
    for subject, session in scans:
        name = f"sub-{subject}" + (f"_ses-{session}" if session else "") + "_T1w"
        rows.append(
            {
                "scan_id": name,
                "participant_id": f"sub-{subject}",
                "session_id": f"ses-{session}" if session else None,
                "path": f"raw/{name}.nii.gz",
            }
        )
    return Cohort(Path("raw"), pd.DataFrame(rows, dtype="string"))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def found(cohort: Cohort, *folders: Path) -> list[str | None]:
    column = with_masks(cohort, folders).table[MASK_PATH]
    return [None if pd.isna(value) else value for value in column]


FMRIPREP, CAT12, FREESURFER = (
    ("sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz", "01", "a"),
    ("sub-01/ses-a/anat/mri/p0sub-01_ses-a_T1w.nii", "01", "a"),
    ("sub-01_ses-a/mri/brainmask.mgz", "01", "a"),
)


@pytest.mark.parametrize(("place", "subject", "session"), [FMRIPREP, CAT12, FREESURFER])
def test_each_kind_of_folder_is_known(
    tmp_path: Path, place: str, subject: str, session: str
) -> None:
    mask = touch(tmp_path / place)
    assert found(cohort((subject, session), ("02", session)), tmp_path) == [str(mask), None]


@pytest.mark.parametrize(
    "place", ["sub-01/anat/sub-01_desc-brain_mask.nii.gz", "sub-01/mri/brainmask.mgz"]
)
def test_a_subjects_mask_is_for_its_only_session(tmp_path: Path, place: str) -> None:
    mask = touch(tmp_path / place)
    assert found(cohort(("01", "a")), tmp_path) == [str(mask)]
    with pytest.raises(InputError, match="No mask"):
        found(cohort(("01", "a"), ("01", "b")), tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        "sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
        "sub-01/anat/sub-01_desc-aseg_mask.nii.gz",
        "sub-01/anat/mri/p1sub-01_T1w.nii",
        "sub-01/mri/brain.mgz",
        "sub-02/mri/brainmask.mgz",
    ],
)
def test_other_files_are_no_masks_of_the_scan(tmp_path: Path, place: str) -> None:
    touch(tmp_path / place)
    with pytest.raises(InputError, match=r"No mask .*brainmask\.mgz"):
        found(cohort(("01", None)), tmp_path)


def test_two_masks_of_one_scan_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "sub-01" / "mri" / "brainmask.mgz")
    touch(tmp_path / "b" / "sub-01" / "mri" / "brainmask.mgz")
    with pytest.raises(InputError, match="sub-01_T1w has several masks"):
        found(cohort(("01", None)), tmp_path)
    assert found(cohort(("01", None)), tmp_path / "a", tmp_path / "a") != [None]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        found(cohort(("01", None)), tmp_path / "nowhere")


@pytest.fixture
def ball() -> tuple[np.ndarray, np.ndarray]:
    """A ball in a 40³ grid of 2 mm, and its affine."""
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij")) - 19.5
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -39
    return (index**2).sum(axis=0) < 14**2, affine


def test_a_mask_is_brought_to_another_grid(
    tmp_path: Path, ball: tuple[np.ndarray, np.ndarray]
) -> None:
    mask, affine = ball
    write_volume(tmp_path / "mask.nii.gz", mask.astype(np.uint8), affine)
    turned = np.array([[0, 0, 1.0, -39.5], [-1, 0, 0, 39.5], [0, 1, 0, -39.5], [0, 0, 0, 1]])
    scan = Volume(np.zeros((80, 80, 80), np.float32), turned)
    brought = bring_mask(tmp_path / "mask.nii.gz", scan)
    assert brought.sum() == pytest.approx(8 * mask.sum(), rel=0.03)
    # A ball in the middle of the world is one from every side.
    assert (brought == brought[::-1, ::-1, ::-1]).mean() > 0.99


def test_a_neck_cut_off_is_no_reason_to_refuse_and_another_space_is(
    tmp_path: Path, ball: tuple[np.ndarray, np.ndarray]
) -> None:
    mask, affine = ball
    write_volume(tmp_path / "mask.nii.gz", mask.astype(np.uint8), affine)
    lower = Volume(np.zeros((40, 40, 34), np.float32), affine)
    assert bring_mask(tmp_path / "mask.nii.gz", lower).sum() > 0.9 * mask.sum()
    elsewhere = affine.copy()
    elsewhere[0, 3] += 60
    with pytest.raises(ScanError, match=r"Only \d+% of the mask .* another scan"):
        bring_mask(tmp_path / "mask.nii.gz", Volume(np.zeros((40, 40, 40), np.float32), elsewhere))


def test_freesurfers_erased_voxels_are_no_brain(
    tmp_path: Path, ball: tuple[np.ndarray, np.ndarray]
) -> None:
    mask, affine = ball
    data = np.where(mask, 110, 0).astype(np.float32)
    data[20:, :, :] = np.minimum(data[20:, :, :], 1)
    nib.save(nib.MGHImage(data, affine), tmp_path / "brainmask.mgz")
    brought = bring_mask(tmp_path / "brainmask.mgz", Volume(data, affine))
    assert np.array_equal(brought, mask & (data > 1))


@pytest.mark.parametrize("name", ["mask.nii.gz", "brainmask.mgz"])
@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_broken_masks_are_told(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError):
        bring_mask(tmp_path / name, Volume(np.zeros((4, 4, 4), np.float32), np.eye(4)))


def test_an_empty_mask_is_told(tmp_path: Path) -> None:
    write_volume(tmp_path / "mask.nii.gz", np.zeros((9, 9, 9), np.uint8), np.eye(4))
    with pytest.raises(ScanError, match="is empty"):
        bring_mask(tmp_path / "mask.nii.gz", Volume(np.zeros((9, 9, 9), np.float32), np.eye(4)))
