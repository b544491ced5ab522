"""``braintune demo``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Workers, print_json, print_line

NAME = "demo"
HELP = """Simulate a cohort, fit it and report, in about a minute, with nothing downloaded.

The disease shrinks the hippocampi and widens the ventricles of warped MNI152 brains. With --effect
0 there is nothing to find, and the interval must include chance.

Example: braintune demo
"""


def run(
    out: Annotated[Path, typer.Option(help="A folder for the cohort and the run.")] = Path("demo"),
    effect: Annotated[float, typer.Option(help="Size of the planted effects.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Another seed, another cohort.")] = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Run the demo."""
    from braintune.demo import run_demo
    from braintune.reporting.report import write_report
    from braintune.reporting.run_text import run_document, run_text

    finished = run_demo(out, effect=effect, seed=seed, workers=workers)
    write_report(finished.path)
    if as_json:
        print_json(run_document(finished))
    else:
        print_line(run_text(finished))
