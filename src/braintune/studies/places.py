"""Where a study runs: processes of this machine, a Dask scheduler, or jobs of a batch system."""

from collections.abc import Callable
from pathlib import Path

import torch

from braintune.console import say
from braintune.errors import InputError, listing
from braintune.fitting.network import audit_recipe
from braintune.parallel import available_cores
from braintune.studies.compare import Conditions
from braintune.studies.plan import StudyPlan
from braintune.studies.workers import InlineWorker, LocalWorkers, Workers

SYSTEMS = ("slurm", "pbs", "sge")
# What Python, torch and the scans of a batch take before a network is made.
_PROCESS_BYTES = 700_000_000
_MEMINFO = Path("/proc/meminfo")


def check_place(cluster: str | None, accelerator: str, out: Path | None, dry_run: bool) -> None:
    """Refuse what can't be run anywhere, before anything is read.

    Raises:
        InputError: If the place is unknown, or there is no folder to write to.
    """
    if accelerator not in ("auto", "cpu", "cuda"):
        raise InputError(f"Unknown accelerator {accelerator!r}. Available: auto, cpu, cuda.")
    if accelerator == "cuda" and cluster is None and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here. Leave --accelerator out, or set it to cpu.")
    if cluster is not None and cluster not in SYSTEMS and "://" not in cluster:
        allowed = listing(SYSTEMS)
        raise InputError(f"--cluster {cluster!r} must be tcp://HOST:PORT or one of {allowed}.")
    if out is None and not dry_run:
        raise InputError("Name the study's folder with --out, or plan only with --dry-run.")


def make_workers(cluster: str | None, conditions: Conditions) -> Callable[[StudyPlan], Workers]:
    """What starts the workers once a study is planned.

    Args:
        cluster: As the command takes it; None for this machine.
        conditions: How many processes, and on what.
    """

    def start(plan: StudyPlan) -> Workers:
        if cluster is None:
            return local_workers(plan, conditions)
        from braintune.studies.cluster import batch_workers, connected_workers

        if cluster in SYSTEMS:
            return batch_workers(cluster, plan.study.cluster, conditions.workers)
        return connected_workers(cluster)

    return start


def local_workers(plan: StudyPlan, conditions: Conditions) -> Workers:
    """As many processes as cores, memory and GPUs allow."""
    gpus = torch.cuda.device_count() if conditions.accelerator != "cpu" else 0
    cores = available_cores()
    count = conditions.workers or (gpus or min(cores, _that_fit_in_memory(plan)))
    count = min(count, plan.n_fits)
    if count == 1:
        return InlineWorker()
    return LocalWorkers(count, threads=max(1, cores // count), gpus=gpus)


def _that_fit_in_memory(plan: StudyPlan) -> int:
    """How many of the largest fits the free memory holds; one is always tried."""
    free = _available_bytes()
    if free is None:
        return available_cores()
    context = plan.contexts[0]
    recipes = [plan.subjects[context.key, choice.name].recipe for choice in plan.choices]
    largest = max(sum(audit_recipe(r, context.plan.task).memory.values()) for r in recipes)
    count = max(1, free // (_PROCESS_BYTES + largest))
    if count < available_cores():
        need = (_PROCESS_BYTES + largest) / 1e9
        say(f"A fit takes about {need:.1f} GB, so {count} run at once. --workers says otherwise.")
    return count


def _available_bytes() -> int | None:
    """Memory that new processes may take; None where the system does not tell."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None
