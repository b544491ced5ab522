"""Learning rates over the steps of a fit."""

import math
from typing import Literal


def lr_factor(
    step: int, total: int, warmup: float, schedule: Literal["cosine", "constant"]
) -> float:
    """What the learning rate is multiplied by at a step.

    Linear warm-up over the first share of the steps, then a half cosine down to 0, or constant.

    Example:
        >>> [round(lr_factor(step, 10, 0.2, "cosine"), 3) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    rising = max(1, round(warmup * total)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    if schedule == "constant":
        return 1.0
    done = (step - rising) / max(1, total - rising)
    return 0.5 * (1 + math.cos(math.pi * done))
