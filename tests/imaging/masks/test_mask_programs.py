"""Programs are called as their manuals say, in a folder of their own; stand-ins play them here."""

import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from braintune.errors import InputError
from braintune.imaging.masks.programs import PROGRAMS, find_program, mask_by_program
from braintune.imaging.nifti import ScanError, Volume

AFFINE = np.diag([-2.0, 2, 3, 1])


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def stand_in(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def threshold(output: str, of: str) -> str:
    """A program that calls brain what is above 50."""
    return (
        "import nibabel as nib, numpy as np\n"
        f"scan = nib.load({of})\n"
        "mask = (scan.get_fdata() > 50).astype('uint8')\n"
        f"nib.save(nib.Nifti1Image(mask, scan.affine), {output})\n"
    )


def scan() -> Volume:
    data = np.zeros((12, 14, 10), np.float32)
    data[3:9, 4:10, 2:8] = 100
    return Volume(data, AFFINE)


CALLS = {
    "hd-bet": ("hd-bet", "sys.argv[4].replace('.nii.gz', '_bet.nii.gz')", "sys.argv[2]"),
    "synthstrip": ("mri_synthstrip", "sys.argv[4]", "sys.argv[2]"),
    "freesurfer": ("mri_watershed", "sys.argv[3]", "sys.argv[2]"),
}


def test_every_program_has_a_stand_in_here() -> None:
    assert set(CALLS) == set(PROGRAMS)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_mask_comes_back_on_the_scans_grid(name: str, bin_folder: Path) -> None:
    word, output, source = CALLS[name]
    stand_in(bin_folder, word, threshold(output, source))
    assert np.array_equal(mask_by_program(name, scan()), scan().data > 50)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_missing_program_says_how_to_install_it(name: str, bin_folder: Path) -> None:
    with pytest.raises(InputError, match=r"not on the PATH\. To have it: .*install.*template"):
        find_program(name)


def test_an_unknown_program_names_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'synthstrip'"):
        find_program("synthstripp")


def test_what_a_failing_program_said_is_told(bin_folder: Path) -> None:
    stand_in(
        bin_folder,
        "mri_synthstrip",
        "[print('line', n) for n in range(40)]\nsys.exit('no licence file')",
    )
    with pytest.raises(ScanError, match=r"exit status 1.*line 39.*no licence file") as caught:
        mask_by_program("synthstrip", scan())
    assert "line 2 " not in str(caught.value)


def test_a_program_that_leaves_nothing_is_told(bin_folder: Path) -> None:
    stand_in(bin_folder, "mri_synthstrip", "print('done')")
    with pytest.raises(ScanError, match=r"left no out\.nii\.gz.*done"):
        mask_by_program("synthstrip", scan())


def test_a_program_that_hangs_is_stopped(bin_folder: Path) -> None:
    stand_in(
        bin_folder, "mri_synthstrip", "print('waiting', flush=True)\nimport time\ntime.sleep(60)"
    )
    with pytest.raises(ScanError, match=r"more than 3 s and was stopped.*waiting"):
        mask_by_program("synthstrip", scan(), time_limit=3)


def test_nothing_is_left_behind(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    stand_in(bin_folder, "mri_synthstrip", "sys.exit(3)")
    with pytest.raises(ScanError, match="exit status 3"):
        mask_by_program("synthstrip", scan())
    assert not any(place.iterdir())
