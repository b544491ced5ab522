"""AdamW over what trains: weight decay on weights, not on norms, biases and tokens."""

import torch
from torch import nn

from braintune.recipe import TrainRecipe


def make_optimiser(network: nn.Module, recipe: TrainRecipe) -> torch.optim.AdamW:
    """Make the optimiser; adapters must be in place already.

    Parameters of one dimension (norms, biases, scales) and embeddings of tokens are not decayed.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_free = parameter.ndim <= 1 or name.endswith(("_token", "_embed"))
            (free if is_free else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    # One pass over the parameters instead of a dozen: several times faster for large networks.
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.lr, fused=True)
