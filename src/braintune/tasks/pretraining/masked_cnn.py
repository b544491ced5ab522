"""Masked images for CNNs: hidden patches are zeros, and are filled in from the last feature map.

As SimMIM (Xie et al. 2022, arXiv 2111.09886): the network sees the whole image with holes, a light
decoder predicts the voxels, and the loss is that of hidden patches alone.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import Backbone, MapBackbone
from braintune.models.decoder import voxel_head
from braintune.tasks.pretraining.objective import Learner, Views
from braintune.tasks.pretraining.patches import (
    Triple,
    count_hidden,
    draw_orders,
    masked_losses,
    patchify,
    voxel_mask,
)

# Channels fall by half with each doubling of the resolution, to this many.
_FEWEST = 8


class InpaintingLearner(Learner):
    """A CNN and a light decoder from its last feature map to voxels.

    Args:
        backbone: The CNN.
        shape: Voxels along x, y and z.
        edge: Voxels along the edge of a patch.
        ratio: Share of the patches that is hidden.
        block: Patches along the edge of the blocks that are hidden together.
        normalise: Whether patches are normalised before they are compared.
        width: Channels of the decoder where it is coarsest.

    Raises:
        InputError: If the patches do not fill the shape, or the network has no feature map.
    """

    def __init__(
        self,
        backbone: Backbone,
        shape: Triple,
        *,
        edge: int,
        ratio: float,
        block: int,
        normalise: bool,
        width: int,
    ) -> None:
        super().__init__(backbone)
        self._shape, self._edge, self._block, self._normalise = shape, edge, block, normalise
        x, y, z = (n // edge for n in shape)
        self._grid: Triple = (x, y, z)
        if any(n % edge for n in shape) or math.prod(self._grid) < 2:
            raise InputError(
                f"objective.patch {edge} must divide prepare.shape {list(shape)} into two patches"
                f" or more. A patch of {math.gcd(*shape)} would."
            )
        self._hidden = count_hidden(math.prod(self._grid), ratio)
        self._put_decoder(width)

    def forward(self, views: Views) -> torch.Tensor:
        """The loss of each scan's hidden patches, of shape (batch,)."""
        (images,) = views.images
        order = draw_orders(self._grid, self._block, views.seeds).to(images.device)
        visible = order[:, self._hidden :]
        hidden = torch.ones(order.shape, device=images.device).scatter(1, visible, 0.0)
        holes = voxel_mask(hidden, self._grid, self._edge)
        predicted = patchify(self.voxels(images * (1 - holes)), self._edge)
        return masked_losses(predicted, patchify(images, self._edge), hidden, self._normalise)

    def voxels(self, images: torch.Tensor) -> torch.Tensor:
        """What the network and its decoder make of images with holes, of the images' shape."""
        self.backbone(images)
        decoded: torch.Tensor = self.decoder(self._caught.pop())
        return F.interpolate(decoded, size=self._shape, mode="trilinear")

    def _put_decoder(self, width: int) -> None:
        name, channels, found = find_last_map(self.backbone, self._shape)
        self._caught: list[torch.Tensor] = []
        self.backbone.get_submodule(name).register_forward_hook(
            lambda _module, _given, output: self._caught.append(output)
        )
        doublings = max(0, round(math.log2(max(self._shape) / max(found))))
        self.decoder: nn.Module = _decoder(channels, width, doublings)


class MapInpaintingLearner(InpaintingLearner):
    """A network whose own decoder gives one vector a voxel."""

    trains_decoder = True

    def voxels(self, images: torch.Tensor) -> torch.Tensor:
        """What the network and its decoder make of images with holes, of the images' shape."""
        assert isinstance(self.backbone, MapBackbone)
        found: torch.Tensor = self.decoder(self.backbone.maps(images))
        return found

    def _put_decoder(self, width: int) -> None:
        del width
        self.decoder = voxel_head(1)(self.backbone)


def find_last_map(backbone: Backbone, shape: Triple) -> tuple[str, int, Triple]:
    """The part of a CNN that gives the feature map whose mean over space are its features.

    Args:
        backbone: The network, on any device.
        shape: Voxels along x, y and z.

    Returns:
        Its name, the map's channels, and its voxels along x, y and z.

    Raises:
        InputError: If there is none.

    Example:
        >>> from braintune.models.backbone import InputShape, build_backbone
        >>> tiny = build_backbone("sfcn", InputShape(1, (16, 16, 16)), {"channels": [4, 8]})
        >>> find_last_map(tiny, (16, 16, 16))
        ('blocks.1', 8, (8, 8, 8))
    """
    found: list[tuple[str, torch.Size]] = []

    def look(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 5:
            found.append((name, output.shape))

    handles = [
        module.register_forward_hook(lambda _m, _x, output, name=name: look(name, output))
        for name, module in backbone.named_modules()
        if name
    ]
    was_training = backbone.training
    first = next(backbone.parameters())
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 1, *shape, device=first.device))
    backbone.train(was_training)
    for handle in handles:
        handle.remove()
    if not found or found[-1][1][1] != backbone.n_features or math.prod(found[-1][1][2:]) < 2:
        raise InputError(
            "Masked autoencoding needs a ViT with a learned grid of tokens (vit, nit, brainiac) or"
            " a CNN whose features are the mean of its last feature map, of two voxels at least."
            " Choose another backbone, another objective, or a larger prepare.shape."
        )
    name, (_, channels, x, y, z) = found[-1]
    return name, channels, (x, y, z)


def _decoder(channels: int, width: int, doublings: int) -> nn.Sequential:
    """From a feature map to one number a voxel, by doubling the resolution again and again."""
    layers: list[nn.Module] = [nn.Conv3d(channels, width, 1)]
    for _ in range(doublings):
        narrower = max(_FEWEST, width // 2)
        layers += [
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="trilinear"),
            nn.Conv3d(width, narrower, 3, padding=1),
        ]
        width = narrower
    return nn.Sequential(*layers, nn.GELU(), nn.Conv3d(width, 1, 1))
