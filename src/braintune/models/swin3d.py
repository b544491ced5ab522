"""Video Swin-T, a transformer with attention in shifted windows (Liu et al., arXiv 2106.13230).

Keys and shapes of the weights are those of torchvision's ``swin3d_t`` without ``head`` and without
the ``relative_position_index`` buffers, which say nothing that the window does not.
"""

from functools import partial
from typing import Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    InputShape,
    Step,
    run_steps,
)
from braintune.models.stochastic_depth import StochasticDepth, rising_rates
from braintune.models.swin3d_windows import (
    WindowAttention,
    WindowOffsets,
    WindowPlan,
    pad_to_multiples,
)
from braintune.models.video import (
    VideoBackbone,
    VideoTransformerOptions,
    initialise_transformer,
    perceptron,
)

_PATCH = (2, 4, 4)


class Swin3DOptions(VideoTransformerOptions):
    """Options of Video Swin.

    Attributes:
        width: Length of the first stage's tokens; doubles from stage to stage.
        depths: Blocks in each stage.
        heads: Attention heads in each stage.
        window: Tokens along time, height and width that see each other.
        window_offsets: In a window that a small grid cuts down in height or width, the
            ``"published"`` code takes the biases of other offsets than tokens have; ``"true"``
            takes the right ones.
        drop_path: See `VideoTransformerOptions`.
    """

    width: PositiveInt = 96
    depths: tuple[PositiveInt, ...] = Field((2, 2, 6, 2), min_length=1)
    heads: tuple[PositiveInt, ...] = (3, 6, 12, 24)
    window: tuple[PositiveInt, PositiveInt, PositiveInt] = (8, 7, 7)
    window_offsets: WindowOffsets = "published"
    drop_path: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if len(self.heads) != len(self.depths):
            msg = f"heads {list(self.heads)} and depths {list(self.depths)} must be as many"
            raise ValueError(msg)
        if any(self.width * 2**stage % heads for stage, heads in enumerate(self.heads)):
            msg = (
                f"width {self.width}, doubled each stage, must be a multiple of {list(self.heads)}"
            )
            raise ValueError(msg)
        return self


class PatchEmbedding(nn.Module):
    """Tokens of patches of 2 × 4 × 4 voxels, and a norm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, t, h, w) to (batch, t / 2, h / 4, w / 4, width), rounded up."""
        whole = pad_to_multiples(video.movedim(1, -1), _PATCH).movedim(-1, 1)
        normed: torch.Tensor = self.norm(self.proj(whole).movedim(1, -1))
        return normed


class PatchMerging(nn.Module):
    """Four tokens, neighbours in height and width, become one twice as long."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, t, h, w, width) to (batch, t, h / 2, w / 2, 2 · width), rounded up."""
        tokens = pad_to_multiples(tokens, (1, 2, 2))
        # Height is the faster of the two in the order of the four.
        corners = [tokens[:, :, h::2, w::2] for w in range(2) for h in range(2)]
        merged: torch.Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return merged


class SwinBlock(nn.Module):
    """Attention in windows and a perceptron, each after a norm and beside a shortcut.

    Args:
        plan: Sizes.
        dropout: Share of activations dropped in the perceptron.
        drop_path: Share of scans for which a branch is dropped in training.
    """

    def __init__(self, plan: WindowPlan, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(plan.width)
        self.attn = WindowAttention(plan)
        self.norm2 = nn.LayerNorm(plan.width)
        self.mlp = perceptron(plan.width, plan.width, dropout)
        self.stochastic_depth = StochasticDepth(drop_path)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """From (batch, time, height, width, channels) to the same."""
        tokens = tokens + self.stochastic_depth(self.attn(self.norm1(tokens)))
        return tokens + self.stochastic_depth(self.mlp(self.norm2(tokens)))


class Swin3D(VideoBackbone):
    """Video Swin; its features are the average over the last tokens after a norm.

    Args:
        options: Sizes.
        channels: Image channels.
    """

    def __init__(self, options: Swin3DOptions, channels: int) -> None:
        super().__init__(options.time_axis)
        self.depths = options.depths
        self.patch_embed = PatchEmbedding(channels, options.width)
        rates = iter(rising_rates(options.drop_path, sum(options.depths)))
        layers: list[nn.Module] = []
        for stage, depth in enumerate(options.depths):
            if stage:
                layers.append(PatchMerging(options.width * 2 ** (stage - 1)))
            plans = [_plan(options, stage, shifted=bool(block % 2)) for block in range(depth)]
            blocks = [SwinBlock(plan, options.dropout, next(rates)) for plan in plans]
            layers.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*layers)
        self.n_features = options.width * 2 ** (len(options.depths) - 1)
        self.norm = nn.LayerNorm(self.n_features)
        initialise_transformer(self)

    def steps(self) -> list[Step]:
        """The embedding, then one a block; a stage's merging goes with its first block."""
        blocks: list[Step] = []
        for stage in range(len(self.depths)):
            first, *others = self.features.get_submodule(f"{2 * stage}").children()
            merging = [self.features.get_submodule(f"{2 * stage - 1}")] if stage else []
            blocks += [partial(run_steps, [*merging, first]), *others]
        *before, last = blocks
        return [
            lambda images: self.patch_embed(self.video(images)),
            *before,
            lambda tokens: self.norm(last(tokens)).mean(dim=(1, 2, 3)),
        ]

    def stages(self) -> list[tuple[str, ...]]:
        """The embedding, then one a block; a stage's merging goes with its first block."""
        stages: list[tuple[str, ...]] = [("patch_embed",)]
        for stage, depth in enumerate(self.depths):
            first, *others = [f"features.{2 * stage}.{block}" for block in range(depth)]
            stages.append((f"features.{2 * stage - 1}", first) if stage else (first,))
            stages += [(block,) for block in others]
        return [*stages[:-1], (*stages[-1], "norm")]


def _plan(options: Swin3DOptions, stage: int, *, shifted: bool) -> WindowPlan:
    return WindowPlan(
        width=options.width * 2**stage,
        heads=options.heads[stage],
        window=options.window,
        shifted=shifted,
        offsets=options.window_offsets,
    )


def _build(options: Swin3DOptions, given: InputShape) -> Backbone:
    return Swin3D(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="swin3d-t",
        family="video",
        summary="Video Swin-T, a transformer of videos with attention in shifted windows",
        paper="Liu et al. 2022, arXiv 2106.13230",
        options=Swin3DOptions,
        build=_build,
        published=InputShape(3, (32, 224, 224)),
        parameters=27_850_470,
    )
)
