"""What pre-training on generated scans gives on real ones, for a CNN and a ViT.

Scans are made from label maps at 4 mm. Each network learns from them in each way, then the age and
the sex of real people, from a share of the training rows, beside the same network from random
weights. Five folds test every subject once, three seeds each; each way takes the learning rate, of
its own three, that is best on the validation rows of the first fold at a quarter of the rows. The
test is Nadeau and Bengio's over folds and seeds, with Holm's correction within a table.

    python benchmarks/pretraining.py --cohort COHORT --maps MAPS --name "COHORT, N subjects"

A stopped study goes on with the same command. Results go to
``benchmarks/results/pretraining.json``,
which `docs/results.md` shows.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adaptation import train
from braintune.cohort.read import read_cohort
from braintune.evaluation.intervals import (
    bootstrap_rows,
    difference_interval,
    metric_intervals,
)
from braintune.evaluation.paired import holm, nadeau_bengio
from braintune.files import read_json, write_json
from braintune.fitting.plan import FitPlan, plan_fit
from braintune.fitting.precision import keep_freed_memory
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.imaging.prepare import prepare
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from braintune.synthesis.labelmaps.cohort import write_cohort
from braintune.synthesis.labelmaps.options import GeneratorOptions
from measuring import RESULTS, environment
from trials import Place, Trial, kept, rounded, score_baselines, scored

TARGETS = {"age": "mae", "sex": "auc"}
SHARES = (0.25, 1.0, 0.1, 0.5)
SEEDS = (0, 1, 2)
FOLDS = 5
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": {"name": "sfcn", "channels": [16, 32, 64, 64], "norm": "group"},
    "vit": {"name": "vit", "patch": 8, "width": 192, "depth": 6, "heads": 6, "hidden": 768},
}
# Volumes that are counted in the label maps; all of them change with age or between people.
_VOLUMES = (
    "brain_mm3",
    "left_lateral_ventricle_mm3",
    "right_lateral_ventricle_mm3",
    "left_cerebral_cortex_mm3",
    "right_cerebral_cortex_mm3",
    "left_hippocampus_mm3",
    "right_hippocampus_mm3",
    "left_thalamus_mm3",
    "right_thalamus_mm3",
    "cerebrospinal_fluid_mm3",
)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "supervised": {
        "kind": "supervised",
        "targets": {
            "age": {"kind": "regression", "weight": 3.0},
            "sex": {"kind": "classification", "labels": ["F", "M"]},
            **{name: {"kind": "regression"} for name in _VOLUMES},
        },
    },
    "masked": {"kind": "masked"},
    "contrastive": {"kind": "contrastive", "label": "age", "sigma": 5.0},
}
STARTS = ("scratch", *OBJECTIVES)
RATES = {"cnn": (1e-3, 3e-3, 1e-2), "vit": (1e-4, 3e-4, 1e-3)}
_PREPARE = {"spacing": 4.0, "shape": [40, 48, 40], "intensity": "zscore"}
_EPOCHS = {0.1: 80, 0.25: 60, 0.5: 40, 1.0: 30}


@dataclass(frozen=True)
class PretrainingTrial(Trial):
    """One fit."""

    target: str
    network: str
    start: str
    share: float
    fold: int
    seed: int
    lr: float


def recipe_of(trial: PretrainingTrial, place: Place) -> Recipe:
    """The fit of a trial."""
    task: dict[str, Any] = {"kind": "regression", "target": "age"}
    if trial.target == "sex":
        task = {"kind": "classification", "target": "sex"}
    weights = "none"
    if trial.start != "scratch":
        weights = str(place.weights / f"{trial.network}-{trial.start}")
    training = {"batch_size": 8, "ema": 0.98, "keep": "last", "flip_average": True}
    values = {
        "task": task,
        "prepare": _PREPARE,
        "backbone": {**NETWORKS[trial.network], "weights": weights},
        "train": {**training, "epochs": _EPOCHS[trial.share], "lr": trial.lr},
        "protocol": {"kind": "cross-validation", "folds": FOLDS, "fraction": trial.share},
        "scans": {"desc": "brain", "suffix": "T1w"},
        "seed": trial.seed,
    }
    return Recipe.parse(values)


def generate(place: Place, maps: Path, count: int) -> None:
    """Make the scans that every way of pre-training sees."""
    values = {"maps": [str(maps)], "spacing": 4.0, "shape": [40, 48, 40], "seed": 1}
    write_cohort(place.work / "generated", GeneratorOptions.model_validate(values), count)


def pretrain_one(place: Place, epochs: int, job: tuple[str, str]) -> dict[str, Any]:
    """Pre-train a network in one way, or read how long it took."""
    torch.set_num_threads(1)
    network, start = job
    out = place.weights / f"{network}-{start}"
    noted = out.with_name(f"{out.name}.json")
    found: dict[str, Any] = kept(noted, lambda: _pretrain(place, epochs, network, start, out))
    return found


def _pretrain(place: Place, epochs: int, network: str, start: str, out: Path) -> dict[str, Any]:
    values = {
        "objective": OBJECTIVES[start],
        "backbone": NETWORKS[network],
        "prepare": _PREPARE,
        "train": {"epochs": epochs, "batch_size": 16, "lr": RATES[network][1], "augment": "light"},
        "sources": {"generated": {"cohort": str(place.work / "generated")}},
    }
    began = time.monotonic()
    pretrain(PretrainRecipe.parse(values), out, PretrainExecution(accelerator="cpu", workers=1))
    return {"name": out.name, "seconds": round(time.monotonic() - began)}


def plan_of(place: Place, trial: PretrainingTrial) -> FitPlan:
    """The real cohort, prepared, and the folds of a share of its rows."""
    recipe = recipe_of(replace(trial, start="scratch"), place)
    cohort = read_cohort(place.cohort, recipe.scans)
    return plan_fit(recipe, prepare(cohort, place.work / "real.store", recipe.prepare).cohort)


def run_trial(place: Place, trial: PretrainingTrial) -> dict[str, Any]:
    """Fit and predict, or read what an earlier session found."""
    found: dict[str, Any] = kept(place.trial(trial), lambda: _fit(place, trial))
    return found


def _fit(place: Place, trial: PretrainingTrial) -> dict[str, Any]:
    recipe, plan = recipe_of(trial, place), plan_of(place, trial)
    fold = plan.folds[trial.fold]
    trainer = train(recipe, plan, place.work / "real.store", fold, place.folder(trial))
    task = plan.task.fit(plan.truth[fold.train])
    return {
        **asdict(trial),
        "validation_loss": trainer.history[-1]["validation_loss"],
        "seconds": round(sum(epoch["seconds"] for epoch in trainer.history), 1),
        "train_rows": len(fold.train),
        "test_rows": fold.test.tolist(),
        "predicted": task.predict(trainer.outputs(fold.test)).double().tolist(),
    }


def search(place: Place, job: tuple[str, str, str]) -> str:
    """Find the learning rate of a way on validation rows of the first fold."""
    torch.set_num_threads(1)
    keep_freed_memory()
    target, network, start = job
    trial = PretrainingTrial(target, network, start, 0.25, 0, SEEDS[0], 0.0)
    tried = [run_trial(place, replace(trial, lr=lr)) for lr in RATES[network]]
    best = min(tried, key=lambda result: result["validation_loss"])
    write_json(place.cell("rate", target, network, start), best["lr"])
    return f"rate of {job}: {best['lr']}"


def run_cell(place: Place, job: tuple[float, str, str, str]) -> str:
    """All folds and seeds of one cell of the table."""
    torch.set_num_threads(1)
    keep_freed_memory()
    share, target, network, start = job
    lr = read_json(place.cell("rate", target, network, start))
    for fold, seed in product(range(FOLDS), SEEDS):
        run_trial(place, PretrainingTrial(target, network, start, share, fold, seed, lr))
    return f"{job}"


def table(place: Place, target: str, network: str, share: float) -> dict[str, Any]:
    """The score of every way with its interval, and its difference from scratch."""
    plan = plan_of(place, PretrainingTrial(target, network, "scratch", share, 0, 0, 1.0))
    metric = plan.task.metrics[TARGETS[target]]
    cells: dict[str, list[dict[str, Any]]] = {}
    for start in STARTS:
        lr = read_json(place.cell("rate", target, network, start))
        trials = [
            PretrainingTrial(target, network, start, share, fold, seed, lr)
            for fold, seed in product(range(FOLDS), SEEDS)
        ]
        cells[start] = [run_trial(place, trial) for trial in trials]
    scores = {start: scored(plan, results) for start, results in cells.items()}
    rows = bootstrap_rows(scores["scratch"])
    document: dict[str, Any] = {"metric": metric.name, "starts": {}}
    document["train_rows"] = [result["train_rows"] for result in cells["scratch"]][:: len(SEEDS)]
    each = {
        start: [metric.function(scored(plan, [result])) for result in results]
        for start, results in cells.items()
    }
    n_test = len(plan.cohort) / FOLDS
    chances = []
    for start in OBJECTIVES:
        differences = np.subtract(each[start], each["scratch"]).tolist()
        # The share of rows that a fold trains on of those that it tests is that of all rows.
        n_train = float(np.mean(document["train_rows"]))
        chances.append(nadeau_bengio(differences, n_train, n_test).p)
    corrected = dict(zip(OBJECTIVES, holm(chances), strict=True))
    for start, results in cells.items():
        interval = metric_intervals(scores[start], [metric], rows)[metric.name]
        entry: dict[str, Any] = {
            "score": rounded(interval),
            "lr": results[0]["lr"],
            "seconds": round(statistics.median(r["seconds"] for r in results), 1),
        }
        if start != "scratch":
            gap = difference_interval(scores[start], scores["scratch"], metric, rows)
            entry |= {"against_scratch": rounded(gap), "p_holm": round(corrected[start], 4)}
        document["starts"][start] = entry
    return document


def baselines(place: Place, target: str) -> dict[str, Any]:
    """What is predicted without images, from all training rows."""
    plan = plan_of(place, PretrainingTrial(target, "cnn", "scratch", 1.0, 0, 0, 1.0))
    metric = plan.task.metrics[TARGETS[target]]
    return score_baselines(plan, plan.folds, metric)


def main() -> None:
    """Run what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--maps", type=Path, required=True, help="Label maps to make scans from.")
    parser.add_argument("--name", required=True, help="What the table calls the cohort.")
    parser.add_argument("--work", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--scans", type=int, default=3072, help="Generated scans.")
    parser.add_argument("--epochs", type=int, default=8, help="Epochs of pre-training.")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    place = Place(options.work, options.cohort)
    place.work.mkdir(parents=True, exist_ok=True)
    generate(place, options.maps, options.scans)
    plan_of(place, PretrainingTrial("age", "cnn", "scratch", 1.0, 0, 0, 1.0))
    os.environ["OMP_NUM_THREADS"] = "1"
    ways = list(product(options.targets, options.networks, STARTS))
    cells = [(share, *way) for share in options.shares for way in ways]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        learnt = partial(pretrain_one, place, options.epochs)
        trained = list(pool.map(learnt, product(options.networks, OBJECTIVES)))
        print(trained, flush=True)
        for line in pool.map(partial(search, place), ways):
            print(line, flush=True)
        for number, line in enumerate(pool.map(partial(run_cell, place), cells), start=1):
            print(f"{number} of {len(cells)}: {line}", flush=True)
    document = {
        "cohort": options.name,
        "environment": environment(("scikit-learn",)),
        "generated": options.scans,
        "epochs": options.epochs,
        "folds": FOLDS,
        "seeds": len(SEEDS),
        "networks": {name: NETWORKS[name] for name in options.networks},
        "objectives": OBJECTIVES,
        "learning_rates": RATES,
        "pre_training_seconds": {entry["name"]: entry["seconds"] for entry in trained},
        "baselines": {target: baselines(place, target) for target in options.targets},
        "tables": {
            f"{target}, {network}, {share:g}": table(place, target, network, share)
            for target, network, share in product(options.targets, options.networks, options.shares)
        },
    }
    write_json(RESULTS / "pretraining.json", document)


if __name__ == "__main__":
    main()
