"""What `braintune check` says, as a document and as text."""

from typing import Any

from rich.table import Table

from braintune.imaging.audit import CohortAudit
from braintune.imaging.inspect import Problem
from braintune.reporting.registry_text import rendered


def audit_document(audit: CohortAudit) -> dict[str, Any]:
    """The audit as JSON."""
    return {
        "ok": not audit.problems,
        "problems": [_document(problem) for problem in audit.problems],
        "cautions": [_document(problem) for problem in audit.cautions],
        "demographics": audit.table.demographics,
        "voxel_sizes": audit.spacings,
        "associations": audit.table.associations,
        "crossed": {
            name: {str(k): row for k, row in table.T.to_dict().items()}
            for name, table in audit.table.crossed.items()
        },
    }


def audit_text(audit: CohortAudit) -> str:
    """The audit as tables for a terminal."""
    who = Table(title="Who is in it", title_justify="left", box=None, show_header=False)
    for name, summary in audit.table.demographics.items():
        who.add_row(name, summary)
    who.add_row("voxel sizes", ", ".join(f"{s} mm: {n}" for s, n in audit.spacings.items()))
    parts = [rendered(who)]
    for name, crossed in audit.table.crossed.items():
        # As a line of its own: a table's title is broken to the table's width.
        strength = audit.table.associations[name]
        title = f"{crossed.columns.name} by {name} (Cramér's V {strength:.2f})"
        table = Table(box=None)
        table.add_column(name)
        for column in crossed.columns:
            table.add_column(str(column), justify="right")
        for value, row in crossed.iterrows():
            table.add_row(str(value), *[str(count) for count in row])
        parts.append(f"{title}\n{rendered(table)}")
    if audit.cautions:
        parts.append(_problems("To know of", audit.cautions))
    if audit.problems:
        parts.append(_problems(f"To mend: {len(audit.problems)}", audit.problems))
    else:
        parts.append("Nothing to mend.")
    return "\n\n".join(parts)


def _problems(title: str, problems: tuple[Problem, ...]) -> str:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in ("what", "where", "remedy"):
        table.add_column(column, overflow="fold")
    for problem in problems:
        table.add_row(problem.what, problem.where, problem.remedy)
    return rendered(table)


def _document(problem: Problem) -> dict[str, str]:
    return {"what": problem.what, "where": problem.where, "remedy": problem.remedy}
