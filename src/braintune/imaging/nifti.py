"""Reading and writing NIfTI, taking every file for hostile until it has proven otherwise.

Sizes are checked against the header before anything is decompressed, no more than the header
promises is read, and gzip's checksum is verified. isal decompresses about twice as fast as zlib.
"""

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError

from braintune.errors import InputError
from braintune.files import write_bytes

MAX_BYTES = 8 * 1024**3
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_HEADER = 10_000_000
_DECOMPRESSION_ERRORS: Any = (
    EOFError,
    OSError,
    zlib.error,
    isal_zlib.error,
)

FloatArray = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]


class ScanError(InputError):
    """A scan that can't be used.

    Attributes:
        problem: A short name of what is wrong, such as ``"truncated"``.
    """

    def __init__(self, problem: str, message: str) -> None:
        super().__init__(message)
        self.problem = problem


@dataclass(frozen=True)
class Volume:
    """One scan in memory.

    Attributes:
        data: Intensities, of shape (x, y, z).
        affine: From voxel indices to world millimetres, RAS+, of shape (4, 4).
    """

    data: FloatArray
    affine: Affine


def read_volume(path: Path) -> Volume:
    """Read one 3D scan.

    Raises:
        ScanError: If the file is missing, no NIfTI, truncated, corrupt, too large, or not 3D.
    """
    with _opened(path) as file:
        header = _read_header(file, path)
        shape = _shape(header, path, 3)
        affine = _affine(header, path)
        data = _read_voxels(file, header, shape, path)
    return Volume(data, affine)


def read_series(path: Path) -> Volume:
    """Read several 3D maps of one grid, such as the probabilities of several structures.

    Returns:
        Data of shape (x, y, z, maps); a 3D file is one map.

    Raises:
        ScanError: If the file is missing, no NIfTI, truncated, corrupt, too large, or not 4D.
    """
    with _opened(path) as file:
        header = _read_header(file, path)
        shape = _shape(header, path, 4)
        affine = _affine(header, path)
        data = _read_voxels(file, header, shape, path)
    return Volume(data, affine)


def read_volumes(path: Path, volumes: Sequence[int]) -> Volume:
    """Read some volumes of a 4D file; the others are never in memory together.

    Args:
        path: The file.
        volumes: Which, each once; they come in this order.

    Returns:
        Data of shape (x, y, z, len(volumes)).

    Raises:
        ScanError: As `read_series`.
    """
    places = {int(number): place for place, number in enumerate(volumes)}
    with _opened(path) as file:
        header = _read_header(file, path)
        *shape, count = _shape(header, path, 4)
        affine = _affine(header, path)
        # Volume after volume, as the file has them.
        data = np.empty((*shape, len(places)), dtype=np.float32, order="F")
        for number, part in enumerate(_parts(file, header, tuple(shape), count, path)):
            if number in places:
                data[..., places[number]] = part
    return Volume(data, affine)


def read_header(path: Path) -> Any:
    """Read a NIfTI header alone, as nibabel's header object.

    Raises:
        ScanError: If the file is missing or has no right header.
    """
    with _opened(path) as file:
        return _read_header(file, path)


def write_volume(path: Path, data: npt.NDArray[Any], affine: Affine) -> None:
    """Write a 3D array as NIfTI, compressed where the name ends in ``.gz``, whole or not at all."""
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    content = image.to_bytes()
    if path.name.endswith(".gz"):
        content = igzip.compress(content, compresslevel=2, mtime=0)
    write_bytes(path, content)


def spacing_of(affine: Affine) -> npt.NDArray[np.float64]:
    """Voxel sizes in millimetres along the three array axes."""
    return np.sqrt((affine[:3, :3] ** 2).sum(axis=0))


def _opened(path: Path) -> BinaryIO:
    """Open a plain or gzipped file by what it holds, not by its name."""
    try:
        with path.open("rb") as file:
            magic = file.read(2)
    except FileNotFoundError:
        msg = f"{path} does not exist."
        if path.is_symlink():
            msg = f"{path} is a link to a file that is not here; fetch it first (datalad get)."
        raise ScanError("missing", msg) from None
    except OSError as error:
        raise ScanError("unreadable", f"{path} can't be read: {error.strerror}.") from None
    if not magic:
        raise ScanError("empty", f"{path} is empty (0 bytes). Fetch or convert it again.")
    if magic == _GZIP_MAGIC:
        return igzip.open(path, "rb")
    if path.name.endswith(".gz"):
        msg = f"{path} is named .gz, but is no gzip file. Convert it again from the source."
        raise ScanError("unreadable", msg)
    return path.open("rb")


def _read_header(file: BinaryIO, path: Path) -> Any:
    try:
        raw = file.read(nib.Nifti2Header.sizeof_hdr)
    except _DECOMPRESSION_ERRORS as error:
        raise ScanError("truncated", f"{path} is corrupt or cut short: {error}.") from None
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if len(raw) >= kind.sizeof_hdr and kind.may_contain_header(raw):
            try:
                header = kind(raw[: kind.sizeof_hdr], check=False)
                header.get_data_dtype()
                header.get_data_shape()
                zooms = header.get_zooms()
            except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
                raise ScanError("unreadable", f"{path} has a broken header: {error}.") from None
            _check_offset(header, path)
            if not np.isfinite(zooms).all():
                raise ScanError("unreadable", f"{path} has voxel sizes that are no numbers.")
            return header
    raise ScanError("unreadable", f"{path} is no NIfTI file. Convert it with dcm2niix or nibabel.")


def _check_offset(header: Any, path: Path) -> None:
    offset = float(header["vox_offset"])
    if not header.sizeof_hdr <= offset <= _MAX_HEADER:
        msg = f"{path} says its voxels begin at byte {offset:g}; only single-file NIfTI is read."
        raise ScanError("unreadable", msg)


def _shape(header: Any, path: Path, axes: int) -> tuple[int, ...]:
    shape = tuple(int(n) for n in header.get_data_shape())
    while len(shape) > axes and shape[-1] == 1:
        shape = shape[:-1]
    shape += (1,) * (axes - len(shape) if len(shape) >= 3 else 0)
    if len(shape) != axes:
        msg = f"{path} is {len(shape)}D, of shape {shape}. Take one {axes}D volume of it first."
        if len(shape) == 4:
            msg += " A diffusion series needs 'prepare: {dwi: {maps: [fa, md]}}'."
        raise ScanError("4D" if len(shape) == 4 else f"not {axes}D", msg)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise ScanError("unreadable", f"{path} holds {dtype}, not one number a voxel.")
    size = int(np.prod(shape, dtype=np.float64)) * dtype.itemsize
    if min(shape) < 1 or size > MAX_BYTES:
        raise ScanError("too large", f"{path} has the shape {shape}, {size:,} bytes.")
    return shape


def _affine(header: Any, path: Path) -> Affine:
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise ScanError("affine", f"{path} has no right affine: {error}.") from None
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ScanError("affine", f"{path} has an affine that can't be inverted.")
    return affine


def _read_voxels(file: BinaryIO, header: Any, shape: tuple[int, ...], path: Path) -> FloatArray:
    (data,) = _parts(file, header, shape, 1, path)
    return data


def _parts(
    file: BinaryIO, header: Any, shape: tuple[int, ...], count: int, path: Path
) -> Iterator[FloatArray]:
    """Arrays of one shape that follow each other; all must be taken, to see that all are there."""
    dtype = header.get_data_dtype()
    size = int(np.prod(shape)) * dtype.itemsize
    slope, intercept = header.get_slope_inter()
    try:
        _skip(file, int(header["vox_offset"]) - nib.Nifti2Header.sizeof_hdr, header)
        for number in range(count):
            raw = file.read(size)
            if len(raw) < size:
                there = number * size + len(raw)
                msg = f"{path} is cut short: {there:,} of {count * size:,} bytes of voxels."
                raise ScanError("truncated", msg)
            data = np.frombuffer(raw, dtype=dtype).reshape(shape, order="F").astype(np.float32)
            if slope is not None and (slope, intercept) != (1.0, 0.0):
                data = data * np.float32(slope) + np.float32(intercept)
            yield data
        file.read(1)  # reaching the end is what makes gzip verify its checksum
    except _DECOMPRESSION_ERRORS as error:
        raise ScanError("truncated", f"{path} is corrupt or cut short: {error}.") from None


def _skip(file: BinaryIO, count: int, header: Any) -> None:
    """Move on to the voxels; a NIfTI-1 file may have them before the end of what was read."""
    if count >= 0:
        file.read(count)
    else:
        file.seek(int(header["vox_offset"]), io.SEEK_SET)
