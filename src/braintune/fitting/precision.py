"""Number format and memory layout: what the hardware at hand is fast at."""

import ctypes
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning_fabric
import torch
from torch import nn

from braintune.errors import InputError

# glibc's mallopt: the names of the two parameters, from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Precision:
    """How a network computes.

    Attributes:
        dtype: ``"bf16"`` runs convolutions and matrix products in bfloat16, ``"fp32"`` none.
        channels_last: Whether channels are next to each other in memory.
    """

    dtype: Literal["fp32", "bf16"]
    channels_last: bool

    @property
    def fabric(self) -> Literal["bf16-mixed", "32-true"]:
        """What Lightning Fabric calls it."""
        return "bf16-mixed" if self.dtype == "bf16" else "32-true"

    def arrange(self, tensor: torch.Tensor) -> torch.Tensor:
        """A batch of images in the memory layout."""
        if not self.channels_last:
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
    wanted: Literal["auto", "fp32", "bf16"], device: torch.device, overhanging: str | None = None
) -> Precision:
    """Take what was asked for, or bfloat16 where the hardware multiplies it natively.

    Channels-last is faster for 3D convolutions on processors and on GPUs with tensor cores, by 1.2
    to 2 times on the processors measured (`benchmarks/`).

    Args:
        wanted: What the recipe says.
        device: Where the network computes.
        overhanging: The name of a convolution that `find_overhang` found, if it will be trained.

    Raises:
        InputError: If bfloat16 is asked for where it would give wrong gradients.
    """
    is_cpu = device.type == "cpu"
    if is_cpu and overhanging is not None:
        if wanted == "bf16":
            msg = (
                f"train.precision bf16 gives wrong gradients on processors for {overhanging}, whose"
                " input is smaller than its kernel. Set it to auto or fp32, or enlarge"
                " prepare.shape."
            )
            raise InputError(msg)
        return Precision("fp32", channels_last=True)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = is_cpu and _multiplies_bf16()
    dtype = wanted if wanted != "auto" else ("bf16" if native else "fp32")
    return Precision(dtype, channels_last=device.type in {"cpu", "cuda"})


def find_overhang(network: nn.Module, images: torch.Tensor) -> str | None:
    """The first convolution whose input is smaller than its kernel, which bfloat16 gets wrong.

    oneDNN's bfloat16 weight gradient of such convolutions holds memory that nobody wrote (torch
    2.13 on AVX-512 processors; `tests/fitting/test_precision.py` shows it): no error is raised, and
    values can be of any size. Even kernels with padding are taken as too large as well.

    Args:
        network: On any device; on ``meta`` nothing is computed.
        images: An input, of shape (batch, channels, x, y, z).
    """
    found: list[str] = []

    def look(name: str, layer: nn.modules.conv._ConvNd, inputs: tuple[torch.Tensor, ...]) -> None:
        reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        sizes = inputs[0].shape[2:]
        padded = layer.padding not in ("valid", (0,) * len(reach))
        if any(n < r for n, r in zip(sizes, reach, strict=True)) or (
            padded and any(k % 2 == 0 for k in layer.kernel_size)
        ):
            found.append(name)

    handles = [
        layer.register_forward_pre_hook(lambda layer, x, name=name: look(name, layer, x))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.modules.conv._ConvNd)
    ]
    with torch.no_grad():
        network.eval()(images)
    for handle in handles:
        handle.remove()
    return found[0] if found else None


def make_fabric(precision: Precision, device: str, devices: int = 1) -> lightning_fabric.Fabric:
    """Lightning Fabric for a kind of device, without its messages."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return lightning_fabric.Fabric(
        accelerator=device,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
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
