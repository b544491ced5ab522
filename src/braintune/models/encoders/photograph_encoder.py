"""Encoders that are networks of photographs: three colour channels, and their own libraries.

A grey slice is shown to them in all three channels, as Gupta et al. (arXiv 2303.01491) do, so that
their first layer keeps its published shape.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from braintune.errors import InputError
from braintune.models.encoders.encoder import EncoderOptions, SliceEncoder, SliceShape

# Mean and standard deviation of ImageNet's colours, for intensities in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PhotographOptions(EncoderOptions):
    """Options of every network of photographs.

    Attributes:
        normalise: ``imagenet`` subtracts the mean of ImageNet's colours and divides by their
            standard deviation, for intensities in [0, 1] (``prepare: {intensity: minmax}``);
            ``none`` leaves intensities as they were prepared, as the paper does.
    """

    normalise: Literal["none", "imagenet"] = "none"


def colour_channels(given: SliceShape) -> int:
    """Channels that a network of photographs is built with: grey slices are shown as colours.

    Example:
        >>> [colour_channels(SliceShape(n, 64, 64)) for n in (1, 2, 3)]
        [3, 2, 3]
    """
    return 3 if given.channels == 1 else given.channels


class PhotographEncoder(SliceEncoder):
    """A library's network of photographs, shown slices.

    Args:
        network: From (slices, `colour_channels`, height, width) to what `read` takes.
        read: From what the network puts out to (slices, n_features).
        options: How intensities are normalised.
        patch: Edge of a patch. Slices are enlarged to whole patches with the values of their edges,
            evenly on both sides, so that no voxel is lost and none is resampled.

    Attributes:
        network: The library's network, with the library's names of parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        read: Callable[[Any], torch.Tensor],
        options: PhotographOptions,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self.normalise = options.normalise
        self._read = read
        self._patch = patch

    def forward(self, slices: torch.Tensor) -> torch.Tensor:
        """From (slices, channels, height, width) to (slices, n_features)."""
        images = slices.expand(-1, 3, -1, -1) if slices.shape[1] == 1 else slices
        if self.normalise == "imagenet":
            images = normalise_colours(images)
        return self._read(self.network(whole_patches(images, self._patch)))

    def stages(self) -> list[tuple[str, ...]]:
        """The network's layers in the order in which they were made; one a block."""
        return [
            tuple(f"network.{name}" for name in stage) for stage in layers_in_order(self.network)
        ]


def features_alone(features: torch.Tensor) -> torch.Tensor:
    """What to read from a network that puts out its features and nothing else."""
    return features


def normalise_colours(images: torch.Tensor) -> torch.Tensor:
    """Give images in [0, 1] the colours that networks of ImageNet expect.

    Args:
        images: Shape (images, 3, height, width).

    Raises:
        InputError: If there are not three channels.
    """
    if images.shape[1] != 3:
        msg = f"'normalise: imagenet' needs 1 or 3 image channels, not {images.shape[1]}."
        raise InputError(msg)
    mean, std = (
        images.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean) / std


def whole_patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Enlarge images to multiples of a patch with the values of their edges.

    Args:
        images: Shape (images, channels, height, width).
        patch: Edge of a patch.

    Example:
        >>> whole_patches(torch.zeros(1, 3, 96, 80), 14).shape
        torch.Size([1, 3, 98, 84])
    """
    height, width = (-n % patch for n in images.shape[2:])
    if height == 0 and width == 0:
        return images
    edges = (width // 2, width - width // 2, height // 2, height - height // 2)
    return F.pad(images, edges, mode="replicate")


def layers_in_order(network: nn.Module) -> list[tuple[str, ...]]:
    """Names of a network's parts in the order in which they were made; lists of blocks are opened.

    Example:
        >>> trunk = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> layers_in_order(nn.ModuleDict({"stem": nn.Linear(2, 2), "trunk": trunk}))
        [('stem',), ('trunk.0',), ('trunk.2',)]
    """
    own = tuple(name for name, _ in network.named_parameters(recurse=False))
    stages = [own] if own else []
    for name, child in network.named_children():
        if next(child.parameters(), None) is None:
            continue
        inner = layers_in_order(child) if _holds_blocks(child) else [("",)]
        stages += [tuple(f"{name}.{part}".rstrip(".") for part in parts) for parts in inner]
    return stages


def _holds_blocks(module: nn.Module) -> bool:
    lists = (nn.Sequential, nn.ModuleList)
    return isinstance(module, lists) or any(
        isinstance(child, nn.ModuleList) for child in module.children()
    )


def demand_network(
    name: str, encoder: PhotographEncoder, given: SliceShape, remedy: str = ""
) -> int:
    """Show an encoder of any library one slice, and tell the length of its features.

    Args:
        name: What the user called the network.
        encoder: The encoder.
        given: The slices.
        remedy: What may help if the network refuses.

    Raises:
        InputError: If the network can't take such slices, with the library's words.
    """
    encoder.eval()
    try:
        with torch.no_grad():
            features = encoder(torch.zeros(1, given.channels, given.height, given.width))
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        said = str(error).rstrip(".")
        msg = f"{name} can't take slices of {given.height} × {given.width} pixels: {said}.{remedy}"
        raise InputError(msg) from None
    encoder.train()
    if features.ndim != 2:
        msg = f"{name} gives {list(features.shape)} for one slice instead of one vector."
        raise InputError(msg)
    return int(features.shape[1])
