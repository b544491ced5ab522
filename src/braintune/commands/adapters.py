"""``braintune adapters``."""

from braintune.commands.options import AsJson, print_json, print_line

NAME = "adapters"
HELP = """List the adapters and what each can adapt.

Example: braintune adapters
"""


def run(as_json: AsJson = False) -> None:
    """List adapters."""
    from braintune.reporting.registry_text import adapter_documents, as_table

    documents = adapter_documents()
    if as_json:
        print_json(documents)
    else:
        print_line(as_table(documents, ["name", "summary", "adapts", "options"]))
