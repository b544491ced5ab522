"""Where the scans of a pre-training come from: cohorts on the disk, and generators."""

from dataclasses import dataclass

import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.errors import InputError, listing
from braintune.fitting.batches import derive_seed
from braintune.pretraining_recipe import (
    CohortRecipe,
    PretrainRecipe,
    SourceRecipe,
    Values,
)
from braintune.registry import parse
from braintune.synthesis.labelmaps.options import GeneratorOptions

# What the recipe's preparation says of generated scans.
_GIVEN = ("spacing", "shape", "intensity")


@dataclass(frozen=True)
class CohortSource:
    """Scans of a cohort.

    Attributes:
        name: What the recipe calls it.
        cohort: The rows that are taken.
        weight: Its share, relative to the other sources.
    """

    name: str
    cohort: Cohort
    weight: float


@dataclass(frozen=True)
class GeneratedSource:
    """Scans that are made while training goes on.

    Attributes:
        name: What the recipe calls it.
        options: Of the generator.
        distinct: How many different scans there are; None for no end.
        weight: Its share, relative to the other sources.
    """

    name: str
    options: GeneratorOptions
    distinct: int | None
    weight: float


Source = CohortSource | GeneratedSource


def read_sources(recipe: PretrainRecipe) -> list[Source]:
    """Read the tables of all cohorts, and check the options of all generators.

    Raises:
        InputError: If a cohort, a column or an option is wrong, or no scan is left.
    """
    found: list[Source] = []
    for name, source in recipe.sources.items():
        if source.cohort is not None:
            rows = CohortRecipe(cohort=source.cohort, scans=source.scans, where=source.where)
            found.append(CohortSource(name, read_rows(rows), source.weight))
        else:
            options = _generator_options(name, source, recipe)
            found.append(GeneratedSource(name, options, source.distinct, source.weight))
    return found


def read_rows(recipe: CohortRecipe) -> Cohort:
    """A cohort's rows that a recipe asks for.

    Raises:
        InputError: If there is no such cohort, column or row.
    """
    return _chosen(read_cohort(recipe.cohort, recipe.scans), recipe.where)


def _chosen(cohort: Cohort, where: Values) -> Cohort:
    """The rows that have one of the values in each of the columns."""
    for column, wanted in where.items():
        values = [wanted] if isinstance(wanted, str) else wanted
        there = cohort.column(column)
        if not there.isin(values).any():
            raise InputError(
                f"No row of {cohort.source} has the {column} {listing(values)}. There are:"
                f" {listing(sorted(set(there.dropna())))}."
            )
        keep = there.isin(values).fillna(False).astype(bool)
        cohort = cohort.keep(pd.Series(keep), f"its {column} is not {listing(values)}")
    return cohort


def _generator_options(name: str, source: SourceRecipe, recipe: PretrainRecipe) -> GeneratorOptions:
    """The generator's options, with the grid and the intensities of the recipe's preparation."""
    where = f"sources.{name}.generator"
    prepare = recipe.prepare
    if prepare.intensity == "percentile":
        raise InputError(
            "Generated scans have 'prepare: {intensity: zscore}', minmax or none, not percentile."
        )
    for key in (*_GIVEN, "maps"):
        if key in source.generator:
            raise InputError(
                f"{where}.{key} is given by the {'source' if key == 'maps' else 'prepare section'};"
                " leave it out."
            )
    values = {
        # A stream of its own, so that two sources of the same maps make different scans.
        "seed": derive_seed(recipe.seed, "generator", name) % 2**31,
        **source.generator,
        "maps": source.maps,
        **{key: getattr(prepare, key) for key in _GIVEN},
    }
    return parse(GeneratorOptions, values, where)
