"""Number format and memory layout: what the hardware at hand is fast at."""

import ctypes
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning_fabric
import torch
from torch import nn

from braintune.adapters.adapter import adapted_layers
from braintune.adapters.watching import watch

# glibc's mallopt: the names of the two parameters, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# Of a batch: scans, channels, x, y and z.
_IMAGE_DIMENSIONS = 5


@dataclass(frozen=True)
class Precision:
    """How a network computes.

    Attributes:
        dtype: ``"bf16"`` runs convolutions and matrix products in bfloat16, ``"fp32"`` none.
        channels_last: Whether channels are next to each other in memory.
        exact: Names of layers that run in float32 whatever the others do; see `find_exact`.
    """

    dtype: Literal["fp32", "bf16"]
    channels_last: bool
    exact: tuple[str, ...] = ()

    @property
    def fabric(self) -> Literal["bf16-mixed", "32-true"]:
        """What Lightning Fabric calls it."""
        return "bf16-mixed" if self.dtype == "bf16" else "32-true"

    def arrange(self, tensor: torch.Tensor) -> torch.Tensor:
        """A batch of images, or of maps, in the memory layout; tokens and features have none."""
        if not self.channels_last or tensor.ndim != _IMAGE_DIMENSIONS:
            return tensor
        tensor = tensor.contiguous(memory_format=torch.channels_last_3d)
        if tensor.shape[1] > 1:
            return tensor
        # One channel lies the same in both layouts, and torch goes on with contiguous ones unless
        # its stride says otherwise: pooling behind the first layer would take ten times longer.
        strides = list(tensor.stride())
        strides[1] = 1
        return tensor.as_strided(tensor.shape, strides)

    def arrange_kernels(self, network: nn.Module) -> None:
        """Put a network's kernels into the memory layout, in place."""
        if not self.channels_last:
            return
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in network.parameters():
            if parameter.ndim in formats:
                kernel = parameter.data.contiguous(memory_format=formats[parameter.ndim])
                parameter.data = kernel


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16"], device: torch.device, exact: Sequence[str] = ()
) -> Precision:
    """Take what was asked for, or bfloat16 where the hardware multiplies it natively.

    Channels-last is faster for 3D convolutions on processors and on GPUs with tensor cores, by 1.2
    to 2 times on the processors measured (`benchmarks/`).

    Args:
        wanted: What the recipe says.
        device: Where the network computes.
        exact: Layers that are to run in float32 on processors, if the network will be trained.
    """
    is_cpu = device.type == "cpu"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = is_cpu and _multiplies_bf16()
    dtype = wanted if wanted != "auto" else ("bf16" if native else "fp32")
    kept = tuple(exact) if is_cpu and dtype == "bf16" else ()
    return Precision(dtype, channels_last=device.type in {"cpu", "cuda"}, exact=kept)


def find_exact(network: nn.Module, images: torch.Tensor) -> tuple[str, ...]:
    """The layers that are better trained in float32 on processors: overhanging and depthwise ones.

    Args:
        network: On any device; on ``meta`` nothing is computed.
        images: An input, of shape (batch, channels, x, y, z).
    """
    return tuple(dict.fromkeys([*find_overhang(network, images), *find_depthwise(network)]))


def find_overhang(network: nn.Module, images: torch.Tensor) -> tuple[str, ...]:
    """The layers with a convolution whose input is smaller than its kernel.

    oneDNN's bfloat16 weight gradient of such convolutions holds memory that nobody wrote (torch
    2.13 on AVX-512 processors; `tests/fitting/test_precision.py` shows it): no error is raised, and
    values can be of any size. Even kernels with padding are taken as too large as well.

    Args:
        network: On any device; on ``meta`` nothing is computed.
        images: An input, of shape (batch, channels, x, y, z).

    Returns:
        Their names; of an adapted layer, the name of the whole.
    """
    found: dict[str, None] = {}
    adapted = adapted_layers(network)

    def look(name: str, layer: nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        if not isinstance(layer, nn.modules.conv._ConvNd):
            return
        reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        sizes = inputs[0].shape[2:]
        padded = layer.padding not in ("valid", (0,) * len(reach))
        if any(n < r for n, r in zip(sizes, reach, strict=True)) or (
            padded and any(k % 2 == 0 for k in layer.kernel_size)
        ):
            whole = [outer for outer in adapted if name.startswith(f"{outer}.")]
            found[whole[0] if whole else name] = None

    watch(network, images, look)
    return tuple(found)


def find_depthwise(network: nn.Module) -> tuple[str, ...]:
    """The convolutions with a group a channel, whose bfloat16 gradients are slow on processors.

    In float32 they take a sixth to a half of the time (oneDNN of torch 2.13).
    """
    adapted = adapted_layers(network)
    return tuple(
        next((outer for outer in adapted if name.startswith(f"{outer}.")), name)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.in_channels > 1
    )


def keep_exact(network: nn.Module, names: Sequence[str]) -> None:
    """Let layers of a network run in float32 where autocast would run them in bfloat16."""
    for name in names:
        island = _Float32Island()
        layer = network.get_submodule(name)
        layer.register_forward_pre_hook(island.enter)
        layer.register_forward_hook(island.leave, always_call=True)


class _Float32Island:
    """Turns autocast off while one layer runs."""

    def __init__(self) -> None:
        self._left: list[torch.autocast] = []

    def enter(self, _: nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        self._left.append(torch.autocast(given[0].device.type, enabled=False))
        self._left[-1].__enter__()
        return tuple(tensor.float() for tensor in given)

    def leave(self, *_: object) -> None:
        self._left.pop().__exit__(None, None, None)


def make_fabric(
    precision: Precision, device: str, devices: int = 1, nodes: int = 1
) -> lightning_fabric.Fabric:
    """Lightning Fabric for a kind of device, without its messages.

    Args:
        precision: Number format.
        device: ``"cpu"`` or ``"cuda"``.
        devices: Processes on each node, one a device.
        nodes: Computers that fit together. SLURM says which of them this one is, or ``NODE_RANK``,
            ``MASTER_ADDR`` and ``MASTER_PORT`` do.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        if devices * nodes == 1:  # one process needs no launcher, also where SLURM offers one
            warnings.filterwarnings("ignore", "The `srun` command is available")
        return lightning_fabric.Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=precision.fabric,
        )


def _multiplies_bf16() -> bool:
    """Whether the processor has bfloat16 instructions, as Linux tells."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("amx_bf16", "avx512_bf16"))


def keep_freed_memory() -> None:
    """Have glibc keep large blocks for the next batch instead of returning them to the system.

    Activations are freed and asked for again at every step; each time the system would hand out
    fresh pages and fill them with zeros, which takes up to half of a small network's step. Does
    nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
