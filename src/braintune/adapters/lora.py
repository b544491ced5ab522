"""LoRA and its kin under their own names; see `braintune.adapters.low_rank` for what they do."""

from typing import Literal

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.low_rank import LowRankOptions, apply_low_rank

_ADAPTS = "Linear, Conv1d to 3d and their transposes, of any stride, padding, dilation and groups"
_COST = "r · (rows + columns) of the weight as a matrix: r · (C_out + C_in · k³) for a convolution"


class PiSSAOptions(LowRankOptions):
    """Options of PiSSA; see `LowRankOptions`."""

    start: Literal["zero", "principal", "orthogonal"] = "principal"


class OLoRAOptions(LowRankOptions):
    """Options of OLoRA; see `LowRankOptions`."""

    start: Literal["zero", "principal", "orthogonal"] = "orthogonal"


class DoRAOptions(LowRankOptions):
    """Options of DoRA; see `LowRankOptions`."""

    magnitude: bool = True


class RsLoRAOptions(LowRankOptions):
    """Options of rsLoRA; see `LowRankOptions`."""

    scaling: Literal["standard", "rslora"] = "rslora"


def _register(
    name: str, summary: str, paper: str, options: type[LowRankOptions], cost: str = _COST
) -> None:
    ADAPTERS.add(
        AdapterEntry(
            name=name,
            summary=summary,
            adapts=_ADAPTS,
            cost=cost,
            paper=paper,
            options=options,
            apply=apply_low_rank,
        )
    )


_register(
    "lora",
    "a trained update of low rank beside each frozen layer",
    "Hu et al. 2021, arXiv 2106.09685; for 3D kernels Kao et al. 2025, 2511.06163",
    LowRankOptions,
)
_register(
    "pissa",
    "LoRA that starts from the weights' principal part",
    "Meng et al. 2024, arXiv 2404.02948",
    PiSSAOptions,
)
_register(
    "olora",
    "LoRA that starts from an orthogonal part of the weights",
    "Büyükakyüz 2024, arXiv 2406.01775",
    OLoRAOptions,
)
_register(
    "dora",
    "LoRA, and the length of each output channel's kernel",
    "Liu et al. 2024, arXiv 2402.09353",
    DoRAOptions,
    f"{_COST}; and C_out",
)
_register(
    "rslora",
    "LoRA scaled by 1/√r, for high ranks",
    "Kalajdzievski 2023, arXiv 2312.03732",
    RsLoRAOptions,
)
