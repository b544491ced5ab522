"""Feature vectors of scans, from a backbone."""

from collections.abc import Sequence

import numpy as np
import torch

from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.models.backbone import InputShape
from braintune.models.weights.loading import load_backbone
from braintune.synthesis.diffusion.chance import generator
from braintune.synthesis.diffusion.quality.distances import Features

_BATCH, _INIT = 4, 83


class FeatureExtractor:
    """A backbone that turns prepared scans into vectors.

    Args:
        backbone: Its name.
        weights: ``"none"`` for random ones, a tag, a file or a weight folder.
        shape: Of prepared scans, (channels, x, y, z).
    """

    def __init__(self, backbone: str, weights: str, shape: tuple[int, int, int, int]) -> None:
        with torch.random.fork_rng(devices=[]):
            # Random features must be the same ones in every report.
            torch.manual_seed(int(generator(_INIT).initial_seed() % 2**63))
            given = InputShape(shape[0], (shape[1], shape[2], shape[3]))
            self._network = load_backbone(backbone, given, weights, {}).eval()
        random = " (random, never trained)" if weights == "none" else f" with weights {weights}"
        self.name = backbone + random

    @torch.no_grad()
    def __call__(self, store: PreparedStore, scan_ids: Sequence[str]) -> Features:
        """Vectors of some scans, of shape (scans, features)."""
        rows = [
            list(range(start, min(start + _BATCH, len(scan_ids))))
            for start in range(0, len(scan_ids), _BATCH)
        ]
        vectors = [
            self._network(images.float()).float().numpy()
            for images in ScanLoader(store, scan_ids).batches(rows)
        ]
        return np.concatenate(vectors).astype(np.float64)
