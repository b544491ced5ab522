"""Which way to adapt a pre-trained segmenter to few labelled scans: does it matter, and is it real?

A small Swin UNETR learns the tissues of scans that are generated around the hippocampi of label
maps, then the two halves of the real hippocampus from few cases: from scratch, wholly, its decoder
alone, and by adapters of its transformer with the decoder beside them, as in HyPS. Each way takes
the learning rate, of its own three, that is best on its validation cases, and runs with two further
seeds. Differences come with intervals over the test cases; one is called real if its interval
excludes zero after Holm's correction. They hold for these training cases, not for others.

    python benchmarks/hippocampus.py --cohort Task04_Hippocampus --maps MAPS --name "N cases"

A stopped study goes on with the same command. Results go to
``benchmarks/results/hippocampus.json``, which `docs/results.md` shows.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.evaluation.paired import holm
from braintune.files import read_json, read_lines, write_json
from braintune.fitting.fit import Execution, fit
from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
from braintune.imaging.grid import ras_grid
from braintune.imaging.nifti import read_volume, write_volume
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from measuring import RESULTS, environment
from trials import Place, Trial, kept

CASES = 170
SIZES = {5: 120, 20: 36}
SEEDS = (0, 1, 2)
RESAMPLES = 5000
LABELS = {1: "anterior", 2: "posterior"}
BACKBONE = {"name": "swinunetr", "feature_size": 12}
PATCH = [32, 64, 32]
# What trains beside the adapters of the transformer, as in the paper's code.
_BESIDE = r"^(?!swinViT)(?!encoder(1|2|3|4|10)\.layer\.conv[12]\.conv\.weight)"
_LINEAR = {"kinds": ["linear"], "layers": "^swinViT", "also": _BESIDE}
METHODS: dict[str, dict[str, Any]] = {
    "scratch": {"name": "full"},
    "full": {"name": "full"},
    "decoder": {"name": "last-k", "blocks": 5},
    "lora": {"name": "lora", "rank": 8, **_LINEAR},
    "serial": {"name": "serial", "dim": 8, **_LINEAR},
    "parallel": {"name": "parallel", "dim": 8, **_LINEAR},
    "cps": {"name": "cps", "dim": 8, **_LINEAR},
    "pissa": {"name": "pissa", "rank": 8, **_LINEAR},
    "hyps": {"name": "hyps", "rank": 8, "dim": 8, **_LINEAR},
}
RATES = (1e-3, 3e-3, 1e-2)
# FreeSurfer's numbers of the hippocampi.
_HIPPOCAMPI = (17, 53)


@dataclass(frozen=True)
class HippocampusTrial(Trial):
    """One fit."""

    size: int
    method: str
    seed: int
    lr: float


def crop_maps(maps: Path, out: Path) -> None:
    """Cut label maps around each hippocampus, at 1 mm, with smooth borders between labels."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "labels.tsv").write_text((maps / "labels.tsv").read_text())
    for path in sorted(maps.glob("*_dseg.nii.gz")):
        volume = read_volume(path)
        labels = np.rint(volume.data).astype(np.int64)
        for value in _HIPPOCAMPI:
            target = out / path.name.replace("_dseg", f"{value}_dseg")
            if target.exists() or not (labels == value).any():
                continue
            middle = np.argwhere(labels == value).mean(axis=0)
            grid = ras_grid((64, 80, 64), 1.0, nib.affines.apply_affine(volume.affine, middle))
            index = np.linalg.inv(volume.affine) @ grid.affine
            cropped = _smoothly(labels, index, grid.shape)
            write_volume(target, cropped, grid.affine)


def _smoothly(
    labels: npt.NDArray[np.int64], index: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.int16]:
    """The label whose indicator, interpolated between voxels, is the largest."""
    best = np.zeros(shape, dtype=np.float32)
    found = np.zeros(shape, dtype=np.int16)
    for value in np.unique(labels):
        share = ndimage.affine_transform(
            (labels == value).astype(np.float32), index[:3, :3], index[:3, 3], shape, order=1
        )
        found[share > best] = value
        best = np.maximum(best, share)
    return found


def pretrain_on(place: Place, maps: Path, scans: int) -> int:
    """Teach the network the tissues around the hippocampus; returns the seconds that it took."""
    return int(kept(place.work / "pretraining.json", lambda: _pretrain(place, maps, scans)))


def _pretrain(place: Place, maps: Path, scans: int) -> int:
    crops = place.work / "maps"
    crop_maps(maps, crops)
    values = {
        "objective": {"kind": "segmentation"},
        "backbone": BACKBONE,
        "prepare": {"spacing": 1.0, "shape": PATCH, "intensity": "zscore", "brain": "whole"},
        "train": {"epochs": 10, "batch_size": 4, "lr": 2e-3, "augment": "light"},
        "scans_per_epoch": scans // 10,
        "sources": {"made": {"maps": str(crops)}},
    }
    began = time.monotonic()
    execution = PretrainExecution(accelerator="cpu", workers=1)
    pretrain(PretrainRecipe.parse(values), place.weights, execution)
    return round(time.monotonic() - began)


def recipe_of(place: Place, trial: HippocampusTrial) -> Recipe:
    """The fit of a trial; the test cases are those that the cohort calls validation."""
    weights = "none" if trial.method == "scratch" else str(place.weights)
    values = {
        "task": {
            "kind": "segmentation",
            "target": "hippocampus",
            "labels": LABELS,
            "patch": PATCH,
            "foreground": 0.8,
        },
        "prepare": {"spacing": 1.0, "shape": [48, 64, 48], "intensity": "zscore", "brain": "whole"},
        "backbone": {**BACKBONE, "weights": weights},
        "adapter": METHODS[trial.method],
        "train": {
            "epochs": SIZES[trial.size],
            "batch_size": 2,
            "lr": trial.lr,
            "ema": 0.97,
            "keep": "last",
        },
        "protocol": {"kind": "hold-out", "test": ["val"], "fraction": trial.size / CASES},
        "seed": trial.seed,
    }
    return Recipe.parse(values)


def run_trial(place: Place, trial: HippocampusTrial) -> dict[str, Any]:
    """Fit and score, or read what an earlier session found."""
    found: dict[str, Any] = kept(place.trial(trial), lambda: _fit(place, trial))
    return found


def _fit(place: Place, trial: HippocampusTrial) -> dict[str, Any]:
    recipe = recipe_of(place, trial)
    out = place.work / "runs" / trial.key
    run = fit(recipe, read_cohort(place.cohort), out, Execution(workers=1, accelerator="cpu"))
    history = read_lines(run.fold_folder(0) / "history.jsonl")
    table = read_table(run.predictions_file)
    scores = table[["scan_id", "label", "dice", "hd95"]].to_dict("list")
    return {
        **asdict(trial),
        "validation_loss": history[-1]["validation_loss"],
        "seconds": round(sum(epoch["seconds"] for epoch in history), 1),
        "scores": scores,
    }


def run_cell(place: Place, job: tuple[int, str]) -> str:
    """Search the learning rate on validation cases, then run the other seeds with the best."""
    torch.set_num_threads(1)
    size, method = job
    tried = [run_trial(place, HippocampusTrial(size, method, SEEDS[0], lr)) for lr in RATES]
    best = min(tried, key=lambda result: result["validation_loss"])["lr"]
    chosen = [run_trial(place, HippocampusTrial(size, method, seed, best)) for seed in SEEDS]
    write_json(place.cell(size, method), chosen)
    return f"{job}: rate {best}"


def dice_of(results: list[dict[str, Any]], label: str) -> pd.Series:
    """Each test case's Dice, averaged over seeds."""
    tables = [pd.DataFrame(result["scores"]) for result in results]
    whole = pd.concat(tables)
    chosen = whole[whole["label"] == label]
    return chosen.assign(dice=chosen["dice"].astype(float)).groupby("scan_id")["dice"].mean()


def table(place: Place, size: int) -> dict[str, Any]:
    """Every method's Dice with intervals, and its differences from full tuning and scratch."""
    cells = {m: read_json(place.cell(size, m)) for m in METHODS}
    document: dict[str, Any] = {}
    for method, results in cells.items():
        entry: dict[str, Any] = {
            "lr": results[0]["lr"],
            "seconds": round(statistics.median(r["seconds"] for r in results), 1),
        }
        for label in LABELS.values():
            entry[label] = _interval(dice_of(results, label).to_numpy())
        document[method] = entry
    for other in ("scratch", "full"):
        names = [name for name in METHODS if name != other]
        gaps = {name: _mean_gap(cells[name], cells[other]) for name in names}
        corrected = holm([_chance(gap) for gap in gaps.values()])
        for (name, gap), p in zip(gaps.items(), corrected, strict=True):
            document[name][f"against_{other}"] = {
                "difference": _interval(gap),
                "p_holm": round(p, 4),
                "real": p < 0.05,
            }
    return document


def _mean_gap(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Any:
    """Each test case's difference in Dice, averaged over labels."""
    gaps = [dice_of(ours, label) - dice_of(theirs, label) for label in LABELS.values()]
    return pd.concat(gaps, axis=1).mean(axis=1).to_numpy()


def _interval(values: Any) -> list[float]:
    """The mean with its 95 % bootstrap interval over cases."""
    low, high = np.quantile(_means(values), (0.025, 0.975))
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def _chance(values: Any) -> float:
    """Twice the smaller share of resamples on one side of no difference, and never quite zero."""
    means = _means(values)
    side = min(np.mean(means >= 0), np.mean(means <= 0))
    return min(1.0, 2 * max(float(side), 1 / RESAMPLES))


def _means(values: Any) -> Any:
    random = np.random.default_rng(0)
    return values[random.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)


def main() -> None:
    """Run what is missing, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--maps", type=Path, required=True, help="Label maps to make scans from.")
    parser.add_argument("--name", required=True, help="What the table calls the cohort.")
    parser.add_argument("--work", type=Path, default=Path("runs/hippocampus"))
    parser.add_argument("--scans", type=int, default=2000, help="Generated scans.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    place = Place(options.work, options.cohort)
    place.work.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds = pretrain_on(place, options.maps, options.scans)
    jobs = list(product(options.sizes, METHODS))
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for number, line in enumerate(pool.map(partial(run_cell, place), jobs), start=1):
            print(f"{number} of {len(jobs)}: {line}", flush=True)
    document = {
        "cohort": options.name,
        "environment": environment(("scikit-learn",)),
        "generated": options.scans,
        "pre_training_seconds": seconds,
        "seeds": len(SEEDS),
        "backbone": BACKBONE,
        "methods": METHODS,
        "learning_rates": RATES,
        "tables": {str(size): table(place, size) for size in options.sizes},
    }
    write_json(RESULTS / "hippocampus.json", document)


if __name__ == "__main__":
    main()
