"""Forward pass and training step of every backbone: the default precision against MONAI's own loop.

Each contender runs in a fresh process, contenders take turns, and only ratios within a turn are
claims. "MONAI's loop" is that of its tutorials: float32, contiguous memory, `torch.optim.Adam`,
with MONAI's own network where it has the architecture and with the same network as ours elsewhere.
The others train as `braintune fit` does: its optimiser, and gradients clipped.

    python benchmarks/backbones.py

Results go to ``benchmarks/results/backbones.json``, which `docs/results.md` shows.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

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
from braintune.models.backbone import BACKBONES, InputShape, MapBackbone, build_backbone
from braintune.recipe import TrainRecipe
from measuring import RESULTS, environment, in_fresh_processes, median_seconds, peak_mb, spread

CONTENDERS = ("monai", "fp32", "default")
# Batches of two scans at 2 mm, but where a network is for another input, or is very slow.
_SHAPE = (80, 96, 80)
_SHAPES: dict[str, tuple[int, int, int]] = {
    "fmcib": (50, 50, 50),
    "nit": (64, 64, 64),
    "nit-many-heads": (64, 64, 64),
    "slice-set": (91, 109, 91),
    "slice-set-resnet18": (91, 109, 91),
    "slice-cnn3d": (91, 109, 91),
    "slice-lstm": (91, 109, 91),
    "swinunetr": (64, 96, 64),
}
_BATCHES = {"fmcib": 4, "r3d18": 1, "mc3-18": 1, "r2plus1d18": 1, "mvit-v2-s": 1, "unet": 1}


@dataclass(frozen=True)
class Case:
    """One backbone and the batch that it is timed with."""

    name: str
    batch: int
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Timing:
    """Seconds, the median of the repeats, and the process's peak memory."""

    forward: float
    step: float
    peak_mb: float
    precision: str


def case_of(name: str) -> Case:
    """A backbone's case."""
    return Case(name, _BATCHES.get(name, 2), _SHAPES.get(name, _SHAPE))


class Classifier(nn.Module):
    """A backbone with a linear head of two classes."""

    def __init__(self, backbone: nn.Module, n_features: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(n_features, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, 2)."""
        return self.head(self.backbone(images))


def ours(case: Case) -> nn.Module:
    backbone = build_backbone(case.name, InputShape(1, case.shape), {})
    if isinstance(backbone, MapBackbone):
        backbone.drop_decoder()
    return Classifier(backbone, backbone.n_features)


def monais(case: Case) -> nn.Module | None:
    """MONAI's network of the architecture, if it has one that gives one value a scan."""
    from monai.networks import nets

    stem = {"n_input_channels": 1, "num_classes": 2, "conv1_t_stride": 2}
    makers: dict[str, Callable[[], nn.Module]] = {
        "resnet10": lambda: nets.resnet10(**stem, shortcut_type="B", bias_downsample=False),
        "resnet18": lambda: nets.resnet18(**stem, shortcut_type="A", bias_downsample=True),
        "resnet34": lambda: nets.resnet34(**stem, shortcut_type="A", bias_downsample=True),
        "resnet50": lambda: nets.resnet50(**stem, shortcut_type="B", bias_downsample=False),
        "resnet101": lambda: nets.resnet101(**stem, shortcut_type="B", bias_downsample=False),
        "anatcl": lambda: nets.resnet18(**stem, shortcut_type="B", bias_downsample=False),
        "brainiac-resnet50": lambda: nets.resnet50(**stem),
        "fmcib": lambda: nets.resnet50(**stem, widen_factor=2),
        "densenet121": lambda: nets.DenseNet121(3, 1, 2),
        "vit": lambda: _MonaiViT(case.shape),
    }
    return makers[case.name]() if case.name in makers else None


class _MonaiViT(nn.Module):
    """MONAI's transformer, which returns its logits beside the hidden states."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        self.vit = ViT(1, shape, (16, 16, 16), classification=True, num_classes=2, qkv_bias=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, 2)."""
        return self.vit(images)[0]


def time_one(case: Case, contender: str, repeats: int) -> Timing:
    """Time a contender in this process."""
    torch.manual_seed(0)
    network = (monais(case) if contender == "monai" else None) or ours(case)
    precision = _precision(case, contender)
    if contender == "default":
        keep_freed_memory()
    fabric = make_fabric(precision, "cuda" if torch.cuda.is_available() else "cpu")
    keep_exact(network, precision.exact)
    precision.arrange_kernels(network)
    network = network.to(fabric.device)
    optimiser: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    if contender != "monai":
        optimiser = make_optimiser(network, TrainRecipe())
    wrapped, optimiser = fabric.setup(network, optimiser)
    images = torch.randn(case.batch, 1, *case.shape, device=fabric.device)
    truth = torch.arange(case.batch, device=fabric.device) % 2

    def forward() -> None:
        with torch.no_grad():
            wrapped(precision.arrange(images))

    def step() -> None:
        loss = F.cross_entropy(wrapped(precision.arrange(images)).float(), truth)
        fabric.backward(loss)
        if contender != "monai":
            fabric.clip_gradients(wrapped, optimiser, max_norm=1.0, error_if_nonfinite=False)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    wrapped.train()
    stepped = median_seconds(step, repeats)
    wrapped.eval()
    passed = median_seconds(forward, repeats)
    peak = peak_mb()
    layout = "channels-last" if precision.channels_last else "contiguous"
    exact = f", {len(precision.exact)} layers fp32" if precision.exact else ""
    return Timing(passed, stepped, peak, f"{precision.dtype}{exact}, {layout}")


def _precision(case: Case, contender: str) -> Precision:
    if contender == "monai":
        return Precision("fp32", channels_last=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.device("meta"):
        outline, images = ours(case), torch.empty(1, 1, *case.shape)
    wanted = "auto" if contender == "default" else "fp32"
    return choose_precision(wanted, device, find_exact(outline, images))


def main() -> None:
    """Measure, print and write; backbones that are in the results already are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="backbones; by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", help="time one contender in this process")
    parser.add_argument("--out", type=Path, default=RESULTS / "backbones.json")
    options = parser.parse_args()
    names = options.names or BACKBONES.names()
    if options.one:
        print(json.dumps(asdict(time_one(case_of(names[0]), options.one, options.repeats))))
        return
    document: dict[str, Any] = {"backbones": {}}
    if options.out.exists():
        document = read_json(options.out)
    for name in names:
        rounds = [_round(name, options.repeats) for _ in range(options.rounds)]
        document["environment"] = environment(("monai", "timm", "transformers"))
        document["backbones"][name] = summary(case_of(name), rounds)
        write_json(options.out, document)
        print(name, document["backbones"][name]["times_faster"], flush=True)


def _round(name: str, repeats: int) -> dict[str, Timing]:
    """Each contender once, in a fresh process."""
    found = in_fresh_processes(__file__, name, CONTENDERS, repeats)
    return {contender: Timing(**timing) for contender, timing in found.items()}


def summary(case: Case, rounds: list[dict[str, Timing]]) -> dict[str, Any]:
    """Medians over rounds, and how much faster the default was than MONAI's loop in each."""
    document: dict[str, Any] = {"batch": case.batch, "shape": list(case.shape)}
    document["monai_has_it"] = monais_has(case)
    for contender in CONTENDERS:
        timings = [timing[contender] for timing in rounds]
        document[contender] = {
            "precision": timings[0].precision,
            "forward_seconds": round(statistics.median(t.forward for t in timings), 4),
            "step_seconds": round(statistics.median(t.step for t in timings), 4),
            "peak_mb": round(statistics.median(t.peak_mb for t in timings)),
        }
    document["times_faster"] = {
        what: spread([getattr(t["monai"], what) / getattr(t["default"], what) for t in rounds])
        for what in ("forward", "step")
    }
    return document


def monais_has(case: Case) -> bool:
    """Whether the opponent is MONAI's own network."""
    with torch.device("meta"):
        return monais(case) is not None


if __name__ == "__main__":
    main()
