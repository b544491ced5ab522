"""``braintune synthesize``."""

import typer

from braintune.commands.synthesize_diffusion import convert, report, sample, train
from braintune.commands.synthesize_maps import maps

app = typer.Typer(help="Make scans.", no_args_is_help=True)


@app.callback()
def _synthesize() -> None:
    """Make scans to train on."""


for command in (maps, train, sample, report, convert):
    app.command(command.__name__)(command)
