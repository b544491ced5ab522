"""The two networks, and how conditions enter the denoiser."""

import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from torch import nn

from braintune.synthesis.diffusion.recipe import DiffusionRecipe

# What a hidden condition is shown as; true ones lie in [0, 1].
HIDDEN = -1.0


def build_autoencoder(recipe: DiffusionRecipe) -> AutoencoderKL:
    """The autoencoder, with random weights from torch's generator of the moment."""
    part = recipe.autoencoder
    return AutoencoderKL(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=part.channels,
        latent_channels=part.latent_channels,
        num_res_blocks=part.res_blocks,
        norm_num_groups=part.norm_groups,
        norm_eps=1e-6,
        attention_levels=[False] * len(part.channels),
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )


class ConditionedDenoiser(nn.Module):
    """A denoiser that sees its conditions as channels and by cross-attention.

    Attributes:
        unet: MONAI's network.
    """

    def __init__(self, unet: DiffusionModelUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """What the network predicts of noisy latents.

        Args:
            x: Of shape (batch, latent channels, x, y, z).
            timesteps: Of shape (batch,) or (1,).
            context: Conditions in [0, 1] or `HIDDEN`, of shape (batch, 1, conditions).

        Returns:
            Of the shape of ``x``.
        """
        channels = context[:, 0, :, None, None, None].expand(-1, -1, *x.shape[2:])
        return self.unet(torch.cat([x, channels], dim=1), timesteps=timesteps, context=context)


def build_denoiser(recipe: DiffusionRecipe) -> ConditionedDenoiser:
    """The denoiser, with random weights from torch's generator of the moment."""
    part = recipe.denoiser
    latent, conditions = recipe.autoencoder.latent_channels, len(recipe.conditions)
    unet = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=latent + conditions,
        out_channels=latent,
        channels=part.channels,
        num_res_blocks=part.res_blocks,
        attention_levels=part.attention,
        norm_num_groups=part.norm_groups,
        norm_eps=1e-6,
        resblock_updown=part.resblock_updown,
        num_head_channels=part.head_channels,
        with_conditioning=True,
        transformer_num_layers=1,
        cross_attention_dim=conditions,
        upcast_attention=part.upcast_attention,
    )
    return ConditionedDenoiser(unet)


def computes_bf16(recipe: DiffusionRecipe, device: torch.device) -> bool:
    """Whether convolutions and matrix products run in bfloat16.

    oneDNN's bfloat16 gradients are wrong where a grid is smaller than a kernel, so such recipes
    compute in float32 unless they ask otherwise.
    """
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return recipe.deepest >= 3 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
