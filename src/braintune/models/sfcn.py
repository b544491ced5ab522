"""The simple fully convolutional network for brain age (Peng et al., Med. Image Anal. 2021)."""

from pydantic import Field
from torch import nn

from braintune.errors import InputError
from braintune.models.backbone import (
    BACKBONES,
    Backbone,
    BackboneEntry,
    BackboneOptions,
    InputShape,
    Step,
    demand_at_least,
)
from braintune.models.norms import NORMS, NormName


class SFCNOptions(BackboneOptions):
    """Options of the SFCN.

    Attributes:
        channels: Channels of the blocks; each but the last halves the resolution.
        norm: ``batch`` as published; ``instance`` and ``group`` do not depend on the batch, which
            helps where batches are small, and come after the pooling, where they cost an eighth.
    """

    channels: list[int] = Field([32, 64, 128, 256, 256, 64], min_length=2)
    norm: NormName = "batch"


class SFCN(Backbone):
    """Blocks of convolution, norm, max-pooling and ReLU, then a 1×1×1 block.

    Its features are the average over the last feature map. The published network averages over a
    window of the size of that map for 160 × 192 × 160 voxels, which is the same.
    """

    def __init__(self, options: SFCNOptions, image_channels: int) -> None:
        super().__init__()
        norm = NORMS[options.norm]
        blocks = []
        inputs = image_channels
        *pooled, last = options.channels
        for outputs in pooled:
            convolution = nn.Conv3d(inputs, outputs, 3, padding=1)
            rest = [norm(outputs), nn.MaxPool3d(2)]
            if options.norm != "batch":
                rest.reverse()
            blocks.append(nn.Sequential(convolution, *rest, nn.ReLU(inplace=True)))
            inputs = outputs
        blocks.append(nn.Sequential(nn.Conv3d(inputs, last, 1), norm(last), nn.ReLU(inplace=True)))
        self.blocks = nn.Sequential(*blocks)
        self.n_features = last

    def steps(self) -> list[Step]:
        """One a block; after the last, the average."""
        *blocks, last = self.blocks
        return [*blocks, lambda x: last(x).mean(dim=(2, 3, 4))]

    def stages(self) -> list[tuple[str, ...]]:
        """One a block."""
        return [(f"blocks.{number}",) for number in range(len(self.blocks))]


def _build(options: SFCNOptions, given: InputShape) -> Backbone:
    coarse = 2 ** (len(options.channels) - 1)
    demand_at_least("sfcn", given.shape, coarse)
    if options.norm == "instance" and max(given.shape) < 2 * coarse:
        msg = (
            f"sfcn with {len(options.channels)} blocks ends in one voxel for scans of"
            f" {' × '.join(map(str, given.shape))}, which an instance norm would turn into zeros."
            f" Leave a number out of 'backbone: {{channels: {options.channels}}}', or prepare"
            f" scans of {2 * coarse} voxels or more along an axis."
        )
        raise InputError(msg)
    return SFCN(options, given.channels)


BACKBONES.add(
    BackboneEntry(
        name="sfcn",
        family="sfcn",
        summary="simple fully convolutional network, the brain-age baseline of UK Biobank",
        paper="Peng et al. 2021, doi 10.1016/j.media.2020.101871",
        options=SFCNOptions,
        build=_build,
        published=InputShape(1, (160, 192, 160)),
        parameters=2_950_336,
    )
)
