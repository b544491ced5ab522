"""``braintune adapters``."""

from typing import Annotated

import typer

from braintune.commands.options import AsJson, print_json, print_line

NAME = "adapters"
HELP = """List the adapters and what each adapts and costs, or explain one and its options.

Example: braintune adapters lora
"""


def run(
    name: Annotated[str | None, typer.Argument(help="The adapter to explain.")] = None,
    as_json: AsJson = False,
) -> None:
    """List adapters, or explain one."""
    if name is not None:
        _explain(name, as_json)
        return
    from braintune.reporting.registry_text import adapter_documents, as_table

    documents = adapter_documents()
    if as_json:
        print_json(documents)
        return
    print_line(as_table(documents, ["name", "summary", "adapts", "cost", "paper"]))
    print_line("\n'braintune adapters NAME' explains one and its options.")


def _explain(name: str, as_json: bool) -> None:
    from braintune.adapters.adapter import ADAPTERS
    from braintune.reporting.options_text import option_rows
    from braintune.reporting.registry_text import adapter_document, as_list, as_table

    document, rows = adapter_document(name), option_rows(ADAPTERS.get(name).options)
    if as_json:
        print_json(document | {"explained_options": rows})
        return
    print_line(as_list({key: value for key, value in document.items() if key != "options"}))
    print_line("\n" + as_table(rows, ["option", "default", "takes", "meaning"]))
