"""Bottlenecks beside and behind each frozen layer (CPS, arXiv 2409.00884).

h = W·x + s · Up(ReLU(Down(x))), y = h + s · Up'(ReLU(Down'(h))).
"""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.bottleneck import (
    BOTTLENECK_ADAPTS,
    BottleneckLayer,
    BottleneckOptions,
    ParallelBranch,
    SerialBranch,
)
from braintune.adapters.targets import adapt_kernels


def _apply(network: nn.Module, options: BottleneckOptions) -> list[str]:
    def make(base: nn.Module) -> BottleneckLayer:
        return BottleneckLayer(base, ParallelBranch(base, options), SerialBranch(base, options))

    return adapt_kernels(network, options, make)


ADAPTERS.add(
    AdapterEntry(
        name="cps",
        summary="small nonlinear branches beside and behind each frozen layer",
        adapts=BOTTLENECK_ADAPTS,
        cost="d · (rows + columns) of the weight as a matrix, and 2 · d · C_out",
        paper="Cheng et al. 2024, arXiv 2409.00884",
        options=BottleneckOptions,
        apply=_apply,
    )
)
