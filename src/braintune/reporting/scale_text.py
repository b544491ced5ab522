"""What `braintune scale` says on the terminal."""

from pathlib import Path
from typing import Any

from rich.table import Table

from braintune.reporting.numbers import rounded, with_interval
from braintune.reporting.registry_text import rendered

_MOST_CURVES = 20


def scale_text(document: dict[str, Any], page: Path) -> str:
    """The curves of every target, and what they foretell."""
    parts = []
    for group in document["groups"]:
        curves = group["curves"][:_MOST_CURVES]
        parts.append(f"{group['target']} in {group['cohort']}: {group['label']}\n{_table(curves)}")
        parts += ["\n".join(curve["sentences"]) for curve in curves]
        if group["incomplete"]:
            parts.append(f"Not shown, for want of fits: {', '.join(group['incomplete'])}.")
    return "\n\n".join([*parts, f"Report: {page}"])


def _table(curves: list[dict[str, Any]]) -> str:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("subjects to learn from", justify="right")
    for curve in curves:
        table.add_column(curve["name"], justify="right")
    sizes = sorted({point["subjects"] for curve in curves for point in curve["points"]})
    for size in sizes:
        cells = [
            next((with_interval(p) for p in curve["points"] if p["subjects"] == size), "")
            for curve in curves
        ]
        table.add_row(rounded(size), *cells)
    return rendered(table)
