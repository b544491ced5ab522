"""Heads: from a backbone's features to a task's outputs."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import nn


class HeadOptions(BaseModel):
    """Options of a head.

    Attributes:
        kind: One linear layer, or two with a ReLU between them.
        hidden: Width between the two layers.
        dropout: Share of features (or hidden units) dropped while training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "mlp"] = "linear"
    hidden: PositiveInt = 256
    dropout: float = Field(0.0, ge=0, lt=1)


def make_head(options: HeadOptions, n_features: int, n_outputs: int) -> nn.Sequential:
    """Make a head.

    Example:
        >>> head = make_head(HeadOptions(kind="mlp", hidden=256), 4096, 2)
        >>> sum(p.numel() for p in head.parameters())
        1049346
    """
    if options.kind == "linear":
        return nn.Sequential(nn.Dropout(options.dropout), nn.Linear(n_features, n_outputs))
    return nn.Sequential(
        nn.Linear(n_features, options.hidden),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(options.hidden, n_outputs),
    )
