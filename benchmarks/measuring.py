"""Fair timing: contenders take turns in one process, and only ratios within a turn are claims."""

import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
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


def in_fresh_processes(
    script: str, case: str, contenders: Iterable[str], repeats: int
) -> dict[str, dict[str, Any]]:
    """What a benchmark's ``--one`` prints of each contender, each in a process of its own."""
    found = {}
    for contender in contenders:
        command = [sys.executable, script, case, "--one", contender, "--repeats", str(repeats)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[contender] = json.loads(output.strip().splitlines()[-1])
    return found


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    """The median duration of an action, after two to warm up."""
    times = []
    for number in range(repeats + 2):
        _wait()
        start = time.perf_counter()
        action()
        _wait()
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait() -> None:
    """Until the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_mb() -> float:
    """The most memory that the device has given this process, or this process has had."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def spread(values: list[float]) -> dict[str, float]:
    """The median and the range over rounds."""
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


def environment(packages: tuple[str, ...]) -> dict[str, Any]:
    """Hardware and versions."""
    from importlib import metadata

    facts = describe_environment()
    facts.pop("command", None)
    facts["threads"] = torch.get_num_threads()
    facts["packages"] |= {name: metadata.version(name) for name in packages}
    return facts
