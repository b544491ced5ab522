"""Preparing a cohort: all scans into the store, in parallel and resumable, none lost in silence."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from braintune.cohort.cohort import Cohort, Exclusion
from braintune.cohort.read import STORE_TABLE
from braintune.cohort.tables import write_table_text
from braintune.errors import InputError, counted, listing
from braintune.files import explained, write_text
from braintune.imaging.dwi.series import check_series
from braintune.imaging.dwi.sidecars import find_files
from braintune.imaging.exclusions import note_exclusions
from braintune.imaging.nifti import ScanError, read_header
from braintune.imaging.preparation import prepare_scan
from braintune.imaging.quality.table import without_flagged
from braintune.imaging.store import PreparedStore
from braintune.parallel import check_workers, map_parallel
from braintune.recipe import PrepareRecipe


@dataclass(frozen=True)
class Prepared:
    """What preparing a cohort gave.

    Attributes:
        store: The prepared scans.
        cohort: The scans that are in the store; its exclusions name those that failed, and its
            table has gained ``brain_ml`` and ``voxels``.
        made: How many scans were prepared now; the others were there already.
    """

    store: PreparedStore
    cohort: Cohort
    made: int


def prepare(
    cohort: Cohort,
    out: Path,
    recipe: PrepareRecipe,
    *,
    workers: int | None = None,
    exclude_broken: bool = False,
    exclude_flagged: bool = False,
) -> Prepared:
    """Make a prepared store of a cohort, which is a cohort itself from then on.

    Args:
        cohort: The scans.
        out: The store's folder, new or holding a store of the same preparation.
        recipe: The preparation.
        workers: Processes, by default one a core.
        exclude_broken: Leave out scans that fail, with the reason, and go on.
        exclude_flagged: Leave out raw heads that look wrong, with the reason.

    Raises:
        InputError: If scans fail and are not to be left out, with every one of them and why, or if
            scans are to be left out by flags that this preparation does not give.
    """
    if exclude_flagged and recipe.heads is None:
        msg = "Only raw heads are flagged. Leave --exclude-flagged out, or set 'heads:'."
        raise InputError(msg)
    prepared = fill_store(cohort, out, recipe, workers=workers, exclude_broken=exclude_broken)
    if cohort.source.resolve() == out.resolve():
        return prepared
    return finish(prepared, exclude_flagged=exclude_flagged)


def finish(prepared: Prepared, *, exclude_flagged: bool = False) -> Prepared:
    """Write who is in a store, and into its ledger who was left out and why.

    Args:
        prepared: A store and the scans of a cohort that are in it.
        exclude_flagged: Leave out raw heads that look wrong, with the reason.
    """
    store, cohort = prepared.store, with_facts(prepared.cohort, prepared.store)
    if exclude_flagged:
        cohort = without_flagged(cohort, store.path)
    note_exclusions(store.path, cohort.exclusions)
    # The store may be moved or read from elsewhere; its sources stay where they are.
    sources = cohort.table["path"].map(lambda path: str(Path(path).resolve()))
    write_text(store.path / STORE_TABLE, write_table_text(cohort.table.assign(path=sources)))
    return replace(prepared, cohort=cohort)


def fill_store(
    cohort: Cohort,
    out: Path,
    recipe: PrepareRecipe,
    *,
    workers: int | None = None,
    exclude_broken: bool = False,
) -> Prepared:
    """Prepare every scan of a cohort into a store; what is there already is not done again.

    As `prepare`, but the store's own table, which may list more scans, stays as it is.
    """
    check_workers(workers)
    if (out / STORE_TABLE).exists() and cohort.source.resolve() == out.resolve():
        return _from_itself(cohort, out, recipe)
    if recipe.heads is not None:
        return _fill_with_heads(cohort, out, recipe, workers, exclude_broken)
    failed = {} if exclude_broken else _unreadable(cohort, recipe)
    refuse_failed(failed, kept=0)
    store = PreparedStore.create(out, recipe)
    todo = [row for row in _rows(cohort) if not _is_current(store, *row)]
    results = map_parallel("Preparing", partial(_prepare_one, store), todo, workers)
    failed = {scan_id: error for (scan_id, _), error in results if error}
    return _filled(cohort, store, failed, len(todo) - len(failed), exclude_broken)


def _filled(
    cohort: Cohort, store: PreparedStore, failed: dict[str, str], made: int, exclude_broken: bool
) -> Prepared:
    """What filling a store gave, with the scans that failed left out if that is wanted."""
    if not exclude_broken:
        refuse_failed(failed, kept=len(cohort) - len(failed))
    kept = cohort.keep(~cohort.table["scan_id"].isin(failed), cohort.table["scan_id"].map(failed))
    return Prepared(store, with_facts(kept, store), made)


def _fill_with_heads(
    cohort: Cohort, out: Path, recipe: PrepareRecipe, workers: int | None, exclude_broken: bool
) -> Prepared:
    # It prepares scans as this file does, and so imports it.
    from braintune.imaging.prepare_heads import fill_with_heads

    store, failed, made = fill_with_heads(cohort, out, recipe, workers)
    return _filled(cohort, store, failed, made, exclude_broken)


def with_facts(cohort: Cohort, store: PreparedStore) -> Cohort:
    """Add to each scan of a cohort its brain volume and the hash of its voxels."""
    facts = [store.facts(scan_id) for scan_id in cohort.scan_ids]
    table = cohort.table.assign(
        brain_ml=pd.array([f"{fact.brain_ml:.3f}" for fact in facts], dtype="string"),
        voxels=pd.array([fact.voxels for fact in facts], dtype="string"),
    )
    return Cohort(cohort.source, table, cohort.exclusions)


def equal_scans(cohort: Cohort) -> list[list[str]]:
    """Groups of different subjects whose prepared scans are equal to the voxel."""
    groups = []
    for _, rows in cohort.table.groupby("voxels", sort=False):
        if len(rows["participant_id"].unique()) > 1:
            groups.append(rows["scan_id"].tolist())
    return groups


def _from_itself(cohort: Cohort, out: Path, recipe: PrepareRecipe) -> Prepared:
    """A store given as the cohort: there is nothing to do but to check that it fits."""
    store = PreparedStore.open(out)
    store.demand(recipe)
    missing = [scan_id for scan_id in cohort.scan_ids if scan_id not in store]
    if missing:
        raise InputError(f"The store {out} lacks {listing(missing)}; prepare its cohort again.")
    return Prepared(store, cohort, made=0)


def _rows(cohort: Cohort) -> list[tuple[str, str]]:
    return list(zip(cohort.table["scan_id"], cohort.table["path"], strict=True))


def _is_current(store: PreparedStore, scan_id: str, path: str) -> bool:
    if scan_id not in store:
        return False
    try:
        return store.facts(scan_id).source == _state(path, store.recipe)
    except InputError:
        return False


def file_state(path: str) -> str:
    """A file's path, size and time of change, by which a replaced scan is noticed."""
    try:
        status = Path(path).stat()
    except OSError:
        return "gone"
    return f"{Path(path).resolve()} {status.st_size} {status.st_mtime_ns}"


def _state(path: str, recipe: PrepareRecipe) -> str:
    """The state of every file that a scan is prepared from."""
    if recipe.dwi is None:
        return file_state(path)
    return " ".join(file_state(str(file)) for file in find_files(Path(path)).all)


def _prepare_one(store: PreparedStore, row: tuple[str, str]) -> str | None:
    """Prepare one scan; what is wrong with the scan is returned, all else is raised."""
    scan_id, path = row
    try:
        prepared = prepare_scan(Path(path), store.recipe)
    except ScanError as error:
        return str(error)
    except MemoryError:
        return f"{path} does not fit into memory."
    with explained(store.path):
        store.write(scan_id, prepared, _state(path, store.recipe))
    return None


def _unreadable(cohort: Cohort, recipe: PrepareRecipe) -> dict[str, str]:
    """What headers and gradients tell: cheap enough to look at all before anything is written."""
    failed = {}
    for scan_id, path in _rows(cohort):
        try:
            if recipe.dwi is None:
                read_header(Path(path))
            else:
                check_series(Path(path), recipe.dwi)
        except ScanError as error:
            failed[scan_id] = str(error)
    return failed


def refuse_failed(failed: dict[str, str], kept: int) -> None:
    """Refuse a cohort of which scans failed, with every one of them and why.

    Raises:
        InputError: If there are any.
    """
    if not failed:
        return
    lines = "\n".join(f"  {scan_id}: {reason}" for scan_id, reason in sorted(failed.items()))
    saved = f" The {kept} others are prepared and will not be done again." if kept else ""
    msg = (
        f"{counted(len(failed), 'scan')} could not be prepared:\n{lines}\nMend or remove them, or"
        f" leave them out with --exclude-broken, which names each of them.{saved}"
    )
    raise InputError(msg)


def exclusions_text(exclusions: tuple[Exclusion, ...]) -> str:
    """One line a scan or subject that was left out."""
    return "\n".join(f"  {item.id}: {item.reason}" for item in exclusions)
