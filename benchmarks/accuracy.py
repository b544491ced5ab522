"""How good a recipe is on real scans: fit it, and keep its numbers without anybody's data.

    python benchmarks/accuracy.py recipes/brain-age.yaml --cohort IXI --name "IXI, 124 subjects"

Results go to ``benchmarks/results/RECIPE.json``, which `docs/results.md` shows. A fit that was
stopped goes on with the same command.
"""

import argparse
from pathlib import Path
from typing import Any

from braintune.cohort.read import read_cohort
from braintune.files import read_json, write_json
from braintune.fitting.fit import Execution, fit
from braintune.recipe import Recipe
from braintune.reporting.report import write_report
from braintune.run import RunFolder
from measuring import RESULTS


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--name", required=True, help="What the table calls the cohort.")
    parser.add_argument("--note", default="", help="What a reader should know of the run.")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="Folder of the run.")
    options = parser.parse_args()
    recipe = Recipe.read(options.recipe)
    run = fit(
        recipe,
        read_cohort(options.cohort, recipe.scans),
        options.out / options.recipe.stem,
        Execution(),
    )
    write_report(run.path)
    result = {"cohort": options.name, "note": options.note, **document(run)}
    write_json(RESULTS / f"{options.recipe.stem}.json", result)


def document(run: RunFolder) -> dict[str, Any]:
    """A run's numbers, without ids, paths and predictions."""
    environment = read_json(run.environment_file)
    environment.pop("command")
    metrics = read_json(run.metrics_file)
    folders = [run.fold_folder(number) for number in range(metrics["folds"])]
    return {
        "recipe": run.recipe.model_dump(mode="json"),
        "environment": environment,
        "seconds_per_fold": [round(read_json(f / "fold.json")["seconds"], 1) for f in folders],
        "metrics": metrics,
    }


if __name__ == "__main__":
    main()
