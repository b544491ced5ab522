"""What networks with a decoder share: it can be dropped, and a head sits on its last map."""

from collections.abc import Callable

from torch import nn

from braintune.models.backbone import Backbone, MapBackbone


class DecoderBackbone(MapBackbone):
    """A backbone whose decoder is a few submodules of its own.

    Attributes:
        decoder_parts: Names of the submodules that only `maps` needs.
    """

    decoder_parts: tuple[str, ...]

    def drop_decoder(self) -> None:
        """Forget the decoder; from then on there are features but no maps."""
        for name in self.decoder_parts:
            delattr(self, name)


def voxel_head(classes: int) -> Callable[[Backbone], nn.Module]:
    """What makes the head of a segmentation network: a 1×1×1 convolution from maps to classes.

    Args:
        classes: How many the published network tells apart.

    Example:
        >>> tiny = DecoderBackbone()
        >>> tiny.n_maps = 8
        >>> voxel_head(3)(tiny)
        Conv3d(8, 3, kernel_size=(1, 1, 1), stride=(1, 1, 1))
    """

    def head(backbone: Backbone) -> nn.Module:
        assert isinstance(backbone, MapBackbone)
        return nn.Conv3d(backbone.n_maps, classes, 1)

    return head
