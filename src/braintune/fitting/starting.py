"""What a fit starts from: the recipe and its weights settled with each other, and what to know."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError, listing
from braintune.fitting.network import input_shape
from braintune.fitting.overlap import letters, names_of
from braintune.models.backbone import build_backbone
from braintune.models.weights.loading import LoadReport, WeightSet, find_weights, fit_weights
from braintune.models.weights.record import WeightRecord, find_record
from braintune.models.weights.tensors import read_facts, sha256_of
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import PrepareRecipe, Recipe

Settled = TypeVar("Settled", Recipe, PretrainRecipe)


@dataclass(frozen=True)
class Start:
    """The weights that a fit starts from.

    Attributes:
        weights: Where they are and what is known of them.
        sha256: The file's hash.
        published_sha256: The hash of the published file that it was converted from, if it was.
        report: What was loaded, adapted and new.
        differences: How the recipe's preparation differs from the one they were trained on.
        seen: Names of the fit's cohort that the weights have seen.
    """

    weights: WeightSet
    sha256: str
    published_sha256: str | None
    report: LoadReport
    differences: tuple[str, ...]
    seen: tuple[str, ...]

    def warnings(self) -> list[str]:
        """What the user should know, one sentence each."""
        record = self.weights.record
        if record is None:
            return []
        found = []
        if self.differences:
            found.append(
                f"The weights {record.name} were trained on another preparation:"
                f" {'; '.join(self.differences)}. 'prepare: {{like: weights}}' takes theirs."
            )
        if self.seen:
            found.append(
                f"The weights {record.name} have seen {listing(self.seen)}: what is measured on"
                " those scans is not measured on unseen ones."
            )
        if record.non_commercial:
            found.append(
                f"The weights {record.name} may not be used commercially ({record.licence})."
            )
        return found

    def document(self) -> dict[str, Any]:
        """The start as JSON."""
        record = self.weights.record
        return {
            "file": str(self.weights.path),
            "sha256": self.sha256,
            "published_sha256": self.published_sha256,
            "name": record.name if record else self.weights.path.name,
            "licence": record.licence if record else None,
            "non_commercial": record.non_commercial if record else None,
            "citation": record.citation if record else None,
            "cohorts": list(record.cohorts) if record else [],
            "loaded": len(self.report.loaded),
            "adapted": dict(self.report.adapted),
            "new": list(self.report.new),
            "unused": list(self.report.unused),
            "parameters_from_weights": self.report.parameters,
            "parameters": self.report.total,
            "summary": self.report.text(),
            "warnings": self.warnings(),
        }


def settle(recipe: Settled) -> Settled:
    """A recipe with what its weights need: their backbone options, and their preparation if asked.

    Raises:
        InputError: If the recipe contradicts the weights, or asks for a preparation that the
            weights do not tell.
    """
    chosen = recipe.backbone
    weights = find_weights(chosen.name, chosen.weights)
    record = weights.record if weights else None
    if record is not None and record.options:
        options = record.demand_options(chosen.options)
        backbone = type(chosen).model_validate(
            {"name": chosen.name, "weights": chosen.weights, **options}
        )
        recipe = recipe.model_copy(update={"backbone": backbone})
    if recipe.prepare.like is None:
        return recipe
    return recipe.model_copy(update={"prepare": _prepare_like(recipe.prepare, record)})


def _prepare_like(prepare: PrepareRecipe, record: WeightRecord | None) -> PrepareRecipe:
    if record is None or not record.prepare.values():
        name = (
            f"The weights {record.name} tell none"
            if record
            else "The recipe has no weights that tell one"
        )
        msg = f"'prepare: {{like: weights}}' needs weights with a known preparation. {name}."
        raise InputError(msg)
    own = {key: getattr(prepare, key) for key in prepare.model_fields_set if key != "like"}
    theirs = record.prepare.values()
    if prepare.dwi is not None:
        theirs.pop("brain", None)  # a diffusion series brings its own mask
    return PrepareRecipe.model_validate({**theirs, **own})


def changes_like(weights: str) -> list[str]:
    """The preparation of published weights, as changes of a recipe's ``prepare`` section.

    Args:
        weights: Their full name, ``backbone.tag``.

    Raises:
        InputError: If there are none such, or they tell no preparation.

    Example:
        >>> changes_like("brainiac.simclr")
        ['shape=[96, 96, 96]', 'intensity=zscore', 'brain=nonzero']
    """
    backbone, _, tag = weights.partition(".")
    record = find_record(backbone, tag)
    values = record.prepare.values()
    if not values:
        raise InputError(f"The weights {record.name} tell no preparation. {record.prepare.words}")
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    return [f"{key}={value}" for key, value in plain.items()]


def preparation_differences(prepare: PrepareRecipe, record: WeightRecord) -> tuple[str, ...]:
    """How a recipe's preparation differs from the one that weights were trained on."""
    return tuple(
        f"{key} {_plain(getattr(prepare, key))} here, {_plain(value)} there"
        for key, value in record.prepare.values().items()
        if getattr(prepare, key) != value
    )


def read_start(recipe: Recipe, cohort: Cohort) -> Start | None:
    """Check that a settled recipe's weights load, without memory for the network.

    Returns:
        None if the fit starts from random weights.

    Raises:
        InputError: If the weights are not there, or anything about them is not as declared.
    """
    chosen = recipe.backbone
    weights = find_weights(chosen.name, chosen.weights)
    if weights is None:
        return None
    with torch.device("meta"):
        network = build_backbone(chosen.name, input_shape(recipe), chosen.options)
    _, report = fit_weights(network, weights)
    record = weights.record
    return Start(
        weights=weights,
        sha256=sha256_of(weights.path),
        published_sha256=read_facts(weights.path).get("sha256"),
        report=report,
        differences=preparation_differences(recipe.prepare, record) if record else (),
        seen=_seen(record, cohort) if record else (),
    )


def _seen(record: WeightRecord, cohort: Cohort) -> tuple[str, ...]:
    """Names of the cohort that are among those the weights have seen."""
    seen = {letters(name) for name in record.cohorts}
    return tuple(sorted(name for name in names_of(cohort) if letters(name) in seen))


def _plain(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, tuple | list) else f"{value}"
