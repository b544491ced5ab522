"""2D ResNets as they were published for ImageNet (He et al., CVPR 2016), built by MONAI.

MONAI builds them with the names and the function of torchvision's, which installs beside more torch
builds than it can be imported with.
"""

from pydantic import PositiveInt

from braintune.models.encoders.encoder import (
    ENCODERS,
    EncoderEntry,
    SliceShape,
    demand_slices,
)
from braintune.models.encoders.photograph_encoder import (
    PhotographEncoder,
    PhotographOptions,
    colour_channels,
    features_alone,
)


class ResNet2DOptions(PhotographOptions):
    """Options of the 2D ResNets; see also `PhotographOptions`.

    Attributes:
        width: Channels of the first stage.
    """

    width: PositiveInt = 64


def _register(name: str, block: str, depths: list[int], expansion: int) -> None:
    def build(options: ResNet2DOptions, given: SliceShape) -> PhotographEncoder:
        from monai.networks.nets.resnet import ResNet

        demand_slices(name, given, 16)
        network = ResNet(
            block=block,
            layers=depths,
            block_inplanes=[options.width * 2**stage for stage in range(4)],
            spatial_dims=2,
            n_input_channels=colour_channels(given),
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
            feed_forward=False,
        )
        encoder = PhotographEncoder(network, features_alone, options)
        encoder.n_features = 8 * options.width * expansion
        return encoder

    ENCODERS.add(
        EncoderEntry(
            name=name,
            summary=f"2D ResNet-{name.removeprefix('resnet')} of ImageNet",
            paper="He et al. 2016, arXiv 1512.03385",
            options=ResNet2DOptions,
            build=build,
        )
    )


_register("resnet18", "basic", [2, 2, 2, 2], 1)
_register("resnet34", "basic", [3, 4, 6, 3], 1)
_register("resnet50", "bottleneck", [3, 4, 6, 3], 4)
