"""A bottleneck behind each frozen layer (SeqLoRA): h = W·x, y = h + s · Up(ReLU(Down(h)))."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.bottleneck import (
    BOTTLENECK_ADAPTS,
    BottleneckLayer,
    BottleneckOptions,
    SerialBranch,
)
from braintune.adapters.targets import adapt_kernels


def _apply(network: nn.Module, options: BottleneckOptions) -> list[str]:
    return adapt_kernels(
        network, options, lambda base: BottleneckLayer(base, None, SerialBranch(base, options))
    )


ADAPTERS.add(
    AdapterEntry(
        name="serial",
        summary="a small nonlinear branch behind each frozen layer (SeqLoRA)",
        adapts=BOTTLENECK_ADAPTS,
        cost="2 · d · C_out",
        paper="Houlsby et al. 2019, arXiv 1902.00751; as in Cheng et al. 2024, 2409.00884",
        options=BottleneckOptions,
        apply=_apply,
    )
)
