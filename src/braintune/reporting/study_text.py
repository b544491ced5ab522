"""What `braintune compare` says on the terminal: the plan before, the standing after."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from braintune.errors import counted
from braintune.reporting.numbers import duration, p_value, rounded, with_interval
from braintune.reporting.registry_text import rendered

# Beyond so many choices a table is a wall: methods are shown, each with its range.
_MOST_ROWS = 40
_MOST_ENTRIES = 20


def plan_text(document: dict[str, Any]) -> str:
    """The plan of a study, readable however many fits it has."""
    choices = document["choices"]
    grouped = len(choices) > _MOST_ROWS
    rows = _by_method(choices) if grouped else [[choice] for choice in choices]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method" if grouped else "choice")
    for column in ("choices", "fits", "trainable", "memory", "time", "time from"):
        if column != "choices" or grouped:
            table.add_column(column, justify="right")
    for group in rows:
        table.add_row(*_plan_row(group, grouped))
    shape = (
        f"{counted(document['fits'], 'fit')}: {counted(len(choices), 'choice')} in"
        f" {counted(len(document['contexts']), 'context')},"
        f" {counted(document['cells'], 'cell')} of {_per_cell(document)}."
    )
    cost = (
        f"About {duration(document['seconds'])} of computing, {duration(document['elapsed'])} with"
        f" {document['at_once']} at once, without preparing and augmenting scans. Compared with"
        f" {document['baseline']}."
    )
    return "\n\n".join([shape, _contexts_text(document["contexts"]), rendered(table), cost])


def study_text(document: dict[str, Any], page: Path) -> str:
    """The standing of every context, and what it means."""
    parts = []
    for context in document["contexts"]:
        title = f"{context_title(context)}: {context['label']}"
        parts.append("\n".join([title, _leaderboard(context), *context["sentences"]]))
        parts += [
            f"Not compared: {one['name']}, {one['done']} of {counted(one['wanted'], 'fit')}."
            f" {one['reason']}"
            for one in context["incomplete"][:_MOST_ENTRIES]
        ]
    return "\n\n".join([*parts, f"Report: {page}"])


def context_title(context: dict[str, Any]) -> str:
    """A context in words."""
    share = f"{100 * context['fraction']:g} % of the training subjects"
    place = f"{context['target']} in {context['cohort']}"
    if context.get("external"):
        place = f"{context['target']} on external {context['external']}, by {context['cohort']}"
    return f"{place}, {share}"


def _per_cell(document: dict[str, Any]) -> str:
    seeds = counted(len(document["seeds"]), "seed")
    if document["budget"] == 1:
        return seeds
    return f"{counted(document['budget'], 'trial')} and {seeds}"


def _contexts_text(contexts: Sequence[dict[str, Any]]) -> str:
    shown = [
        f"{context_title(context)}: {counted(context['subjects'], 'subject')},"
        f" {counted(context['folds'], 'fold')}, {context['train_rows']:.0f} train"
        for context in contexts[:_MOST_ENTRIES]
    ]
    if len(contexts) > _MOST_ENTRIES:
        shown.append(f"and {counted(len(contexts) - _MOST_ENTRIES, 'context')} more")
    return "\n".join(shown)


def _by_method(choices: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for choice in choices:
        groups.setdefault(choice["method"], []).append(choice)
    return list(groups.values())


def _plan_row(group: Sequence[dict[str, Any]], grouped: bool) -> list[str]:
    sources = sorted({choice["estimated_from"] for choice in group})
    row = [
        f"{sum(choice['fits'] for choice in group):,}",
        _range([f"{choice['trainable']:,}" for choice in _ends(group, "trainable")]),
        _range(
            [f"{choice['memory_bytes'] / 1e6:,.0f} MB" for choice in _ends(group, "memory_bytes")]
        ),
        duration(sum(choice["seconds"] for choice in group)),
        ", ".join(sources),
    ]
    if grouped:
        return [group[0]["method"], str(len(group)), *row]
    return [group[0]["name"], *row]


def _ends(group: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [min(group, key=lambda c: c[key]), max(group, key=lambda c: c[key])]


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _leaderboard(context: dict[str, Any]) -> str:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for column in (context["label"], "less the best", "p", "trainable", "seconds", "MB"):
        table.add_column(column, justify="right")
    entries = context["entries"]
    for entry in entries[:_MOST_ENTRIES]:
        beside = entry["against_best"]
        table.add_row(
            entry["name"],
            with_interval(entry),
            with_interval({"value": beside["difference"], **beside}) if beside else "",
            p_value(beside["p_holm"]) if beside else "",
            "–" if entry["trainable"] is None else f"{entry['trainable']:,}",
            rounded(entry["seconds"]),
            "–" if entry["peak_mb"] is None else f"{entry['peak_mb']:,.0f}",
        )
    text = rendered(table)
    if len(entries) > _MOST_ENTRIES:
        text += f"\nand {len(entries) - _MOST_ENTRIES} more, in leaderboard.tsv"
    return text
