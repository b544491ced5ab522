"""A store that many processes filled, each with its own scans, as one cohort."""

import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError
from braintune.imaging.prepare import Prepared, finish
from braintune.imaging.quality.records import read_record
from braintune.imaging.store import PreparedStore


def gather(cohort: Cohort, store: PreparedStore, *, exclude_flagged: bool = False) -> Prepared:
    """Make a filled store the cohort of the scans that are in it.

    Args:
        cohort: All scans; those that are not in the store are left out, with the reason.
        store: The store.
        exclude_flagged: Leave out raw heads that look wrong, with the reason.

    Raises:
        InputError: If the store has none of the scans.
    """
    ids = cohort.table["scan_id"]
    inside = pd.Series([scan_id in store for scan_id in ids], index=ids.index, dtype=bool)
    if not inside.any():
        msg = f"{store.path} holds no scan of {cohort.source}. Prepare its participants first."
        raise InputError(msg)
    reasons = ids.map({scan_id: _missing(store, scan_id) for scan_id in ids[~inside]})
    return finish(Prepared(store, cohort.keep(inside, reasons), 0), exclude_flagged=exclude_flagged)


def _missing(store: PreparedStore, scan_id: str) -> str:
    record = read_record(store.path, scan_id)
    return (record.problem if record is not None else None) or "was not prepared yet"
