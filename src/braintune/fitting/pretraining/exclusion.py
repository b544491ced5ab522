"""Keeping those whom a network will be tested on out of its pre-training."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from braintune.errors import InputError
from braintune.fitting.overlap import COLUMNS, identities, overlap, read_seen
from braintune.fitting.pretraining.sources import CohortSource, GeneratedSource, Source, read_rows
from braintune.models.weights.loading import find_weights
from braintune.pretraining_recipe import PretrainRecipe
from braintune.synthesis.labelmaps.people import with_people
from braintune.synthesis.labelmaps.reading import find_maps

_SUBJECT = re.compile(r"sub-[A-Za-z0-9+]+")


def list_seen(
    recipe: PretrainRecipe, sources: Sequence[Source], workers: int | None = None
) -> pd.DataFrame:
    """Whom a pre-training sees: real scans, people behind label maps, and what its weights saw.

    Args:
        recipe: Which weights it starts from.
        sources: Its sources.
        workers: Processes that read images.

    Returns:
        The columns of `COLUMNS`; label maps have no image.
    """
    parts = [_of_source(source, workers) for source in sources]
    chosen = recipe.backbone
    weights = find_weights(chosen.name, chosen.weights)
    before = read_seen(weights.path) if weights else None
    if before is not None:
        parts.append(before)
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)].drop_duplicates(ignore_index=True)


def refuse_excluded(recipe: PretrainRecipe, seen: pd.DataFrame, workers: int | None = None) -> None:
    """Refuse a pre-training that sees whom the recipe excludes.

    Raises:
        InputError: With who it is, in which source, and how it is known.
    """
    for name, excluded in recipe.exclude.items():
        cohort = read_rows(excluded)
        tested = identities(cohort, name, workers)
        for source, rows in seen.groupby("cohort", sort=False):
            found = overlap(tested, rows, by_id=excluded.by == "id or image")
            if found:
                remedy = (
                    f" If other people have the same ids there, set 'exclude: {{{name}: {{by:"
                    " image}}'."
                    if not found.images
                    else ""
                )
                raise InputError(
                    f"The pre-training would see {found.text()} of the excluded cohort {name}, in"
                    f" {source}. Take them out of it, such as with 'where:'.{remedy}"
                )


def _of_source(source: Source, workers: int | None) -> pd.DataFrame:
    if isinstance(source, CohortSource):
        return identities(source.cohort, source.name, workers)
    return _anatomies(source)


def _anatomies(source: GeneratedSource) -> pd.DataFrame:
    """The people whose label maps scans are made from, as far as file names tell."""
    files = [file for file, _ in with_people(find_maps(source.options.maps), source.options.people)]
    rows = [
        (file.root.resolve().name, _subject(file.path), file.path.name.split(".nii")[0], "", "")
        for file in files
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _subject(path: Path) -> str:
    match = _SUBJECT.match(path.name)
    return match[0] if match else ""
