"""An exponential moving average of a network's weights, which is steadier than the last step's."""

import torch
from torch import nn


class MovingAverage:
    """Keeps a running average of a network's state.

    Early on it follows the network faster, so that the random start is forgotten.

    Args:
        network: The network that trains.
        decay: Share of the average that a step keeps, in the long run.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self.restart(network)

    def restart(self, network: nn.Module) -> None:
        """Begin again from the network as it is now."""
        self.steps = 0
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network as it is now."""
        self.steps += 1
        keep = min(self._decay, (1 + self.steps) / (10 + self.steps))
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - keep)
            else:
                self.state[key].copy_(value)
