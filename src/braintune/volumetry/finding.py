"""The label maps behind whatever a user names, and which scan each is of."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from braintune.cohort.bids import parse_name
from braintune.cohort.tabular import read_tabular
from braintune.errors import InputError, listing
from braintune.synthesis.labelmaps.reading import MapFile, find_maps

# Entities that tell scans apart; others (desc, seg, space, …) tell how a map was made.
_OF_A_SCAN = ("acq", "run", "rec", "dir", "echo")


@dataclass(frozen=True)
class ScanMap:
    """A label map and whose it is.

    Attributes:
        scan_id: The file's name without its ending, or the id of its row.
        participant_id: Whose scan it is.
        session_id: Of which session, None where there is none.
        file: The map.
        scan: What else tells this scan from others of the session.
    """

    scan_id: str
    participant_id: str
    session_id: str | None
    file: MapFile
    scan: tuple[str, ...] = ()


def find_label_maps(places: Sequence[str], filters: Mapping[str, str]) -> list[ScanMap]:
    """Find label maps and tell whose they are.

    Args:
        places: Files, folders (a BIDS derivative, a folder of subjects), patterns such as
            ``subjects/*/mri/aseg.nii.gz``, or tables with participant_id and path.
        filters: Entities that a BIDS name must have, such as ``{"desc": "hippocampus"}``.

    Raises:
        InputError: If a place does not exist or holds none, or a scan has two maps.
    """
    found = [scan for place in places for scan in _at(place)]
    kept = [scan for scan in found if _passes(scan.file.path, filters)]
    if not kept:
        wanted = listing(f"{key}={value}" for key, value in filters.items())
        msg = f"None of {len(found)} label maps has {wanted}; first: {found[0].file.path}."
        raise InputError(msg)
    _refuse_two_of_a_scan(kept)
    return kept


def _at(place: str) -> list[ScanMap]:
    path = Path(place)
    if path.suffix.lower() in {".tsv", ".csv"}:
        return _of_table(path)
    if not path.exists() and glob.has_magic(place):
        files = _of_pattern(place)
    else:
        files = find_maps((path,))
    foreign = [file.path for file in files if not file.path.name.endswith((".nii", ".nii.gz"))]
    if foreign:
        msg = (
            f"{foreign[0]} is no NIfTI file. Convert it first, such as with mri_convert"
            " aseg.mgz aseg.nii.gz."
        )
        raise InputError(msg)
    repeated = len({file.path.name for file in files}) < len(files)
    return [identify(file, named_by_folder=repeated) for file in files]


def _of_pattern(pattern: str) -> list[MapFile]:
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    paths = sorted(root.glob("/".join(parts[fixed:])))
    if not paths:
        raise InputError(f"No file matches {pattern!r}. Mind the quotes and the folder.")
    return [MapFile(path, root) for path in paths]


def _of_table(path: Path) -> list[ScanMap]:
    table = read_tabular(path).table
    return [
        ScanMap(
            scan_id=str(row["scan_id"]),
            participant_id=str(row["participant_id"]),
            session_id=str(row["session_id"]) if isinstance(row["session_id"], str) else None,
            file=MapFile(Path(row["path"]), Path(row["path"]).parent),
        )
        for row in table.to_dict("records")
    ]


def identify(file: MapFile, named_by_folder: bool = False) -> ScanMap:
    """Whose map a file is: by its BIDS name, by ``sub-`` and ``ses-`` folders, or by its place.

    Args:
        file: The map.
        named_by_folder: Several files have this one's name, so that the folder below the root
            names the participant.
    """
    stem = file.path.name.split(".nii")[0]
    if (entities := parse_name(file.path.name)) is not None:
        scan = tuple(f"{key}-{entities[key]}" for key in _OF_A_SCAN if key in entities)
        session = f"ses-{entities['ses']}" if "ses" in entities else None
        return ScanMap(stem, f"sub-{entities['sub']}", session, file, scan)
    folders = file.path.relative_to(file.root).parts[:-1]
    subject = next((name for name in folders if name.startswith("sub-")), None)
    session = next((name for name in folders if name.startswith("ses-")), None)
    if subject is None and named_by_folder and folders:
        subject = folders[0]
    if subject is None:
        return ScanMap(stem, stem, session, file)
    scan_id = "_".join([part for part in (subject, session) if part] + [stem])
    return ScanMap(scan_id, subject, session, file)


def _passes(path: Path, filters: Mapping[str, str]) -> bool:
    entities = parse_name(path.name) or {}
    return all(entities.get(key) == value for key, value in filters.items())


def _refuse_two_of_a_scan(maps: list[ScanMap]) -> None:
    seen: dict[tuple[object, ...], ScanMap] = {}
    for scan in maps:
        key = (scan.participant_id, scan.session_id, scan.scan)
        other = seen.setdefault(key, scan)
        if other is not scan:
            msg = (
                f"Two label maps are of one scan ({scan.participant_id}"
                f"{' ' + scan.session_id if scan.session_id else ''}): {other.file.path} and"
                f" {scan.file.path}. Choose one with --filter desc=…, or with a pattern such as"
                " 'subjects/*/mri/aseg.nii.gz'."
            )
            raise InputError(msg)
