"""One fit: a recipe under its protocol, from a cohort to a run folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

import lightning_fabric
import numpy as np
import torch

from braintune.cohort.cohort import Cohort
from braintune.cohort.label_maps import LABEL_PATH
from braintune.cohort.tables import write_table_text
from braintune.console import progress, say
from braintune.errors import InputError, listing
from braintune.evaluation.splits import splits_table
from braintune.files import digest, write_json, write_text
from braintune.fitting.batches import steps_per_epoch
from braintune.fitting.fold import is_done
from braintune.fitting.interrupt import stop_on_signals
from braintune.fitting.machinery import FEATURE_BYTES
from braintune.fitting.network import blank_images, outline
from braintune.fitting.overlap import refuse_seen
from braintune.fitting.plan import AnyPlan
from braintune.fitting.precision import (
    Precision,
    choose_precision,
    find_exact,
    keep_freed_memory,
    make_fabric,
)
from braintune.fitting.procedure import procedure_of
from braintune.fitting.starting import Start, read_start, settle
from braintune.fitting.training import Machinery
from braintune.imaging.preparation import fingerprint
from braintune.imaging.prepare import Prepared
from braintune.recipe import Recipe
from braintune.run import RunFolder, describe_environment

_ACCELERATORS = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Execution:
    """Where and how a fit runs, which changes no result but by another device's rounding.

    Attributes:
        accelerator: ``"auto"`` (a GPU if there is one), ``"cpu"`` or ``"cuda"``.
        devices: How many processes fit together on a node, one a device.
        workers: Processes that prepare scans, by default one a core.
        store: Folder of the prepared store; by default one in the cache.
        checkpoint_every: Seconds between checkpoints.
        exclude_broken: Leave out scans that can't be prepared, and say so in the ledger.
        nodes: How many computers fit together; the same command runs on each.
        feature_cache: Gigabytes of the disk for what frozen layers make of scans; what was not used
            for longest is removed. 0 keeps nothing.
    """

    accelerator: str = "auto"
    devices: int = 1
    workers: int | None = None
    store: Path | None = None
    checkpoint_every: float = 60.0
    exclude_broken: bool = False
    nodes: int = 1
    feature_cache: float = FEATURE_BYTES / 1e9


def fit(recipe: Recipe, cohort: Cohort, out: Path, execution: Execution | None = None) -> RunFolder:
    """Fit a recipe to a cohort under the recipe's protocol.

    Everything is checked before anything is written. A fit that was stopped, at whatever moment,
    goes on when the same call is made again, and ends with the same numbers.

    Args:
        recipe: What to do.
        cohort: The scans and the target.
        out: The run folder, new or of the same recipe and cohort.
        execution: Where and how.

    Returns:
        The finished run.

    Raises:
        InputError: If recipe, cohort and folder do not fit together.
        InterruptedFitError: If the user or the scheduler asked to stop.
    """
    execution = execution or Execution()
    run = RunFolder(out)
    recipe = settle(recipe)
    procedure = procedure_of(recipe)
    plan = procedure.plan(recipe, cohort, execution.exclude_broken)
    resumed = run.check_free(recipe)
    start = read_start(recipe, cohort)
    if start is not None and not resumed:
        tested = np.unique(np.concatenate([fold.test for fold in plan.folds]))
        refuse_seen(start.weights.path, plan.cohort, tested.tolist(), execution.workers)
    precision = _precision(plan, execution)
    fabric = _launch(recipe, execution, precision)
    with fabric.rank_zero_first():
        prepared = procedure.prepare(
            plan, execution.store, execution.workers, execution.exclude_broken
        )
    plan = procedure.plan(recipe, prepared.cohort, execution.exclude_broken)
    if fabric.is_global_zero:
        _begin(run, plan, prepared, precision, start)
    fabric.barrier()
    if not run.is_complete:
        keep_freed_memory()
        _fit_folds(run, plan, prepared, fabric, precision, execution)
        if fabric.is_global_zero:
            procedure.finish(run, plan, prepared.store)
    fabric.barrier()
    return run


def _precision(plan: AnyPlan, execution: Execution) -> Precision:
    """What the device is fast at, if it is right for the network."""
    if execution.accelerator not in _ACCELERATORS:
        allowed = listing(_ACCELERATORS)
        raise InputError(f"Unknown accelerator {execution.accelerator!r}. Available: {allowed}.")
    if execution.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here. Leave --accelerator out, or set it to cpu.")
    exact = find_exact(outline(plan.recipe, plan.task), blank_images(plan.recipe))
    return choose_precision(plan.recipe.train.precision, _device(execution), exact)


def _device(execution: Execution) -> torch.device:
    is_cpu = execution.accelerator == "cpu" or not torch.cuda.is_available()
    return torch.device("cpu" if is_cpu else "cuda")


def _launch(recipe: Recipe, execution: Execution, precision: Precision) -> lightning_fabric.Fabric:
    """Start the processes that fit together; each of them runs on from here."""
    if execution.devices < 1 or execution.nodes < 1:
        msg = f"There are {execution.devices} devices and {execution.nodes} nodes. Give 1 or more."
        raise InputError(msg)
    together = execution.devices * execution.nodes
    if recipe.train.batch_size % together:
        msg = (
            f"train.batch_size {recipe.train.batch_size} cannot be shared by {together} devices"
            " evenly. Set a multiple of them."
        )
        raise InputError(msg)
    fabric = make_fabric(precision, _device(execution).type, execution.devices, execution.nodes)
    fabric.launch()
    return fabric


def _begin(
    run: RunFolder, plan: AnyPlan, prepared: Prepared, precision: Precision, start: Start | None
) -> None:
    """Write down who is in, who is not and why, and how the folds were dealt."""
    splits = splits_table(plan.cohort, plan.folds)
    truth = procedure_of(plan.recipe).truth(plan)
    resumed = run.begin(
        plan.recipe, digest([splits.to_numpy().tolist(), truth]), plan.cohort.source
    )
    if resumed:
        return
    people = plan.cohort.table.drop(columns=["path", LABEL_PATH], errors="ignore")
    write_text(run.cohort_file, write_table_text(people))
    write_text(run.splits_file, write_table_text(splits))
    environment = describe_environment()
    environment["precision"] = asdict(precision)
    environment["threads"] = torch.get_num_threads()
    environment["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    write_json(run.environment_file, environment)
    run.note("began", command=environment["command"])
    if start is not None:
        write_json(run.weights_file, start.document())
        run.note("weights", name=start.document()["name"], sha256=start.sha256)
        say(f"Weights: {start.report.text()}.")
        for warning in start.warnings():
            run.note("warned", of=warning)
            say(f"Note: {warning}")
    for item in plan.cohort.exclusions:
        run.note("excluded", id=item.id, reason=item.reason)
    run.note(
        "prepared",
        scans=len(plan.cohort),
        fingerprint=fingerprint(plan.recipe.prepare),
        store=str(prepared.store.path),
    )


def _fit_folds(
    run: RunFolder,
    plan: AnyPlan,
    prepared: Prepared,
    fabric: lightning_fabric.Fabric,
    precision: Precision,
    execution: Execution,
) -> None:
    procedure, train = procedure_of(plan.recipe), plan.recipe.train
    size = train.batch_size * train.accumulate
    lengths = [train.epochs * steps_per_epoch(len(fold.train), size) for fold in plan.folds]
    with stop_on_signals() as stop, progress("Fitting", sum(lengths)) as bar:
        for number in range(len(plan.folds)):
            if is_done(run, number):
                bar.skip(lengths[number])
                continue
            machinery = Machinery(
                fabric=fabric,
                precision=precision,
                folder=run.fold_folder(number),
                every=execution.checkpoint_every,
                stop=stop,
                feature_bytes=round(execution.feature_cache * 1e9),
            )
            procedure.fit_fold(run, plan, prepared.store, number, machinery, bar)
