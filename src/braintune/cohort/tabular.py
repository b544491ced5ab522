"""A cohort from any TSV or CSV with ids, paths and targets."""

from pathlib import Path

from braintune.cohort.cohort import KEYS, Cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing, nearest


def read_tabular(path: Path, path_column: str = "path") -> Cohort:
    """Read a table with one row a scan.

    Args:
        path: A TSV or CSV with ``participant_id``, an optional ``session_id``, a column of image
            paths (absolute, or relative to the table's folder), and any further columns.
        path_column: The column of image paths.

    Raises:
        InputError: If a column or an id is missing, or a path is given for none of the rows.
    """
    table = read_table(path)
    for name in ("participant_id", path_column):
        if name not in table.columns:
            msg = (
                f"{path} has no column {name!r}.{nearest(name, table.columns)}"
                f" Columns: {listing(table.columns, limit=40)}."
            )
            raise InputError(msg)
    if table["participant_id"].isna().any():
        rows = table.index[table["participant_id"].isna()] + 2
        raise InputError(f"{path} has no participant_id in line {listing(rows)}.")
    if "session_id" not in table.columns:
        table["session_id"] = None
    if "scan_id" not in table.columns:
        session = table["session_id"]
        table["scan_id"] = table["participant_id"].where(
            session.isna(), table["participant_id"] + "_" + session.astype("string")
        )
    table["path"] = table[path_column].map(
        lambda text: str((path.parent / text).resolve()), na_action="ignore"
    )
    if path_column != "path":
        table = table.drop(columns=[path_column])
    others = [name for name in table.columns if name not in KEYS]
    table = table[[*KEYS, *others]]
    named = table["path"].notna()
    cohort = Cohort(path, table)
    return cohort.keep(named, f"no image in column '{path_column}'")
