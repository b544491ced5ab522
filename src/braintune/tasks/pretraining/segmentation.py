"""Pre-training on the label maps of generated scans: which tissue each voxel is of."""

import torch
import torch.nn.functional as F
from pydantic import NonNegativeFloat

from braintune.errors import InputError
from braintune.models.backbone import Backbone, MapBackbone
from braintune.models.decoder import voxel_head
from braintune.tasks.pretraining.objective import (
    OBJECTIVES,
    Knowledge,
    Learner,
    Objective,
    ObjectiveEntry,
    ObjectiveOptions,
    Views,
)
from braintune.tasks.segmentation_losses import soft_dice

# So that classes that a generated scan has none of do no harm.
_SMOOTH = 1.0


class SegmentationOptions(ObjectiveOptions):
    """Options of pre-training by segmentation.

    Attributes:
        dice: What the Dice loss is multiplied by, beside the cross-entropy.
    """

    dice: NonNegativeFloat = 1.0


class SegmentationLearner(Learner):
    """A backbone with its decoder and a 1×1×1 convolution to classes."""

    trains_decoder = True
    table: torch.Tensor

    def __init__(self, backbone: MapBackbone, classes: tuple[int, ...], dice: float) -> None:
        super().__init__(backbone)
        self._dice = dice
        self.head = voxel_head(1 + max(classes))(backbone)
        self.register_buffer("table", torch.tensor(classes), persistent=False)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """From (batch, channels, x, y, z) to (batch, classes, x, y, z)."""
        assert isinstance(self.backbone, MapBackbone)
        found: torch.Tensor = self.head(self.backbone.maps(images))
        return found.float()

    def forward(self, views: Views) -> torch.Tensor:
        """Cross-entropy over voxels and the Dice loss of each scan, of shape (batch,)."""
        assert views.labels is not None
        logits = self.logits(views.images[0])
        truth = self.table[views.labels.long()]
        losses = F.cross_entropy(logits, truth, reduction="none").flatten(1).mean(dim=1)
        return losses + self._dice * soft_dice(logits, truth, True, _SMOOTH)


class Segmentation(Objective):
    """The tissue of each voxel."""

    keeps_voxels = True
    needs_labels = True

    def __init__(self, options: SegmentationOptions) -> None:
        self._options = options

    def learner(self, backbone: Backbone, knowledge: Knowledge) -> SegmentationLearner:
        """Backbone, decoder and voxel head."""
        if not isinstance(backbone, MapBackbone):
            raise InputError(
                "Segmentation needs a backbone with a decoder, which gives one vector a voxel:"
                " unet, segresnet, swinunetr or unetr. Choose one, or another objective."
            )
        return SegmentationLearner(backbone, knowledge.classes, self._options.dice)


OBJECTIVES.add(ObjectiveEntry("segmentation", SegmentationOptions, Segmentation))
