"""Preparing with all that is to be looked at: the contact sheet, and the page of raw heads."""

from dataclasses import dataclass
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError
from braintune.imaging.gathering import gather
from braintune.imaging.prepare import Prepared, prepare
from braintune.imaging.quality.table import Judged
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe
from braintune.reporting.contact_sheet import write_contact_sheet
from braintune.reporting.quality_report import write_quality_report


@dataclass(frozen=True)
class Looked:
    """A prepared cohort and what there is to look at.

    Attributes:
        prepared: The store and its cohort.
        sheet: The contact sheet.
        page: The page on quality, None for scans that are no raw heads.
        judged: What looks wrong with each raw head.
    """

    prepared: Prepared
    sheet: Path
    page: Path | None
    judged: tuple[Judged, ...]

    @property
    def flagged(self) -> list[Judged]:
        """The scans that look wrong."""
        return [scan for scan in self.judged if scan.flags]


def prepare_and_look(
    cohort: Cohort,
    out: Path,
    recipe: PrepareRecipe,
    *,
    workers: int | None = None,
    exclude_broken: bool = False,
    exclude_flagged: bool = False,
) -> Looked:
    """As `prepare`; the pages are written in any case, so that failures can be looked at.

    Raises:
        InputError: As `prepare`; it names the page where there is one.
    """
    try:
        prepared = prepare(
            cohort,
            out,
            recipe,
            workers=workers,
            exclude_broken=exclude_broken,
            exclude_flagged=exclude_flagged,
        )
    except InputError as error:
        if recipe.heads is None or not out.is_dir():
            raise
        page, judged = write_quality_report(out, cohort.scan_ids)
        if not any(scan.record.problem for scan in judged):
            raise
        raise InputError(f"{error}\nTheir pictures are in {page}.") from None
    return _look(cohort, prepared)


def gather_and_look(cohort: Cohort, out: Path, *, exclude_flagged: bool = False) -> Looked:
    """As `gather`, with the pages.

    Raises:
        InputError: If the store is missing or has none of the scans.
    """
    store = PreparedStore.open(out)
    return _look(cohort, gather(cohort, store, exclude_flagged=exclude_flagged))


def _look(cohort: Cohort, prepared: Prepared) -> Looked:
    out = prepared.store.path
    sheet = out / "contact_sheet.png"
    write_contact_sheet(sheet, prepared.store, prepared.cohort.scan_ids)
    if prepared.store.recipe.heads is None:
        return Looked(prepared, sheet, None, ())
    page, judged = write_quality_report(out, cohort.scan_ids)
    return Looked(prepared, sheet, page, tuple(judged))
