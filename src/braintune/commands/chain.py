"""``braintune chain``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Overrides, print_json, print_line

NAME = "chain"
HELP = """Segment a cohort, measure the label maps, and tell classes from the volumes: one recipe.

Gives what `braintune segment`, `volumes` and `diagnose` give, side by side in one folder. A chain
that was stopped goes on with the same command.

Example: braintune chain recipes/hippocampus-diagnosis.yaml --cohort bids --out runs/diagnosis
"""


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML with segment, volumes and diagnose.")],
    cohort: Annotated[Path, typer.Option(help="BIDS dataset or table: scans and people.")],
    out: Annotated[Path, typer.Option(help="The folder of the chain.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run a chain."""
    from braintune.chain import run_chain
    from braintune.fitting.chain_recipe import ChainRecipe
    from braintune.reporting.diagnosis_text import diagnosis_text
    from braintune.reporting.run_text import run_document

    chain = run_chain(ChainRecipe.read(recipe, overrides), cohort, out)
    if as_json:
        places = {"segmentations": str(chain.segmentations), "volumes": str(chain.volumes)}
        print_json({**places, "diagnosis": run_document(chain.diagnosis)})
    else:
        print_line(diagnosis_text(chain.diagnosis))
