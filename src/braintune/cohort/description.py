"""What a BIDS dataset that braintune wrote says of itself."""

from pathlib import Path
from typing import Any, Literal

from braintune._version import __version__
from braintune.files import write_json


def write_description(
    folder: Path, name: str, kind: Literal["raw", "derivative"] = "derivative", **more: Any
) -> None:
    """Write ``dataset_description.json``.

    Args:
        folder: The dataset's top.
        name: What the dataset is called.
        kind: Whether it holds scans, or what was made from scans.
        **more: Further entries of the standard, such as ``License``. They may replace ours.

    Example:
        >>> import json, tempfile
        >>> top = Path(tempfile.mkdtemp())
        >>> write_description(top, "Volumes", License="CC0")
        >>> json.loads((top / "dataset_description.json").read_text())["DatasetType"]
        'derivative'
    """
    description = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": kind,
        "GeneratedBy": [{"Name": "braintune", "Version": __version__}],
    }
    write_json(folder / "dataset_description.json", description | more)
