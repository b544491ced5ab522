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

# Voxels that are added to both sides of a Dice coefficient, so that absent classes do no harm.
_SMOOTH = 1.0


class SegmentationOptions(ObjectiveOptions):
    """Options of pre-training by segmentation.

    Attributes:
        dice: What the Dice loss is multiplied by, beside the cross-entropy.
    """

    dice: NonNegativeFloat = 1.0


def dice_losses(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 − the soft Dice coefficient (Milletari et al. 2016, arXiv 1606.04797, without squares).

    Args:
        logits: Of shape (batch, classes, x, y, z).
        truth: Classes, of shape (batch, x, y, z).

    Returns:
        The mean over the classes for each scan, of shape (batch,).

    Example:
        >>> truth = torch.tensor([[[[0, 1]]]])
        >>> right = 100 * F.one_hot(truth, 2).movedim(-1, 1).float()
        >>> dice_losses(right, truth).item()
        0.0
    """
    chances = logits.float().softmax(dim=1).flatten(2)
    wanted = F.one_hot(truth, logits.shape[1]).movedim(-1, 1).flatten(2)
    shared = (chances * wanted).sum(dim=2)
    both = chances.sum(dim=2) + wanted.sum(dim=2)
    return 1 - ((2 * shared + _SMOOTH) / (both + _SMOOTH)).mean(dim=1)


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
        return losses + self._dice * dice_losses(logits, truth)


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
