import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from braintune.cohort.read import read_cohort
from braintune.imaging.audit import audit_cohort
from braintune.imaging.inspect import inspect_scan

Write = Callable[..., Path]


def problems_of(path: Path) -> list[str]:
    return [problem.what for problem in inspect_scan(path).problems]


def test_a_good_scan_has_no_problem(write_scan: Write) -> None:
    report = inspect_scan(write_scan("good.nii.gz"))
    assert report.problems == ()
    assert (report.shape, report.spacing) == ((12, 14, 10), (2.0, 2.0, 2.0))


def test_every_kind_of_broken_scan_is_told(write_scan: Write) -> None:
    data = np.random.default_rng(0).uniform(1, 9, (12, 14, 10)).astype(np.float32)
    holes = data.copy()
    holes[0, 0, 0] = np.inf

    def disagree(image: Any) -> None:
        image.set_qform(np.diag([2.0, 2, 2, 1]), code=1)
        image.set_sform(np.diag([2.0, 2, 2.5, 1]), code=1)

    expected = {
        "nan": (write_scan("nan.nii.gz", holes), "NaN"),
        "flat": (write_scan("flat.nii.gz", np.ones_like(data)), "constant"),
        "4d": (write_scan("4d.nii.gz", np.stack([data, data], axis=-1)), "4D"),
        "thick": (
            write_scan("thick.nii.gz", data, np.diag([0.9, 0.9, 7.0, 1])),
            "odd voxel size 0.9 × 0.9 × 7 mm",
        ),
        "left": (
            write_scan("left.nii.gz", data, np.diag([-2.0, 2, 2, 1])),
            "left-handed affine (LAS)",
        ),
        "forms": (
            write_scan("forms.nii.gz", data, change=disagree),
            "sform and qform disagree by 4.5 mm",
        ),
    }
    for name, (path, what) in expected.items():
        assert problems_of(path) == [what], name


@pytest.fixture
def spoilt(cohort_folder: Path, tmp_path: Path) -> Path:
    """A cohort in which much is wrong at once."""
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    scans = sorted(folder.rglob("*.nii.gz"))
    scans[0].write_text("no image")
    scans[1].write_bytes(scans[1].read_bytes()[:900])
    scans[2].write_bytes(b"")
    shutil.copy(scans[3], scans[4])
    image = nib.load(scans[5])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-6.0, 6, 6, 1])), scans[5])
    packed = gzip.decompress(scans[6].read_bytes())
    scans[6].write_bytes(gzip.compress(packed[:-99]))
    return folder


def test_the_audit_never_stops_at_the_first(spoilt: Path) -> None:
    audit = audit_cohort(read_cohort(spoilt), "dx", workers=2)
    kinds = sorted(problem.what.split(" (")[0] for problem in audit.problems)
    assert kinds == [
        "empty",
        "equal to the voxel",
        "left-handed affine",
        "truncated",
        "truncated",
        "unreadable",
    ]
    assert all(problem.where and problem.remedy for problem in audit.problems)
    assert audit.spacings == {"6 × 6 × 6": 28}


def test_what_is_accepted_becomes_a_caution(spoilt: Path) -> None:
    audit = audit_cohort(read_cohort(spoilt), accept=("left-handed", "equal"), workers=1)
    assert not any(p.what.startswith(("left-handed", "equal")) for p in audit.problems)
    assert any(p.what.startswith("left-handed") for p in audit.cautions)


def test_a_rare_voxel_size_is_a_caution(cohort_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cohort_folder, tmp_path / "cohort"))
    scan = sorted(folder.rglob("*.nii.gz"))[0]
    data = np.asarray(nib.load(scan).dataobj)
    nib.save(nib.Nifti1Image(data, np.diag([4.0, 4, 4, 1])), scan)
    audit = audit_cohort(read_cohort(folder), workers=1)
    assert audit.problems == ()
    assert [c.what for c in audit.cautions] == ["voxel size unlike the rest: 4 × 4 × 4"]


def test_the_same_voxels_in_another_file_format_are_equal(write_scan: Write) -> None:
    data = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    one = inspect_scan(write_scan("a.nii", data))
    two = inspect_scan(write_scan("b.nii.gz", data.astype(np.float64)))
    assert one.voxels == two.voxels != ""


def test_real_scans_are_fit(ixi: Path) -> None:
    from braintune.recipe import ScansRecipe

    cohort = read_cohort(ixi, ScansRecipe(desc="brain"))
    audit = audit_cohort(cohort, "age")
    assert len(cohort) == 124
    assert audit.problems == ()


def test_one_file_under_two_ids_is_told(cohort_folder: Path, tmp_path: Path) -> None:
    scan = sorted(cohort_folder.rglob("*.nii.gz"))[0]
    table = tmp_path / "table.tsv"
    table.write_text(f"participant_id\tpath\na\t{scan}\nb\t{scan}\n")
    audit = audit_cohort(read_cohort(table), workers=1)
    assert [(p.what, p.where) for p in audit.problems] == [("equal to the voxel", "a, b")]
