"""Training the autoencoder, without any network that would have to be fetched."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from monai.networks.nets.autoencoderkl import AutoencoderKL

from braintune.synthesis.diffusion.chance import batch_rows, generator
from braintune.synthesis.diffusion.data import TrainingData
from braintune.synthesis.diffusion.loop import Stage
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

_DRAWS = 51


def autoencoder_stage(
    network: AutoencoderKL,
    data: TrainingData,
    recipe: DiffusionRecipe,
    device: torch.device,
    first: int,
) -> Stage:
    """The first stage: scans through the autoencoder.

    Args:
        network: The autoencoder, on the device.
        data: The scans.
        recipe: The model.
        device: Where to compute.
        first: The step that training goes on from; steps are asked for in order from there.
    """
    part = recipe.autoencoder
    rows = [
        data.trained[batch_rows(recipe.seed, step, len(data.trained), part.train.batch_size)]
        for step in range(part.train.steps)
    ]
    batches: Iterator[torch.Tensor] = data.loader().batches(rows[first:])

    def losses(step: int) -> torch.Tensor:
        images = next(batches).to(device).float()
        noise = torch.randn(
            (len(images), *recipe.latent_shape), generator=generator(recipe.seed, _DRAWS, step)
        )
        return autoencoder_losses(network, images, noise.to(device), part.kl)

    def scans(step: int) -> list[str]:
        return [data.scan_ids[row] for row in rows[step]]

    return Stage("autoencoder", network, losses, scans, part.train)


def autoencoder_losses(
    network: AutoencoderKL, images: torch.Tensor, noise: torch.Tensor, kl: float
) -> torch.Tensor:
    """Mean absolute error and weighted divergence of each scan (Rombach et al. 2022, appendix G).

    Args:
        network: The autoencoder.
        images: Of shape (batch, 1, x, y, z).
        noise: Standard normal, of the latents' shape.
        kl: Weight of the Kullback–Leibler divergence of the latents from a standard normal.

    Returns:
        Of shape (batch,).
    """
    mean, deviation = network.encode(images)
    mean, deviation = mean.float(), deviation.float()
    restored = network.decode(mean + deviation * noise).float()
    error = F.l1_loss(restored, images, reduction="none").flatten(1).mean(1)
    variance = deviation.square()
    terms = mean.square() + variance - 1 - variance.clamp_min(1e-30).log()
    return error + kl * 0.5 * terms.flatten(1).sum(1)


@torch.no_grad()
def restoring_error(
    network: AutoencoderKL, data: TrainingData, rows: list[int], device: torch.device
) -> float | None:
    """Mean absolute error of restored scans, the latents being the means; None without rows."""
    if not rows:
        return None
    errors = []
    for row in rows:
        images = data.images([row]).to(device)
        errors.append(float(F.l1_loss(network.reconstruct(images).float(), images)))
    return sum(errors) / len(errors)
