"""A bottleneck beside each frozen layer: y = W·x + s · Up(ReLU(Down(x)))."""

from torch import nn

from braintune.adapters.adapter import ADAPTERS, AdapterEntry
from braintune.adapters.bottleneck import (
    BOTTLENECK_ADAPTS,
    BottleneckLayer,
    BottleneckOptions,
    ParallelBranch,
)
from braintune.adapters.targets import adapt_kernels


def _apply(network: nn.Module, options: BottleneckOptions) -> list[str]:
    return adapt_kernels(
        network, options, lambda base: BottleneckLayer(base, ParallelBranch(base, options), None)
    )


ADAPTERS.add(
    AdapterEntry(
        name="parallel",
        summary="a small nonlinear branch beside each frozen layer",
        adapts=BOTTLENECK_ADAPTS,
        cost="d · (rows + columns) of the weight as a matrix: d · (C_out + C_in · k³)",
        paper="He et al. 2022, arXiv 2110.04366",
        options=BottleneckOptions,
        apply=_apply,
    )
)
