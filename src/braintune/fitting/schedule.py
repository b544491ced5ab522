"""Learning rates over the steps of a fit."""

import math
from typing import Literal

from braintune.training_recipe import TrainRecipe

Schedule = Literal["cosine", "constant", "polynomial", "one-cycle"]
# Of the largest rate, where one cycle begins and ends (as in Smith's own code and torch's).
_CYCLE_BEGIN, _CYCLE_END = 1 / 25, 1 / 25e4


def lr_factor(
    step: int, total: int, warmup: float, schedule: Schedule, power: float = 0.9
) -> float:
    """What the learning rate is multiplied by at a step.

    Linear warm-up over the first share of the steps, then a half cosine down to 0, a polynomial
    down to 0, or constant. One cycle (Smith and Topin 2017, arXiv 1708.07120) rises and falls by
    half cosines instead, from 1/25 over 1 to 1/250 000.

    Args:
        step: From 0.
        total: All steps.
        warmup: Share of the steps over which the rate rises.
        schedule: What comes after.
        power: Of the polynomial: what is left of the steps, to this power.

    Example:
        >>> [round(lr_factor(step, 10, 0.2, "cosine"), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
        >>> [round(lr_factor(step, 10, 0.2, "polynomial", 2), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.25, 0.016]
        >>> [round(lr_factor(step, 10, 0.3, "one-cycle"), 3) for step in (0, 1, 2, 6, 9)]
        [0.04, 0.52, 1.0, 0.389, 0.0]
    """
    if schedule == "one-cycle":
        return _one_cycle(step, total, warmup)
    rising = max(1, round(warmup * total)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, total - rising)
    if schedule == "polynomial":
        return (1 - done) ** power
    return 0.5 * (1 + math.cos(math.pi * done))


def learning_rate(train: TrainRecipe, step: int, total: int) -> float:
    """The learning rate of a step, before the factors of groups of parameters."""
    return train.lr * lr_factor(step, total, train.warmup, train.schedule, train.power)


def _one_cycle(step: int, total: int, warmup: float) -> float:
    top = max(0.0, warmup * total - 1)
    if step < top:
        return _half_cosine(_CYCLE_BEGIN, 1.0, step / top)
    return _half_cosine(1.0, _CYCLE_END, (step - top) / max(1.0, total - 1 - top))


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
