"""The optimiser of what trains: which parameters decay, and how fast each of them learns.

Every group of parameters has its own ``factor`` of the learning rate, from its depth and from its
adapter; the schedule moves all of them together.
"""

import torch
from torch import nn

from braintune.adapters.adapter import learning_rate_factors
from braintune.errors import BraintuneError, InputError, listing
from braintune.models.backbone import Backbone
from braintune.recipe import TrainRecipe


def make_optimiser(network: nn.Module, recipe: TrainRecipe) -> torch.optim.Optimizer:
    """Make the optimiser; adapters must be in place already.

    AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), whose decay does not pass through the
    gradient; Adam with AMSGrad (Reddi et al. 2018, arXiv 1904.09237) and SGD with Nesterov's
    momentum (Sutskever et al. 2013), whose decay is added to the gradient, as published.

    Parameters of one dimension (norms, biases, scales) and embeddings of tokens are not decayed.

    Args:
        network: What trains; with `TrainRecipe.layer_decay` it has a ``backbone``.
        recipe: Which optimiser; momentum, learning rate, weight decay and layer decay.

    Raises:
        InputError: If nothing trains.
    """
    depth = _depth_factors(network, recipe.layer_decay)
    own = learning_rate_factors(network)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_free = parameter.ndim <= 1 or name.endswith(("_token", "_embed"))
            factor = depth.get(name, 1.0) * own.get(name, 1.0)
            groups.setdefault((is_free, factor), []).append(parameter)
    if not groups:
        raise InputError("No parameter of the network trains. Choose another adapter.")
    settings = [
        {
            "params": groups[is_free, factor],
            "weight_decay": 0.0 if is_free else recipe.weight_decay,
            "factor": factor,
            "lr": recipe.lr * factor,
        }
        for is_free, factor in sorted(groups)
    ]
    # Fused: one pass over the parameters instead of a dozen, several times faster for large
    # networks.
    if recipe.optimiser == "adam-amsgrad":
        return torch.optim.Adam(settings, lr=recipe.lr, amsgrad=True, fused=True)
    if recipe.optimiser == "sgd-nesterov":
        return torch.optim.SGD(
            settings, lr=recipe.lr, momentum=recipe.momentum, nesterov=True, fused=True
        )
    return torch.optim.AdamW(settings, lr=recipe.lr, fused=True)


def _depth_factors(network: nn.Module, decay: float | None) -> dict[str, float]:
    """Factors of the backbone's parameters, which fall by the decay for each group of layers.

    As in ELECTRA (Clark et al. 2020, arXiv 2003.10555) and BEiT: the head has 1, the last group of
    layers the decay, the first one its highest power. What spans layers, as some adapters do, is
    in no group, and has 1.
    """
    if decay is None:
        return {}
    backbone = network.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    groups = backbone.layer_groups()
    return {
        f"backbone.{name}": decay ** (len(groups) - number)
        for number, group in enumerate(groups)
        for name in group
    }


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Let all groups learn at a rate, each times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["factor"]


def demand_current(optimiser: torch.optim.Optimizer, network: nn.Module) -> None:
    """Refuse an optimiser that was made before the network was adapted.

    It would move parameters that are frozen or no longer there, and leave new ones where they are.

    Raises:
        BraintuneError: If what the optimiser moves is not what trains.
    """
    moved = {id(p) for group in optimiser.param_groups for p in group["params"]}
    trained = {id(p): name for name, p in network.named_parameters() if p.requires_grad}
    if moved == trained.keys():
        return
    missed = [name for key, name in trained.items() if key not in moved]
    surplus = len(moved - trained.keys())
    msg = (
        "The optimiser was made before the network was adapted: it misses"
        f" {listing(missed) or 'nothing'}, and moves {surplus} parameters that do not train. Adapt"
        " the network first, then make the optimiser."
    )
    raise BraintuneError(msg)
