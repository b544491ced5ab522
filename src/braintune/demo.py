"""The demo: a simulated cohort, fitted under cross-validation, in about a minute."""

from pathlib import Path

from braintune.cohort.read import read_cohort
from braintune.console import say
from braintune.errors import InputError
from braintune.fitting.fit import Execution, fit
from braintune.recipe import Recipe
from braintune.run import RunFolder
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate

_SUBJECTS = 120
DEMO_RECIPE = {
    "task": {"kind": "classification", "target": "dx"},
    "prepare": {"spacing": 4.0, "shape": [40, 48, 40], "intensity": "zscore"},
    "backbone": {"name": "sfcn", "channels": [16, 32, 64, 64], "norm": "instance"},
    "train": {
        "epochs": 14,
        "batch_size": 8,
        "lr": 2.0e-3,
        "ema": 0.9,
        "augment": "light",
        "keep": "last",
        "flip_average": True,
    },
    "protocol": {"kind": "cross-validation", "folds": 5, "stratify": ["age", "sex", "site"]},
}


def run_demo(out: Path, *, effect: float, seed: int, workers: int | None = None) -> RunFolder:
    """Simulate a cohort with a planted disease and fit it.

    Args:
        out: A folder for the cohort, the prepared store and the run; an unfinished one goes on.
        effect: Size of all planted effects.
        seed: Of the cohort and the fit.
        workers: Processes that prepare scans.

    Raises:
        InputError: If the folder holds something else.
    """
    recipe = Recipe.parse({**DEMO_RECIPE, "seed": seed})
    cohort = out / f"cohort-effect-{effect:g}-seed-{seed}"
    if not cohort.exists():
        simulation = {"subjects": _SUBJECTS, "spacing": 4, "effect": effect, "seed": seed}
        simulate(cohort, SimulationRecipe.model_validate(simulation))
    elif not (cohort / "truth.tsv").exists():
        raise InputError(f"{cohort} is no simulated cohort. Choose another --out.")
    say(f"The cohort is in {cohort}: a BIDS dataset, with what was planted in truth.tsv.")
    name = cohort.name.replace("cohort", "run")
    execution = Execution(workers=workers, store=out / cohort.name.replace("cohort", "store"))
    return fit(recipe, read_cohort(cohort), out / name, execution)
