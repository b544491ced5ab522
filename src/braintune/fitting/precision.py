"""Number format and memory layout: what the hardware at hand is fast at."""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

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
        return tensor.contiguous(memory_format=torch.channels_last_3d)


def choose_precision(wanted: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """Take what was asked for, or bfloat16 where the hardware multiplies it natively.

    Channels-last is faster for 3D convolutions on processors and on GPUs with tensor cores, by 1.2
    to 2 times on the processors measured (`benchmarks/`).
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = device.type == "cpu" and _multiplies_bf16()
    dtype = wanted if wanted != "auto" else ("bf16" if native else "fp32")
    return Precision(dtype, channels_last=device.type in {"cpu", "cuda"})


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
