"""The errors that users meet: each names the value, what was allowed and the remedy."""

import difflib
from collections.abc import Iterable


class BraintuneError(Exception):
    """The work failed for a reason that the message explains; the command exits with 1."""

    exit_status = 1


class InputError(BraintuneError):
    """The input was wrong and the message says how to mend it; the command exits with 2."""

    exit_status = 2


class InterruptedFitError(BraintuneError):
    """The user or the scheduler asked to stop; the same command goes on from here."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Name the allowed word nearest to a misspelt one, as a sentence to append to an error.

    Example:
        >>> nearest("epoch", ["epochs", "lr"])
        " Did you mean 'epochs'?"
        >>> nearest("zzz", ["epochs", "lr"])
        ''
    """
    matches = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def listing(values: Iterable[object], limit: int = 8) -> str:
    """Join values for an error message and say how many were left out.

    Example:
        >>> listing(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    items = [str(value) for value in values]
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def counted(count: int, noun: str) -> str:
    """A number of things, such as ``1 scan`` or ``3 scans``.

    Example:
        >>> counted(1, "scan"), counted(0, "fold")
        ('1 scan', '0 folds')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
