"""Numbers and intervals as people read them."""

import math
from typing import Any


def rounded(value: float | None) -> str:
    """Three digits that matter, or a dash for what is not defined.

    Example:
        >>> rounded(0.91234), rounded(-0.0433), rounded(12.345), rounded(None), rounded(-0.0)
        ('0.912', '−0.043', '12.3', '–', '0.000')
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    text = f"{size:.{digits}f}"
    return f"−{text}" if value < 0 and float(text) else text


def with_interval(entry: dict[str, Any]) -> str:
    """A value and its interval, such as ``0.91 [0.85, 0.96]``."""
    if entry.get("low") is None:
        return rounded(entry["value"])
    return f"{rounded(entry['value'])} [{rounded(entry['low'])}, {rounded(entry['high'])}]"


def p_value(p: float | None) -> str:
    """A probability, such as ``0.03`` or ``< 0.001``."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float) -> str:
    """A time span, such as ``4 min 10 s``.

    Example:
        >>> duration(250), duration(3.2), duration(7300)
        ('4 min 10 s', '3.2 s', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min"
