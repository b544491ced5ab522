"""Outputs of a network over many scans."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import lightning_fabric
import numpy as np
import torch
from torch import nn

from braintune.fitting.checkpoint import State
from braintune.fitting.precision import Precision
from braintune.imaging.loader import BatchLoader


def outputs_of(
    network: nn.Module, images: torch.Tensor, precision: Precision, flip_average: bool
) -> torch.Tensor:
    """Outputs for a batch on the network's device, averaged with the mirrored batch's if wanted.

    Args:
        network: In evaluation mode, set up by Fabric.
        images: Of shape (batch, channels, x, y, z).
        precision: Memory layout.
        flip_average: Whether to show left–right mirrored images too.

    Returns:
        Of shape (batch, outputs), float32.
    """
    outputs = network(precision.arrange(images)).float()
    if flip_average:
        outputs = (outputs + network(precision.arrange(images.flip(2))).float()) / 2
    return outputs


@torch.no_grad()
def predict_rows(
    network: nn.Module,
    loader: BatchLoader,
    rows: Sequence[int],
    fabric: lightning_fabric.Fabric,
    precision: Precision,
    *,
    batch_size: int,
    flip_average: bool,
) -> torch.Tensor:
    """Outputs for some rows, shared among the processes that fit together.

    Returns:
        Of shape (rows, outputs), float32, on the processor; the same in every process.
    """
    world, rank = fabric.world_size, fabric.global_rank
    # Every process takes as many rows, so that they can be gathered; surplus ones are cut off.
    padded = np.resize(np.asarray(rows), -(-len(rows) // world) * world)
    mine = padded[rank::world]
    batches = [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]
    network.eval()
    outputs = torch.cat(
        [
            outputs_of(network, images.to(fabric.device).float(), precision, flip_average)
            for images in loader.batches(batches)
        ]
    )
    if world > 1:
        gathered = fabric.all_gather(outputs)
        assert isinstance(gathered, torch.Tensor)
        outputs = gathered.transpose(0, 1).flatten(0, 1)
    return outputs[: len(rows)].cpu()


@contextmanager
def swapped(network: nn.Module, state: State | None) -> Iterator[None]:
    """Let a network have another state for a while; None leaves it as it is."""
    if state is None:
        yield
        return
    own = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict({**own, **state})
    try:
        yield
    finally:
        network.load_state_dict(own)
