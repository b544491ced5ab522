"""The quality of a cohort as a table, and what its columns mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.tables import write_table_text
from braintune.files import write_json, write_text
from braintune.imaging.quality.limits import FAR, FEWEST_SCANS, LIMITS, Flag, flag_cohort
from braintune.imaging.quality.records import Record, read_record

TABLE = Path("quality.tsv")


@dataclass(frozen=True)
class Judged:
    """A scan's record, and what looks wrong with it beside the others.

    Attributes:
        record: What is known of it.
        flags: Empty if it failed or nothing looks wrong.
    """

    record: Record
    flags: tuple[Flag, ...]

    @property
    def reason(self) -> str:
        """All flags in one sentence, empty if there are none."""
        return "; ".join(flag.reason for flag in self.flags)


def judge(out: Path, scan_ids: Sequence[str]) -> list[Judged]:
    """Read the records of a cohort's scans and flag what looks wrong.

    Args:
        out: The store's folder.
        scan_ids: The scans; one without a record is passed over.
    """
    records = [record for name in scan_ids if (record := read_record(out, name)) is not None]
    done = [record for record in records if record.problem is None]
    found = flag_cohort([record.numbers for record in done])
    flags = {}
    for record, own in zip(done, found, strict=True):
        doubts = [Flag("registration", doubt) for doubt in record.doubts]
        # The pipeline's doubts are of the same measures; what is flagged here is not said twice.
        flags[record.scan_id] = tuple(own or doubts)
    return [Judged(record, flags.get(record.scan_id, ())) for record in records]


def without_flagged(cohort: Cohort, out: Path) -> Cohort:
    """A cohort without the scans that look wrong beside the others, each with its reason.

    Args:
        cohort: Scans that are in a store.
        out: The store's folder.
    """
    judged = judge(out, cohort.scan_ids)
    flagged = {scan.record.scan_id: f"flagged: {scan.reason}" for scan in judged if scan.flags}
    ids = cohort.table["scan_id"]
    return cohort.keep(~ids.isin(flagged), ids.map(flagged))


def write_quality_table(out: Path, judged: Sequence[Judged]) -> None:
    """Write ``quality.tsv`` and its sidecar beside the store."""
    rows = []
    for scan in judged:
        values = {
            name: None if (value := scan.record.measures.get(name)) is None else f"{value:.6g}"
            for name in LIMITS
        }
        texts = {"flags": scan.reason or None, "problem": scan.record.problem}
        seconds = f"{scan.record.seconds:.2f}"
        rows.append({"scan_id": scan.record.scan_id, **values, "seconds": seconds, **texts})
    columns = ["scan_id", *LIMITS, "seconds", "flags", "problem"]
    table = pd.DataFrame(rows, columns=columns, dtype="string")
    write_json((out / TABLE).with_suffix(".json"), _sidecar())
    write_text(out / TABLE, write_table_text(table))


def _sidecar() -> dict[str, dict[str, object]]:
    columns: dict[str, dict[str, object]] = {}
    for name, limit in LIMITS.items():
        column: dict[str, object] = {"Description": limit.text, "Units": limit.unit or "1"}
        fixed = {"Minimum": limit.low, "Maximum": limit.high}
        column |= {key: value for key, value in fixed.items() if abs(value) < float("inf")}
        columns[name] = column
    columns["seconds"] = {"Description": "what preparing the scan took", "Units": "s"}
    columns["flags"] = {
        "Description": (
            "what looks wrong: beyond the fixed limits, or, among"
            f" {FEWEST_SCANS} or more scans, by more than {FAR} robust standard deviations"
        )
    }
    columns["problem"] = {"Description": "why the scan could not be prepared"}
    return columns
