"""One raw head as a network sees it: registered, defaced if that is wanted, and scaled."""

from functools import partial
from pathlib import Path

from braintune.imaging.defacing import deface
from braintune.imaging.heads.preparing import prepare_head
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.intensity import MASKS, RULES
from braintune.imaging.masks.elsewhere import mask_from_elsewhere
from braintune.imaging.preparation import PreparedScan, as_prepared, demand_brain
from braintune.recipe import PrepareRecipe


def registered_head(path: Path, recipe: PrepareRecipe, mask: Path | None = None) -> RegisteredHead:
    """Take a raw head to the template, its brain mask being from where the recipe says.

    Args:
        path: A T1-weighted scan as the scanner wrote it.
        recipe: The preparation, with ``heads``.
        mask: The user's mask of it, for ``heads: {brain: masks}``.

    Raises:
        InputError: If the recipe needs a program that is not installed.
        ScanError: If any step fails.
    """
    assert recipe.heads is not None
    known = partial(mask_from_elsewhere, recipe.heads.brain, mask=mask)
    head = prepare_head(path, recipe, known)
    return deface(head, keep_skull=recipe.heads.skull == "keep") if recipe.heads.deface else head


def prepared_of(head: RegisteredHead, recipe: PrepareRecipe, path: Path) -> PreparedScan:
    """Scale a registered head's intensities, as a store keeps them.

    Raises:
        ScanError: If no brain lies on the recipe's grid, or intensities are too large.
    """
    demand_brain(head.brain, recipe, path)
    # What is not 0 of a stripped scan is its brain; here the mask itself is known.
    within = head.brain if recipe.brain == "nonzero" else MASKS[recipe.brain](head.image)
    scaled = RULES[recipe.intensity](head.image, within)
    return as_prepared([scaled], head.grid, head.evidence.brain_ml, path)
