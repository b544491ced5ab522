"""Whether scans that are tested on were seen in pre-training: by subject, and by image.

A weight folder that was made here lists in ``seen.tsv`` whom it has seen. An image is known by a
hash of the voxels of its file, and by that of the prepared scan, which stays where the file is
gone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError, counted, listing
from braintune.imaging.identity import image_hash
from braintune.parallel import map_parallel

SEEN_FILE = "seen.tsv"
COLUMNS = ("cohort", "participant_id", "scan_id", "image", "prepared")
_HASHES = ("image", "prepared")
# Columns by which tables of several cohorts say whose row it is.
_COHORT_COLUMNS = ("cohort", "dataset", "study", "source", "site")


@dataclass(frozen=True)
class Overlap:
    """Scans that were seen under their id, or as the same image.

    Attributes:
        ids: Subjects, by participant_id.
        images: Scans whose voxels are equal to those of a scan that was seen.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.ids or self.images)

    def text(self) -> str:
        """What overlaps, in words."""
        parts = []
        if self.ids:
            parts.append(f"{counted(len(self.ids), 'subject')} by id ({listing(self.ids, 6)})")
        if self.images:
            parts.append(
                f"{counted(len(self.images), 'scan')} by image ({listing(self.images, 6)})"
            )
        return " and ".join(parts)


def identities(cohort: Cohort, name: str, workers: int | None = None) -> pd.DataFrame:
    """Who is in a cohort: one row a scan, with the columns of `COLUMNS`; empty where unknown.

    Args:
        cohort: The scans, whose files are read.
        name: What the cohort is called.
        workers: Processes.
    """
    table = cohort.table
    paths = [Path(path) for path in table["path"]]
    hashes = dict(map_parallel("Comparing images", image_hash, paths, workers))
    return pd.DataFrame(
        {
            "cohort": name,
            "participant_id": table["participant_id"].astype(str),
            "scan_id": table["scan_id"].astype(str),
            "image": [hashes[path] for path in paths],
            "prepared": table["voxels"].fillna("") if "voxels" in table else "",
        }
    )


def overlap(tested: pd.DataFrame, seen: pd.DataFrame, *, by_id: bool = True) -> Overlap:
    """What two lists of `identities` share.

    Args:
        tested: Scans that must be unseen.
        seen: Scans that are seen.
        by_id: Whether equal ids mean the same subject.

    Example:
        >>> rows = pd.DataFrame([["a", "sub-1", "x", "h", ""]], columns=COLUMNS)
        >>> overlap(rows.assign(image=""), rows).text()
        '1 subject by id (sub-1)'
        >>> overlap(rows.assign(participant_id="sub-9"), rows).text()
        '1 scan by image (x)'
    """
    same = pd.Series(False, index=tested.index)
    for column in _HASHES:
        known = set(seen[column]) - {""}
        same |= tested[column].isin(known)
    ids = set(seen["participant_id"]) - {""} if by_id else set()
    shared = tested["participant_id"].isin(ids)
    return Overlap(
        tuple(sorted(set(tested.loc[shared, "participant_id"]))),
        tuple(tested.loc[same, "scan_id"]),
    )


def read_seen(weights: Path) -> pd.DataFrame | None:
    """Whom weights have seen, if they tell.

    Args:
        weights: Their file; the list lies beside it.

    Raises:
        InputError: If the list is there, and is none.
    """
    path = weights.parent / SEEN_FILE
    if not path.is_file():
        return None
    table = read_table(path).astype(object)
    if missing := [column for column in COLUMNS if column not in table]:
        raise InputError(f"{path} lacks the columns {listing(missing)}; it is no list of subjects.")
    return table[list(COLUMNS)].fillna("")


def names_of(cohort: Cohort) -> set[str]:
    """What a cohort may be called: its folders, and what its columns say."""
    names = set(cohort.source.resolve().parts[-2:])
    for column in cohort.table.columns:
        if column.lower() in _COHORT_COLUMNS:
            names |= set(cohort.table[column].dropna().astype(str))
    return names


def letters(name: str) -> str:
    """A name without case, spaces and signs.

    Example:
        >>> letters("UK Biobank") == letters("uk-biobank")
        True
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def refuse_seen(
    weights: Path, cohort: Cohort, rows: Sequence[int], workers: int | None = None
) -> None:
    """Refuse to test on scans that the weights were pre-trained on.

    Images tell for sure. An id tells where the cohort is called as the one that was seen: people of
    other studies may well have the same ids.

    Args:
        weights: The weights' file.
        cohort: The fit's scans.
        rows: Those that are tested on.
        workers: Processes.

    Raises:
        InputError: If any of them was seen.
    """
    seen = read_seen(weights)
    if seen is None:
        return
    tested = Cohort(cohort.source, cohort.table.iloc[sorted(rows)].reset_index(drop=True))
    names = {letters(name) for name in names_of(tested)}
    same = seen[seen["cohort"].map(letters).isin(names)]
    ids = overlap(identities_without_images(tested), same)
    images = Overlap((), ())
    if not ids:
        images = overlap(identities(tested, "", workers), seen, by_id=False)
    found = ids or images
    if found:
        raise InputError(
            f"The weights {weights} have seen {found.text()} of those that this fit tests on: what"
            " is measured on them is not measured on unseen scans. Pre-train without them"
            " ('exclude:' in its recipe), leave them out with --exclude, or put them on the"
            " training side of a hold-out."
        )


def identities_without_images(cohort: Cohort) -> pd.DataFrame:
    """As `identities`, but no file is read."""
    table = cohort.table
    ids = {key: table[key].astype(str) for key in ("participant_id", "scan_id")}
    return pd.DataFrame({"cohort": "", **ids, "image": "", "prepared": ""})
