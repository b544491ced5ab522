"""What a study of linear probes costs, beside one forward pass over its cohort.

Five folds, ten seeds and five learning rates are 250 fits of one frozen ResNet-18. Done one after
the other as if each were the only one, every epoch of every fit sends its scans through the frozen
network again: two epochs of a few fits are measured, and the rest is extrapolated, as the result
says. Done as a study, each scan goes through once, and all heads train together.

    python benchmarks/study.py --cohort COHORT --name "COHORT, N subjects"

Results go to ``benchmarks/results/study.json``, which `docs/results.md` shows. The forward pass,
the naive epochs and the study take turns in one process.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.console import progress
from braintune.files import read_json, write_json
from braintune.fitting.features.together import HeadFit, fit_heads
from braintune.fitting.inference import predict_rows
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import input_shape, make_network
from braintune.fitting.plan import FitPlan, plan_fit
from braintune.fitting.precision import choose_precision, keep_freed_memory, make_fabric
from braintune.fitting.training import FoldTrainer
from braintune.imaging.loader import ScanLoader
from braintune.imaging.prepare import prepare
from braintune.imaging.store import PreparedStore
from braintune.models.backbone import build_backbone
from braintune.models.weights.loading import save_folder
from braintune.models.weights.record import WeightRecord
from braintune.recipe import Recipe
from measuring import RESULTS, environment, spread

FOLDS, SEEDS, RATES = 5, tuple(range(10)), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
EPOCHS = 60
SHAPES = {4.0: [40, 48, 40], 2.0: [80, 96, 80]}
# How much more than a forward pass the study may cost.
BAR = {"times": 1.5, "plus_seconds": 60.0}


@dataclass(frozen=True)
class Material:
    """What all contenders are given.

    Attributes:
        weights: Of the frozen network; for the cost it is no matter that they are random.
        store: The prepared cohort.
        plan: Targets and folds.
        folder: For what fits write.
    """

    weights: Path
    store: PreparedStore
    plan: FitPlan
    folder: Path

    def recipe(self, seed: int = 0, lr: float = 1e-2, epochs: int = EPOCHS) -> Recipe:
        """The recipe of one fit."""
        return recipe_of(self.store.recipe.spacing, str(self.weights), seed, lr, epochs)

    def data(self, fold: int) -> FoldData:
        """What a fold learns from."""
        loader = ScanLoader(self.store, self.plan.cohort.scan_ids)
        return FoldData(loader, self.plan.truth, self.plan.folds[fold], fold)

    def machinery(self, feature_bytes: int = 10**10) -> Machinery:
        """Where fits run, and how much of the disk activations may take."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = choose_precision("auto", device)
        fabric = make_fabric(precision, device.type)
        fabric.launch()
        return Machinery(fabric, precision, self.folder, 1e9, StopRequest(), feature_bytes)


def recipe_of(spacing: float, weights: str, seed: int, lr: float, epochs: int) -> Recipe:
    values = {
        "task": {"kind": "regression", "target": "age"},
        "prepare": {"spacing": spacing, "shape": SHAPES[spacing], "intensity": "zscore"},
        "backbone": {"name": "resnet18", "weights": weights},
        "adapter": {"name": "probe"},
        "train": {"epochs": epochs, "batch_size": 8, "lr": lr, "augment": "none"},
        "protocol": {"kind": "cross-validation", "folds": FOLDS},
        "scans": {"desc": "brain", "suffix": "T1w"},
        "seed": seed,
    }
    return Recipe.parse(values)


def make_material(cohort: Path, spacing: float, work: Path) -> Material:
    """Prepare the cohort, and write the weights that every fit starts from."""
    recipe = recipe_of(spacing, "none", 0, 1e-2, EPOCHS)
    scans: Cohort = read_cohort(cohort, recipe.scans)
    path = work / f"{spacing:g}mm.store"
    plan = plan_fit(recipe, prepare(scans, path, recipe.prepare).cohort)
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", input_shape(recipe), {})
    record = WeightRecord(
        backbone="resnet18",
        tag="random",
        licence="Apache-2.0",
        citation="–",
        summary="random weights",
    )
    weights = work / f"{spacing:g}mm.weights"
    if not weights.exists():
        save_folder(weights, record, backbone.state_dict())
    return Material(weights, PreparedStore.open(path), plan, work / "fits")


def forward_pass(material: Material) -> None:
    """One pass over the cohort, in batches as a fit predicts."""
    machinery, recipe = material.machinery(), material.recipe()
    network = machinery.fabric.setup(make_network(recipe, material.plan.task))
    loader = ScanLoader(material.store, material.plan.cohort.scan_ids)
    predict_rows(
        network,
        loader,
        range(len(material.plan.cohort)),
        machinery.fabric,
        machinery.precision,
        batch_size=recipe.train.batch_size,
        flip_average=False,
    )


def study(material: Material) -> int:
    """All fits with their test predictions; how many there were."""
    plan = material.plan
    fits = [
        HeadFit(material.recipe(seed, lr), plan.task.fit(plan.truth[fold.train]), data)
        for number, fold in enumerate(plan.folds)
        for data in [material.data(number)]
        for seed in SEEDS
        for lr in RATES
    ]
    found = fit_heads(fits, material.machinery())
    assert found is not None
    for fit, result in zip(fits, found, strict=True):
        assert len(result.history) == EPOCHS
        assert bool(torch.isfinite(result.outputs(fit.data.fold.test)).all())
    return len(found)


@dataclass(frozen=True)
class Alone:
    """Seconds of one fit by itself.

    Attributes:
        once: Making its network, and predicting the test rows.
        epoch: One epoch with its validation.
    """

    once: float
    epoch: float

    def total(self, epochs: int) -> float:
        """Seconds of a fit of so many epochs."""
        return self.once + epochs * self.epoch


def fit_alone(material: Material, fold: int, epochs: int, feature_bytes: int) -> Alone:
    """One fit by itself."""
    began = time.perf_counter()
    recipe, plan = material.recipe(epochs=epochs), material.plan
    data = material.data(fold)
    task = plan.task.fit(plan.truth[data.fold.train])
    machinery = replace(
        material.machinery(feature_bytes), folder=material.folder / f"{fold}-{began}"
    )
    trainer = FoldTrainer(recipe, task, data, machinery)
    ready = time.perf_counter()
    with progress("Alone", trainer.total_steps) as bar:
        trainer.run(bar)
    trained = time.perf_counter()
    trainer.outputs(data.fold.test)
    done = time.perf_counter()
    return Alone(ready - began + done - trained, (trained - ready) / epochs)


@contextmanager
def empty_cache() -> Iterator[None]:
    """Nothing was computed before."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("BRAINTUNE_CACHE")
        os.environ["BRAINTUNE_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["BRAINTUNE_CACHE"]
            else:
                os.environ["BRAINTUNE_CACHE"] = before


def seconds(action: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(material: Material, rounds: int) -> dict[str, Any]:
    """All contenders in turn, several times."""
    forward_pass(material)
    passes, studies, alone, again = [], [], [], []
    for number in range(rounds):
        passes.append(seconds(lambda: forward_pass(material)))
        with empty_cache():
            studies.append(seconds(lambda: study(material)))
            # A fit of a study that trains its fits one by one: activations are there.
            again.append(fit_alone(material, number % FOLDS, EPOCHS, 10**10).total(EPOCHS))
        # Without kept activations; two epochs say what all of them take.
        alone.append(fit_alone(material, number % FOLDS, 2, 0))
        print(passes[-1], studies[-1], again[-1], alone[-1], flush=True)
    count = FOLDS * len(SEEDS) * len(RATES)
    hours = [count * one.total(EPOCHS) / 3600 for one in alone]
    allowed = [BAR["times"] * one + BAR["plus_seconds"] for one in passes]
    return {
        "scans": len(material.plan.cohort),
        "fits": count,
        "epochs": EPOCHS,
        "forward_seconds": spread(passes),
        "study_seconds": spread(studies),
        "allowed_seconds": spread(allowed),
        "share_of_allowed": spread([s / a for s, a in zip(studies, allowed, strict=True)]),
        "kept_fit_seconds": spread(again),
        "naive_epoch_seconds": spread([one.epoch for one in alone]),
        "naive_hours": spread(hours),
        "times_faster": round(
            statistics.median(3600 * h / s for h, s in zip(hours, studies, strict=True))
        ),
        "rounds": rounds,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--name", required=True, help="What the table calls the cohort.")
    parser.add_argument("--spacing", type=float, choices=list(SHAPES), default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="What a reader should know of the run.")
    parser.add_argument("--work", type=Path, default=Path("runs/study"))
    options = parser.parse_args()
    keep_freed_memory()
    material = make_material(options.cohort, options.spacing, options.work)
    result = measure(material, options.rounds)
    path = RESULTS / "study.json"
    document = read_json(path) if path.exists() else {"sizes": {}}
    document |= {
        "cohort": options.name,
        "note": options.note,
        "bar": BAR,
        "folds": FOLDS,
        "seeds": len(SEEDS),
        "rates": len(RATES),
        "environment": environment(()),
    }
    document["sizes"][f"{options.spacing:g} mm"] = result
    write_json(path, document)


if __name__ == "__main__":
    main()
