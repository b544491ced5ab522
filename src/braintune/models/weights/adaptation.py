"""Meeting a network of another input: fewer channels, a third axis, another grid of tokens.

A network whose stem was summed answers a grey image as the original answered the same image in all
its channels. An inflated layer answers an image that does not change along x as the original
answered one of its slices, but at the borders, where padding with zeros is a change along x.
"""

import torch
import torch.nn.functional as F

from braintune.models.backbone import TokenGrid

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def sum_channels(kernel: torch.Tensor, channels: int) -> torch.Tensor:
    """A first layer for another number of image channels.

    The kernels are summed over the channels they have and shared out evenly, so that the same image
    in all channels gets the same response.

    Args:
        kernel: Shape (outputs, channels it has, …).
        channels: Channels that the images have.

    Returns:
        Shape (outputs, channels, …).

    Example:
        >>> sum_channels(torch.ones(8, 3, 7, 7, 7), 1).shape
        torch.Size([8, 1, 7, 7, 7])
    """
    total = kernel.sum(dim=1, keepdim=True) / channels
    return total.repeat(1, channels, *[1] * (kernel.ndim - 2))


def inflate(kernel: torch.Tensor, depth: int) -> torch.Tensor:
    """A 3D kernel from one of 2D images (Carreira and Zisserman, arXiv 1705.07750).

    The kernel is repeated along x, the first axis, and divided by the repeats: images that do not
    change along x get the same response away from the borders.

    Args:
        kernel: Shape (outputs, inputs, height, width).
        depth: Length along x.

    Returns:
        Shape (outputs, inputs, depth, height, width).
    """
    return kernel.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth


def resize_positions(embedding: torch.Tensor, have: TokenGrid, want: TokenGrid) -> torch.Tensor:
    """Position embeddings for another grid of tokens, by linear interpolation.

    Tokens without a place, such as the class token, are kept. Embeddings of a 2D grid are resized
    to the last two axes and repeated along the first.

    Args:
        embedding: Shape (1, extra tokens + tokens of the grid, width).
        have: The grid that it is of.
        want: The grid that is needed, with as many extra tokens.

    Returns:
        Shape (1, extra tokens + tokens of the new grid, width).

    Example:
        >>> positions = torch.randn(1, 1 + 27, 8)
        >>> have, want = TokenGrid(1, (3, 3, 3)), TokenGrid(1, (5, 6, 5))
        >>> resize_positions(positions, have, want).shape
        torch.Size([1, 151, 8])
    """
    extra, placed = embedding[:, : have.extra], embedding[:, have.extra :]
    grid = placed.transpose(1, 2).unflatten(2, have.shape)
    size = want.shape[-len(have.shape) :]
    if size != have.shape:
        grid = F.interpolate(grid, size, mode=_MODES[len(size)], align_corners=False)
    if len(have.shape) < len(want.shape):
        grid = grid.unsqueeze(2).expand(-1, -1, want.shape[0], *size)
    return torch.cat([extra, grid.flatten(2).transpose(1, 2)], dim=1)


def resize_table(table: torch.Tensor, length: int) -> torch.Tensor:
    """A table of relative positions for another length, by linear interpolation.

    Args:
        table: Shape (distances, width).
        length: Distances that are needed.

    Returns:
        Shape (length, width).
    """
    resized = F.interpolate(table.T[None], length, mode="linear", align_corners=False)
    return resized[0].T
