"""How good a small latent diffusion model is: train it on simulated scans, sample, and measure.

    taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/diffusion.py --out runs/diffusion

Brains at 4 mm with planted effects, of which a share is held out; the model of the preset
``small``; samples with and without guidance, each with the report of `braintune synthesize report`.
It takes about 45 minutes of one core, says how far it is, and goes on where it was stopped. Numbers
go to ``benchmarks/results/diffusion.json`` with ``--write``; pictures and pages stay in the folder
of the run.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.console import say
from braintune.files import read_json, write_json
from braintune.reporting.samples_report import samples_text, write_samples_report
from braintune.synthesis.diffusion.data import with_columns
from braintune.synthesis.diffusion.quality.assess import AssessmentOptions, assess
from braintune.synthesis.diffusion.recipe import DiffusionRecipe
from braintune.synthesis.diffusion.sample import SampleRecipe, sample
from braintune.synthesis.diffusion.train import Execution, choose_device, train
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from measuring import RESULTS, environment


def main() -> None:
    """Simulate, train, sample, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/diffusion"))
    parser.add_argument("--subjects", type=int, default=300)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50, help="Of DDIM.")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--set", dest="overrides", action="append", default=["held_out=0.15"])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--write", action="store_true", help="Write benchmarks/results.")
    options = parser.parse_args()
    recipe = DiffusionRecipe.read(options.preset, options.overrides)
    cohort = _cohort(options.out / "cohort", options.subjects, round(recipe.prepare.spacing))
    seconds = _Clock(options.out / "seconds.json")
    execution = Execution(accelerator=options.accelerator, store=options.out / "store")
    start = time.perf_counter()
    record = train(cohort, options.out / "model", recipe, execution)
    seconds.add("training", time.perf_counter() - start)
    say(f"Trained on {record.trained_on} scans: {record.measured}")
    device = choose_device(options.accelerator)
    reports: dict[str, Any] = {}
    for guidance in options.guidance:
        name = f"guidance-{guidance:g}"
        folder = options.out / name
        ask = SampleRecipe(count=options.samples, steps=options.steps, guidance=guidance)
        start = time.perf_counter()
        sample(options.out / "model", folder, ask, device)
        seconds.add(name, time.perf_counter() - start)
        document = assess(folder, cohort, folder / "quality", AssessmentOptions())
        page = write_samples_report(folder / "quality")
        say(f"Guidance {guidance:g}:\n{samples_text(document)}\nSee {page}.")
        document["memorisation"].pop("suspected_copies", None)
        reports[name] = document
    result = {
        "environment": environment(("monai",)),
        "threads": torch.get_num_threads(),
        "subjects": options.subjects,
        "recipe": recipe.model_dump(mode="json"),
        "measured": record.measured,
        "seconds": seconds.all(),
        "sampling_steps": options.steps,
        "reports": reports,
    }
    write_json(options.out / "diffusion.json", result)
    if options.write:
        write_json(RESULTS / "diffusion.json", result)


def _cohort(folder: Path, subjects: int, spacing: int) -> Cohort:
    if not folder.exists():
        simulate(folder, SimulationRecipe(subjects=subjects, spacing=spacing))
    return with_columns(read_cohort(folder), folder / "truth.tsv")


class _Clock:
    """Wall-clock seconds over all sessions of a run that may have been stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, float]:
        """Seconds by part."""
        return dict(read_json(self._path)) if self._path.exists() else {}

    def add(self, name: str, seconds: float) -> None:
        """Add a session's seconds; a part that was done already takes next to none."""
        known = self.all()
        write_json(self._path, {**known, name: round(known.get(name, 0.0) + seconds, 1)})


if __name__ == "__main__":
    main()
