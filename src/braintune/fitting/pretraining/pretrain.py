"""Pre-training: from a recipe to a weight folder that every other recipe takes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from braintune.console import progress, say
from braintune.errors import InputError, listing
from braintune.files import digest
from braintune.fitting.batches import steps_per_epoch
from braintune.fitting.interrupt import stop_on_signals
from braintune.fitting.machinery import Machinery
from braintune.fitting.precision import (
    Precision,
    choose_precision,
    find_exact,
    keep_freed_memory,
    make_fabric,
)
from braintune.fitting.pretraining.batches import (
    MadeScans,
    Reader,
    StoredScans,
    shares,
)
from braintune.fitting.pretraining.folder import PretrainFolder
from braintune.fitting.pretraining.plan import (
    PretrainPlan,
    blank_views,
    make_learner,
    plan_pretraining,
)
from braintune.fitting.pretraining.probe import Probe, features_of
from braintune.fitting.pretraining.sources import CohortSource
from braintune.fitting.pretraining.targets import encoded_table
from braintune.fitting.pretraining.trainer import Look, Pretrainer
from braintune.fitting.starting import settle
from braintune.imaging.prepare import Prepared, fill_store
from braintune.imaging.stores import store_for
from braintune.models.backbone import Backbone
from braintune.models.weights.record import Learning
from braintune.parallel import available_cores, check_workers
from braintune.pretraining_recipe import PretrainRecipe

_ACCELERATORS = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class PretrainExecution:
    """Where and how a pre-training runs, which changes no result but by another device's rounding.

    Attributes:
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        workers: Processes that prepare and make scans, by default one a core.
        generate_on_gpu: Make scans on the GPU itself instead of in processes. The noise is drawn by
            the device, so scans are others than those made on processors.
        checkpoint_every: Seconds between checkpoints.
        exclude_broken: Leave out scans that can't be prepared.
    """

    accelerator: str = "auto"
    workers: int | None = None
    generate_on_gpu: bool = False
    checkpoint_every: float = 60.0
    exclude_broken: bool = False


def pretrain(
    recipe: PretrainRecipe, out: Path, execution: PretrainExecution | None = None
) -> PretrainFolder:
    """Pre-train a backbone, and leave a folder that recipes take as ``weights``.

    Everything is checked before anything is written. A pre-training that was stopped goes on when
    the same call is made again, and ends with the same weights.

    Args:
        recipe: What to do.
        out: The weight folder, new or of the same recipe and scans.
        execution: Where and how.

    Returns:
        The finished folder.

    Raises:
        InputError: If recipe, scans and folder do not fit together, or excluded subjects would be
            seen.
        InterruptedFitError: If the user or the scheduler asked to stop.
        BraintuneError: If the loss is no longer a number; the last good checkpoint is kept.
    """
    execution = execution or PretrainExecution()
    check_workers(execution.workers)
    device = _device(execution)
    recipe = settle(recipe)
    folder = PretrainFolder(out)
    folder.check_free(recipe)
    if folder.is_complete:
        return folder
    made_on = "cuda" if execution.generate_on_gpu else "cpu"
    plan = plan_pretraining(recipe, made_on, execution.workers)
    precision = _precision(plan, device)
    plan, reader = _open(plan, execution, made_on)
    folder.begin(
        recipe, _fingerprint(plan), {"precision": asdict(precision), "device": str(device)}
    )
    _train(plan, reader, folder, precision, device, execution)
    return folder


def _device(execution: PretrainExecution) -> torch.device:
    if execution.accelerator not in _ACCELERATORS:
        allowed = listing(_ACCELERATORS)
        raise InputError(f"Unknown accelerator {execution.accelerator!r}. Available: {allowed}.")
    there = torch.cuda.is_available()
    if (execution.accelerator == "cuda" or execution.generate_on_gpu) and not there:
        raise InputError(
            "There is no CUDA device here. Leave --accelerator and --generate-on-gpu out."
        )
    return torch.device("cuda" if there and execution.accelerator != "cpu" else "cpu")


def _precision(plan: PretrainPlan, device: torch.device) -> Precision:
    """What the device is fast at, if it is right for the network."""
    with torch.device("meta"):
        outline = make_learner(plan, load=False)
    # The views take the place of images: the layers are looked at as they run.
    exact = find_exact(outline, blank_views(plan))  # type: ignore[arg-type]
    return choose_precision(plan.recipe.train.precision, device, exact)


def _open(
    plan: PretrainPlan, execution: PretrainExecution, made_on: str
) -> tuple[PretrainPlan, Reader]:
    """Prepare the cohorts' scans, and open all sources."""
    opened: list[StoredScans | MadeScans] = []
    sources, seen = [], plan.seen
    tasks = plan.knowledge.tasks
    for source in plan.sources:
        if isinstance(source, CohortSource):
            prepared = _prepared(source, plan, execution)
            source = replace(source, cohort=prepared.cohort)
            seen = _with_hashes(seen, source)
            targets = encoded_table(tasks, source.cohort.table)
            opened.append(StoredScans(prepared.store, tuple(source.cohort.scan_ids), targets))
        else:
            opened.append(
                MadeScans(
                    source.name,
                    source.options.model_dump_json(),
                    made_on,
                    source.distinct,
                    tasks,
                    plan.objective.needs_labels,
                )
            )
        sources.append(source)
    return replace(plan, sources=sources, seen=seen), Reader(tuple(opened))


def _prepared(source: CohortSource, plan: PretrainPlan, execution: PretrainExecution) -> Prepared:
    return fill_store(
        source.cohort,
        store_for(source.cohort, plan.recipe.prepare),
        plan.recipe.prepare,
        workers=execution.workers,
        exclude_broken=execution.exclude_broken,
    )


def _with_hashes(seen: pd.DataFrame, source: CohortSource) -> pd.DataFrame:
    """Add the hashes of prepared scans, and leave out scans that could not be prepared."""
    table = source.cohort.table
    if "voxels" not in table:
        return seen
    own = seen["cohort"] == source.name
    hashes = dict(zip(table["scan_id"], table["voxels"], strict=True))
    prepared = seen["scan_id"].map(hashes).fillna("")
    seen = seen.assign(prepared=seen["prepared"].where(~own, prepared))
    return seen[~own | seen["scan_id"].isin(hashes)].reset_index(drop=True)


def _fingerprint(plan: PretrainPlan) -> str:
    """Of all scans that are seen, and of their labels."""
    labels = [
        [source.name, source.cohort.fingerprint]
        for source in plan.sources
        if isinstance(source, CohortSource)
    ]
    return digest([labels, plan.seen.to_numpy().tolist()])


def _train(
    plan: PretrainPlan,
    reader: Reader,
    folder: PretrainFolder,
    precision: Precision,
    device: torch.device,
    execution: PretrainExecution,
) -> None:
    """Train to the end, and write the weights."""
    fabric = make_fabric(precision, device.type)
    fabric.launch()
    keep_freed_memory()
    size = plan.recipe.train.batch_size * plan.recipe.train.accumulate
    steps = steps_per_epoch(plan.per_epoch, size)
    with (
        stop_on_signals() as stop,
        progress("Pre-training", steps * plan.recipe.train.epochs) as bar,
    ):
        machinery = Machinery(fabric, precision, folder.path, execution.checkpoint_every, stop)
        look = _look(plan, plan.probe, machinery, execution) if plan.probe else None
        trainer = Pretrainer(plan, reader, machinery, look)
        bar.skip(trainer.resume())
        trainer.run(bar, _processes(reader, execution))
    record = folder.finish(
        plan.recipe, trainer.learner, _learning(plan, reader, trainer.total_steps), plan.seen
    )
    machinery.checkpoint.unlink(missing_ok=True)
    say(f"{record.summary}. Take it as 'weights: {folder.path}'.")


def _processes(reader: Reader, execution: PretrainExecution) -> int:
    """How many processes make scans ahead; reading prepared ones needs none."""
    makes = any(isinstance(source, MadeScans) for source in reader.sources)
    if not makes or execution.generate_on_gpu:
        return 1
    return execution.workers or available_cores()


def _look(
    plan: PretrainPlan, probe: Probe, machinery: Machinery, execution: PretrainExecution
) -> Look:
    """What tries the features on the probe's cohort."""
    prepared = fill_store(
        probe.cohort,
        store_for(probe.cohort, plan.recipe.prepare),
        plan.recipe.prepare,
        workers=execution.workers,
    )
    find = partial(
        features_of,
        store=prepared.store,
        scan_ids=probe.cohort.scan_ids,
        batch_size=plan.recipe.train.batch_size,
        fabric=machinery.fabric,
        precision=machinery.precision,
    )

    def look(backbone: nn.Module) -> dict[str, float]:
        assert isinstance(backbone, Backbone)
        return probe.scores(find(backbone), plan.recipe.seed)

    return look


def _learning(plan: PretrainPlan, reader: Reader, steps: int) -> Learning:
    """How many different scans of each source were seen."""
    train = plan.recipe.train
    weights: Sequence[float] = [source.weight for source in plan.sources]
    shown = [n * train.epochs for n in shares(weights, plan.per_epoch)]
    scans = {
        source.name: min(count, there.count or count)
        for source, there, count in zip(plan.sources, reader.sources, shown, strict=True)
    }
    return Learning(
        objective=plan.recipe.objective.kind, scans=scans, epochs=train.epochs, steps=steps
    )
