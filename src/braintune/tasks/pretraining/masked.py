"""Masked autoencoding: fill in what is hidden, by a ViT that sees the rest alone, or by a CNN."""

from pydantic import Field, PositiveInt

from braintune.errors import InputError
from braintune.models.backbone import Backbone, MapBackbone
from braintune.models.video import VideoBackbone
from braintune.models.vit import ViT
from braintune.tasks.pretraining.masked_cnn import InpaintingLearner, MapInpaintingLearner
from braintune.tasks.pretraining.masked_vit import MaskedTokensLearner
from braintune.tasks.pretraining.objective import (
    OBJECTIVES,
    Knowledge,
    Learner,
    Objective,
    ObjectiveEntry,
    ObjectiveOptions,
)

_PATCH, _DEPTH = 8, 2


class MaskedOptions(ObjectiveOptions):
    """Options of masked autoencoding.

    Attributes:
        ratio: Share of the patches that is hidden.
        block: Patches along the edge of the blocks that are hidden together; 1 hides single ones.
        patch: Voxels along the edge of a patch, for CNNs; 8 by default. A ViT has its own.
        normalise: Whether each patch is brought to mean 0 and variance 1 before it is compared.
        decoder_width: Length of the decoder's tokens, or channels of a CNN's decoder.
        decoder_depth: Blocks of a ViT's decoder; 2 by default.
    """

    ratio: float = Field(0.75, gt=0, lt=1)
    block: PositiveInt = 1
    patch: PositiveInt | None = None
    normalise: bool = True
    decoder_width: PositiveInt = Field(96, ge=6, le=4096)
    decoder_depth: PositiveInt | None = Field(None, le=64)


class Masked(Objective):
    """Filling in hidden patches."""

    def __init__(self, options: MaskedOptions) -> None:
        self._options = options

    def learner(self, backbone: Backbone, knowledge: Knowledge) -> Learner:
        """The way of hiding that suits the backbone."""
        options = self._options
        if isinstance(backbone, ViT):
            if options.patch is not None:
                msg = "objective.patch belongs to CNNs: a ViT's patches are its own. Leave it out."
                raise InputError(msg)
            depth = options.decoder_depth or _DEPTH
            return MaskedTokensLearner(
                backbone,
                ratio=options.ratio,
                block=options.block,
                normalise=options.normalise,
                width=options.decoder_width,
                depth=depth,
            )
        if options.decoder_depth is not None:
            raise InputError(
                "objective.decoder_depth belongs to ViTs; the decoder of a CNN is as deep as its"
                " last map is coarse. Leave it out."
            )
        kind = MapInpaintingLearner if isinstance(backbone, MapBackbone) else InpaintingLearner
        if isinstance(backbone, VideoBackbone):
            raise InputError(
                "Masked autoencoding needs a ViT with a learned grid of tokens (vit, nit, brainiac)"
                " or a CNN with a feature map in the scan's axes, which networks of videos lack."
                " Choose another backbone or another objective."
            )
        return kind(
            backbone,
            knowledge.shape,
            edge=options.patch or _PATCH,
            ratio=options.ratio,
            block=options.block,
            normalise=options.normalise,
            width=options.decoder_width,
        )


OBJECTIVES.add(ObjectiveEntry("masked", MaskedOptions, Masked))
