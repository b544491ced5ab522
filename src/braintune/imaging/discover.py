"""The scans behind whatever a user names: files, folders, BIDS datasets, tables."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from braintune.cohort.bids import parse_name
from braintune.cohort.cohort import Cohort
from braintune.cohort.decathlon import is_decathlon
from braintune.cohort.files import cohort_of_files
from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.recipe import ScansRecipe

_EXTENSIONS = (".nii", ".nii.gz")


def discover_scans(sources: Sequence[Path], scans: ScansRecipe) -> Cohort:
    """Find scans to predict for.

    Args:
        sources: Image files, folders of them, BIDS datasets, or tables, in any mixture.
        scans: Which files of a BIDS dataset to take.

    Returns:
        A cohort; files that carry no BIDS name are each a participant of the file's name.

    Raises:
        InputError: If a source does not exist or holds no scans.
    """
    files = [source for source in sources if _is_image(source)]
    cohorts = [_of_source(source, scans) for source in sources if not _is_image(source)]
    if files:
        cohorts.append(_of_files(files))
    return cohorts[0] if len(cohorts) == 1 else _joined(cohorts)


def _of_files(files: list[Path]) -> Cohort:
    for path in files:
        _demand_there(path)
    common = Path(os.path.commonpath([path.resolve().parent for path in files]))
    return cohort_of_files(common, [path.resolve() for path in files])


def _of_source(source: Path, scans: ScansRecipe) -> Cohort:
    _demand_there(source)
    is_cohort = any(source.glob("sub-*/")) or (source / "cohort.tsv").is_file()
    if source.is_file() or is_cohort or is_decathlon(source):
        return read_cohort(source, scans)
    files = sorted(path for path in source.rglob("*") if _is_image(path))
    files = [path for path in files if _matches(path, scans)] or files
    if not files:
        raise InputError(f"{source} holds no .nii or .nii.gz files and no BIDS dataset.")
    return cohort_of_files(source, files)


def _is_image(path: Path) -> bool:
    return path.name.endswith(_EXTENSIONS)


def _demand_there(source: Path) -> None:
    if not source.exists() and not source.is_symlink():
        raise InputError(f"{source} does not exist. Give image files, a folder or a BIDS dataset.")


def _matches(path: Path, scans: ScansRecipe) -> bool:
    entities = parse_name(path.name)
    return entities is None or entities["suffix"] == scans.suffix


def _joined(cohorts: list[Cohort]) -> Cohort:
    table = pd.concat([cohort.table for cohort in cohorts], ignore_index=True)
    exclusions = tuple(item for cohort in cohorts for item in cohort.exclusions)
    return Cohort(cohorts[0].source, table, exclusions)
