"""The deployable model of a run that gives label maps."""

from dataclasses import dataclass
from pathlib import Path

import torch

from braintune.errors import InputError
from braintune.files import digest
from braintune.fitting.model import checked_file, load_network, read_model, restored_task
from braintune.fitting.precision import choose_precision, make_fabric
from braintune.fitting.segmentation.inference import Predictor
from braintune.fitting.segmentation.segmenter import Segmenter
from braintune.recipe import Recipe
from braintune.tasks.segmentation import Segmentation


@dataclass(frozen=True)
class SegmentationModel:
    """A run's networks and what segmenting needs.

    Attributes:
        folder: Where the files are.
        recipe: The recipe that made it.
        task: The task.
        files: The networks, one a fold.
        seen: Hashes of the prepared scans that the run trained or tested with.
        identity: The same for the same networks and recipe.
    """

    folder: Path
    recipe: Recipe
    task: Segmentation
    files: tuple[str, ...]
    seen: frozenset[str]
    identity: str


def open_segmentation_model(run: Path) -> SegmentationModel:
    """Open the model of a run that gives label maps, or a copy of its model folder.

    Raises:
        InputError: If there is none, a file is not what was written, or it predicts values.
    """
    folder, document, recipe = read_model(run)
    task = restored_task(recipe, document["members"][0])
    if not isinstance(task, Segmentation):
        raise InputError(f"{run} predicts values, not label maps. Use 'braintune predict'.")
    files = tuple(checked_file(folder, values) for values in document["members"])
    seen = frozenset(document["seen"])
    return SegmentationModel(folder, recipe, task, files, seen, digest(document))


def load_segmenter(model: SegmentationModel) -> Segmenter:
    """All networks of a model, ready to segment files."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = choose_precision(model.recipe.train.precision, device)
    fabric = make_fabric(precision, device.type)
    networks: list[Predictor] = []
    for file in model.files:
        network = load_network(model.folder, model.recipe, model.task, file)
        precision.arrange_kernels(network)
        networks.append(fabric.setup_module(network))
    return Segmenter.of(model.recipe, model.task, networks, precision, fabric.device)
