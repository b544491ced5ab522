"""The latents of all scans, computed once and kept on the disk."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets.autoencoderkl import AutoencoderKL

from braintune.errors import InputError
from braintune.files import explained, make_folder
from braintune.synthesis.diffusion.data import TrainingData
from braintune.synthesis.diffusion.loop import Autocast
from braintune.synthesis.diffusion.recipe import DiffusionRecipe


@dataclass(frozen=True)
class Latents:
    """What the autoencoder makes of every scan.

    Attributes:
        values: Means and standard deviations, of shape (scans, 2, channels, x, y, z), float32,
            read from the disk as they are used.
        scale: By which latents are multiplied to have the standard deviation 1 over training rows.
    """

    values: npt.NDArray[np.float32]
    scale: float

    def drawn(self, rows: npt.NDArray[np.intp], noise: torch.Tensor) -> torch.Tensor:
        """Scaled latents of some scans, drawn from their distributions.

        Args:
            rows: The scans.
            noise: Standard normal, of shape (rows, channels, x, y, z).
        """
        mean, deviation = torch.from_numpy(np.array(self.values[rows])).unbind(1)
        return (mean + deviation * noise) * self.scale


def encode_all(
    network: AutoencoderKL,
    data: TrainingData,
    recipe: DiffusionRecipe,
    path: Path,
    device: torch.device,
    autocast: Autocast,
) -> Latents:
    """Encode every scan, unless the file is there already.

    Args:
        network: The trained autoencoder.
        data: The scans.
        recipe: The model.
        path: The ``.npy`` file; its name must change with the autoencoder.
        device: Where to compute.
        autocast: The precision.
    """
    shape = (len(data.table), 2, *recipe.latent_shape)
    if not path.exists():
        _encode(network, data, shape, path, device, autocast)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is broken ({error}). Delete it and train again.") from None
    if values.shape != shape or values.dtype != np.float32:
        raise InputError(f"{path} holds other latents. Delete it and train again.")
    return Latents(values, _scale(values, data.trained))


@torch.no_grad()
def _encode(
    network: AutoencoderKL,
    data: TrainingData,
    shape: tuple[int, ...],
    path: Path,
    device: torch.device,
    autocast: Autocast,
) -> None:
    make_folder(path.parent)
    building = path.with_suffix(".tmp")
    with explained(path):
        values = np.lib.format.open_memmap(building, mode="w+", dtype=np.float32, shape=shape)
        for row in range(shape[0]):
            with autocast():
                mean, deviation = network.encode(data.images([row]).to(device))
            values[row] = torch.stack([mean[0].float(), deviation[0].float()]).cpu().numpy()
        values.flush()
        del values
        building.replace(path)


def _scale(values: npt.NDArray[np.float32], rows: npt.NDArray[np.intp]) -> float:
    """One over the standard deviation of the rows' latents (Rombach et al., appendix G)."""
    count, total, square = 0, 0.0, 0.0
    for row in rows:
        mean, deviation = values[row].astype(np.float64)
        count += mean.size
        total += float(mean.sum())
        square += float((mean**2 + deviation**2).sum())
    variance = square / count - (total / count) ** 2
    return float(1 / np.sqrt(max(variance, 1e-12)))
