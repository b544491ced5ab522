"""A recipe of pre-training, checked against its scans before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from braintune.errors import InputError
from braintune.fitting.pretraining.batches import generator_of
from braintune.fitting.pretraining.exclusion import list_seen, refuse_excluded
from braintune.fitting.pretraining.probe import Probe, read_probe
from braintune.fitting.pretraining.sources import (
    CohortSource,
    GeneratedSource,
    Source,
    read_rows,
    read_sources,
)
from braintune.fitting.pretraining.targets import fit_targets
from braintune.imaging.augment import Strength, strength_of
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.stochastic_depth import set_stochastic_depth
from braintune.models.weights.loading import find_weights, fit_weights, load_weights
from braintune.pretraining_recipe import PretrainRecipe
from braintune.synthesis.labelmaps.cohort import known_facts
from braintune.synthesis.labelmaps.tissues import OUTSIDE_BRAIN, Tissue
from braintune.tasks.pretraining.objective import (
    Knowledge,
    Learner,
    Objective,
    Views,
    make_objective,
)

# Generated scans by which labels are standardised: the first that the network will see.
_LOOKED_AT = 64


@dataclass(frozen=True)
class PretrainPlan:
    """All that a pre-training will do.

    Attributes:
        recipe: The recipe, settled with the weights it starts from.
        objective: What is learnt.
        sources: Where scans come from.
        knowledge: What the objective knows of the scans.
        per_epoch: Scans of an epoch.
        seen: Whom it sees, as of `braintune.fitting.overlap`.
        probe: What the features are tried on, if anything.
    """

    recipe: PretrainRecipe
    objective: Objective
    sources: Sequence[Source]
    knowledge: Knowledge
    per_epoch: int
    seen: pd.DataFrame
    probe: Probe | None

    @property
    def strength(self) -> Strength | None:
        """How far scans are changed at random."""
        strength = strength_of(self.recipe.train.augment)
        if strength is None or not self.objective.keeps_voxels:
            return strength
        # The label maps would not move along; the generator has moved both already.
        return replace(strength, flip=0, rotate=0, scale=0, shift=0, elastic=0, crop=0)


def plan_pretraining(
    recipe: PretrainRecipe, device: str = "cpu", workers: int | None = None
) -> PretrainPlan:
    """Check a settled recipe against its scans.

    Args:
        recipe: The recipe.
        device: Where scans are generated.
        workers: Processes that read images.

    Raises:
        InputError: If anything is unknown, missing, does not fit together, or is excluded.
    """
    objective = make_objective(recipe.objective.kind, recipe.objective.options)
    _demand_sense(recipe, objective)
    sources = read_sources(recipe)
    if objective.needs_labels:
        _demand_labels(sources)
    seen = list_seen(recipe, sources, workers)
    refuse_excluded(recipe, seen, workers)
    probe = read_probe(recipe.probe, read_rows(recipe.probe)) if recipe.probe else None
    _outline(recipe, objective)
    tables = {source.name: _table(source, recipe, objective, device) for source in sources}
    classes = _classes(sources, device) if objective.needs_labels else ()
    knowledge = Knowledge(recipe.prepare.shape, fit_targets(objective, tables), classes)
    per_epoch = recipe.scans_per_epoch or sum(
        len(source.cohort) for source in sources if isinstance(source, CohortSource)
    )
    step = recipe.train.batch_size * recipe.train.accumulate
    if per_epoch < step:
        raise InputError(
            f"An epoch has {per_epoch} scans, fewer than the {step} of one step. Set"
            f" 'scans_per_epoch: {step}' or more, or a smaller train.batch_size."
        )
    plan = PretrainPlan(recipe, objective, sources, knowledge, per_epoch, seen, probe)
    with torch.device("meta"):
        make_learner(plan, load=False)(blank_views(plan))
    return plan


def make_learner(plan: PretrainPlan, *, load: bool = True) -> Learner:
    """The network that learns: backbone, weights, and what the objective puts on it.

    Args:
        plan: The plan.
        load: Whether weights are loaded; without, only shapes are right.

    Raises:
        InputError: If the backbone can't do the objective, or the weights do not load.
    """
    recipe = plan.recipe
    chosen = recipe.backbone
    backbone = build_backbone(chosen.name, InputShape(1, recipe.prepare.shape), chosen.options)
    weights = find_weights(chosen.name, chosen.weights)
    if weights is not None:
        load_weights(backbone, weights) if load else fit_weights(backbone, weights)
    if recipe.train.drop_path is not None:
        set_stochastic_depth(backbone, recipe.train.drop_path)
    return plan.objective.learner(backbone, plan.knowledge)


def blank_views(plan: PretrainPlan) -> Views:
    """Two scans without memory for their voxels, fit to see whether all shapes agree."""
    shape = plan.knowledge.shape
    return Views(
        tuple(torch.empty(2, 1, *shape, device="meta") for _ in range(plan.objective.views)),
        {name: torch.empty(2, device="meta") for name in plan.knowledge.tasks},
        torch.empty(2, *shape, dtype=torch.int16, device="meta"),
        (0, 1),
    )


def _demand_sense(recipe: PretrainRecipe, objective: Objective) -> None:
    """Refuse options that leave nothing to learn."""
    smallest = objective.smallest_batch
    if recipe.train.batch_size < smallest:
        raise InputError(
            f"The objective {recipe.objective.kind} compares scans of a batch: set"
            f" 'train: {{batch_size: {smallest}}}' or more."
        )
    if objective.views > 1 and strength_of(recipe.train.augment) is None:
        raise InputError(
            f"The objective {recipe.objective.kind} compares views that were changed at random, and"
            " 'augment: none' makes them equal. Set light, standard or heavy."
        )


def _demand_labels(sources: Sequence[Source]) -> None:
    without = [source.name for source in sources if isinstance(source, CohortSource)]
    if without:
        raise InputError(
            f"Segmentation learns from label maps, which {without[0]} lacks: its scans are read,"
            " not made. Take sources with 'maps:' alone, or another objective."
        )


def _outline(recipe: PretrainRecipe, objective: Objective) -> None:
    """Find early, without memory, that a backbone can't do what is asked."""
    chosen = recipe.backbone
    classes = (0, 1) if objective.needs_labels else ()
    with torch.device("meta"):
        backbone = build_backbone(chosen.name, InputShape(1, recipe.prepare.shape), chosen.options)
        if not objective.targets():
            objective.learner(backbone, Knowledge(recipe.prepare.shape, {}, classes))


def _table(
    source: Source, recipe: PretrainRecipe, objective: Objective, device: str
) -> pd.DataFrame:
    """What is known of a source's scans, as text; of generated ones, of the first."""
    if isinstance(source, CohortSource):
        return source.cohort.table
    if not objective.targets():
        return pd.DataFrame()
    generator = generator_of(source.options.model_dump_json(), device)
    count = min(_LOOKED_AT, source.distinct or _LOOKED_AT)
    rows = []
    for first in range(0, count, recipe.train.batch_size):
        batch = generator.batch(range(first, min(count, first + recipe.train.batch_size)))
        rows += [known_facts(batch, generator, i) for i in range(len(batch.indices))]
    return pd.DataFrame(rows).astype("string")


def _classes(sources: Sequence[Source], device: str) -> tuple[int, ...]:
    """The class of each label: its tissue; what a stripped scan leaves out is background.

    Raises:
        InputError: If two generators have other tables of labels.
    """
    tables = []
    for source in sources:
        assert isinstance(source, GeneratedSource)
        generator = generator_of(source.options.model_dump_json(), device)
        outside = OUTSIDE_BRAIN if source.options.brain == "stripped" else {Tissue.BACKGROUND}
        tables.append(
            [
                "background" if label.tissue in outside else str(label.tissue or label.name)
                for label in generator.table
            ]
        )
    if any(table != tables[0] for table in tables):
        raise InputError(
            "The sources' label maps have other labels, or one shows the head and the other does"
            " not. Give all of them to one source, or leave one out."
        )
    names = list(dict.fromkeys(["background", *tables[0]]))
    return tuple(int(n) for n in np.array([names.index(name) for name in tables[0]]))
