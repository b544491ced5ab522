"""Learning curves: scores over the number of subjects, their law, and what it foretells.

Uncertainty is that of the test subjects and of the seeds: both are drawn again, every size of a
curve with the same subjects, and the law is fitted to each drawn curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braintune.errors import InputError, counted, listing
from braintune.evaluation.intervals import LEVEL
from braintune.evaluation.power_law import PowerLaws, fit_power_laws
from braintune.evaluation.resampling import resampled, subject_counts
from braintune.studies.scores import Entry
from braintune.tasks.task import FloatArray, Metric

_ENDS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
# Beyond so many times the largest size, a law is a guess.
_FAR = 4.0


@dataclass(frozen=True)
class Curve:
    """A choice's scores over sizes.

    Attributes:
        name: The choice.
        metric: The score.
        sizes: Subjects learnt from, of shape (sizes,), rising.
        by_seed: Scores, of shape (sizes, seeds).
        drawn: Scores of drawn subjects and seeds, of shape (resamples, sizes).
    """

    name: str
    metric: Metric
    sizes: FloatArray
    by_seed: FloatArray
    drawn: FloatArray

    @property
    def values(self) -> FloatArray:
        """The score of each size, over all seeds."""
        return np.asarray(self.by_seed.mean(axis=1))

    def errors(self, scores: FloatArray) -> FloatArray:
        """What a law is fitted to: the score itself, or what it lacks to 1."""
        return 1 - scores if self.metric.higher_is_better else scores

    def law(self) -> PowerLaws:
        """The law of the scores."""
        return fit_power_laws(self.sizes, self.errors(self.values)[None])

    def drawn_laws(self) -> PowerLaws:
        """The law of each drawn curve."""
        return fit_power_laws(self.sizes, self.errors(self.drawn))


def make_curve(
    name: str, metric: Metric, entries: Sequence[Entry], sizes: Sequence[float]
) -> Curve:
    """A choice's curve.

    Args:
        name: The choice.
        metric: The score.
        entries: Its predictions at each size; all sizes test the same subjects.
        sizes: Subjects learnt from.
    """
    order = np.argsort(sizes, kind="stable")
    counts = subject_counts(max(int(e.scored.subject.max()) for e in entries) + 1)
    random = np.random.default_rng(22)
    by_seed, drawn = [], []
    for number in order:
        entry = entries[number]
        parts = [
            entry.scored.take(np.flatnonzero(entry.scored.fold % entry.seeds == seed))
            for seed in range(entry.seeds)
        ]
        by_seed.append([metric.function(part) for part in parts])
        samples = np.stack([resampled(part, metric, counts) for part in parts])
        chosen = random.integers(entry.seeds, size=(entry.seeds, len(counts)))
        drawn.append(samples[chosen, np.arange(len(counts))].mean(axis=0))
    stacked = np.stack(drawn, axis=1)
    defined = ~np.isnan(stacked).any(axis=1)
    return Curve(
        name, metric, np.array(sizes, dtype=float)[order], np.array(by_seed), stacked[defined]
    )


def curve_document(curve: Curve, wishes: dict[str, float]) -> dict[str, Any]:
    """A curve as JSON: its points, its law, and what its law foretells."""
    law, laws = curve.law(), curve.drawn_laws()
    low, high = np.quantile(curve.drawn, _ENDS, axis=0)
    points = [
        {
            "subjects": float(curve.sizes[i]),
            "value": float(curve.values[i]),
            "low": float(low[i]),
            "high": float(high[i]),
            "seeds": curve.by_seed[i].tolist(),
        }
        for i in range(len(curve.sizes))
    ]
    document: dict[str, Any] = {
        "name": curve.name,
        "points": points,
        "law": {
            name: _around(getattr(law, name)[0], getattr(laws, name))
            for name in ("scale", "slope", "floor")
        },
        "line": _line(curve, law, laws),
        "wish": None,
    }
    if curve.metric.name in wishes:
        document["wish"] = foretold(curve, wishes[curve.metric.name])
    document["sentences"] = curve_sentences(document, curve.metric.label)
    return document


def foretold(curve: Curve, wish: float) -> dict[str, Any]:
    """The subjects that a wished score takes, with the interval of the drawn curves.

    An end that is None has no bound: that share of the drawn curves never gets there.
    """
    error = float(curve.errors(np.array(wish)))
    needed, drawn = curve.law().needed(error)[0], curve.drawn_laws().needed(error)
    low, high = np.quantile(drawn, _ENDS, method="inverted_cdf")
    return {
        "score": wish,
        "subjects": _finite(needed),
        "low": _finite(low),
        "high": _finite(high),
        "never": float(np.isinf(drawn).mean()),
        "far": bool(needed > _FAR * curve.sizes.max()),
    }


def parse_wishes(texts: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """Read ``metric=score`` wishes.

    Raises:
        InputError: If one is not of that form, or no target is scored by that metric.

    Example:
        >>> parse_wishes(["mae=5"], ["mae"])
        {'mae': 5.0}
    """
    wishes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            score = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise InputError(f"--wish {text!r} must look like mae=5.")
        if name not in metrics:
            known = listing(dict.fromkeys(metrics))
            raise InputError(f"--wish {text!r}: no target is scored by {name}. Scores: {known}.")
        wishes[name] = score
    return wishes


def curve_sentences(document: dict[str, Any], label: str) -> list[str]:
    """A curve in words."""
    last, law = document["points"][-1], document["law"]
    slope, floor = law["slope"], law["floor"]
    shape = "does not fall with more subjects"
    if law["scale"]["value"] > 0:
        shape = (
            f"falls with the number of subjects to the power −{slope['value']:.2g}"
            f" [{slope['low']:.2g}, {slope['high']:.2g}] towards {floor['value']:.3g}"
            f" [{floor['low']:.3g}, {floor['high']:.3g}]"
        )
    score = f"{last['value']:.3g} [{last['low']:.3g}, {last['high']:.3g}]"
    reached = f"{document['name']}: {label} {score} with {last['subjects']:.0f} subjects"
    sentences = [f"{reached}; the error {shape}."]
    if (wish := document["wish"]) is not None:
        sentences.append(_wish_sentence(wish, label))
    return sentences


def _wish_sentence(wish: dict[str, Any], label: str) -> str:
    label = label[:1].upper() + label[1:]
    if wish["subjects"] is None:
        text = (
            f"{label} {wish['score']:g} is beyond what the law reaches with any number of subjects"
        )
        if wish["low"] is not None:
            text += f", though {100 * (1 - wish['never']):.0f} % of the drawn curves reach it"
        return f"{text}."
    low = "–" if wish["low"] is None else f"{wish['low']:,.0f}"
    high = "no bound" if wish["high"] is None else f"{wish['high']:,.0f}"
    text = (
        f"{label} {wish['score']:g} takes about {counted(round(wish['subjects']), 'subject')} to"
        f" learn from [{low}, {high}]"
    )
    if wish["far"]:
        text += ", which is far beyond what was measured: take it for an order of magnitude"
    return f"{text}."


def _line(curve: Curve, law: PowerLaws, laws: PowerLaws) -> dict[str, list[float]]:
    """The law as a line with its band, to beyond the largest size."""
    sizes = np.geomspace(curve.sizes.min(), _FAR * curve.sizes.max(), 60)
    low, high = np.quantile(curve.errors(laws.at(sizes)), _ENDS, axis=0)
    return {
        "subjects": sizes.tolist(),
        "value": curve.errors(law.at(sizes))[0].tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _around(value: float, samples: FloatArray) -> dict[str, float]:
    low, high = np.quantile(samples, _ENDS)
    return {"value": float(value), "low": float(low), "high": float(high)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
