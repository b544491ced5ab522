"""What a run's numbers say, in plain words that do not say more than the numbers."""

from typing import Any

from braintune.reporting.numbers import p_value, rounded, with_interval

_LEVEL = 0.05


def headline(metrics: dict[str, Any], target: str, unit: str, model: str = "network") -> str:
    """The first sentence of a report, which calls what was fitted by the given name."""
    entry = metrics["metrics"][metrics["headline"]]
    number = with_interval(entry) + (
        f" {unit}" if unit and entry["label"].endswith("error") else ""
    )
    level = round(100 * metrics["interval"]["level"])
    return (
        f"On scans that it was not fitted on, the {model} reached a {entry['label']} of {number}"
        f" for {target} ({level} % interval over {metrics['subjects']} subjects)."
    )


def against_baselines(metrics: dict[str, Any], model: str = "network") -> list[tuple[str, str]]:
    """For each baseline, whether the model is better, and the sentence that says so."""
    entry = metrics["metrics"][metrics["headline"]]
    sign = 1 if entry["higher_is_better"] else -1
    sentences = []
    for baseline in metrics["baselines"].values():
        gain = baseline["network_minus_baseline"]
        theirs = rounded(baseline["metrics"][metrics["headline"]]["value"])
        verdict = _verdict(gain, sign)
        words = {
            "better": f"The {model} is better than",
            "worse": f"The {model} is worse than",
            "open": f"It is not settled whether the {model} is better than",
        }[verdict]
        test = f", corrected p {p_value(gain['p_holm'])}" if gain["p_holm"] is not None else ""
        sentences.append(
            (
                verdict,
                f"{words} {baseline['label']} ({theirs}): difference {with_interval(gain)}{test}.",
            )
        )
    return sentences


def chance(metrics: dict[str, Any]) -> str | None:
    """Whether the headline's interval excludes what knowing nothing would give."""
    entry = metrics["metrics"][metrics["headline"]]
    if entry["chance"] is None or entry["low"] is None:
        return None
    excludes = entry["low"] > entry["chance"] or entry["high"] < entry["chance"]
    return f"The interval {'excludes' if excludes else 'includes'} chance ({entry['chance']})."


def _verdict(gain: dict[str, Any], sign: int) -> str:
    """Settled only if the interval over subjects and, over several folds, the test agree."""
    if gain["low"] is None or (gain["p_holm"] is not None and gain["p_holm"] >= _LEVEL):
        return "open"
    low, high = sorted((sign * gain["low"], sign * gain["high"]))
    return "better" if low > 0 else "worse" if high < 0 else "open"
