"""Masked autoencoders of 3D vision transformers (He et al., CVPR 2022, arXiv 2111.06377)."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from braintune.models.vit import Block, Plan, ViT, ViTOptions
from braintune.tasks.pretraining.objective import Learner, Views
from braintune.tasks.pretraining.patches import (
    Triple,
    count_hidden,
    draw_orders,
    masked_losses,
    patchify,
)

# Wavelengths of the positions rise up to this many tokens times 2π.
_LONGEST = 10_000.0


def grid_positions(grid: Triple, width: int) -> torch.Tensor:
    """Fixed positions of a grid of tokens: sines and cosines of the place along each axis.

    Args:
        grid: Tokens along each axis.
        width: Length of a token; what is left of it by six stays 0.

    Returns:
        Of shape (tokens, width).

    Example:
        >>> grid_positions((2, 1, 1), 6)[0].tolist()
        [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    """
    waves = width // 6
    rates = _LONGEST ** -(torch.arange(waves) / max(1, waves))
    places = torch.cartesian_prod(*[torch.arange(float(n)) for n in grid])
    angles = places[:, :, None] * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)
    return F.pad(table, (0, width - table.shape[1]))


class MaskedTokensLearner(Learner):
    """The encoder sees visible tokens alone; a small decoder fills in the others.

    Args:
        backbone: The ViT.
        ratio: Share of the tokens that is hidden.
        block: Tokens along the edge of the blocks that are hidden together.
        normalise: Whether patches are normalised before they are compared.
        width: Length of the decoder's tokens.
        depth: Blocks of the decoder.
    """

    positions: torch.Tensor

    def __init__(
        self, backbone: ViT, *, ratio: float, block: int, normalise: bool, width: int, depth: int
    ) -> None:
        super().__init__(backbone)
        self._block, self._normalise = block, normalise
        place = backbone.token_grids["pos_embed"]
        x, y, z = place.shape
        self._grid, self._extra = (x, y, z), place.extra
        self._hidden = count_hidden(math.prod(self._grid), ratio)
        self._edge = backbone.patch_embed.kernel_size[0]
        heads = max(n for n in range(1, max(2, width // 32 + 1)) if width % n == 0)
        sizes = ViTOptions(patch=1, width=width, depth=depth, heads=heads, hidden=4 * width)
        self.embed = nn.Linear(backbone.n_features, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*[Block(sizes, Plan()) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, backbone.patch_embed.weight[0].numel())
        self.register_buffer("positions", grid_positions(self._grid, width), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, views: Views) -> torch.Tensor:
        """The loss of each scan's hidden patches, of shape (batch,)."""
        (images,) = views.images
        order = draw_orders(self._grid, self._block, views.seeds).to(images.device)
        visible = order[:, self._hidden :]
        predicted = self.decode(self.encode(images, visible), visible)
        hidden = torch.ones(order.shape, device=images.device).scatter(1, visible, 0.0)
        patches = patchify(images, self._edge)
        return masked_losses(predicted, patches, hidden, self._normalise)

    def encode(self, images: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Features of visible tokens, from their voxels alone.

        Args:
            images: Of shape (batch, channels, x, y, z).
            visible: Numbers of the tokens, of shape (batch, visible).

        Returns:
            Of shape (batch, extra tokens + visible, width of the backbone).
        """
        vit = self.backbone
        assert isinstance(vit, ViT)
        patches = _taken(patchify(images, self._edge), visible)
        embedded = F.linear(patches, vit.patch_embed.weight.flatten(1), vit.patch_embed.bias)
        places = vit.pos_embed[:, self._extra :].expand(len(images), -1, -1)
        tokens = embedded + _taken(places, visible)
        if vit.plan.class_token:
            first = vit.cls_token + vit.pos_embed[:, : self._extra]
            tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], dim=1)
        features: torch.Tensor = vit.norm(vit.blocks(vit.drop(tokens)))
        return features

    def decode(self, features: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """The numbers of all patches, of shape (batch, tokens, numbers), from visible tokens."""
        tokens = self.embed(features)
        extra, seen = tokens[:, : self._extra], tokens[:, self._extra :]
        filled = self.mask_token.to(seen.dtype).expand(len(seen), len(self.positions), -1)
        where = visible[:, :, None].expand(-1, -1, seen.shape[2])
        placed = filled.scatter(1, where, seen) + self.positions
        decoded = self.norm(self.blocks(torch.cat([extra, placed], dim=1)))
        predicted: torch.Tensor = self.predict(decoded[:, self._extra :])
        return predicted


def _taken(tokens: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Some tokens of each scan: from (batch, tokens, width) to (batch, chosen, width)."""
    return tokens.gather(1, chosen[:, :, None].expand(-1, -1, tokens.shape[2]))
