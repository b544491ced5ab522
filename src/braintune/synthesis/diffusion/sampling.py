"""Scans from a model, each a function of the model, its conditions and its own seed."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers.inferer import LatentDiffusionInferer
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from scipy import ndimage

from braintune.errors import InputError
from braintune.imaging.nifti import FloatArray
from braintune.synthesis.diffusion.chance import generator
from braintune.synthesis.diffusion.conditions import Values
from braintune.synthesis.diffusion.ddim import noising
from braintune.synthesis.diffusion.model import DiffusionModel
from braintune.synthesis.diffusion.networks import HIDDEN
from braintune.synthesis.diffusion.recipe import DiffusionRecipe

_NOISE = 72
# Below this share of the brightest 1 % is what the decoder leaves of an empty background.
_BACKGROUND = 0.04


def demand_guidance(recipe: DiffusionRecipe, guidance: float) -> None:
    """Make sure that a model can be guided.

    Raises:
        InputError: If guidance is asked of a model that never saw scans without conditions.
    """
    if guidance != 1 and recipe.denoiser.drop == 0:
        msg = (
            f"Guidance {guidance:g} needs a model that was trained with hidden conditions, and this"
            " one was not (denoiser.drop is 0). Set guidance=1."
        )
        raise InputError(msg)


@torch.no_grad()
def sample_images(
    model: DiffusionModel,
    values: Values,
    numbers: Sequence[int],
    *,
    seed: int,
    steps: int,
    guidance: float,
    device: torch.device,
) -> torch.Tensor:
    """Sample a batch of scans by DDIM with classifier-free guidance (Ho and Salimans 2022).

    Args:
        model: The model, on the device.
        values: Conditions in [0, 1], of shape (batch, conditions).
        numbers: Number of each sample, which with the seed gives its noise.
        seed: The seed of all samples.
        steps: Steps of DDIM.
        guidance: 1 takes the conditions as they are; more moves further from what is predicted
            without conditions.
        device: Where to compute.

    Returns:
        Of shape (batch, 1, x, y, z), float32, on the processor.
    """
    recipe = model.record.recipe
    process = noising(recipe.denoiser)
    process.set_timesteps(steps)
    noise = torch.cat(
        [
            torch.randn((1, *recipe.latent_shape), generator=generator(seed, _NOISE, number))
            for number in numbers
        ]
    )
    images = LatentDiffusionInferer(process, scale_factor=model.record.scale).sample(
        input_noise=noise.to(device),
        autoencoder_model=model.autoencoder,
        diffusion_model=cast(DiffusionModelUNet, model.denoiser),
        conditioning=torch.from_numpy(values)[:, None].to(device),
        verbose=False,
        cfg=None if guidance == 1 else guidance,
        cfg_fill_value=HIDDEN,
    )
    assert isinstance(images, torch.Tensor)
    return images.float().cpu()


def tidied(image: npt.NDArray[np.floating]) -> FloatArray:
    """A sampled scan as scanners write them: nothing negative, and an empty background of 0.

    What is kept is the largest connected part above the background, with its dark inside.

    Args:
        image: Of shape (x, y, z), about [0, 1].
    """
    positive = np.clip(image, 0, None).astype(np.float32)
    bright = float(np.percentile(positive, 99))
    labels, count = ndimage.label(positive > _BACKGROUND * bright)
    if count == 0:
        return np.zeros_like(positive)
    sizes = np.bincount(labels.ravel())[1:]
    head = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    # 0 means background to those who read the scan, so the darkest of the inside stays above it.
    return np.where(head, np.maximum(positive, 1e-3), 0).astype(np.float32)
