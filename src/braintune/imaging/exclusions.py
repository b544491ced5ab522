"""The ledger of a store: who was left out, why and when."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from braintune.cohort.cohort import Exclusion
from braintune.files import append_line, read_lines

LEDGER = "ledger.jsonl"


def note_exclusions(out: Path, exclusions: Sequence[Exclusion]) -> None:
    """Add to a store's ledger who was left out; what is there already is not said twice.

    Args:
        out: The store's folder.
        exclusions: Who and why.

    Example:
        >>> import tempfile
        >>> store = Path(tempfile.mkdtemp())
        >>> note_exclusions(store, [Exclusion("sub-01_T1w", "flagged: no brain")])
        >>> [line["id"] for line in read_lines(store / LEDGER)]
        ['sub-01_T1w']
    """
    known = {(line["id"], line["reason"]) for line in read_lines(out / LEDGER)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for item in exclusions:
        if (item.id, item.reason) not in known:
            append_line(
                out / LEDGER,
                {"time": now, "event": "left out", "id": item.id, "reason": item.reason},
            )
