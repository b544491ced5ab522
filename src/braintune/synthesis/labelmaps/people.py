"""The people whose anatomies label maps are: the table of participants beside the maps."""

import re
from collections.abc import Sequence

import pandas as pd

from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.synthesis.labelmaps.effects import Person, age_position
from braintune.synthesis.labelmaps.options import PeopleOptions
from braintune.synthesis.labelmaps.reading import MapFile

_MALE = {"m": 1.0, "f": 0.0}


def with_people(
    files: Sequence[MapFile], options: PeopleOptions | None
) -> list[tuple[MapFile, Person]]:
    """Join label maps with what is known of their people, and keep the rows asked for.

    Args:
        files: Label maps, named ``sub-<label>_...``.
        options: Which columns and rows of ``participants.tsv``; None for unknown people.

    Raises:
        InputError: If the table, a column, a person or an age is missing, or no row is left.
    """
    if options is None:
        return [(file, Person()) for file in files]
    tables: dict[str, pd.DataFrame] = {}
    joined = []
    for file in files:
        key = str(file.root)
        if key not in tables:
            tables[key] = _participants(file, options)
        row = _row_of(file, tables[key])
        if all(str(row[column]) == value for column, value in options.where.items()):
            joined.append((file, _person(row, options, file)))
    if not joined:
        raise InputError(f"No label map is of a participant with {options.where}.")
    return joined


def _participants(file: MapFile, options: PeopleOptions) -> pd.DataFrame:
    path = file.root / "participants.tsv"
    table = read_table(path)
    wanted = {"participant_id", options.age, options.sex, *options.where} - {None}
    if missing := sorted(str(name) for name in wanted if name not in table):
        raise InputError(
            f"{path} lacks the column {listing(missing)}. There are: {listing(table.columns, 40)}."
        )
    return table.set_index("participant_id", drop=False)


def _row_of(file: MapFile, table: pd.DataFrame) -> "pd.Series[str]":
    match = re.match(r"sub-[A-Za-z0-9]+", file.path.name)
    if match is None or match[0] not in table.index:
        raise InputError(f"{file.path} belongs to no row of {file.root / 'participants.tsv'}.")
    row = table.loc[match[0]]
    if isinstance(row, pd.DataFrame):
        raise InputError(f"{file.root / 'participants.tsv'} has {match[0]} twice.")
    return row


def _person(row: "pd.Series[str]", options: PeopleOptions, file: MapFile) -> Person:
    return Person(
        None if options.age is None else _age(row[options.age], options, file),
        None if options.sex is None else _male(row[options.sex], file),
    )


def _age(value: object, options: PeopleOptions, file: MapFile) -> float:
    try:
        years = float(str(value))
    except ValueError:
        years = float("nan")
    if not 0 <= years <= 130:
        raise InputError(f"The age of {file.path.name} is {value}; give years, or leave it out.")
    return min(max(age_position(years, options), 0.0), 1.0)


def _male(value: object, file: MapFile) -> float:
    letter = str(value).strip().lower()[:1]
    if letter not in _MALE:
        raise InputError(f"The sex of {file.path.name} is {value}; it must begin with f or m.")
    return _MALE[letter]
