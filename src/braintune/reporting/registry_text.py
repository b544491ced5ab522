"""What there is to choose from, as documents and as text."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from braintune.adapters.adapter import ADAPTERS
from braintune.models.backbone import BACKBONES
from braintune.models.weights.record import records_of
from braintune.reporting.weights_text import record_summary


def adapter_documents() -> list[dict[str, Any]]:
    """One document an adapter."""
    return [adapter_document(name) for name in ADAPTERS.names()]


def adapter_document(name: str) -> dict[str, Any]:
    """An adapter, what it adapts and costs, and its options with their defaults."""
    entry = ADAPTERS.get(name)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "adapts": entry.adapts,
        "cost": entry.cost,
        "starts_as_backbone": entry.starts_as_backbone,
        "options": entry.options().model_dump(mode="json"),
        "paper": entry.paper,
    }


def backbone_documents() -> list[dict[str, Any]]:
    """One document a backbone."""
    return [backbone_document(name) for name in BACKBONES.names()]


def backbone_document(name: str) -> dict[str, Any]:
    """A backbone, its parameters in its published form, its options and weights."""
    entry = BACKBONES.get(name)
    records = records_of(name)
    return {
        "name": entry.name,
        "family": entry.family,
        "summary": entry.summary,
        "parameters": entry.parameters,
        "published_shape": list(entry.published.shape),
        "weights": [record.tag for record in records],
        "records": [record_summary(record) for record in records],
        "options": entry.options().model_dump(mode="json"),
        "paper": entry.paper,
    }


def as_table(documents: list[dict[str, Any]], columns: list[str]) -> str:
    """Documents as a table for a terminal; what they are called by is never broken."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numbers = column in {"parameters", "MB"}
        table.add_column(
            column,
            justify="right" if numbers else "left",
            no_wrap=numbers or column == "name",
            overflow="fold",
        )
    for document in documents:
        table.add_row(*[Text(_text(document[column])) for column in columns])
    return rendered(table)


def as_list(document: dict[str, Any]) -> str:
    """A document, its keys below each other."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in document.items():
        table.add_row(key, Text(_text(value)))
    return rendered(table)


def rendered(table: Table) -> str:
    """A table as text of the terminal's width, or of 120 columns elsewhere."""
    console = Console(file=io.StringIO(), width=_width(), color_system=None)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())


def _width() -> int:
    import shutil

    return max(80, shutil.get_terminal_size((120, 24)).columns)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "–"
    return str(value)
