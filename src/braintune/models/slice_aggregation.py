"""From the features of a scan's slices to those of the scan (Gupta et al., arXiv 2303.01491)."""

import math

import torch
from torch import nn


class SliceMean(nn.Module):
    """The mean over slices."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, slices, features) to (batch, features)."""
        return features.mean(dim=1)


class SliceMax(nn.Module):
    """The maximum of each feature over slices."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, slices, features) to (batch, features)."""
        return features.amax(dim=1)


class SliceAttention(nn.Module):
    """One learned query attends to all slices; a norm and a linear layer follow.

    Args:
        width: Length of the feature vectors.

    Example:
        >>> attention = SliceAttention(8)
        >>> attention(torch.zeros(2, 5, 8)).shape
        torch.Size([2, 8])
        >>> attention.weights(torch.zeros(1, 5, 8))
        tensor([[0.2000, 0.2000, 0.2000, 0.2000, 0.2000]], grad_fn=<SoftmaxBackward0>)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, width))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.query)

    def weights(self, features: torch.Tensor) -> torch.Tensor:
        """How much each slice counts: from (batch, slices, features) to (batch, slices)."""
        scores = self.key(features) @ self.query[0] / math.sqrt(self.query.shape[1])
        return torch.softmax(scores, dim=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """From (batch, slices, features) to (batch, features)."""
        weighted = self.weights(features).unsqueeze(1) @ self.value(features)
        pooled: torch.Tensor = self.output(self.norm(weighted.squeeze(1)))
        return pooled
