import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braintune.imaging.nifti import (
    ScanError,
    read_series,
    read_volume,
    read_volumes,
    write_volume,
)

Write = Callable[..., Path]


def problem_of(path: Path) -> str:
    with pytest.raises(ScanError) as caught:
        read_volume(path)
    assert str(path) in str(caught.value)
    return caught.value.problem


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_reads_what_nibabel_reads(write_scan: Write, name: str, dtype: type) -> None:
    data = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    affine = np.array([[0, -2, 0, 1], [1.5, 0, 0, 2], [0, 0, 3, 3], [0, 0, 0, 1.0]])
    path = write_scan(name, data, affine)
    volume = read_volume(path)
    expected = nib.load(path)
    assert np.array_equal(volume.data, expected.get_fdata())
    assert np.array_equal(volume.affine, expected.affine)


def test_scale_factors_big_endian_nifti2_and_singleton_axes(tmp_path: Path) -> None:
    data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for number, kind in enumerate([nib.Nifti1Image, nib.Nifti2Image]):
        image = kind(data[..., None], np.eye(4))
        image.header.set_slope_inter(2.0, -1.0)
        path = tmp_path / f"{number}.nii.gz"
        nib.save(image, path)
        assert np.array_equal(read_volume(path).data, nib.load(path).get_fdata()[..., 0])
    swapped = nib.Nifti1Image(data, np.eye(4), header=nib.Nifti1Header(endianness=">"))
    nib.save(swapped, tmp_path / "big.nii")
    assert np.array_equal(read_volume(tmp_path / "big.nii").data, data)


def test_written_volumes_read_back(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    affine = np.diag([-2.0, 2, 2, 1])
    write_volume(tmp_path / "a.nii.gz", data, affine)
    volume = read_volume(tmp_path / "a.nii.gz")
    assert np.array_equal(volume.data, data)
    assert np.array_equal(volume.affine, affine)
    assert np.array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(), data.astype(float))


def test_hostile_files_are_refused_by_name(tmp_path: Path, write_scan: Write) -> None:
    good = write_scan("good.nii.gz").read_bytes()
    files = {
        "text.nii.gz": (b"this is no image\n" * 99, "unreadable"),
        "text.nii": (b"this is no image\n" * 99, "unreadable"),
        "packed-text.nii.gz": (gzip.compress(b"this is no image\n" * 99), "unreadable"),
        "empty.nii.gz": (b"", "empty"),
        "short-header.nii.gz": (gzip.compress(gzip.decompress(good)[:300]), "unreadable"),
        "cut.nii.gz": (good[: len(good) // 2], "truncated"),
        "cut-data.nii.gz": (gzip.compress(gzip.decompress(good)[:-100]), "truncated"),
        "wrong-checksum.nii.gz": (good[:-8] + b"\0\0\0\0" + good[-4:], "truncated"),
    }
    for name, (content, problem) in files.items():
        (tmp_path / name).write_bytes(content)
        assert problem_of(tmp_path / name) == problem, name
    assert problem_of(tmp_path / "none.nii.gz") == "missing"
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "not-fetched")
    assert problem_of(tmp_path / "link.nii.gz") == "missing"


def test_any_byte_of_a_header_may_lie(write_scan: Write, tmp_path: Path) -> None:
    """Whatever the header says, reading gives a volume or a ScanError, and never much memory."""
    raw = bytearray(write_scan("good.nii").read_bytes())
    random = np.random.default_rng(0)
    path = tmp_path / "lie.nii"
    for _ in range(300):
        lie = bytearray(raw)
        for place in random.integers(0, 352, size=3):
            lie[place] = random.integers(0, 256)
        path.write_bytes(lie)
        try:
            assert read_volume(path).data.ndim == 3
        except ScanError:
            continue


def test_a_header_that_promises_too_much_is_not_believed(write_scan: Write) -> None:
    path = write_scan("good.nii")
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([32767, 32767, 32767], dtype="<i2").tobytes()
    path.write_bytes(raw)
    assert problem_of(path) == "too large"


def test_4d_colour_and_flat_affines_are_refused(write_scan: Write) -> None:
    assert problem_of(write_scan("4d.nii", np.ones((3, 3, 3, 2), dtype=np.int16))) == "4D"
    assert problem_of(write_scan("2d.nii", np.ones((3, 3), dtype=np.int16))) == "not 3D"
    colour = np.zeros((3, 3, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert problem_of(write_scan("rgb.nii", colour)) == "unreadable"
    complex_values = np.ones((3, 3, 3), dtype=np.complex64)
    assert problem_of(write_scan("complex.nii", complex_values)) == "unreadable"

    def flatten(image: nib.Nifti1Image) -> None:
        image.set_sform(np.diag([2.0, 2, 0, 1]), code=1)
        image.header["qform_code"] = 0

    assert problem_of(write_scan("flat.nii", change=flatten)) == "affine"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_some_volumes_of_a_series_are_those_of_all(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).integers(0, 100, (4, 5, 6, 7)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]))
    image.header.set_slope_inter(0.5, 3.0)
    path = tmp_path / name
    nib.save(image, path)
    everything = read_series(path)
    some = read_volumes(path, [5, 0, 6])
    assert np.array_equal(everything.data, nib.load(path).get_fdata())
    assert np.array_equal(some.data, everything.data[..., [5, 0, 6]])
    assert np.array_equal(some.affine, everything.affine)


def test_a_series_that_is_cut_in_a_volume_that_nobody_wants_is_refused(write_scan: Write) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 6, 7)).astype(np.float32)
    path = write_scan("cut.nii", data)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ScanError, match=r"cut short: 3,350 of 3,360 bytes"):
        read_volumes(path, [0, 1])
