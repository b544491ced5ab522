"""Names of labels: the table of a segmentation, found as BIDS has files inherit from folders."""

import re
from pathlib import Path

from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing

_LARGEST_TABLE = 2_000_000
_LARGEST_NAME = 200


def name_table(path: Path, root: Path) -> Path | None:
    """The table of label names that holds for a label map, None where there is none.

    It is a ``*_dseg.tsv`` whose entities are all among the map's, or a ``labels.tsv``, in the map's
    folder or one above it, up to the root; the nearest folder decides.
    """
    entities = _entities(path)
    folder = path.parent
    while True:
        tables = [
            table for table in sorted(folder.glob("*dseg.tsv")) if _entities(table) <= entities
        ]
        if tables:
            return max(tables, key=lambda table: len(_entities(table)))
        if (folder / "labels.tsv").is_file():
            return folder / "labels.tsv"
        if folder == root or root not in folder.parents:
            return None
        folder = folder.parent


def _entities(path: Path) -> set[str]:
    return set(re.sub(r"\.(nii(\.gz)?|tsv)$", "", path.name).split("_")) - {"dseg"}


def read_names(path: Path) -> dict[int, str]:
    """Read the names of labels by their values.

    Args:
        path: A table with the columns ``index`` and ``name``.

    Raises:
        InputError: If it is no such table, or a value has two names.
    """
    if path.stat().st_size > _LARGEST_TABLE:
        raise InputError(f"{path} has over {_LARGEST_TABLE:,} bytes, too many for label names.")
    table = read_table(path)
    if missing := {"index", "name"} - set(table.columns):
        raise InputError(
            f"{path} lacks the column {listing(sorted(missing))}; a table of labels has the columns"
            " 'index' and 'name'."
        )
    names: dict[int, str] = {}
    rows = table[["index", "name"]].dropna()
    for index, name in zip(rows["index"], rows["name"], strict=True):
        value = _value(str(index), path)
        if names.setdefault(value, _clean(str(name))) != _clean(str(name)):
            raise InputError(f"{path} gives label {value} two names: {names[value]} and {name}.")
    return names


def _value(text: str, path: Path) -> int:
    if not re.fullmatch(r"\d{1,9}", text.strip()):
        raise InputError(f"{path} has the index {text!r}; labels are whole numbers from 0.")
    return int(text)


def _clean(name: str) -> str:
    """A name without what would break a table."""
    return re.sub(r"[\x00-\x1f]+", " ", name).strip()[:_LARGEST_NAME]
