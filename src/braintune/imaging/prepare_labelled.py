"""Preparing a cohort of scans with label maps into a store, in parallel and resumable."""

from functools import partial
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.cohort.label_maps import LABEL_PATH
from braintune.errors import InputError
from braintune.files import explained
from braintune.imaging.label_maps import LabelTable
from braintune.imaging.labelled import prepare_labelled
from braintune.imaging.nifti import ScanError, read_header
from braintune.imaging.prepare import Prepared, file_state, refuse_failed, with_facts
from braintune.imaging.store import PreparedStore
from braintune.parallel import check_workers, map_parallel
from braintune.recipe import PrepareRecipe

# Id, image and label map of a scan.
Row = tuple[str, str, str]


def fill_labelled_store(
    cohort: Cohort,
    out: Path,
    recipe: PrepareRecipe,
    table: LabelTable,
    *,
    workers: int | None = None,
    exclude_broken: bool = False,
) -> Prepared:
    """Prepare every scan of a cohort with its label map; what is there already is not done again.

    Args:
        cohort: The scans; the column ``label_path`` names their label maps.
        out: The store's folder.
        recipe: The preparation.
        table: The values that label maps may hold.
        workers: Processes, by default one a core.
        exclude_broken: Leave out scans that fail, with the reason, and go on.

    Raises:
        InputError: If scans fail and are not to be left out, with every one of them and why.
    """
    check_workers(workers)
    rows = _rows(cohort)
    if not exclude_broken:
        refuse_failed(_unreadable(rows), kept=0)
    store = PreparedStore.create(out, recipe, dict(zip(table.names, table.values, strict=True)))
    todo = [row for row in rows if not _is_current(store, row, table)]
    results = map_parallel("Preparing", partial(_prepare_one, store, table), todo, workers)
    failed = {scan_id: error for (scan_id, *_), error in results if error}
    if not exclude_broken:
        refuse_failed(failed, kept=len(cohort) - len(failed))
    kept = cohort.keep(~cohort.table["scan_id"].isin(failed), cohort.table["scan_id"].map(failed))
    return Prepared(store, with_facts(kept, store), made=len(todo) - len(failed))


def _rows(cohort: Cohort) -> list[Row]:
    columns = (cohort.table[name].astype(str) for name in ("scan_id", "path", LABEL_PATH))
    return list(zip(*columns, strict=True))


def _state(row: Row, table: LabelTable) -> str:
    """What a prepared scan was made of, by which a replaced file is noticed."""
    _, image, label_map = row
    return f"{file_state(image)} {file_state(label_map)} {table.others}"


def _is_current(store: PreparedStore, row: Row, table: LabelTable) -> bool:
    if row[0] not in store:
        return False
    try:
        return store.facts(row[0]).source == _state(row, table)
    except InputError:
        return False


def _prepare_one(store: PreparedStore, table: LabelTable, row: Row) -> str | None:
    """Prepare one scan; what is wrong with its files is returned, all else is raised."""
    scan_id, image, label_map = row
    try:
        scan, labels = prepare_labelled(Path(image), Path(label_map), store.recipe, table)
    except ScanError as error:
        return str(error)
    except MemoryError:
        return f"{image} does not fit into memory."
    with explained(store.path):
        store.write(scan_id, scan, _state(row, table), labels)
    return None


def _unreadable(rows: list[Row]) -> dict[str, str]:
    """What the headers alone tell."""
    failed = {}
    for scan_id, *paths in rows:
        for path in paths:
            try:
                read_header(Path(path))
            except ScanError as error:
                failed[scan_id] = str(error)
    return failed
