"""What a network is shown of scans: themselves, or what its frozen stages made of them before.

The results are the same. Where a recipe changes training scans at random, nothing can be kept.
"""

from dataclasses import dataclass, fields

import torch
from torch import nn

from braintune.adapters.adapter import check_options, set_training
from braintune.adapters.files import sha256_of_state
from braintune.files import cache_folder, digest
from braintune.fitting.features.loader import ActivationLoader
from braintune.fitting.features.prefix import Prefix, Tail, frozen_prefix
from braintune.fitting.features.shelf import Shelf
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.network import Network
from braintune.imaging.augment import strength_of
from braintune.imaging.loader import BatchLoader, ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.recipe import Recipe

# Raised when other numbers would come of the same key.
_VERSION = 1
# Activations of more than so many times the bytes of their scan would fill the disk for little:
# they are those of a first stage or two.
_LARGEST = 4


@dataclass(frozen=True)
class Shown:
    """How scans reach what trains.

    Attributes:
        module: From what the loaders give to the task's outputs.
        loader: Reads training rows.
        mirrored: The same of mirrored scans, where the loader gives activations and the recipe
            averages over mirror images.
        prefix: What was computed before, if anything.
    """

    module: nn.Module
    loader: BatchLoader
    mirrored: BatchLoader | None = None
    prefix: Prefix | None = None


def choose_shown(recipe: Recipe, network: Network, data: FoldData, machinery: Machinery) -> Shown:
    """Activations of the longest frozen prefix, where the recipe allows it and they have room.

    Args:
        recipe: The whole recipe.
        network: Adapted, on its device.
        data: What is learnt from.
        machinery: Where and how, and how much room there is.
    """
    plain = Shown(network, data.loader)
    prefix = frozen_prefix(network.backbone)
    store = data.loader.source if isinstance(data.loader, ScanLoader) else None
    if prefix is None or not isinstance(store, PreparedStore) or not allows(recipe, machinery):
        return plain
    shelf = Shelf(cache_folder() / "features", machinery.feature_bytes)
    key = key_of(recipe, prefix, store, machinery)

    def make(*, mirrored: bool) -> ActivationLoader:
        scans = data.loader.scan_ids
        computing = Computing(prefix, machinery)
        return ActivationLoader(store, scans, shelf, key, computing, mirrored=mirrored)

    loader = make(mirrored=False)
    first, *others = map(int, [*data.fold.train, *data.fold.validation, *data.fold.test])
    example = loader.kept(first)
    if example is None:
        example = _steady(network, prefix, loader.image(first), machinery)
    if example is None:
        return plain
    scan_bytes = example.nbytes
    copies = 2 if recipe.train.flip_average else 1
    too_many = scan_bytes * copies * (1 + len(others)) > shelf.limit
    if too_many or scan_bytes > _LARGEST * loader.image(first).nbytes:
        return plain
    mirror = make(mirrored=True) if recipe.train.flip_average else None
    return Shown(Tail(network, prefix), loader, mirror, prefix)


def allows(recipe: Recipe, machinery: Machinery) -> bool:
    """Whether every step of a recipe shows a frozen stage the same scans."""
    train, adapter = recipe.train, recipe.adapter
    # Statistics that each fold estimates for itself are another prefix for each.
    recalibrates = check_options(adapter.name, adapter.options).norms == "recalibrate"
    changes = strength_of(train.augment) is not None or train.mixes
    return machinery.feature_bytes > 0 and not recalibrates and not changes


def key_of(recipe: Recipe, prefix: Prefix, store: PreparedStore, machinery: Machinery) -> str:
    """What activations depend on, beside the scan."""
    precision = machinery.precision
    return digest(
        {
            "version": _VERSION,
            "torch": torch.__version__,
            "backbone": recipe.backbone.name,
            "options": recipe.backbone.options,
            "stages": "all" if prefix.is_whole else prefix.stages,
            "weights": sha256_of_state(prefix.state()),
            "prepared": store.fingerprint,
            "device": machinery.fabric.device.type,
            **{field.name: getattr(precision, field.name) for field in fields(precision)},
        }
    )


@dataclass(frozen=True)
class Computing:
    """Computes the activations of scans as training would.

    Attributes:
        prefix: The stages.
        machinery: Where, in which precision and layout.
    """

    prefix: Prefix
    machinery: Machinery

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """From images of shape (batch, channels, x, y, z) to activations of shape (batch, ...)."""
        # In training mode a norm that is frozen may not rest yet.
        self.prefix.backbone.eval()
        return self.as_it_is(images)

    @torch.no_grad()
    def as_it_is(self, images: torch.Tensor) -> torch.Tensor:
        """The same in the mode that the backbone is in."""
        fabric, precision = self.machinery.fabric, self.machinery.precision
        with fabric.autocast():
            return self.prefix(precision.arrange(images.to(fabric.device).float()))


def _steady(
    network: Network, prefix: Prefix, image: torch.Tensor, machinery: Machinery
) -> torch.Tensor | None:
    """The activations of a scan, if they are the same in training as in evaluation.

    Foreign encoders may drop activations at random without a layer that says so.
    """
    computing = Computing(prefix, machinery)
    expected = computing(image)
    set_training(network)
    devices = [machinery.fabric.device] if machinery.fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        seen = computing.as_it_is(image)
    return expected if torch.allclose(seen, expected, rtol=1e-3, atol=1e-4) else None
