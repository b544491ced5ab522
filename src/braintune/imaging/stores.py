"""Where prepared stores lie when the user does not say."""

from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import STORE_TABLE
from braintune.files import cache_folder, digest
from braintune.imaging.preparation import fingerprint
from braintune.recipe import PrepareRecipe


def store_for(cohort: Cohort, recipe: PrepareRecipe) -> Path:
    """The cohort itself if it is a store; else a store of the cohort and preparation in the cache.

    Recipes that prepare the same cohort in the same way share one store.
    """
    source = cohort.source.resolve()
    if (source / STORE_TABLE).is_file():
        return source
    return cache_folder() / "stores" / f"{digest(str(source))}-{fingerprint(recipe)}"
