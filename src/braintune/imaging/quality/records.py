"""What is kept of each scan that was prepared or failed, in files that need no index.

Below a store's folder, ``quality/records`` holds a JSON file a scan, ``quality/figures`` its
picture, and ``native`` its brain mask and its transform, which bring maps back to its own space.
"""

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from braintune.files import read_json, write_bytes, write_json
from braintune.imaging.label_pictures import color_png
from braintune.imaging.nifti import Affine, Volume, write_volume
from braintune.imaging.quality.measure import Quality

FIGURES = Path("quality", "figures")
_RECORDS = Path("quality", "records")
_NATIVE = Path("native")


@dataclass(frozen=True)
class Record:
    """What is known of one scan.

    Attributes:
        scan_id: Which scan.
        source: Path, size and time of change of the files that it is of.
        measures: Its measures by name, None where one could not be told; empty if it failed.
        doubts: What the pipeline itself found doubtful.
        problem: Why it failed, or nothing.
        picture: The picture's file name, or nothing if not even one could be drawn.
        seconds: What it took.
    """

    scan_id: str
    source: str
    measures: dict[str, float | None]
    doubts: tuple[str, ...] = ()
    problem: str | None = None
    picture: str | None = None
    seconds: float = 0.0

    @property
    def numbers(self) -> dict[str, float]:
        """The measures, NaN where one could not be told."""
        return {
            name: float("nan") if value is None else value for name, value in self.measures.items()
        }


def file_name(scan_id: str) -> str:
    """A name for a scan's files that people recognise and every file system takes.

    Example:
        >>> file_name("sub-01_T1w"), file_name("a/b c")
        ('sub-01_T1w_b227fdc7', 'a-b-c_0af99a60')
    """
    plain = re.sub(r"[^A-Za-z0-9_.+-]", "-", scan_id)[:80].lstrip(".")
    return f"{plain}_{hashlib.sha256(scan_id.encode()).hexdigest()[:8]}"


def measures_of(quality: Quality) -> dict[str, float | None]:
    """Measures as JSON knows them: None instead of NaN."""
    return {name: value if np.isfinite(value) else None for name, value in asdict(quality).items()}


def write_record(out: Path, record: Record) -> None:
    """Write or replace a scan's record."""
    write_json(out / _RECORDS / f"{file_name(record.scan_id)}.json", asdict(record))


def read_record(out: Path, scan_id: str) -> Record | None:
    """A scan's record, or nothing if it has none."""
    path = out / _RECORDS / f"{file_name(scan_id)}.json"
    if not path.exists():
        return None
    values: dict[str, Any] = read_json(path)
    return Record(**{**values, "doubts": tuple(values["doubts"])})


def record_time(out: Path, scan_id: str) -> int:
    """When a scan's record was written, in nanoseconds of the disk's clock; 0 if there is none."""
    try:
        return (out / _RECORDS / f"{file_name(scan_id)}.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def write_picture(out: Path, scan_id: str, picture: npt.NDArray[np.uint8]) -> str:
    """Write a scan's picture.

    Returns:
        Its file name.
    """
    name = f"{file_name(scan_id)}.png"
    write_bytes(out / FIGURES / name, color_png(picture))
    return name


def write_native(
    out: Path, scan_id: str, native: Volume, mask: npt.NDArray[np.bool_], to_template: Affine
) -> None:
    """Write what brings maps back to a scan's own space.

    ``native/*_mask.nii.gz`` is the brain mask there, and ``native/*_to-template.json`` the matrix
    from its world millimetres to the template's.
    """
    name = file_name(scan_id)
    write_volume(out / _NATIVE / f"{name}_mask.nii.gz", mask.astype(np.uint8), native.affine)
    document = {
        "scan_id": scan_id,
        "from": "world millimetres of the scan (RAS+)",
        "to": "millimetres of MNI152 (RAS+)",
        "matrix": to_template.tolist(),
    }
    write_json(out / _NATIVE / f"{name}_to-template.json", document)
