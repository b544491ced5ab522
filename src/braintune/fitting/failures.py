"""Training that came to values that are no numbers: which scans they are of, and what to say."""

from collections.abc import Iterable, Sequence

import lightning_fabric
import numpy as np
import torch

from braintune.errors import BraintuneError, listing
from braintune.fitting.batches import Rows

Look = Sequence[tuple[Rows, torch.Tensor]]


def failed(what: str, scans: Sequence[str] = ()) -> BraintuneError:
    """The error that ends a fit.

    Args:
        what: A sentence without its end.
        scans: Of what scans.

    Example:
        >>> str(failed("The loss is no number", ["sub-1"])).partition(". ")[0]
        'The loss is no number for scans sub-1'
    """
    whose = f" for scans {listing(scans)}" if scans else ""
    return BraintuneError(
        f"{what}{whose}. Look at the scans, or try a lower train.lr or train.precision fp32. The"
        " last good checkpoint is kept."
    )


def find_culprits(fabric: lightning_fabric.Fabric, count: int, looks: Sequence[Look]) -> list[int]:
    """The scans of a step whose values are no numbers; if there are none, all of them.

    All processes must ask at once, and get the same answer.

    Args:
        fabric: Devices and processes.
        count: How many scans there are in all.
        looks: One look at the scans after another: for each batch, its rows and something of each
            of them, of shape (rows, ...). The first look that finds anything counts: where one
            scan's image is no number, the losses of innocent ones beside it may be none either.

    Example:
        >>> from braintune.fitting.precision import Precision, make_fabric
        >>> fabric = make_fabric(Precision("fp32", channels_last=True), "cpu")
        >>> rows, images = np.array([4, 2, 7]), torch.tensor([[1.0], [2.0], [3.0]])
        >>> losses = torch.tensor([1.0, torch.nan, 2.0])
        >>> find_culprits(fabric, 9, [[(rows, images)], [(rows, losses)]])
        [2]
    """
    found = torch.zeros(1 + len(looks), count)
    for number, look in enumerate(looks):
        for rows, values in look:
            is_number = torch.isfinite(values).reshape(len(rows), -1).all(dim=1)
            found[number, rows[~is_number.cpu().numpy()]] = 1
            found[-1, rows] = 1
    if fabric.world_size > 1:
        summed = fabric.all_reduce(found.to(fabric.device), reduce_op="sum")
        assert isinstance(summed, torch.Tensor)
        found = summed.cpu()
    telling = next(look for look in found if look.any())
    return np.flatnonzero(telling.numpy()).tolist()


def all_finite(values: Iterable[torch.Tensor]) -> bool:
    """Whether there are only numbers.

    Example:
        >>> all_finite([torch.ones(2), torch.tensor([3])]), all_finite([torch.tensor(torch.inf)])
        (True, False)
    """
    return all(bool(torch.isfinite(value).all()) for value in values)
