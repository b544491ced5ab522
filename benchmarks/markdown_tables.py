"""Parts of the tables in Markdown that the benchmarks' pages share."""

from typing import Any


def row(cells: list[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def ratio(value: dict[str, float]) -> str:
    """A ratio, with its range over the rounds if there were several."""
    low, high = value["least"], value["most"]
    return f"{value['median']:g}×" + (f" ({low:g} to {high:g})" if low < high else "")


def hardware(environment: dict[str, Any]) -> str:
    """What it was measured on."""
    gpu = f", {environment['gpu']}" if environment.get("gpu") else ""
    torch = environment["packages"]["torch"]
    return f"{environment['processor']}{gpu}, PyTorch {torch}"


def with_range(values: list[float]) -> str:
    """A value with its interval."""
    value, low, high = values
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"
