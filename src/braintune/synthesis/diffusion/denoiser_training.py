"""Training the denoiser on the latents of the trained autoencoder."""

from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.inferer import DiffusionInferer
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

from braintune.synthesis.diffusion.chance import batch_rows, generator
from braintune.synthesis.diffusion.data import TrainingData
from braintune.synthesis.diffusion.ddim import DDIM, noising
from braintune.synthesis.diffusion.latents import Latents
from braintune.synthesis.diffusion.loop import Stage
from braintune.synthesis.diffusion.networks import HIDDEN, ConditionedDenoiser
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

_ROWS, _DRAWS, _LOOK = 61, 62, 63
# At how many times each held-out scan is looked at.
_TIMES = 8


def denoiser_stage(
    network: ConditionedDenoiser,
    data: TrainingData,
    latents: Latents,
    recipe: DiffusionRecipe,
    device: torch.device,
) -> Stage:
    """The second stage: noisy latents through the denoiser."""
    part, process = recipe.denoiser, noising(recipe.denoiser)
    size = part.train.batch_size

    def rows(step: int) -> npt.NDArray[np.intp]:
        # A seed of its own, so that batches differ from the autoencoder's.
        order = batch_rows(recipe.seed + _ROWS, step, len(data.trained), size)
        return data.trained[order]

    def losses(step: int) -> torch.Tensor:
        chosen, chance = rows(step), generator(recipe.seed, _DRAWS, step)
        shape = (size, *recipe.latent_shape)
        clean = latents.drawn(chosen, torch.randn(shape, generator=chance))
        noise = torch.randn(shape, generator=chance)
        times = torch.randint(part.timesteps, (size,), generator=chance)
        context = torch.from_numpy(data.values[chosen])
        hidden = torch.rand(size, 1, generator=chance) < part.drop
        context = context.masked_fill(hidden, HIDDEN)
        moved = [tensor.to(device) for tensor in (clean, noise, times, context[:, None])]
        return denoiser_losses(network, process, *moved)

    def scans(step: int) -> list[str]:
        return [data.scan_ids[row] for row in rows(step)]

    return Stage("denoiser", network, losses, scans, part.train)


def denoiser_losses(
    network: ConditionedDenoiser,
    process: DDIM,
    clean: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    context: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of what each scan's network predicts (Ho et al. 2020, equation 14).

    Args:
        network: The denoiser.
        process: The noising process, which says whether noise or velocity is predicted.
        clean: Scaled latents, of shape (batch, channels, x, y, z).
        noise: Standard normal, of the same shape.
        times: Of shape (batch,).
        context: Conditions, of shape (batch, 1, conditions).

    Returns:
        Of shape (batch,).
    """
    # Latents are at hand, so this is what LatentDiffusionInferer does after it has encoded scans.
    predicted = DiffusionInferer(process)(
        inputs=clean,
        diffusion_model=cast(DiffusionModelUNet, network),
        noise=noise,
        timesteps=times,
        condition=context,
    )
    is_noise = process.prediction_type == "epsilon"
    target = noise if is_noise else process.get_velocity(clean, noise, times)
    return (predicted.float() - target).square().flatten(1).mean(1)


@torch.no_grad()
def held_out_loss(
    network: ConditionedDenoiser,
    data: TrainingData,
    latents: Latents,
    recipe: DiffusionRecipe,
    device: torch.device,
) -> float | None:
    """The loss on scans that were not trained on, at fixed times and noise; None without any."""
    if not len(data.held_out):
        return None
    process = noising(recipe.denoiser)
    times = torch.linspace(0, recipe.denoiser.timesteps - 1, _TIMES).round().long().to(device)
    losses = []
    for row in data.held_out:
        chance = generator(recipe.seed, _LOOK, int(row))
        shape = (_TIMES, *recipe.latent_shape)
        rows = np.repeat(row, _TIMES)
        clean = latents.drawn(rows, torch.randn(shape, generator=chance)).to(device)
        noise = torch.randn(shape, generator=chance).to(device)
        context = torch.from_numpy(data.values[rows])[:, None].to(device)
        losses.append(denoiser_losses(network, process, clean, noise, times, context).mean())
    return float(torch.stack(losses).mean())
