"""What augmentation costs: a batch of 8 scans at 2 mm, against a ResNet-18 training step on it.

Each strength, and all kinds at once, take turns with the step in one process:

    python benchmarks/augmentation.py

Results go to ``benchmarks/results/augmentation.json``, which `docs/results.md` shows.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from backbones import Case, ours
from braintune.files import write_json
from braintune.fitting.mixing import draw_mixture, mix
from braintune.fitting.optimiser import make_optimiser
from braintune.fitting.precision import choose_precision, keep_freed_memory, make_fabric
from braintune.imaging.augment import STRENGTHS, Strength, augment
from braintune.recipe import TrainRecipe
from measuring import RESULTS, Contender, environment, take_turns

_SHAPE = (80, 96, 80)
_BATCH = 8
_NEW = ("crop", "blur", "low_resolution", "ghosting", "cutout")
# What each kind is measured at, beside the strengths.
_AMOUNTS = {"crop": 0.1, "blur": 0.8, "low_resolution": 2.0, "ghosting": 0.3, "cutout": 0.2}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "augmentation.json")
    options = parser.parse_args()
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = _brains(device)
    contenders = [
        Contender("step", _timed(training_step(images, options.precision))),
        *[
            Contender(name, _timed(lambda s=strength, n=name: _augmented(images, s, n)))
            for name, strength in strengths().items()
        ],
    ]
    rows = summary(take_turns(contenders, options.rounds))
    for name, row in rows.items():
        print(f"{name:24} {row['seconds']:8.3f} s   {row['share_of_step']:6.3f} of a step")
    document = {
        "environment": environment(("monai",)),
        "device": str(device),
        "precision": choose_precision(options.precision, device).dtype,
        "batch": _BATCH,
        "shape": list(_SHAPE),
        "augmentation": rows,
    }
    write_json(options.out, document)
    print(f"wrote {options.out}")


def strengths() -> dict[str, Strength]:
    """The strengths of recipes, each new kind alone with `none`, and mixing on top of all."""
    named = {name: strength for name, strength in STRENGTHS.items() if strength is not None}
    nothing = Strength(*[0.0] * 10)
    alone = {name: replace(nothing, **{name: _AMOUNTS[name]}) for name in _NEW}
    return {**named, "heavy, mixup and cutmix": named["heavy"], **alone}


def training_step(images: torch.Tensor, wanted: Any) -> Callable[[], object]:
    """A step of a ResNet-18 as braintune takes it, clipped, with AdamW."""
    torch.manual_seed(0)
    precision = choose_precision(wanted, images.device)
    fabric = make_fabric(precision, images.device.type)
    network = ours(Case("resnet18", _BATCH, _SHAPE))
    precision.arrange_kernels(network)
    network = network.to(images.device)
    wrapped, optimiser = fabric.setup(network, make_optimiser(network, TrainRecipe()))
    truth = torch.arange(_BATCH, device=images.device) % 2

    def step() -> None:
        loss = F.cross_entropy(wrapped(precision.arrange(images)).float(), truth)
        fabric.backward(loss)
        fabric.clip_gradients(wrapped, optimiser, max_norm=1.0, error_if_nonfinite=False)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    wrapped.train()
    return step


def summary(rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median seconds a batch, and shares of the step of the same round: median and range."""
    rows = {}
    for name, values in rates.items():
        shares = [step / own for step, own in zip(rates["step"], values, strict=True)]
        rows[name] = {
            "seconds": round(_BATCH / statistics.median(values), 4),
            "share_of_step": round(statistics.median(shares), 4),
            "share_of_step_range": [round(min(shares), 4), round(max(shares), 4)],
        }
    return rows


def _augmented(images: torch.Tensor, strength: Strength, name: str) -> torch.Tensor:
    result = augment(images, range(len(images)), strength)
    if "mixup" in name:
        recipe = TrainRecipe(mixup=0.5, cutmix=0.5)
        mixtures = [draw_mixture(recipe, _SHAPE, seed) for seed in range(len(images))]
        result = mix(result, result.flip(0), mixtures)
    return result


def _timed(work: Callable[[], object]) -> Callable[[], int]:
    def epoch() -> int:
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return _BATCH

    return epoch


def _brains(device: torch.device) -> torch.Tensor:
    """Noise in a box with an empty margin."""
    images = torch.zeros(_BATCH, 1, *_SHAPE)
    inner = tuple(slice(n // 10, n - n // 10) for n in _SHAPE)
    images[(..., *inner)] = torch.randn(images[(..., *inner)].shape)
    return images.to(device)


if __name__ == "__main__":
    main()
