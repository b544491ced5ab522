"""``braintune synthesize``."""

import typer

app = typer.Typer(help="Make scans.", no_args_is_help=True)


@app.callback()
def _synthesize() -> None:
    """Make scans to train on."""
