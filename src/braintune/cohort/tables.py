"""Reading TSV and CSV tables as text, the way BIDS means them."""

import csv
from collections import Counter
from pathlib import Path

import pandas as pd

from braintune.errors import InputError, listing

MISSING = ["n/a", "N/A", "NA", "NaN", "nan", ""]


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV (or CSV, by its name) as text columns, ``n/a`` and blanks as missing.

    Raises:
        InputError: If the file is missing, empty or no table.
    """
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            dtype="string",
            na_values=MISSING,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
    except FileNotFoundError:
        raise InputError(f"The table {path} does not exist.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table of text in UTF-8: {error}.") from None
    # pandas renames the second of two columns of one name in silence.
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = [name.strip() for name in next(csv.reader(file, delimiter=separator))]
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise InputError(f"{path} has two columns named {listing(repeated)}.")
    table.columns = [str(name).strip() for name in table.columns]
    return table


def write_table_text(table: pd.DataFrame) -> str:
    """A table as TSV text, missing values as ``n/a``."""
    return str(table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))
