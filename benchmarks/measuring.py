"""Fair timing: contenders take turns in one process, and only ratios within a turn are claims."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from braintune.run import describe_environment

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Contender:
    """Something that is timed.

    Attributes:
        name: What the table calls it.
        epoch: Goes through all scans once; returns how many there were.
    """

    name: str
    epoch: Callable[[], int]


def take_turns(contenders: list[Contender], rounds: int) -> dict[str, list[float]]:
    """Scans a second of each contender in each round, after one round to warm up."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            gc.collect()
            start = time.perf_counter()
            scans = contender.epoch()
            rate = scans / (time.perf_counter() - start)
            if number:
                rates[contender.name].append(rate)
        print(f"round {number}: done", flush=True)
    return rates


def summary(rates: dict[str, list[float]], ours: str) -> dict[str, Any]:
    """Median rates, and how many times faster ours is: the median and range over rounds."""
    rows = {}
    for name, values in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(rates[ours], values, strict=True)]
        rows[name] = {
            "scans_per_second": round(statistics.median(values), 2),
            "times_faster": round(statistics.median(ratios), 2),
            "times_faster_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    return rows


def environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """Hardware and versions."""
    from importlib import metadata

    facts = describe_environment()
    facts.pop("command", None)
    facts["threads"] = torch.get_num_threads()
    facts["packages"] |= {name: metadata.version(name) for name in packages}
    return facts
