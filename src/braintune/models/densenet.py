r"""DenseNet-121 in 3D: each layer sees the maps of all before it (Huang et al., CVPR 2017).

The network is MONAI's without its classifier. Its names are torchvision's but for ``.layers``:
``(denselayer\d+)\.(norm|conv)`` there is ``\1.layers.\2`` here, and the kernels of its
convolutions have one axis more.
"""

from functools import partial

import torch.nn.functional as F
from pydantic import Field, PositiveInt

from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    Step,
    demand_at_least,
    run_steps,
)


class DenseNetOptions(BackboneOptions):
    """Options of the DenseNets.

    Attributes:
        growth: Channels that each layer adds; the stem has twice as many.
        blocks: Layers of the dense blocks, between which the resolution is halved.
        dropout: Share of activations dropped after each layer.
    """

    growth: PositiveInt = 32
    blocks: list[PositiveInt] = Field([6, 12, 24, 16], min_length=2)
    dropout: float = Field(0.0, ge=0, lt=1)


class DenseNet(Backbone):
    """MONAI's DenseNet; its features are the average over the last map, after norm and ReLU.

    Args:
        options: Sizes.
        channels: Image channels.
    """

    def __init__(self, options: DenseNetOptions, channels: int) -> None:
        from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

        super().__init__()
        network = MonaiDenseNet(
            spatial_dims=3,
            in_channels=channels,
            out_channels=1,
            init_features=2 * options.growth,
            growth_rate=options.growth,
            block_config=options.blocks,
            dropout_prob=options.dropout,
        )
        self.features = network.features
        self.n_features = self.features.get_parameter("norm5.weight").numel()
        self.n_blocks = len(options.blocks)

    def steps(self) -> list[Step]:
        """The stem, then one a dense block with what follows it; after the last, the average."""
        parts = dict(self.features.named_children())
        blocks = [
            partial(run_steps, [parts[f"denseblock{number}"], parts[f"transition{number}"]])
            for number in range(1, self.n_blocks)
        ]
        stem = partial(run_steps, [parts[name] for name in ("conv0", "norm0", "relu0", "pool0")])
        last = partial(run_steps, [parts[f"denseblock{self.n_blocks}"], parts["norm5"]])
        return [stem, *blocks, lambda x: F.relu(last(x)).mean(dim=(2, 3, 4))]

    def stages(self) -> list[tuple[str, ...]]:
        """The stem, then one a dense block with what follows it.

        The layers of a block are at like depth: each is tied directly to the block's input and to
        its output.
        """
        blocks = [
            (f"features.denseblock{number}", f"features.transition{number}")
            for number in range(1, self.n_blocks)
        ]
        last = (f"features.denseblock{self.n_blocks}", "features.norm5")
        return [("features.conv0", "features.norm0"), *blocks, last]


def _build(options: DenseNetOptions, given: InputShape) -> Backbone:
    # The stem's two halvings round up, those between the blocks down.
    demand_at_least("densenet121", given.shape, 4 * 2 ** (len(options.blocks) - 1) - 3)
    return DenseNet(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="densenet121",
        family="densenet",
        summary="3D DenseNet of 121 layers, each of which sees all before it",
        paper="Huang et al. 2017, arXiv 1608.06993",
        options=DenseNetOptions,
        build=_build,
        published=InputShape(1, (96, 96, 96)),
        parameters=11_242_624,
    )
)
