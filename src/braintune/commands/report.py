"""``braintune report``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, print_json, print_line

NAME = "report"
HELP = """Write the report of a finished run, study or evaluation again, from its files alone.

Example: braintune report runs/age
"""


def run(
    run: Annotated[Path, typer.Argument(help="A finished run, study or evaluation.")],
    as_json: AsJson = False,
) -> None:
    """Write a report."""
    from braintune.fitting.diagnosis_run import is_diagnosis
    from braintune.reporting.diagnosis_report import write_diagnosis_report
    from braintune.reporting.evaluation_report import write_evaluation_report
    from braintune.reporting.report import write_report
    from braintune.reporting.scale_report import write_scale_report
    from braintune.reporting.study_report import write_study_report
    from braintune.studies.evaluate import is_evaluation
    from braintune.studies.folder import StudyFolder

    if StudyFolder(run).identity_file.is_file():
        page = write_study_report(run)
        if StudyFolder(run).scale_file.exists():
            page = write_scale_report(run)
    elif is_evaluation(run):
        page = write_evaluation_report(run)
    else:
        page = write_diagnosis_report(run) if is_diagnosis(run) else write_report(run)
    if as_json:
        print_json({"report": str(page)})
    else:
        print_line(str(page))
