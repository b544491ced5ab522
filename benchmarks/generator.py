"""Scans a second that the label-map generator makes at 2 mm, and how exactly growth is planted.

Label maps are drawn from the MNI152 template, or are your own:

    python benchmarks/generator.py --maps segmentations

Results go to ``benchmarks/results/generator.json``.
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braintune.files import write_json, write_text
from braintune.imaging.nifti import write_volume
from braintune.parallel import available_cores
from braintune.synthesis.anatomy import mni152
from braintune.synthesis.labelmaps.generator import LabelMapGenerator
from braintune.synthesis.labelmaps.options import GeneratorOptions
from measuring import RESULTS, environment

_SETTINGS: dict[str, dict[str, Any]] = {
    "t1, stripped, 80x96x80": {},
    "any contrast, stripped, 80x96x80": {"contrast": "any"},
    "t1, head, 96x120x104": {"brain": "head", "shape": (96, 120, 104)},
}
_REGIONS = {
    "white matter": "brain",
    "cortex": "cortex",
    "csf": "sulci",
    "ventricles": "ventricles",
    "left hippocampus": "hippocampus_left",
    "right hippocampus": "hippocampus_right",
}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=Path, default=None)
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "generator.json")
    asked = parser.parse_args()
    document: dict[str, Any] = {"environment": environment(()), "cores": available_cores()}
    with tempfile.TemporaryDirectory() as folder:
        maps = asked.maps or template_maps(Path(folder))
        document["label_maps"] = "own" if asked.maps else "MNI152"
        document["scans_per_second"] = {}
        for name, values in _SETTINGS.items():
            options = GeneratorOptions(maps=(maps,), **values)
            rates = measured(options, asked.scans, asked.rounds)
            document["scans_per_second"][name] = rates
            print(f"{name:36} " + "  ".join(f"{k} {v}" for k, v in rates.items()), flush=True)
        document["planted"] = accuracy(GeneratorOptions(maps=(maps,)), asked.scans)
    write_json(asked.out, document)
    print(f"wrote {asked.out}")


def template_maps(folder: Path) -> Path:
    """A label map drawn from the MNI152 template."""
    template = mni152(2)
    labels = np.zeros(template.t1.shape, dtype=np.int16)
    for value, region in enumerate(_REGIONS.values(), start=1):
        labels[template.regions[region] > 0.5] = value
    write_volume(folder / "mni152_dseg.nii.gz", labels, template.affine)
    rows = [f"{value}\t{name}" for value, name in enumerate(_REGIONS, start=1)]
    write_text(folder / "dseg.tsv", "\n".join(["index\tname", *rows]) + "\n")
    return folder


def measured(options: GeneratorOptions, scans: int, rounds: int) -> dict[str, float]:
    """The best of some rounds, for one thread, all threads, and one process a core."""
    cores = available_cores()
    generator = LabelMapGenerator(options)
    warm_up(generator)
    rates: dict[str, float] = {}
    for name, threads in (("one thread", 1), ("one process", cores)):
        torch.set_num_threads(threads)
        rates[name] = round(max(rate(generator, 0, scans) for _ in range(rounds)), 2)
        if threads == 1:
            rates["processor seconds a scan"] = processor_time(generator, scans)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        shares = [(options, number * scans, scans, rounds) for number in range(cores)]
        rates["one process a core"] = round(sum(pool.map(share_of, shares)), 2)
    return rates


def warm_up(generator: LabelMapGenerator) -> None:
    """Have every anatomy's growth at hand, as it is after the first scans of it."""
    seen = set()
    for index in range(1_000):
        drawn = generator.draw(index)
        if drawn.anatomy not in seen:
            seen.add(drawn.anatomy)
            generator.displacement(drawn)


def rate(generator: LabelMapGenerator, start: int, scans: int) -> float:
    """Scans a second."""
    begin = time.perf_counter()
    for index in range(start, start + scans):
        generator.batch([index])
    return scans / (time.perf_counter() - begin)


def processor_time(generator: LabelMapGenerator, scans: int) -> float:
    """Seconds of one core a scan, which tell the speed on a machine that others use too."""
    begin = time.process_time()
    for index in range(scans):
        generator.batch([index])
    return round((time.process_time() - begin) / scans, 4)


def share_of(work: tuple[GeneratorOptions, int, int, int]) -> float:
    """The rate of one process while the others work too."""
    options, start, scans, rounds = work
    torch.set_num_threads(1)
    generator = LabelMapGenerator(options)
    warm_up(generator)
    # All rounds at once, so that the processes work at the same time.
    return rate(generator, start, scans * rounds)


def accuracy(options: GeneratorOptions, scans: int) -> dict[str, dict[str, float]]:
    """Log ratio of the counted volume to the planted one, for each structure that grows."""
    generator = LabelMapGenerator(options)
    own = {name: anatomy_volumes(generator, name) for name in generator.regions}
    head = generator.planted_structures.index("head")
    errors: dict[str, list[float]] = {n: [] for n in generator.planted_structures if n != "head"}
    for index in range(scans):
        batch = generator.batch([index])
        anatomy = generator.anatomies.names.index(batch.anatomies[0])
        for name, found in errors.items():
            planted = batch.planted[0, generator.planted_structures.index(name)]
            wanted = own[name][anatomy] * float(planted * batch.planted[0, head])
            volume = float(batch.volumes[0, generator.regions.index(name)])
            found.append(float(np.log(volume / wanted)))
    return {
        name: {
            "mean": round(float(np.mean(found)), 4),
            "root_mean_square": round(float(np.sqrt(np.mean(np.square(found)))), 4),
            "largest": round(float(np.abs(found).max()), 4),
        }
        for name, found in errors.items()
    }


def anatomy_volumes(generator: LabelMapGenerator, name: str) -> list[float]:
    """A structure's volume in each undeformed anatomy, in mm³."""
    members = generator.members(name)
    labels = generator.anatomies.labels
    inside = sum((labels == position).sum(dim=(1, 2, 3)) for position in members)
    assert isinstance(inside, torch.Tensor)
    return [float(v) * generator.anatomies.spacing**3 for v in inside]


if __name__ == "__main__":
    main()
