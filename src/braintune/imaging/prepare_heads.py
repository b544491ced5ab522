"""Preparing a cohort of raw heads: store, quality and what leads back to native space, in one go.

A scan that fails any step is recorded with its reason and a picture, and the others go on. Several
processes, on one machine or many, may fill one folder: each claims a scan before it works on it,
and what they write is the same whoever does it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from braintune.cohort.cohort import Cohort
from braintune.console import say
from braintune.errors import InputError, counted
from braintune.files import explained
from braintune.imaging.claims import Claims
from braintune.imaging.head_scan import prepared_of, registered_head
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.masks.found import MASK_PATH
from braintune.imaging.masks.programs import PROGRAMS, find_program
from braintune.imaging.nifti import ScanError, Volume, read_volume
from braintune.imaging.prepare import file_state
from braintune.imaging.quality.measure import measure
from braintune.imaging.quality.pictures import plain_strip, strip
from braintune.imaging.quality.records import (
    Record,
    file_name,
    measures_of,
    read_record,
    record_time,
    write_native,
    write_picture,
    write_record,
)
from braintune.imaging.quality.template import quality_template
from braintune.imaging.store import PreparedStore
from braintune.parallel import map_parallel
from braintune.recipe import PrepareRecipe

_CLAIMS = "claims"
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class Head:
    """One scan to prepare.

    Attributes:
        scan_id: What it is called.
        path: Its file.
        mask: The user's mask of it, if there is one.
    """

    scan_id: str
    path: Path
    mask: Path | None

    @property
    def state(self) -> str:
        """What its files are, by which replaced ones are noticed."""
        own = file_state(str(self.path))
        return own if self.mask is None else f"{own} {file_state(str(self.mask))}"


def fill_with_heads(
    cohort: Cohort, out: Path, recipe: PrepareRecipe, workers: int | None
) -> tuple[PreparedStore, dict[str, str], int]:
    """Prepare every raw head of a cohort into a store; what is there already is not done again.

    Args:
        cohort: The scans; its column ``mask_path``, if there is one, names their masks.
        out: The store's folder.
        recipe: The preparation, with ``heads``.
        workers: Processes, by default one a core.

    Returns:
        The store, the reason for each scan that failed, and how many were prepared now.

    Raises:
        InputError: If the recipe needs a program or masks that are not there.
    """
    _check_source(cohort, recipe)
    store = PreparedStore.create(out, recipe)
    claims = Claims(out / _CLAIMS)
    # Before anything is done, so that a failure of now is told from one of an earlier command.
    start = claims.now()
    work = partial(prepare_one, store, start)
    failed: dict[str, str] = {}
    made, waits = 0, False
    todo = [head for head in heads_of(cohort) if not is_done(store, head)]
    while todo:
        free = [head for head in todo if not claims.is_held(file_name(head.scan_id))]
        if not free:
            if not waits:
                say(f"Waiting for {counted(len(todo), 'scan')} that other processes prepare.")
            waits = True
            time.sleep(_LOOK_AGAIN_S)
        for head, problem in map_parallel("Preparing", work, free, workers) if free else ():
            made += problem == ""
            if problem:
                failed[head.scan_id] = problem
        todo = [h for h in todo if h.scan_id not in failed and not is_done(store, h)]
    return store, failed, made


def heads_of(cohort: Cohort) -> list[Head]:
    """The scans of a cohort, with the masks that it names."""
    masks = cohort.table.get(MASK_PATH)
    named = [None] * len(cohort) if masks is None else masks.tolist()
    return [
        Head(scan_id, Path(path), Path(mask) if isinstance(mask, str) else None)
        for scan_id, path, mask in zip(
            cohort.table["scan_id"], cohort.table["path"], named, strict=True
        )
    ]


def is_done(store: PreparedStore, head: Head) -> bool:
    """Whether a scan is in the store, as its files are now, with its record."""
    if head.scan_id not in store:
        return False
    try:
        if store.facts(head.scan_id).source != head.state:
            return False
        record = read_record(store.path, head.scan_id)
    except InputError:
        return False
    return record is not None and record.source == head.state and record.problem is None


def prepare_one(store: PreparedStore, start: int, head: Head) -> str | None:
    """Prepare one head and write all that is known of it, unless another process does.

    Args:
        store: Where it goes.
        start: When the command began, by the disk's clock.
        head: The scan.

    Returns:
        Why it failed; nothing said ("") if it was prepared; None if others hold it or did it.
    """
    with Claims(store.path / _CLAIMS).held(file_name(head.scan_id)) as ours:
        if not ours or is_done(store, head):
            return None
        # Another process of this very time met the same failure.
        if record_time(store.path, head.scan_id) >= start:
            record = read_record(store.path, head.scan_id)
            if record is not None and record.problem and record.source == head.state:
                return record.problem
        return _prepare(store, head) or ""


def _prepare(store: PreparedStore, head: Head) -> str | None:
    began, state = time.perf_counter(), head.state
    try:
        registered = registered_head(head.path, store.recipe, head.mask)
        prepared = prepared_of(registered, store.recipe, head.path)
    except (ScanError, MemoryError, RuntimeError) as error:
        problem = _reason(error, head.path)
        write_record(
            store.path,
            Record(
                scan_id=head.scan_id,
                source=state,
                measures={},
                problem=problem,
                picture=_picture_of_failed(store.path, head),
                seconds=time.perf_counter() - began,
            ),
        )
        return problem
    with explained(store.path):
        picture = _evidence(store.path, head.scan_id, registered)
        record = Record(
            scan_id=head.scan_id,
            source=state,
            measures=_measures(registered),
            doubts=registered.evidence.flags,
            picture=picture,
            seconds=time.perf_counter() - began,
        )
        write_record(store.path, record)
        # Last: a scan that is in the store has all that belongs to it.
        store.write(head.scan_id, prepared, state)
    return None


def _measures(head: RegisteredHead) -> dict[str, float | None]:
    quality = measure(head.native, head.mask, head.to_template, quality_template())
    return measures_of(quality)


def _evidence(out: Path, scan_id: str, head: RegisteredHead) -> str:
    write_native(out, scan_id, head.native, head.mask, head.to_template)
    picture = strip(head.native, head.mask, head.to_template, quality_template())
    return write_picture(out, scan_id, picture)


def _picture_of_failed(out: Path, head: Head) -> str | None:
    """The scan as it is, if it can be read at all."""
    try:
        volume = read_volume(head.path)
        values = np.nan_to_num(volume.data, posinf=0, neginf=0)
        return write_picture(out, head.scan_id, plain_strip(Volume(values, volume.affine)))
    except (ScanError, MemoryError, ValueError):
        return None


def _reason(error: BaseException, path: Path) -> str:
    if isinstance(error, MemoryError):
        return f"{path} does not fit into memory."
    if isinstance(error, ScanError):
        return str(error)
    # What SimpleITK says takes lines; the last one tells what happened.
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{path} could not be prepared: {lines[-1] if lines else type(error).__name__}"


def _check_source(cohort: Cohort, recipe: PrepareRecipe) -> None:
    """Refuse a preparation whose masks or program are not there, before anything is written."""
    assert recipe.heads is not None
    if recipe.heads.brain in PROGRAMS:
        find_program(recipe.heads.brain)
    if recipe.heads.brain == "masks" and MASK_PATH not in cohort.table:
        msg = (
            "'heads: {brain: masks}' needs to know where the masks are. Give --masks FOLDER, of"
            f" fMRIPrep, CAT12 or FreeSurfer, or a column '{MASK_PATH}' of the cohort's table."
        )
        raise InputError(msg)
