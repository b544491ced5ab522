"""Probabilities of a whole scan, from overlapping patches, mirror images and several networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import torch

from braintune.fitting.precision import Precision
from braintune.recipe import Recipe
from braintune.tasks.segmentation import Segmentation

# From images of shape (batch, channels, x, y, z) to logits of shape (batch, outputs, x, y, z).
Predictor = Callable[[torch.Tensor], torch.Tensor]
_AXES = {"x": 2, "y": 3, "z": 4}
# Patches that are computed at once; more gain nothing and take more memory.
_AT_ONCE = {"cpu": 1, "cuda": 4}


@dataclass(frozen=True)
class Window:
    """How a scan is looked at.

    Attributes:
        patch: Voxels that a network sees at once.
        overlap: Of neighbouring patches, as a share of their edge.
        mirrors: The sets of axes over whose mirror images is averaged; the empty set is the scan.
        classes: The class that each class becomes when left and right swap.
    """

    patch: tuple[int, int, int]
    overlap: float
    mirrors: tuple[tuple[int, ...], ...]
    classes: tuple[int, ...]

    @classmethod
    def of(cls, recipe: Recipe, task: Segmentation) -> "Window":
        """How a recipe looks at a scan."""
        axes = [_AXES[axis] for axis in task.options.flips] if recipe.train.flip_average else []
        sets = chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
        return cls(
            patch=task.input_shape(recipe),
            overlap=task.options.overlap,
            mirrors=tuple(sets),
            classes=tuple(task.mirrored.tolist()),
        )


@torch.no_grad()
def probabilities(
    networks: Sequence[Predictor], image: torch.Tensor, window: Window, precision: Precision
) -> torch.Tensor:
    """The probability of each class in each voxel of a scan.

    Patches overlap, and count by a Gaussian around their middle (Isensee et al. 2021). A scan
    smaller than a patch is padded with 0. Patches without any voxel that is not 0 are background.

    Args:
        networks: In evaluation mode; their probabilities are averaged.
        image: Of shape (channels, x, y, z), on the networks' device.
        window: How it is looked at.
        precision: Memory layout.

    Returns:
        Of shape (classes, x, y, z), float32.
    """
    from monai.inferers.utils import sliding_window_inference

    def chances(patches: torch.Tensor) -> torch.Tensor:
        seen = patches.flatten(1).any(dim=1)
        result = patches.new_zeros(len(patches), len(window.classes), *patches.shape[2:])
        result[:, 0] = 1
        if seen.any():
            result[seen] = _over_mirrors(networks, patches[seen], window, precision)
        return result

    blended = sliding_window_inference(
        image[None].float(),
        window.patch,
        _AT_ONCE.get(image.device.type, 1),
        chances,
        overlap=window.overlap,
        mode="gaussian",
    )
    assert isinstance(blended, torch.Tensor)
    return blended[0]


def _over_mirrors(
    networks: Sequence[Predictor], patches: torch.Tensor, window: Window, precision: Precision
) -> torch.Tensor:
    """The mean probabilities over networks and mirror images."""
    total: torch.Tensor | float = 0.0
    for axes in window.mirrors:
        shown = precision.arrange(patches.flip(axes) if axes else patches)
        for network in networks:
            found = network(shown).float().softmax(dim=1).flip(axes)
            if _AXES["x"] in axes:
                found = found[:, list(window.classes)]
            total = total + found
    assert isinstance(total, torch.Tensor)
    return total / (len(window.mirrors) * len(networks))
