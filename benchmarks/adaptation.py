"""Which way to adapt a pre-trained network to few real scans: does it matter, and is it real?

A small SFCN learns the age of simulated heads, then it is adapted to age and to sex on real scans:
wholly (``full``), its head alone (``probe``), and by adapters; beside them the same network from
scratch. Three folds test every subject once; ``--folds 1`` tests a third of them. Each method takes
the learning rate of its own four that is best on the fold's validation rows, and then runs with
two further seeds. A difference is called real if its interval over subjects excludes zero after
Holm's correction; the intervals hold for these training rows, not for others.

    python benchmarks/adaptation.py --cohort COHORT --name "COHORT, N subjects"

A stopped study goes on with the same command, and one of fewer folds with more. Results go to
``benchmarks/results/adaptation.json``, which `docs/results.md` shows.
"""

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from braintune.cohort.read import read_cohort
from braintune.console import progress
from braintune.evaluation.intervals import (
    bootstrap_rows,
    difference_interval,
    metric_intervals,
)
from braintune.evaluation.paired import holm
from braintune.evaluation.splits import Fold
from braintune.files import read_json, write_json
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import blank_images, outline
from braintune.fitting.plan import FitPlan, plan_fit
from braintune.fitting.precision import choose_precision, find_exact, keep_freed_memory, make_fabric
from braintune.fitting.training import FoldTrainer
from braintune.imaging.loader import ScanLoader
from braintune.imaging.prepare import prepare
from braintune.imaging.store import PreparedStore
from braintune.models.weights.loading import save_folder
from braintune.models.weights.record import WeightRecord
from braintune.recipe import Recipe
from braintune.synthesis.population import SimulationRecipe
from braintune.synthesis.simulate import simulate
from braintune.tasks.task import Metric, Scored
from measuring import RESULTS, environment
from trials import Place, Trial, kept, rounded, score_baselines, scored

TARGETS = {"age": "mae", "sex": "auc"}
# Training rows; "all" are those that are left when a fold's test and validation rows are taken.
SIZES = (20, "all")
SEEDS = (0, 1, 2)
_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
# Each method and its four learning rates, of which the best should be an inner one.
METHODS: dict[str, tuple[float, ...]] = {
    "scratch": _RATES,
    "full": _RATES,
    "probe": (3e-2, 1e-1, 3e-1, 1.0),
    "lora": _RATES,
    "dora": _RATES,
    "pissa": _RATES,
    "hyps": _RATES,
}
_PREPARE = {"spacing": 4.0, "shape": [40, 48, 40], "intensity": "zscore"}
_BACKBONE = {"name": "sfcn", "channels": [16, 32, 64, 128, 64], "norm": "instance"}
_TRAIN = {"batch_size": 8, "ema": 0.98, "keep": "last", "flip_average": True}


@dataclass(frozen=True)
class AdaptationTrial(Trial):
    """One fit."""

    target: str
    size: int | str
    method: str
    fold: int
    seed: int
    lr: float


def recipe_of(target: str, weights: str, adapter: dict[str, Any], **train: Any) -> Recipe:
    task: dict[str, Any] = {"kind": "regression", "target": "age"}
    if target == "sex":
        task = {"kind": "classification", "target": "sex"}
    values = {
        "task": task,
        "prepare": _PREPARE,
        "backbone": {**_BACKBONE, "weights": weights},
        "adapter": adapter,
        "train": {**_TRAIN, **train},
        "protocol": {"kind": "cross-validation", "folds": 3},
        "scans": {"desc": "brain", "suffix": "T1w"},
    }
    return Recipe.parse(values)


def train(recipe: Recipe, plan: FitPlan, store: Path, fold: Fold, folder: Path) -> FoldTrainer:
    """Train on one fold in this process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    exact = find_exact(outline(recipe, plan.task), blank_images(recipe))
    precision = choose_precision("auto", device, exact)
    fabric = make_fabric(precision, device.type)
    loader = ScanLoader(PreparedStore.open(store), plan.cohort.scan_ids)
    machinery = Machinery(fabric, precision, folder, every=600, stop=StopRequest())
    data = FoldData(loader, plan.truth, fold, 0)
    trainer = FoldTrainer(recipe, plan.task.fit(plan.truth[fold.train]), data, machinery)
    folder.mkdir(parents=True, exist_ok=True)
    with progress("Training", trainer.total_steps) as bar:
        bar.skip(trainer.resume())
        trainer.run(bar)
    return trainer


def pretrain(place: Place, subjects: int, epochs: int) -> None:
    """Teach the network the age of simulated subjects."""
    if (place.weights / "record.json").exists():
        return
    source = place.work / "simulated"
    if not source.exists():
        simulate(source, SimulationRecipe(subjects=subjects, spacing=4, seed=7))
    recipe = recipe_of("age", "none", {"name": "full"}, epochs=epochs, lr=1e-3)
    recipe = recipe.model_copy(update={"scans": recipe.scans.model_copy(update={"desc": None})})
    cohort = read_cohort(source, recipe.scans)
    plan = plan_fit(recipe, prepare(cohort, place.work / "simulated.store", recipe.prepare).cohort)
    rows = np.arange(len(plan.cohort))
    held = rows % 10 == 0
    fold = Fold("all", rows[~held], rows[held], rows[:0])
    trainer = train(recipe, plan, place.work / "simulated.store", fold, place.work / "pretraining")
    print("pre-training, validation loss", trainer.history[-1]["validation_loss"], flush=True)
    record = WeightRecord(
        backbone="sfcn",
        tag="simulated-age",
        options={k: v for k, v in _BACKBONE.items() if k != "name"},
        licence="Apache-2.0",
        citation="–",
        summary=f"age of {subjects} simulated subjects, {epochs} epochs",
    )
    save_folder(place.weights, record, trainer.network.backbone.state_dict())


def plan_of(place: Place, target: str) -> FitPlan:
    """The real cohort, prepared, and its folds."""
    recipe = recipe_of(target, "none", {"name": "full"})
    cohort = read_cohort(place.cohort, recipe.scans)
    return plan_fit(recipe, prepare(cohort, place.work / "real.store", recipe.prepare).cohort)


def fold_of(plan: FitPlan, number: int, size: int | str) -> Fold:
    """A fold with as many training rows as wanted; who validates and is tested stays the same."""
    fold = plan.folds[number]
    if size == "all":
        return fold
    few, _ = train_test_split(
        fold.train,
        train_size=int(size),
        random_state=number,
        stratify=plan.task.strata(plan.truth[fold.train]),
    )
    return replace(fold, train=np.sort(few))


def run_trial(place: Place, plan: FitPlan, trial: AdaptationTrial) -> dict[str, Any]:
    """Fit and predict, or read what an earlier session found."""
    found: dict[str, Any] = kept(place.trial(trial), lambda: _fit(place, plan, trial))
    return found


def _fit(place: Place, plan: FitPlan, trial: AdaptationTrial) -> dict[str, Any]:
    weights = "none" if trial.method == "scratch" else str(place.weights)
    adapter = {"name": "full" if trial.method == "scratch" else trial.method}
    epochs = 24 if trial.size == "all" else 60
    recipe = recipe_of(trial.target, weights, adapter, epochs=epochs, lr=trial.lr)
    recipe = recipe.model_copy(update={"seed": trial.seed})
    fold = fold_of(plan, trial.fold, trial.size)
    trainer = train(recipe, plan, place.work / "real.store", fold, place.folder(trial))
    task = plan.task.fit(plan.truth[fold.train])
    counted = sum(p.numel() for p in trainer.network.parameters() if p.requires_grad)
    return {
        **asdict(trial),
        "validation_loss": trainer.history[-1]["validation_loss"],
        "seconds": round(sum(epoch["seconds"] for epoch in trainer.history), 1),
        "trainable": counted,
        "train_rows": len(fold.train),
        "test_rows": fold.test.tolist(),
        "predicted": task.predict(trainer.outputs(fold.test)).double().tolist(),
    }


def run_cell(place: Place, target: str, size: int | str, method: str, number: int) -> str:
    """Search the learning rate on validation rows, then run the other seeds with the best."""
    torch.set_num_threads(1)
    keep_freed_memory()
    plan = plan_of(place, target)
    cell = partial(AdaptationTrial, target, size, method, number)
    tried = [run_trial(place, plan, cell(SEEDS[0], lr)) for lr in METHODS[method]]
    best = min(tried, key=lambda result: result["validation_loss"])["lr"]
    chosen = [run_trial(place, plan, cell(seed, best)) for seed in SEEDS]
    path = place.cell(target, size, method, number)
    write_json(path, chosen)
    return path.stem


def table(place: Place, folds: int, target: str, size: int | str) -> dict[str, Any]:
    """Every method's score with its interval, and its differences from full tuning and scratch."""
    plan = plan_of(place, target)
    metric = plan.task.metrics[TARGETS[target]]
    cells = {
        method: [
            result
            for number in range(folds)
            for result in read_json(place.cell(target, size, method, number))
        ]
        for method in METHODS
    }
    scores = {method: scored(plan, results) for method, results in cells.items()}
    rows = bootstrap_rows(scores["full"])
    document: dict[str, Any] = {"metric": metric.name, "methods": {}}
    document["train_rows"] = [r["train_rows"] for r in cells["full"]]
    for method, results in cells.items():
        interval = metric_intervals(scores[method], [metric], rows)[metric.name]
        document["methods"][method] = {
            "score": rounded(interval),
            "trainable": results[0]["trainable"],
            "seconds": round(statistics.median(r["seconds"] for r in results), 1),
            "lr": [results[i]["lr"] for i in range(0, len(results), len(SEEDS))],
        }
    for other in ("full", "scratch"):
        _compare(document["methods"], other, scores, metric, rows)
    parts = [fold_of(plan, number, size) for number in range(folds)]
    document["baselines"] = score_baselines(plan, parts, metric)
    return document


def _compare(
    methods: dict[str, Any], other: str, scores: dict[str, Scored], metric: Metric, rows: list[Any]
) -> None:
    """Add each method's paired difference from another one, in place; p values are Holm's."""
    names = [name for name in methods if name != other]
    theirs = np.array([metric.function(scores[other].take(drawn)) for drawn in rows])
    chances = []
    for name in names:
        ours = np.array([metric.function(scores[name].take(drawn)) for drawn in rows])
        # Twice the smaller share of resamples on one side of no difference, and never quite zero.
        side = min(np.mean(ours >= theirs), np.mean(ours <= theirs))
        chances.append(min(1.0, 2 * max(float(side), 1 / len(rows))))
    for name, p in zip(names, holm(chances), strict=True):
        interval = difference_interval(scores[name], scores[other], metric, rows)
        methods[name][f"against_{other}"] = {
            "difference": rounded(interval),
            "p_holm": round(p, 4),
            "real": p < 0.05,
        }


def main() -> None:
    """Run what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--name", required=True, help="What the table calls the cohort.")
    parser.add_argument("--work", type=Path, default=Path("runs/adaptation"))
    parser.add_argument("--subjects", type=int, default=800, help="Simulated subjects.")
    parser.add_argument("--epochs", type=int, default=30, help="Epochs of pre-training.")
    parser.add_argument("--folds", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    place = Place(options.work, options.cohort)
    place.work.mkdir(parents=True, exist_ok=True)
    pretrain(place, options.subjects, options.epochs)
    for target in TARGETS:
        plan_of(place, target)
    cells = product(range(options.folds), TARGETS, SIZES[::-1], METHODS)
    jobs = [(target, size, method, number) for number, target, size, method in cells]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for number, name in enumerate(pool.map(partial(_run_job, place), jobs), start=1):
            print(f"{number} of {len(jobs)}: {name}", flush=True)
    document = {
        "cohort": options.name,
        "environment": environment(("scikit-learn",)),
        "pre_training": {"subjects": options.subjects, "epochs": options.epochs},
        "folds": options.folds,
        "seeds": len(SEEDS),
        "tested": sum(len(fold.test) for fold in plan_of(place, "age").folds[: options.folds]),
        "recipe": recipe_of("age", "simulated-age", {"name": "full"}).model_dump(mode="json"),
        "learning_rates": METHODS,
        "tables": {
            f"{target}, {size}": table(place, options.folds, target, size)
            for target, size in product(TARGETS, SIZES)
        },
    }
    write_json(RESULTS / "adaptation.json", document)


def _run_job(place: Place, job: tuple[str, int | str, str, int]) -> str:
    return run_cell(place, *job)


if __name__ == "__main__":
    main()
