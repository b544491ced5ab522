"""The group page of a preparation, made from the records that lie beside the store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braintune.files import write_text
from braintune.imaging.quality.limits import FAR, FEWEST_SCANS, LIMITS, Limit
from braintune.imaging.quality.records import FIGURES
from braintune.imaging.quality.table import Judged, judge, write_quality_table
from braintune.reporting.pages import fill
from braintune.reporting.sorting import sorting_script

PAGE = "quality.html"
# Headings of the table's columns; what they mean is in the limits' texts.
_SHORT = {
    "snr": "SNR",
    "cnr": "CNR",
    "fber": "FBER",
    "brain_ml": "brain, ml",
    "template_dice": "overlap",
    "similarity": "similarity",
    "border_cm2": "border, cm²",
}


def write_quality_report(out: Path, scan_ids: Sequence[str]) -> tuple[Path, list[Judged]]:
    """Write ``quality.html``, and ``quality.tsv`` with its sidecar, into a store's folder.

    Args:
        out: The store of raw heads.
        scan_ids: The cohort's scans, those that failed too.

    Returns:
        The page, and what looks wrong with each scan.
    """
    judged = judge(out, scan_ids)
    write_quality_table(out, judged)
    write_text(out / PAGE, fill("quality_report.html.j2", _context(judged)))
    return out / PAGE, judged


def _context(judged: Sequence[Judged]) -> dict[str, Any]:
    failed = [scan for scan in judged if scan.record.problem is not None]
    done = [scan for scan in judged if scan.record.problem is None]
    flagged = sorted((s for s in done if s.flags), key=lambda s: -len(s.flags))
    fine = [scan for scan in done if not scan.flags]
    took = [scan.record.seconds for scan in done]
    return {
        "done": len(done),
        "seconds": f"{np.median(took):.1f}" if took else "",
        "failed": [_shown(scan, str(scan.record.problem)) for scan in failed],
        "flagged": [_shown(scan, scan.reason) for scan in flagged],
        "others": [_shown(scan, "") for scan in fine],
        "few": FEWEST_SCANS if len(done) < FEWEST_SCANS else 0,
        "fewest": FEWEST_SCANS,
        "header": [
            ("scan", ""),
            *((_SHORT[name], limit.text) for name, limit in LIMITS.items()),
            ("seconds", "what preparing the scan took"),
            ("what looks wrong", ""),
        ],
        "rows": [_row(scan) for scan in (*flagged, *fine)],
        "limits": [
            (_SHORT[name], limit.text, _fixed(limit), _usual(limit))
            for name, limit in LIMITS.items()
        ],
        **sorting_script(),
    }


def _shown(scan: Judged, text: str) -> dict[str, str]:
    """What the page says of a scan, with its picture's place beside the page."""
    record = scan.record
    place = f"{FIGURES.as_posix()}/{record.picture}" if record.picture else ""
    return {"id": record.scan_id, "text": text, "picture": place}


def _row(scan: Judged) -> list[dict[str, str]]:
    """What each cell shows, what it is sorted by, and how it looks."""
    odd = {flag.measure for flag in scan.flags}
    cells = [_cell(scan.record.scan_id)]
    for name, value in scan.record.numbers.items():
        shown = "–" if np.isnan(value) else _number(value)
        by = "-1" if np.isnan(value) else f"{value:.6g}"
        cells.append({"shown": shown, "by": by, "kind": "odd" if name in odd else ""})
    cells.append({**_cell(f"{scan.record.seconds:.1f}"), "kind": ""})
    # Sorted so that those with flags come first whichever way others are sorted.
    names = ", ".join(_SHORT.get(flag.measure, flag.measure) for flag in scan.flags)
    cells.append({"shown": names, "by": names or "~", "kind": ""})
    return cells


def _cell(text: str) -> dict[str, str]:
    return {"shown": text, "by": text, "kind": ""}


def _number(value: float) -> str:
    """A number in three digits, large ones in full.

    Example:
        >>> _number(1432.18), _number(0.91234), _number(12345.6)
        ('1432', '0.912', '12346')
    """
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _fixed(limit: Limit) -> str:
    parts = []
    if np.isfinite(limit.low):
        parts.append(f"at least {limit.low:g}")
    if np.isfinite(limit.high):
        parts.append(f"at most {limit.high:g}")
    return " and ".join(parts) or "–"


def _usual(limit: Limit) -> str:
    if limit.least == 0:
        return "–"
    side = {"low": "below", "high": "above", "both": "from"}[limit.bad]
    least = f"{limit.least:.0%} of it" if limit.relative else f"{limit.least:g}"
    return f"{FAR} robust standard deviations {side} the median, and {least} at least"
