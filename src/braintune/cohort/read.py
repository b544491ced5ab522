"""Reading a cohort from whatever the user points at."""

from dataclasses import replace
from pathlib import Path

from braintune.cohort.bids import read_bids
from braintune.cohort.cohort import Cohort
from braintune.cohort.decathlon import is_decathlon, read_decathlon
from braintune.cohort.tabular import read_tabular
from braintune.errors import InputError
from braintune.recipe import ScansRecipe

STORE_TABLE = "cohort.tsv"


def read_cohort(source: str | Path, scans: ScansRecipe | None = None) -> Cohort:
    """Read a cohort from a BIDS dataset, a table, a prepared store, or the Decathlon layout.

    Args:
        source: A BIDS dataset or derivative, a TSV or CSV (see `read_tabular`), a prepared store,
            which carries its cohort's table, or a folder with a ``dataset.json`` (see
            `read_decathlon`).
        scans: Which files, or which column, to take.

    Raises:
        InputError: If nothing there is a cohort, with what was looked for.
    """
    source, scans = Path(source), scans or ScansRecipe()
    if source.is_file():
        if source.suffix.lower() not in {".tsv", ".csv", ".txt"}:
            raise InputError(f"{source} is no cohort: give a BIDS folder, a .tsv or a .csv.")
        return read_tabular(source, scans.path)
    if not source.is_dir():
        raise InputError(f"The cohort {source} does not exist.")
    if (source / STORE_TABLE).is_file():
        return replace(read_tabular(source / STORE_TABLE), source=source)
    if is_decathlon(source):
        return read_decathlon(source)
    if not any(source.glob("sub-*")):
        msg = (
            f"{source} holds no sub-* folders, no dataset.json, and is no prepared store. Give a"
            " BIDS dataset, or a table with the columns participant_id and path."
        )
        raise InputError(msg)
    return read_bids(source, scans)


def parse_filters(filters: list[str]) -> dict[str, str]:
    """Read ``key=value`` filters from the command line.

    Raises:
        InputError: If one has no ``=``.
    """
    values = {}
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--filter {text!r} must look like desc=brain.")
        values[key.strip()] = value.strip()
    return values
