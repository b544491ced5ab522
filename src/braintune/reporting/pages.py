"""Pages: one set of rules for every template; what comes from files is escaped."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from braintune.errors import counted
from braintune.reporting.numbers import duration, p_value, rounded, with_interval


def fill(template: str, context: dict[str, Any]) -> str:
    """A template's HTML.

    Raises:
        jinja2.UndefinedError: If the template asks for what the context does not have.
    """
    return _environment().get_template(template).render(context)


def embedded(picture: Path) -> str:
    """A picture's bytes as text, for a page that needs no other file."""
    return base64.b64encode(picture.read_bytes()).decode()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("braintune", "reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "interval": with_interval,
        "rounded": rounded,
        "p_value": p_value,
        "duration": duration,
        "counted": counted,
    }
    return environment
