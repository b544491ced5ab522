"""Averages of a network's weights over training, which are steadier than the last step's."""

import torch
from torch import nn

from braintune.training_recipe import TrainRecipe

State = dict[str, torch.Tensor]


class WeightAverage:
    """Keeps an average of a network's state as it trains.

    Attributes:
        state: The average, once there is one.
        steps: How many states are in it.
    """

    def __init__(self) -> None:
        self.state: State | None = None
        self.steps = 0

    def restart(self, network: nn.Module) -> None:
        """Forget what was averaged; the network is now at its start."""
        del network
        self.state, self.steps = None, 0

    def after_step(self, network: nn.Module) -> None:
        """Take a step of training into account."""

    def after_epoch(self, network: nn.Module, left: int) -> None:
        """Take an epoch's end into account, after which so many epochs are left."""

    def restore(self, network: nn.Module, state: State | None, steps: int) -> None:
        """Go on from what was kept of the average: the part of the state that training changes."""
        self.restart(network)
        if state is None:
            return
        self.state, self.steps = copy_of_state(network), steps
        for key, value in state.items():
            self.state[key].copy_(value)


class MovingAverage(WeightAverage):
    """An exponential moving average over steps.

    Early on it follows the network faster, so that the random start is forgotten.

    Args:
        network: The network that trains.
        decay: Share of the average that a step keeps, in the long run.
    """

    state: State

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self.restart(network)

    def restart(self, network: nn.Module) -> None:
        """Begin again from the network as it is now."""
        self.state, self.steps = copy_of_state(network), 0

    def after_step(self, network: nn.Module) -> None:
        """Move the average towards the network as it is now."""
        self.steps += 1
        keep = min(self._decay, (1 + self.steps) / (10 + self.steps))
        _move(self.state, network, 1 - keep)


class LastEpochs(WeightAverage):
    """The mean of the states at the ends of the last epochs (Vaswani et al. 2017, section 6.1).

    Statistics of batch norms are averaged too, and counts of batches are the last ones.

    Args:
        count: How many epochs.

    Example:
        >>> network, average = nn.Linear(1, 1, bias=False), LastEpochs(2)
        >>> for epoch, weight in enumerate((1.0, 2.0, 4.0)):
        ...     _ = nn.init.constant_(network.weight, weight)
        ...     average.after_epoch(network, left=2 - epoch)
        >>> average.state["weight"]
        tensor([[3.]])
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count

    def after_epoch(self, network: nn.Module, left: int) -> None:
        """Take the network as it is now into the mean, if this is one of the last epochs."""
        if left >= self._count:
            return
        self.steps += 1
        if self.state is None:
            self.state = copy_of_state(network)
        else:
            _move(self.state, network, 1 / self.steps)


def copy_of_state(network: nn.Module) -> State:
    """A copy of all parameters and buffers."""
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


@torch.no_grad()
def _move(state: State, network: nn.Module, share: float) -> None:
    """Move a state a share of the way to a network's, in place."""
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            state[key].lerp_(value, share)
        else:
            state[key].copy_(value)


def make_average(train: TrainRecipe, network: nn.Module) -> WeightAverage | None:
    """The average that a recipe asks for, if it asks for one."""
    if train.average_last is not None:
        return LastEpochs(train.average_last)
    return MovingAverage(network, train.ema) if train.ema else None
