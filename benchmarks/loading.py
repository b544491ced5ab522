"""Scans a second from disk to batches: a prepared store against MONAI, TorchIO and .nii.gz files.

Everything is made from a simulated cohort, in one call:

    python benchmarks/loading.py

Results go to ``benchmarks/results/loading.json``, which `docs/results.md` shows.
"""

import argparse
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braintune.files import write_json
from braintune.imaging.preparation import prepare_scan
from braintune.imaging.store import PreparedStore
from braintune.recipe import PrepareRecipe
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from contenders import Material, line_up
from measuring import RESULTS, Contender, environment, summary, take_turns

# Spacing, prepared shape, scans, batch.
SIZES: dict[int, tuple[tuple[int, int, int], int, int]] = {
    2: ((80, 96, 80), 24, 8),
    1: ((160, 192, 160), 4, 2),
}
_ENTRIES = 100_000
# Scans of an epoch of loading alone.
_EPOCH = 192
_CROP = 96


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spacing", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--out", type=Path, default=RESULTS / "loading.json")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    document: dict[str, Any] = {"environment": environment(("monai", "torchio")), "loading": {}}
    with tempfile.TemporaryDirectory() as folder:
        for spacing in options.spacing:
            material = make_material(Path(folder) / f"{spacing}mm", spacing)
            if spacing == 1:
                document["crop_ms"] = crop_time(material)
            for augmentation in ("none", "light", "standard"):
                print(f"{spacing} mm, augmentation {augmentation}", flush=True)
                # Loading alone is so quick that an epoch of few scans would time its start.
                passes = _EPOCH // len(material.scans) if augmentation == "none" else 1
                rows = compare(replace(material, passes=passes), augmentation, options.rounds)
                document["loading"][f"{spacing} mm, {augmentation}"] = rows
                for name, row in rows.items():
                    print(f"  {name:24} {row['scans_per_second']:9.1f} {row['times_faster']:7.2f}x")
        document["open_entries_seconds"] = opening_time(Path(folder) / "many")
    write_json(options.out, document)
    print(f"wrote {options.out}")


def make_material(folder: Path, spacing: int) -> Material:
    """Simulate a cohort and prepare it."""
    shape, scans, batch = SIZES[spacing]
    simulate(folder / "cohort", SimulationRecipe(subjects=scans, spacing=spacing))
    paths = sorted((folder / "cohort").rglob("*.nii.gz"))
    recipe = PrepareRecipe(spacing=float(spacing), shape=shape)
    store = PreparedStore.create(folder / "store", recipe)
    for path in paths:
        store.write(path.name, prepare_scan(path, recipe), str(path))
    return Material(paths, store, shape, batch, folder)


def compare(material: Material, augmentation: str, rounds: int) -> dict[str, Any]:
    """Rates of all contenders, each with the setting that serves it best."""
    groups = line_up(material, augmentation)
    entrants = []
    while groups:
        # What loses goes, with its processes and their memory.
        entrants.append(best_of(groups.pop(0)))
    return summary(take_turns(entrants, rounds), entrants[0].name)


def best_of(group: list[Contender]) -> Contender:
    """The fastest of the same loader's settings, after one epoch that fills its caches."""
    if len(group) == 1:
        return group[0]
    times = []
    for contender in group:
        contender.epoch()
        start = time.perf_counter()
        contender.epoch()
        times.append(time.perf_counter() - start)
    return group[int(np.argmin(times))]


def crop_time(material: Material) -> float:
    """Milliseconds to read one 96³ crop of a 1 mm scan into float32, the median of many."""
    names = [path.name for path in material.scans]
    crop = tuple(slice(20, 20 + _CROP) for _ in range(3))
    times = []
    for turn in range(200):
        start = time.perf_counter()
        torch.from_numpy(material.store.read(names[turn % len(names)], crop)).float()
        times.append(time.perf_counter() - start)
    return round(1000 * float(np.median(times)), 3)


def opening_time(folder: Path) -> float:
    """Seconds to open a store of 100,000 scans and read one of them."""
    recipe = PrepareRecipe(spacing=32.0, shape=(4, 4, 4))
    store = PreparedStore.create(folder, recipe)
    simulate(folder.parent / "one", SimulationRecipe(subjects=1, spacing=8))
    scan = next((folder.parent / "one").rglob("*.nii.gz"))
    prepared = prepare_scan(scan, recipe)
    for number in range(_ENTRIES):
        store.write(f"sub-{number:06d}_T1w", prepared, "")
    start = time.perf_counter()
    PreparedStore.open(folder).read(f"sub-{_ENTRIES - 1:06d}_T1w")
    return round(time.perf_counter() - start, 4)


if __name__ == "__main__":
    main()
