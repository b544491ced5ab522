"""``braintune compare``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    ExcludeBroken,
    Overrides,
    Workers,
    print_json,
    print_line,
)

NAME = "compare"
HELP = """Compare pre-training, architectures, adapters and settings on the same splits.

Every choice is tuned on validation rows with the same budget and tested on the same subjects,
beside scratch and what is predicted without images. After an interruption, the same command goes
on.

Example: braintune compare study.yaml --cohort cohort --out studies/adapters --dry-run
"""


def run(
    study: Annotated[Path, typer.Argument(help="The study, a YAML file.")],
    cohort: Annotated[
        Path | None, typer.Option(help="The cohort, unless the study names its own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder.")] = None,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option(help="Print the plan, the counts and the cost; fit nothing.")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(help="tcp://HOST:PORT of a Dask scheduler, or slurm, pbs or sge."),
    ] = None,
    workers: Workers = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    exclude_broken: ExcludeBroken = False,
    retry: Annotated[bool, typer.Option(help="Try failed fits again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare."""
    from braintune.reporting.study_report import write_study_report
    from braintune.reporting.study_text import plan_text, study_text
    from braintune.studies.compare import Conditions, compare, plan
    from braintune.studies.cost import plan_document
    from braintune.studies.places import check_place, make_workers
    from braintune.studies.recipe import StudyRecipe

    chosen = StudyRecipe.read(study, overrides)
    check_place(cluster, accelerator, out, dry_run)
    if dry_run:
        document = plan_document(plan(chosen, cohort), out, workers)
        if as_json:
            print_json(document)
        else:
            print_line(plan_text(document))
        return
    assert out is not None
    conditions = Conditions(workers, accelerator, exclude_broken, retry)
    found = compare(chosen, cohort, out, make_workers(cluster, conditions), conditions)
    page = write_study_report(out)
    if as_json:
        print_json({"study": str(out), "report": str(page), **found})
    else:
        print_line(study_text(found, page))
