"""A cohort from a BIDS dataset or derivative, by its file names.

Names follow https://bids-specification.readthedocs.io: entities ``key-value`` joined by ``_``, then
a suffix, then the extension.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from braintune.cohort.cohort import KEYS, Cohort, Exclusion
from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.recipe import ScansRecipe

_NAME = re.compile(
    r"^sub-(?P<sub>[A-Za-z0-9+]+)(?P<rest>(?:_[A-Za-z0-9]+-[A-Za-z0-9+.]+)*)"
    r"_(?P<suffix>[A-Za-z0-9]+)\.nii(?:\.gz)?$"
)


def parse_name(name: str) -> dict[str, str] | None:
    """The entities and the suffix of a BIDS image name, or None for another name.

    Example:
        >>> parse_name("sub-01_ses-a_desc-brain_T1w.nii.gz")
        {'sub': '01', 'ses': 'a', 'desc': 'brain', 'suffix': 'T1w'}
    """
    match = _NAME.match(name)
    if match is None:
        return None
    pairs = (part.split("-", 1) for part in match["rest"].split("_") if part)
    return {"sub": match["sub"], **dict(pairs), "suffix": match["suffix"]}


def read_bids(root: Path, scans: ScansRecipe) -> Cohort:
    """Read the scans that pass the filters, with what the tables say of subjects and sessions.

    ``participants.tsv`` describes subjects; ``sub-*/sub-*_sessions.tsv`` (or one ``sessions.tsv``
    with both ids at the top) describes sessions and wins where both have a column.

    Raises:
        InputError: If no scan passes, or if a session has several kinds of scan that do.
    """
    found = [entities for entities in _images(root) if _passes(entities, scans)]
    if not found:
        raise InputError(_nothing_found(root, scans))
    table = pd.DataFrame([_row(entities) for entities in found])
    _refuse_mixture(root, found)
    participants = _participants(root)
    table = add_people(root, table)
    table = table[[*KEYS, *[name for name in table.columns if name not in KEYS]]]
    missing = sorted(set(participants["participant_id"]) - set(table["participant_id"]))
    reason = f"in participants.tsv, but no scan matches {_described(scans)}"
    return Cohort(root, table, tuple(Exclusion(name, reason) for name in missing))


def add_people(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Add what a dataset's tables say of participants and sessions to rows of them.

    Args:
        root: The dataset.
        table: With participant_id and session_id.

    Raises:
        InputError: If a table of the dataset lacks ids or has some twice.
    """
    table = table.merge(_participants(root), on="participant_id", how="left")
    return _with_sessions(root, table)


def _images(root: Path) -> Iterator[dict[str, str]]:
    """Entities of every image under the subjects' folders, in a stable order."""
    for subject in sorted(root.glob("sub-*")):
        for folder, subfolders, names in os.walk(subject, followlinks=False):
            subfolders.sort()
            for name in sorted(names):
                entities = parse_name(name)
                if entities is not None:
                    yield {**entities, "path": str(Path(folder, name))}


def _passes(entities: dict[str, str], scans: ScansRecipe) -> bool:
    sessions = [scans.session] if isinstance(scans.session, str) else scans.session
    if sessions and entities.get("ses") not in [s.removeprefix("ses-") for s in sessions]:
        return False
    exact = {"suffix": scans.suffix, "desc": scans.desc, "space": scans.space}
    exact |= {"acq": scans.acq, "dir": scans.dir, "run": scans.run}
    return all(value is None or entities.get(key) == value for key, value in exact.items())


def _row(entities: dict[str, str]) -> dict[str, str | None]:
    name = Path(entities["path"]).name.split(".nii")[0]
    return {
        "scan_id": name,
        "participant_id": f"sub-{entities['sub']}",
        "session_id": f"ses-{entities['ses']}" if "ses" in entities else None,
        "path": entities["path"],
    }


def _refuse_mixture(root: Path, found: list[dict[str, str]]) -> None:
    """Refuse raw and processed copies of the same scan in one cohort, which would be duplicates."""
    kinds: dict[tuple[str | None, ...], set[str]] = {}
    for entities in found:
        scan = tuple(entities.get(key) for key in ("sub", "ses", "acq", "run", "rec", "echo"))
        kind = "_".join(f"{k}-{entities[k]}" for k in ("space", "desc") if k in entities) or "none"
        kinds.setdefault(scan, set()).add(kind)
    for versions in kinds.values():
        if len(versions) > 1:
            msg = (
                f"{root} has several versions of the same scan: {listing(sorted(versions))}."
                " Choose one, for example with --filter desc=brain or 'scans: {desc: brain}'."
            )
            raise InputError(msg)


def _participants(root: Path) -> pd.DataFrame:
    path = root / "participants.tsv"
    if not path.exists():
        return pd.DataFrame({"participant_id": pd.Series(dtype="string")})
    table = read_table(path)
    if "participant_id" not in table.columns:
        raise InputError(f"{path} has no column 'participant_id', which BIDS requires.")
    table["participant_id"] = _with_prefix(table["participant_id"], "sub-")
    repeated = table.loc[table["participant_id"].duplicated(), "participant_id"]
    if len(repeated):
        msg = (
            f"{path} has several rows for {listing(repeated.unique())}."
            " Keep one row a subject; what changes between sessions belongs to sessions.tsv."
        )
        raise InputError(msg)
    return table.drop(columns=[n for n in ("scan_id", "session_id", "path") if n in table])


def _with_sessions(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of sessions.tsv; where participants.tsv has one too, the session's wins."""
    sessions = _sessions(root, table["participant_id"].unique().tolist())
    if sessions is None:
        return table
    keys = ["participant_id", "session_id"]
    merged = table.merge(sessions, on=keys, how="left", suffixes=("", "__session"))
    for name in [n for n in merged.columns if n.endswith("__session")]:
        plain = name.removesuffix("__session")
        merged[plain] = merged[name].combine_first(merged[plain])
        merged = merged.drop(columns=[name])
    return merged


def _sessions(root: Path, participants: list[str]) -> pd.DataFrame | None:
    tables = []
    if (root / "sessions.tsv").exists():
        tables.append(read_table(root / "sessions.tsv"))
    for participant in participants:
        path = root / participant / f"{participant}_sessions.tsv"
        if path.exists():
            tables.append(read_table(path).assign(participant_id=participant))
    for table in tables:
        if not {"participant_id", "session_id"} <= set(table.columns):
            raise InputError(f"A sessions.tsv of {root} lacks 'session_id' or 'participant_id'.")
    if not tables:
        return None
    sessions = pd.concat(tables, ignore_index=True)
    sessions["participant_id"] = _with_prefix(sessions["participant_id"], "sub-")
    sessions["session_id"] = _with_prefix(sessions["session_id"], "ses-")
    repeated = sessions.duplicated(["participant_id", "session_id"])
    if repeated.any():
        names = sessions.loc[repeated, "participant_id"].unique()
        raise InputError(f"sessions.tsv of {root} has a session twice: {listing(names)}.")
    return sessions.drop(columns=[n for n in ("scan_id", "path") if n in sessions])


def _with_prefix(values: pd.Series, prefix: str) -> pd.Series:
    return values.where(values.str.startswith(prefix).fillna(True), prefix + values)


def _nothing_found(root: Path, scans: ScansRecipe) -> str:
    kinds: dict[str, int] = {}
    for entities in _images(root):
        parts = [f"{k}={entities[k]}" for k in ("suffix", "desc", "space") if k in entities]
        kinds[" ".join(parts)] = kinds.get(" ".join(parts), 0) + 1
    there = listing(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
    return f"No scan of {root} matches {_described(scans)}. There are: {there or 'no images'}."


def _described(scans: ScansRecipe) -> str:
    values = scans.model_dump(exclude={"path"}, exclude_none=True)
    return " ".join(f"{key}={value}" for key, value in values.items())
