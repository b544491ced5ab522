"""What the stacked heads of several folds learn: the losses of all of them at once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from braintune.fitting.batches import stratum_weights
from braintune.fitting.machinery import FoldData
from braintune.recipe import Recipe
from braintune.tasks.task import FloatArray, Task

RowTable = npt.NDArray[np.intp]


class Target:
    """What is learnt of one fold, by any number of heads.

    Args:
        recipe: Whether scans are weighed.
        task: The task, fitted on the fold's training rows.
        data: The encoded targets, and the fold.
    """

    def __init__(self, recipe: Recipe, task: Task, data: FoldData) -> None:
        self._task, self._truth = task, data.truth
        train = data.fold.train
        self.strata = task.strata(data.truth[train])
        self._weights: FloatArray | None = None
        if recipe.train.balance == "weights":
            self._weights = np.zeros(len(data.truth))
            self._weights[train] = stratum_weights(self.strata)[self.strata]

    def losses(self, outputs: torch.Tensor, rows: RowTable, *, weighed: bool) -> torch.Tensor:
        """The loss of each scan of each head.

        Args:
            outputs: Of shape (heads, batch, outputs).
            rows: The scans, of shape (heads, batch).
            weighed: Whether scans count as the recipe says, or all the same.
        """
        flat = rows.reshape(-1)
        truth = torch.as_tensor(self._truth[flat], dtype=torch.float32, device=outputs.device)
        losses = self._task.loss(outputs.flatten(0, 1), truth)
        if weighed and self._weights is not None:
            weights = torch.as_tensor(self._weights[flat], dtype=torch.float32)
            losses = losses * weights.to(outputs.device)
        return losses.view(rows.shape)


def mean_losses(
    targets: Sequence[Target],
    outputs: torch.Tensor,
    rows: RowTable,
    *,
    weighed: bool,
    counts: Sequence[int] | None = None,
) -> torch.Tensor:
    """The mean loss of each head; those that learn the same target are computed together.

    Args:
        targets: Of each head.
        outputs: Of shape (heads, batch, outputs).
        rows: The scans, of shape (heads, batch).
        weighed: Whether scans count as the recipe says, or all the same.
        counts: How many scans of each head's batch count, the same for heads of one target; by
            default all.

    Returns:
        Of shape (heads,).
    """
    places: dict[int, list[int]] = {}
    for place, target in enumerate(targets):
        places.setdefault(id(target), []).append(place)
    means = []
    for together in places.values():
        count = rows.shape[1] if counts is None else counts[together[0]]
        index = torch.as_tensor(together, device=outputs.device)
        shown, own = outputs[index, :count], rows[together, :count]
        losses = targets[together[0]].losses(shown, own, weighed=weighed)
        means.append(losses.mean(dim=1))
    order = np.concatenate([np.array(together) for together in places.values()])
    return torch.cat(means)[torch.as_tensor(np.argsort(order), device=outputs.device)]
