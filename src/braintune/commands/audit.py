"""``braintune audit``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Overrides, print_json, print_line

NAME = "audit"
HELP = """Count a recipe's parameters and estimate its memory, without data.

Example: braintune audit recipes/brain-age.yaml
"""


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a YAML file.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Audit a recipe."""
    from braintune.fitting.network import audit_recipe
    from braintune.fitting.starting import settle
    from braintune.recipe import Recipe
    from braintune.reporting.run_text import recipe_audit_document, recipe_audit_text

    audit = audit_recipe(settle(Recipe.read(recipe, overrides)))
    if as_json:
        print_json(recipe_audit_document(audit))
    else:
        print_line(recipe_audit_text(audit))
