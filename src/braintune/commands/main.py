"""The command line: ``braintune COMMAND``."""

import sys

import typer

from braintune.commands import (
    adapters,
    audit,
    chain,
    check,
    compare,
    demo,
    diagnose,
    evaluate,
    fit,
    models,
    predict,
    prepare,
    pretrain,
    report,
    scale,
    segment,
    simulate,
    synthesize,
    volumes,
)
from braintune.commands.options import options_of_all
from braintune.errors import BraintuneError

app = typer.Typer(
    name="braintune",
    help="Adapt pre-trained 3D vision models to your brain MRI cohort, and know how good they are.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback()(options_of_all)
for command in (
    demo,
    simulate,
    check,
    prepare,
    pretrain,
    fit,
    predict,
    evaluate,
    compare,
    scale,
    segment,
    volumes,
    diagnose,
    chain,
    report,
    audit,
    adapters,
):
    app.command(command.NAME, help=command.HELP)(command.run)
app.add_typer(models.app, name="models")
app.add_typer(synthesize.app, name="synthesize")


def main() -> None:
    """Run a command; what the user can mend is said in words, without a traceback."""
    try:
        app()
    except BraintuneError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(1)
