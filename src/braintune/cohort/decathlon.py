"""A cohort in the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022).

``dataset.json`` lists the images and label maps of a folder. It may come from anywhere, so every
path must stay within the folder.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from braintune.cohort.cohort import KEYS, Cohort
from braintune.cohort.label_maps import LABEL_PATH
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.files import read_json

DESCRIPTION = "dataset.json"
_SPLIT = "split.tsv"
_LARGEST_DESCRIPTION = 50_000_000


def is_decathlon(root: Path) -> bool:
    """Whether a folder has a ``dataset.json``."""
    return (root / DESCRIPTION).is_file()


def read_decathlon(root: Path) -> Cohort:
    """Read the labelled images that ``dataset.json`` lists under ``training``.

    Every image is a participant of its file's name. A table ``split.tsv`` with a column ``file``,
    where there is one, adds its other columns, such as ``split``.

    Raises:
        InputError: If the description is of another form, or a path leads out of the folder.
    """
    path = root / DESCRIPTION
    if path.stat().st_size > _LARGEST_DESCRIPTION:
        raise InputError(f"{path} is larger than 50 MB, which no list of scans is.")
    document = read_json(path)
    entries = document.get("training") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        msg = f"{path} lists no scans: it needs 'training' with the image and label of each."
        raise InputError(msg)
    rows = [_row(root, entry, number) for number, entry in enumerate(entries, start=1)]
    table = pd.DataFrame(rows, dtype="string")
    return Cohort(root, _with_split(root, table))


def _row(root: Path, entry: Any, number: int) -> dict[str, str | None]:
    if not isinstance(entry, dict) or not {"image", "label"} <= set(entry):
        msg = f"{root / DESCRIPTION}: entry {number} of 'training' needs an 'image' and a 'label'."
        raise InputError(msg)
    image = _inside(root, entry["image"])
    name = image.name.split(".nii")[0]
    return {
        "scan_id": name,
        "participant_id": name,
        "session_id": None,
        "path": str(image),
        LABEL_PATH: str(_inside(root, entry["label"])),
    }


def _inside(root: Path, text: Any) -> Path:
    """A path of the description, which must not lead out of the folder, by links either."""
    if not isinstance(text, str) or "\0" in text:
        raise InputError(f"{root / DESCRIPTION} holds {text!r:.80}, which is no path.")
    relative = PurePosixPath(text)
    path = (root / relative).resolve()
    if relative.is_absolute() or not path.is_relative_to(root.resolve()):
        msg = f"{root / DESCRIPTION} names {text!r:.200}, which is outside of its folder."
        raise InputError(msg)
    return path


def _with_split(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    path = root / _SPLIT
    if not path.is_file():
        return table
    split = read_table(path)
    if "file" not in split.columns:
        return table
    repeated = split.loc[split["file"].duplicated(), "file"]
    if len(repeated):
        raise InputError(f"{path} lists {listing(repeated.unique())} more than once.")
    split = split.drop(columns=[n for n in (*KEYS, LABEL_PATH) if n in split.columns])
    names = table["path"].map(lambda path: Path(path).name).rename("file")
    return table.assign(file=names).merge(split, on="file", how="left").drop(columns=["file"])
