"""The optimisers of recipes for many networks at once, each with its own learning rate.

They compute what torch's compute for each network alone; the tests hold them against those.
"""

import torch

from braintune.training_recipe import TrainRecipe

# Tensors of all networks by name; the first dimension counts the networks.
Stack = dict[str, torch.Tensor]
_BETAS, _EPS = (0.9, 0.999), 1e-8


class StackedOptimiser:
    """Moves the parameters of stacked networks.

    Args:
        train: Which optimiser, momentum and weight decay.
        parameters: The stacked parameters; those of one dimension in each network do not decay.
    """

    def __init__(self, train: TrainRecipe, parameters: Stack) -> None:
        self._train = train
        self._steps = 0
        self._first = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._second = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._largest = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def step(self, parameters: Stack, gradients: Stack, rates: torch.Tensor) -> None:
        """Take a step, in place.

        Args:
            parameters: The stacked parameters.
            gradients: Theirs; may be changed.
            rates: The learning rate of each network, of shape (networks,).
        """
        self._steps += 1
        for name, parameter in parameters.items():
            lr = rates.view(-1, *[1] * (parameter.ndim - 1))
            decay = 0.0 if parameter.ndim - 1 <= 1 else self._train.weight_decay
            self._move(name, parameter, gradients[name], lr, decay)

    def keep(self, mask: torch.Tensor) -> None:
        """Forget the networks that no longer train."""
        for state in (self._first, self._second, self._largest):
            for name, value in state.items():
                state[name] = value[mask]

    def _move(
        self, name: str, p: torch.Tensor, g: torch.Tensor, lr: torch.Tensor, decay: float
    ) -> None:
        if self._train.optimiser == "sgd-nesterov":
            self._nesterov(name, p, g.add_(p, alpha=decay), lr)
        elif self._train.optimiser == "adam-amsgrad":
            self._adam(name, p, g.add_(p, alpha=decay), lr, amsgrad=True)
        else:
            p.mul_(1 - lr * decay)
            self._adam(name, p, g, lr, amsgrad=False)

    def _nesterov(self, name: str, p: torch.Tensor, g: torch.Tensor, lr: torch.Tensor) -> None:
        momentum, buffer = self._train.momentum, self._first[name]
        buffer.mul_(momentum if self._steps > 1 else 0.0).add_(g)
        p.sub_(lr * g.add_(buffer, alpha=momentum))

    def _adam(
        self, name: str, p: torch.Tensor, g: torch.Tensor, lr: torch.Tensor, *, amsgrad: bool
    ) -> None:
        first, second = self._first[name], self._second[name]
        first.lerp_(g, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(g, g, value=1 - _BETAS[1])
        if amsgrad:
            second = torch.maximum(self._largest[name], second, out=self._largest[name])
        root = second.sqrt().div_((1 - _BETAS[1] ** self._steps) ** 0.5).add_(_EPS)
        p.sub_(lr / (1 - _BETAS[0] ** self._steps) * first / root)
