"""Where slices lie: learned position embeddings with a norm (Gupta et al., arXiv 2303.01491)."""

import torch
import torch.nn.functional as F
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import TokenGrid


class LearnedPositions(nn.Module):
    """One learned vector a slice is added, then slices and features are normalised together.

    The norm is over all features of all slices of a scan at once and has a gain and a bias for each
    of them, as published. All three are therefore bound to the number of slices.

    Args:
        slices: Slices of a scan.
        features: Length of the feature vector of a slice.
    """

    def __init__(self, slices: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(1, slices, features))
        self.gain = nn.Parameter(torch.ones(1, slices, features))
        self.bias = nn.Parameter(torch.zeros(1, slices, features))
        # The published start: Kaiming's, of which the fan-out is the number of slices.
        nn.init.normal_(self.embedding, std=slices**-0.5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, slices, features) to the same.

        Raises:
            InputError: If there are more or fewer slices than it was built for.
        """
        have, want = features.shape[1], self.embedding.shape[1]
        if have != want:
            msg = (
                f"'positions: learned' is bound to {want} slices and was given {have}."
                " Set 'backbone: {positions: resized}', which takes any number, or 'none'."
            )
            raise InputError(msg)
        return _normalise(features + self.embedding, self.gain, self.bias)

    def token_grids(self) -> dict[str, TokenGrid]:
        """The parameters that belong to slices, with their grid; see `Backbone.token_grids`."""
        grid = TokenGrid(0, (self.embedding.shape[1],))
        return {name: grid for name, _ in self.named_parameters()}


class ResizedPositions(LearnedPositions):
    """Learned positions that are interpolated along the slices where there are more or fewer.

    The slices are taken to span the same part of the head; the gain and the bias of the norm are
    interpolated with the embedding, and the norm is over the slices that there are.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, slices, features), of any number of slices, to the same."""
        embedding, gain, bias = (
            _resize(values, features.shape[1]) for values in (self.embedding, self.gain, self.bias)
        )
        return _normalise(features + embedding, gain, bias)


def _resize(values: torch.Tensor, slices: int) -> torch.Tensor:
    if values.shape[1] == slices:
        return values
    resized = F.interpolate(values.transpose(1, 2), slices, mode="linear", align_corners=False)
    return resized.transpose(1, 2)


def _normalise(features: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(features, features.shape[1:], gain[0], bias[0])
