"""A training step and its peak memory: LoRA here, LoRA in Hugging Face's peft, and full tuning.

Each contender runs in a fresh process, contenders take turns, and only ratios within a turn are
claims. All of them train braintune's own network, so that nothing differs but how it is tuned:

- ``full-plain`` and ``peft-plain`` are the loop of a tutorial: float32, contiguous memory, Adam;
- ``full-fp32``, ``peft-fp32`` and ``ours-fp32`` have braintune's memory layout and optimiser;
- ``full-default``, ``peft-default`` and ``ours-default`` have its default precision as well.

    python benchmarks/adapters.py

Results go to ``benchmarks/results/adapters.json``, which `docs/results.md` shows.
"""

import argparse
import json
import re
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from braintune.adapters.adapter import adapt, set_training
from braintune.adapters.frozen import lighten
from braintune.extras import make_torchvision_importable
from braintune.files import read_json, write_json
from braintune.fitting.optimiser import make_optimiser
from braintune.fitting.precision import (
    Precision,
    choose_precision,
    find_exact,
    keep_exact,
    keep_freed_memory,
    make_fabric,
)
from braintune.models.backbone import InputShape, MapBackbone, build_backbone
from braintune.recipe import TrainRecipe
from measuring import RESULTS, environment, in_fresh_processes, median_seconds, peak_mb, spread

RANK = 4
METHODS = ("full", "peft", "ours")
SETTINGS = ("plain", "fp32", "default")
CONTENDERS = tuple(f"{m}-{s}" for s in SETTINGS for m in METHODS if (m, s) != ("ours", "plain"))
# What is claimed of ours: against whom, and with which setting of ours.
CLAIMS = {
    "peft, as its users run it": ("peft-plain", "ours-default"),
    "peft, same precision": ("peft-plain", "ours-fp32"),
    "peft, same precision and layout": ("peft-fp32", "ours-fp32"),
    "full tuning, as users run it, same precision": ("full-plain", "ours-fp32"),
    "full tuning here, same precision": ("full-fp32", "ours-fp32"),
    "full tuning here, default precision": ("full-default", "ours-default"),
}


@dataclass(frozen=True)
class Case:
    """One backbone and the batch that it is timed with."""

    name: str
    batch: int
    side: int


CASES = {
    case.name: case
    for case in (
        Case("resnet50", 2, 96),
        Case("fmcib", 4, 50),
        Case("vit", 2, 96),
        Case("swinunetr", 1, 96),
    )
}


@dataclass(frozen=True)
class Timing:
    """Seconds, the median of the repeats, and the process's peak memory.

    Attributes:
        step: Seconds of a training step.
        peak_mb: The process's peak memory, or the device's.
        start_seconds: Seconds until the adapter was in place.
        trainable: Parameters that train.
        state_mb: What the optimiser keeps, and what trains.
    """

    step: float
    peak_mb: float
    start_seconds: float
    trainable: int
    state_mb: float


class Tuned(nn.Module):
    """A backbone with a linear head: of a scan, or, where it has a decoder, of every voxel."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.backbone = build_backbone(case.name, InputShape(1, (case.side,) * 3), {})
        self.dense = isinstance(self.backbone, MapBackbone)
        n = self.backbone.n_maps if self.dense else self.backbone.n_features
        self.head = nn.Conv3d(n, 2, 1) if self.dense else nn.Linear(n, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, 1, x, y, z) to (batch, 2) or (batch, 2, x, y, z)."""
        return self.head(self.backbone.maps(images) if self.dense else self.backbone(images))


def tune(network: Tuned, method: str) -> None:
    """Adapt a network in place: the same layers and the same rank in both libraries."""
    layers = [
        name
        for name, module in network.backbone.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
    ]
    if method == "ours":
        adapt(network.backbone, "lora", {"rank": RANK, "kinds": ["linear", "convolution"]})
    elif method == "peft":
        make_torchvision_importable()
        from peft import LoraConfig, inject_adapter_in_model

        network.backbone.requires_grad_(False)
        chosen = f"({'|'.join(re.escape(name) for name in layers)})"
        config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=chosen)
        inject_adapter_in_model(config, network.backbone)


def time_one(case: Case, contender: str, repeats: int) -> Timing:
    """Time a contender in this process."""
    method, setting = contender.split("-")
    torch.manual_seed(0)
    network = Tuned(case)
    start = time.perf_counter()
    tune(network, method)
    started = time.perf_counter() - start
    precision = _precision(case, setting)
    if setting != "plain":
        keep_freed_memory()
    fabric = make_fabric(precision, "cuda" if torch.cuda.is_available() else "cpu")
    keep_exact(network, _present(network, precision.exact))
    precision.arrange_kernels(network)
    network = network.to(fabric.device)
    if method == "ours":
        lighten(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser: torch.optim.Optimizer = torch.optim.Adam(trained, lr=1e-4)
    if setting != "plain":
        optimiser = make_optimiser(network, TrainRecipe())
    wrapped, optimiser = fabric.setup(network, optimiser)
    images = torch.randn(case.batch, 1, *(case.side,) * 3, device=fabric.device)
    truth = torch.arange(case.batch, device=fabric.device) % 2
    if network.dense:
        truth = truth.view(-1, 1, 1, 1).expand(-1, *images.shape[2:])

    def step() -> None:
        loss = F.cross_entropy(wrapped(precision.arrange(images)).float(), truth)
        fabric.backward(loss)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if method == "ours":
        set_training(wrapped)
    else:
        wrapped.train()
    stepped = median_seconds(step, repeats)
    state = [v for s in optimiser.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    return Timing(
        step=stepped,
        peak_mb=peak_mb(),
        start_seconds=started,
        trainable=sum(p.numel() for p in trained),
        state_mb=sum(t.nbytes for t in [*state, *trained]) / 1e6,
    )


def _precision(case: Case, setting: str) -> Precision:
    if setting == "plain":
        return Precision("fp32", channels_last=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        outline, images = Tuned(case), torch.empty(1, 1, *(case.side,) * 3)
    wanted = "auto" if setting == "default" else "fp32"
    return choose_precision(wanted, device, find_exact(outline, images))


def _present(network: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    """Layers by the names that they have; peft and braintune put theirs in their place."""
    there = dict(network.named_modules())
    return tuple(name for name in names if name in there)


def time_starts(rank: int) -> dict[str, float]:
    """Seconds that methods take to be put on all of FMCIB's convolutions."""
    seconds = {}
    for name in ("lora", "pissa", "hyps", "olora"):
        torch.manual_seed(0)
        network = build_backbone("fmcib", InputShape(1, (50, 50, 50)), {})
        start = time.perf_counter()
        adapt(network, name, {"rank": rank})
        seconds[name] = round(time.perf_counter() - start, 2)
    return seconds


def main() -> None:
    """Measure, print and write; cases that are not named are kept as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="cases; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", help="time one contender in this process")
    parser.add_argument("--out", type=Path, default=RESULTS / "adapters.json")
    options = parser.parse_args()
    names = options.names or list(CASES)
    if options.one:
        print(json.dumps(asdict(time_one(CASES[names[0]], options.one, options.repeats))))
        return
    document = read_json(options.out) if options.out.exists() else {"cases": {}}
    document["rank"] = RANK
    document["base_mb"] = peak_mb()
    document["start_seconds"] = time_starts(8)
    for name in names:
        rounds = [_round(name, options.repeats) for _ in range(options.rounds)]
        document["environment"] = environment(("peft", "monai"))
        document["cases"][name] = summary(CASES[name], rounds)
        write_json(options.out, document)
        print(name, json.dumps(document["cases"][name]["claims"], indent=1), flush=True)


def _round(name: str, repeats: int) -> dict[str, Timing]:
    """Each contender once, in a fresh process."""
    found = in_fresh_processes(__file__, name, CONTENDERS, repeats)
    return {contender: Timing(**timing) for contender, timing in found.items()}


def summary(case: Case, rounds: list[dict[str, Timing]]) -> dict[str, Any]:
    """Medians over rounds, and what ours takes as a share of what others take."""
    contenders = {
        name: {
            key: round(statistics.median(getattr(timing[name], key) for timing in rounds), digits)
            for key, digits in (("step", 4), ("peak_mb", 0), ("trainable", 0), ("state_mb", 1))
        }
        for name in CONTENDERS
    }
    claims = {
        claim: {
            key: spread([getattr(t[our], key) / getattr(t[their], key) for t in rounds])
            for key in ("step", "peak_mb")
        }
        for claim, (their, our) in CLAIMS.items()
    }
    shape = [case.batch, 1, *(case.side,) * 3]
    return {"images": shape, "contenders": contenders, "claims": claims}


if __name__ == "__main__":
    main()
