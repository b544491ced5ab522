"""Where stores of labelled scans lie when the user does not say."""

from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.files import cache_folder, digest
from braintune.imaging.preparation import fingerprint
from braintune.recipe import PrepareRecipe
from braintune.tasks.segmentation import Segmentation


def labelled_store_for(cohort: Cohort, recipe: PrepareRecipe, task: Segmentation) -> Path:
    """A store in the cache, of a cohort, its label maps, the labels wanted and the preparation."""
    table, maps = task.table, task.options.maps.model_dump()
    labels = [list(table.values), list(table.names), table.others]
    name = digest([str(cohort.source.resolve()), maps, labels])
    return cache_folder() / "stores" / f"{name}-{fingerprint(recipe)}"
