"""How many more fits an hour two processes do than one, for fits of one thread.

A study of equal fits is run twice on simulated scans, by one process and by two, each with one
thread. What is counted is results an hour from the first result of each process on, so that
starting the interpreters is left out. The ratio means what it says on a quiet machine of two cores
or more: the load before each run is written beside it.

    python benchmarks/workers.py

Results go to ``benchmarks/results/workers.json``.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from braintune.files import write_json
from braintune.studies.compare import Conditions, compare
from braintune.studies.recipe import StudyRecipe
from braintune.studies.workers import LocalWorkers
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from measuring import RESULTS, environment

STUDY = {
    "base": {
        "task": {"kind": "regression", "target": "age"},
        "prepare": {"spacing": 4.0, "shape": [40, 48, 40]},
        "backbone": {"name": "sfcn", "channels": [16, 32, 64, 64], "norm": "instance"},
        "train": {"batch_size": 8, "lr": 1e-3, "augment": "standard"},
        "protocol": {"kind": "cross-validation", "folds": 2},
    },
}


def study_of(fits: int, epochs: int) -> StudyRecipe:
    base = {**STUDY["base"], "train": {**STUDY["base"]["train"], "epochs": epochs}}
    return StudyRecipe.parse({"base": base, "seeds": list(range(fits // 2))})


def measure(study: StudyRecipe, cohort: Path, out: Path, processes: int) -> dict[str, Any]:
    load = os.getloadavg()[0]
    compare(
        study,
        cohort,
        out,
        lambda _: LocalWorkers(processes, threads=1),
        Conditions(workers=2, accelerator="cpu"),
    )
    ended = sorted(path.stat().st_mtime for path in out.glob("fits/*/*/result.json"))
    seconds = ended[-1] - ended[processes - 1]
    hourly = 3600 * (len(ended) - processes) / seconds
    return {"processes": processes, "fits_an_hour": round(hourly), "load_before": round(load, 2)}


def main() -> None:
    """Measure one process and two in turn, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    os.environ["BRAINTUNE_CACHE"] = str(work / "cache")
    try:
        simulate(work / "cohort", SimulationRecipe(subjects=40, spacing=4))
        study = study_of(options.fits, options.epochs)
        found = [
            measure(study, work / "cohort", work / f"{number}-{processes}", processes)
            for number in range(options.rounds)
            for processes in (1, 2)
        ]
    finally:
        shutil.rmtree(work)
    best = {n: max(f["fits_an_hour"] for f in found if f["processes"] == n) for n in (1, 2)}
    document = {
        "environment": environment(()),
        "fits": options.fits,
        "runs": found,
        "ratio": round(best[2] / best[1], 2),
    }
    print(document)
    write_json(RESULTS / "workers.json", document)


if __name__ == "__main__":
    main()
