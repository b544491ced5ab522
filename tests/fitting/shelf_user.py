"""Another process that uses a shelf; a module of its own, so that it starts quickly."""

from pathlib import Path

import torch

from braintune.fitting.features.shelf import Shelf


def use(folder: Path, first: int) -> int:
    """Read and write twenty tensors in turn; how often another one came than was written."""
    shelf = Shelf(folder, 40_000)
    wrong = 0
    for turn in range(60):
        number = (first + turn) % 20
        found = shelf.read(f"k/{number}")
        wrong += found is not None and not torch.equal(found, torch.full((500,), float(number)))
        shelf.write(f"k/{number}", torch.full((500,), float(number)))
    return wrong
