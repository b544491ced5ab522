"""``braintune scale``."""

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

NAME = "scale"
HELP = """Measure learning curves, and foretell how many subjects a wished score takes.

A study is run over nested, stratified shares of the training subjects (5 to 100 %, unless it names
its own fractions); a power law is fitted to each choice. A plain recipe is a study of itself. After
an interruption, the same command goes on.

Example: braintune scale recipes/brain-age.yaml --cohort cohort --out studies/size --wish mae=5
"""


def run(
    study: Annotated[Path, typer.Argument(help="The study, a YAML file.")],
    cohort: Annotated[
        Path | None, typer.Option(help="The cohort, unless the study names its own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The study's folder.")] = None,
    wish: Annotated[
        list[str] | None, typer.Option(help="A score, such as mae=5 or auc=0.9. Repeatable.")
    ] = None,
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
    """Scale."""
    from braintune.reporting.scale_report import write_scale_report
    from braintune.reporting.scale_text import scale_text
    from braintune.reporting.study_report import write_study_report
    from braintune.reporting.study_text import plan_text
    from braintune.studies.compare import Conditions
    from braintune.studies.cost import plan_document
    from braintune.studies.places import check_place, make_workers
    from braintune.studies.recipe import StudyRecipe
    from braintune.studies.scale import plan_scale, scale

    chosen = StudyRecipe.read(study, overrides)
    check_place(cluster, accelerator, out, dry_run)
    if dry_run:
        planned, _ = plan_scale(chosen, cohort, wish or [])
        document = plan_document(planned, out, workers)
        if as_json:
            print_json(document)
        else:
            print_line(plan_text(document))
        return
    assert out is not None
    conditions = Conditions(workers, accelerator, exclude_broken, retry)
    start = make_workers(cluster, conditions)
    found = scale(chosen, cohort, out, start, conditions, wish or [])
    write_study_report(out)
    page = write_scale_report(out)
    if as_json:
        print_json({"study": str(out), "report": str(page), **found})
    else:
        print_line(scale_text(found, page))
