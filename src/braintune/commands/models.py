"""``braintune models``."""

from typing import Annotated

import typer

from braintune.commands.options import AsJson, print_json, print_line

app = typer.Typer(help="Backbones and their weights.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the backbones.

    Example: braintune models list
    """
    from braintune.reporting.registry_text import as_table, backbone_documents

    documents = backbone_documents()
    if as_json:
        print_json(documents)
    else:
        print_line(as_table(documents, ["name", "family", "parameters", "weights", "summary"]))


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="The backbone.")], as_json: AsJson = False
) -> None:
    """Explain one backbone and its options.

    Example: braintune models show resnet18
    """
    from braintune.reporting.registry_text import as_list, backbone_document

    document = backbone_document(name)
    if as_json:
        print_json(document)
    else:
        print_line(as_list(document))
