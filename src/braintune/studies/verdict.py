"""What a context's scores mean, in plain sentences."""

from collections.abc import Sequence
from typing import Any

from braintune.errors import counted, listing


def verdict(context: dict[str, Any]) -> list[str]:
    """Which choice leads, what it is better than, and which differences are noise.

    Args:
        context: A context of study.json.
    """
    choices = [entry for entry in context["entries"] if not entry["trivial"]]
    if not choices:
        return ["No choice has all of its fits yet."]
    best, others = choices[0], choices[1:]
    trivial = [entry for entry in context["entries"] if entry["trivial"]]
    sentences = [_leader(context, best, others)]
    noise = [entry["name"] for entry in others if not entry["against_best"]["real"]]
    if noise and len(noise) < len(others):
        sentences.append(f"Its difference from {listing(noise, 6)} is noise.")
    sentences.append(_beside_trivial(best, trivial))
    return sentences


def _leader(context: dict[str, Any], best: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    score = f"{context['label']} {_number(best['value'])}"
    if best["low"] is not None:
        score += f" [{_number(best['low'])}, {_number(best['high'])}]"
    if not others:
        return f"{best['name']} has {score}; there is no other choice to compare it with."
    how = f"{context['test']}, Holm over {counted(context['pairs'], 'pair')}"
    worse = [entry["name"] for entry in others if entry["against_best"]["real"]]
    if not worse:
        return (
            f"No choice wins: {best['name']} leads with {score}, but its difference from every"
            f" other choice is noise ({how})."
        )
    who = "all others" if len(worse) == len(others) else listing(worse, 6)
    verb = "wins" if len(worse) == len(others) else "leads"
    return f"{best['name']} {verb} with {score}: it is better than {who} ({how})."


def _beside_trivial(best: dict[str, Any], trivial: Sequence[dict[str, Any]]) -> str:
    beaten = [entry for entry in trivial if entry["against_best"]["real"] and entry["below_best"]]
    unbeaten = [entry["name"] for entry in trivial if entry not in beaten]
    if not unbeaten:
        return f"{best['name']} is better than what is predicted without images."
    return (
        f"{best['name']} is not shown to be better than {listing(unbeaten, 6)}, which look at no"
        " image."
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
