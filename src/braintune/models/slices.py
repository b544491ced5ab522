"""Scans as stacks of 2D slices: the planes, and one feature vector a slice."""

from typing import Literal

import torch

from braintune.models.backbone import InputShape
from braintune.models.encoders.encoder import SliceEncoder, SliceShape

Plane = Literal["sagittal", "coronal", "axial"]
_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def as_slices(images: torch.Tensor, plane: Plane) -> torch.Tensor:
    """Cut scans into slices, in the order in which they lie along x, y or z.

    Args:
        images: Shape (batch, channels, x, y, z).
        plane: Sagittal slices lie along x, coronal along y and axial along z.

    Returns:
        Shape (batch, slices, channels, height, width); the height and width of a slice are the
        other two axes in their order.

    Example:
        >>> as_slices(torch.zeros(2, 1, 91, 109, 80), "coronal").shape
        torch.Size([2, 109, 1, 91, 80])
    """
    return images.movedim(2 + _AXES[plane], 1)


def count_slices(given: InputShape, plane: Plane) -> int:
    """How many slices of a plane a scan has."""
    return given.shape[_AXES[plane]]


def slice_shape(given: InputShape, plane: Plane) -> SliceShape:
    """What one slice of a plane is.

    Example:
        >>> slice_shape(InputShape(1, (91, 109, 80)), "coronal")
        SliceShape(channels=1, height=91, width=80)
    """
    height, width = (n for axis, n in enumerate(given.shape) if axis != _AXES[plane])
    return SliceShape(given.channels, height, width)


def encode_slices(encoder: SliceEncoder, images: torch.Tensor, plane: Plane) -> torch.Tensor:
    """Encode every slice by itself.

    Slices are folded into the batch scan by scan, so that no slice reaches another scan.

    Args:
        encoder: The encoder of one slice.
        images: Shape (batch, channels, x, y, z).
        plane: How scans are cut.

    Returns:
        Shape (batch, slices, features).
    """
    slices = as_slices(images, plane)
    features: torch.Tensor = encoder(slices.flatten(0, 1))
    return features.unflatten(0, slices.shape[:2])


def encoder_stages(encoder: SliceEncoder) -> list[tuple[str, ...]]:
    """Stages of an encoder as those of the backbone that calls it ``encoder``."""
    return [tuple(f"encoder.{name}" for name in stage) for stage in encoder.stages()]
