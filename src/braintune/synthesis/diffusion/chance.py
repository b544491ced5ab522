"""Chance as a function of seeds: what is drawn never depends on what was drawn before."""

from functools import lru_cache

import numpy as np
import torch


def generator(*keys: int) -> torch.Generator:
    """A generator, on the processor, that the keys alone determine.

    Example:
        >>> torch.equal(torch.rand(2, generator=generator(0, 7)),
        ...             torch.rand(2, generator=generator(0, 7)))
        True
    """
    state = np.random.SeedSequence(keys).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def batch_rows(seed: int, step: int, rows: int, batch_size: int) -> list[int]:
    """The rows of a training step: each epoch is a new permutation, cut into batches.

    Example:
        >>> sorted(batch_rows(0, 0, 6, 3) + batch_rows(0, 1, 6, 3))
        [0, 1, 2, 3, 4, 5]
    """
    chosen: list[int] = []
    position = step * batch_size
    while len(chosen) < batch_size:
        epoch, start = divmod(position, rows)
        order = _permutation(seed, epoch, rows)
        taken = order[start : start + batch_size - len(chosen)]
        chosen += taken
        position += len(taken)
    return chosen


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, rows: int) -> list[int]:
    """The order of an epoch; its many steps ask for the same."""
    return [int(row) for row in torch.randperm(rows, generator=generator(seed, 11, epoch))]
