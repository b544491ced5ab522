"""The cohort: one row a scan, with who it is of, where it lies and what is known of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd

from braintune.errors import InputError, listing, nearest
from braintune.files import digest

KEYS = ("scan_id", "participant_id", "session_id", "path")


@dataclass(frozen=True)
class Exclusion:
    """A scan or a subject that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Cohort:
    """Scans with their subjects, sessions and covariates.

    Attributes:
        source: The folder or table that was read.
        table: One row a scan; the columns of `KEYS` as text, then whatever the tables hold as
            text, with missing values as NA.
        exclusions: What was left out while reading, with reasons.
    """

    source: Path
    table: pd.DataFrame
    exclusions: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        if self.table.empty:
            msg = f"{self.source} holds no scans that could be used."
            if self.exclusions:
                msg += f" Left out: {listing(f'{e.id} ({e.reason})' for e in self.exclusions)}."
            raise InputError(msg)
        repeated = self.table.loc[self.table["scan_id"].duplicated(), "scan_id"]
        if len(repeated):
            msg = (
                f"{self.source} lists {listing(repeated.unique())} more than once."
                " Add a 'session_id' column that tells the scans of a subject apart."
            )
            raise InputError(msg)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def scan_ids(self) -> list[str]:
        """The scans' ids, in the table's order."""
        return self.table["scan_id"].tolist()

    @property
    def scans_of_files(self) -> dict[str, list[str]]:
        """For each file, the ids that it is listed under: more than one by mistake only."""
        ids: dict[str, list[str]] = {}
        for path, scan_id in zip(self.table["path"], self.table["scan_id"], strict=True):
            ids.setdefault(str(path), []).append(scan_id)
        return ids

    @property
    def n_subjects(self) -> int:
        """How many subjects there are."""
        return int(self.table["participant_id"].nunique())

    @property
    def covariates(self) -> list[str]:
        """The columns that are not keys."""
        return [name for name in self.table.columns if name not in KEYS]

    @property
    def fingerprint(self) -> str:
        """A short hash of all rows and columns, without the place where the files lie."""
        rows = self.table.drop(columns=["path"]).astype(object)
        return digest([list(rows.columns), rows.where(rows.notna(), None).to_numpy().tolist()])

    def column(self, name: str) -> pd.Series:
        """One column of the table.

        Raises:
            InputError: If there is none of that name; the message names the nearest and all.
        """
        if name not in self.table.columns:
            msg = (
                f"{self.source} has no column {name!r}.{nearest(name, self.covariates)}"
                f" Columns: {listing(self.covariates, limit=40) or 'none'}."
            )
            raise InputError(msg)
        return self.table[name]

    def keep(self, wanted: pd.Series, reasons: pd.Series | str) -> Self:
        """The cohort without the rows where ``wanted`` is false, each with its reason."""
        dropped = self.table[~wanted]
        if dropped.empty:
            return self
        texts = reasons[~wanted] if isinstance(reasons, pd.Series) else [reasons] * len(dropped)
        left_out = (
            Exclusion(scan_id, str(reason))
            for scan_id, reason in zip(dropped["scan_id"], texts, strict=True)
        )
        return replace(
            self,
            table=self.table[wanted].reset_index(drop=True),
            exclusions=(*self.exclusions, *left_out),
        )

    def exclude(self, ids: list[str], reason: str) -> Self:
        """The cohort without the scans or subjects of the given ids.

        Raises:
            InputError: If an id is of no scan and no subject of the cohort.
        """
        known = set(self.table["scan_id"]) | set(self.table["participant_id"])
        unknown = [name for name in ids if name not in known]
        if unknown:
            raise InputError(
                f"Cannot exclude {listing(unknown)}: no scan or subject of {self.source} has that"
                f" id.{nearest(unknown[0], known)}"
            )
        gone = self.table["scan_id"].isin(ids) | self.table["participant_id"].isin(ids)
        return self.keep(~gone, reason)
