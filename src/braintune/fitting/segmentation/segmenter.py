"""Networks that segment whole scans, in each scan's own voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from braintune.fitting.precision import Precision
from braintune.fitting.segmentation.inference import Predictor, Window, probabilities
from braintune.fitting.segmentation.native import Chances, CleanUp, cleaned, decide, to_native
from braintune.imaging.grid import Grid, resample_labels
from braintune.imaging.label_maps import Labels
from braintune.imaging.labelled import WholeScan, prepare_whole
from braintune.imaging.nifti import spacing_of
from braintune.recipe import PrepareRecipe, Recipe
from braintune.tasks.segmentation import Segmentation


@dataclass(frozen=True)
class Segmented:
    """A scan and what was found in it.

    Attributes:
        scan: The scan as the networks saw it.
        labels: Labels from 1, on the scan's own grid, of shape (x, y, z).
        chances: Probabilities on ``scan.grid``, of shape (classes, x, y, z), before cleaning.
        count: How many labels there can be.
    """

    scan: WholeScan
    labels: Labels
    chances: Chances
    count: int

    @property
    def native(self) -> Grid:
        """The scan's own grid."""
        return self.scan.native

    @property
    def volumes(self) -> list[float]:
        """The volume of each label, in mm³."""
        voxel = float(np.prod(spacing_of(self.native.affine)))
        counts = np.bincount(self.labels.ravel(), minlength=self.count + 1)
        return [float(count) * voxel for count in counts[1:]]

    def native_chances(self) -> Chances:
        """Probabilities on the scan's own grid, of shape (classes, x, y, z)."""
        return to_native(self.chances, self.scan.grid, self.native)

    def on_scan(self, labels: Labels) -> Labels:
        """Labels of the scan's own grid on the lattice of ``scan.image``, for pictures."""
        return resample_labels(labels, self.native, self.scan.grid)

    def image(self) -> npt.NDArray[np.float32]:
        """The scan as the networks saw it, of shape (x, y, z), for pictures."""
        return self.scan.image[0].astype(np.float32)


class Segmenter:
    """Networks and all that they need to segment a file.

    Args:
        networks: In evaluation mode, on one device.
        prepare: How scans are prepared.
        window: How they are looked at.
        clean_up: What is taken away from label maps.
        precision: Memory layout.
        device: Where the networks are.
    """

    def __init__(
        self,
        networks: Sequence[Predictor],
        prepare: PrepareRecipe,
        window: Window,
        clean_up: CleanUp,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self._networks, self._prepare = networks, prepare
        self._window, self._clean_up = window, clean_up
        self._precision, self._device = precision, device

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        task: Segmentation,
        networks: Sequence[Predictor],
        precision: Precision,
        device: torch.device,
    ) -> "Segmenter":
        """What a recipe makes of networks."""
        clean_up = CleanUp(task.options.largest, task.options.smallest)
        window = Window.of(recipe, task)
        return cls(networks, recipe.prepare, window, clean_up, precision, device)

    def __call__(self, path: Path) -> Segmented:
        """Segment a scan.

        Raises:
            ScanError: If the file can't be read or holds nothing.
        """
        return self.segment(prepare_whole(path, self._prepare))

    def segment(self, scan: WholeScan) -> Segmented:
        """Segment a scan that is prepared already."""
        image = torch.from_numpy(scan.image.astype(np.float32)).to(self._device)
        found = probabilities(self._networks, image, self._window, self._precision)
        chances = found.cpu().numpy()
        labels = decide(chances, scan.grid, scan.native)
        labels = cleaned(labels, scan.native.affine, self._clean_up)
        return Segmented(scan, labels, chances, len(self._window.classes) - 1)
