"""Which scans make up each step, and reading or making them: a function of seed and step alone."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from braintune.errors import BraintuneError
from braintune.fitting.batches import derive_seed
from braintune.fitting.pretraining.targets import encode
from braintune.imaging.store import PreparedStore
from braintune.synthesis.labelmaps.cohort import known_facts
from braintune.synthesis.labelmaps.generator import LabelMapGenerator
from braintune.synthesis.labelmaps.options import GeneratorOptions
from braintune.tasks.task import FloatArray, Task

# Batches that each process makes before they are asked for.
_AHEAD = 2
Given = TypeVar("Given")
Made = TypeVar("Made")
# A source's number, and the number of a scan in it.
Item = tuple[int, int]


@dataclass(frozen=True)
class Loaded:
    """A batch as it was read or made.

    Attributes:
        images: Of shape (batch, 1, x, y, z), float32.
        targets: Encoded labels by column, of shape (batch,), NaN where unknown.
        labels: Positions in the generator's table, of shape (batch, x, y, z), if they are wanted.
        names: Of the scans.
    """

    images: npt.NDArray[np.float32]
    targets: Mapping[str, FloatArray]
    labels: npt.NDArray[np.int16] | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class StoredScans:
    """Reads scans of a prepared store.

    Attributes:
        store: The store.
        scan_ids: The scans that numbers mean.
        targets: Encoded labels by column, one a scan.
    """

    store: PreparedStore
    scan_ids: tuple[str, ...]
    targets: Mapping[str, FloatArray]

    @property
    def count(self) -> int | None:
        """How many different scans there are."""
        return len(self.scan_ids)

    def load(self, numbers: Sequence[int]) -> Loaded:
        """Read some scans."""
        names = tuple(self.scan_ids[number] for number in numbers)
        images = np.stack([self.store.read(name).astype(np.float32) for name in names])
        targets = {column: values[list(numbers)] for column, values in self.targets.items()}
        return Loaded(images, targets, None, names)


@dataclass(frozen=True)
class MadeScans:
    """Makes scans from label maps.

    Attributes:
        name: The source.
        options: The generator's options, as JSON.
        device: Where scans are made.
        count: How many different scans there are; None for no end.
        tasks: How the labels that are wanted are encoded.
        with_labels: Whether label maps are wanted.
    """

    name: str
    options: str
    device: str
    count: int | None
    tasks: Mapping[str, Task]
    with_labels: bool

    def load(self, numbers: Sequence[int]) -> Loaded:
        """Make some scans, with one thread, so that they are the same in any process."""
        generator = generator_of(self.options, self.device)
        with _one_thread():
            batch = generator.batch(numbers)
        facts = pd.DataFrame(
            [known_facts(batch, generator, place) for place in range(len(numbers))]
        ).astype("string")
        targets = {name: encode(task, facts[name]) for name, task in self.tasks.items()}
        labels = batch.labels.short().cpu().numpy() if self.with_labels else None
        names = tuple(f"{self.name}-{number}" for number in numbers)
        return Loaded(batch.images.float().cpu().numpy(), targets, labels, names)


@dataclass(frozen=True)
class Reader:
    """Reads and makes the scans of all sources.

    Attributes:
        sources: In the order by which items number them.
    """

    sources: tuple[StoredScans | MadeScans, ...]

    def load(self, items: Sequence[Item]) -> Loaded:
        """Some scans, in the order of the items."""
        parts, places = [], []
        for number, source in enumerate(self.sources):
            own = [place for place, (of, _) in enumerate(items) if of == number]
            if own:
                parts.append(source.load([items[place][1] for place in own]))
                places += own
        order = np.argsort(places)
        names = [name for part in parts for name in part.names]
        with_labels = [part.labels for part in parts if part.labels is not None]
        return Loaded(
            np.concatenate([part.images for part in parts])[order],
            {
                column: np.concatenate([part.targets[column] for part in parts])[order]
                for column in parts[0].targets
            },
            np.concatenate(with_labels)[order] if len(with_labels) == len(parts) else None,
            tuple(names[place] for place in order),
        )


@lru_cache(maxsize=8)
def generator_of(options: str, device: str) -> LabelMapGenerator:
    """The generator of some options, as JSON; a process makes it once."""
    return LabelMapGenerator(GeneratorOptions.model_validate_json(options), device)


def shares(weights: Sequence[float], count: int) -> list[int]:
    """How many of some scans each source gives: by its weight, rounded by largest remainders.

    Example:
        >>> shares([1, 1, 1], 10), shares([3, 1], 8)
        ([4, 3, 3], [6, 2])
    """
    exact = np.asarray(weights, dtype=float) / sum(weights) * count
    whole = np.floor(exact).astype(int)
    rest = np.argsort(-(exact - whole), kind="stable")[: count - int(whole.sum())]
    whole[rest] += 1
    return [int(n) for n in whole]


def epoch_items(
    counts: Sequence[int | None], weights: Sequence[float], total: int, epoch: int, seed: int
) -> list[Item]:
    """The scans of an epoch, in order.

    Each source gives its share. Scans of a cohort come as often as each other, give or take one;
    generated ones follow on those of the epoch before.

    Args:
        counts: How many different scans each source has; None for no end.
        weights: The sources' shares.
        total: Scans of the epoch.
        epoch: Its number, from 0.
        seed: Of the recipe.
    """
    items: list[Item] = []
    for number, (there, share) in enumerate(zip(counts, shares(weights, total), strict=True)):
        first = epoch * share
        if there is None:
            items += [(number, first + place) for place in range(share)]
            continue
        random = [
            np.random.default_rng(derive_seed(seed, "pass", number, turn)).permutation(there)
            for turn in range(first // there, (first + share - 1) // there + 1)
        ]
        passes = np.concatenate(random) if random else np.empty(0, dtype=int)
        begin = first % there
        items += [(number, int(place)) for place in passes[begin : begin + share]]
    order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(items))
    return [items[place] for place in order]


def in_order(work: Callable[[Given], Made], given: Sequence[Given], workers: int) -> Iterator[Made]:
    """Apply a function to items, some ahead in other processes, and yield the results in order.

    Args:
        work: A function that can be pickled.
        given: What it is applied to.
        workers: Processes; with one or none, none is started.

    Raises:
        BraintuneError: If a process was killed, most often for want of memory.
    """
    if workers <= 1:
        for item in given:
            yield work(item)
        return
    # A fresh interpreter a worker: forking a process that runs torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    )
    waiting: deque[Future[Made]] = deque()
    source = iter(given)
    try:
        for item in source:
            waiting.append(pool.submit(work, item))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        msg = "A worker process was killed, most often for want of memory. Try fewer --workers."
        raise BraintuneError(msg) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread for a while: sums of several threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
