"""One way to register backbones, adapters and tasks: a new file in the room is a new entry."""

import importlib
import pkgutil
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from braintune.errors import InputError, listing, nearest


class Named(Protocol):
    """An entry of a registry."""

    @property
    def name(self) -> str:
        """What recipes call it."""
        ...


Entry = TypeVar("Entry", bound=Named)
Options = TypeVar("Options", bound=BaseModel)


class Registry(Generic[Entry]):
    """The entries that the modules of one package register when they are imported.

    Args:
        kind: What an entry is called in messages, such as ``"backbone"``.
        package: The package whose modules hold the entries; all are imported at the first look.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._complete = False

    def add(self, entry: Entry) -> Entry:
        """Add an entry, whose name must be new."""
        if entry.name in self._entries:
            msg = f"{self.kind} {entry.name!r} is registered twice"
            raise ValueError(msg)
        self._entries[entry.name] = entry
        return entry

    def names(self) -> list[str]:
        """All names, sorted."""
        self._discover()
        return sorted(self._entries)

    def get(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            InputError: If there is none; the message names the nearest and all.
        """
        self._discover()
        if name not in self._entries:
            msg = (
                f"Unknown {self.kind} {name!r}.{nearest(name, self._entries)}"
                f" Available: {listing(self.names(), limit=40)}."
            )
            raise InputError(msg)
        return self._entries[name]

    def _discover(self) -> None:
        if self._complete:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        self._complete = True


def parse(model: type[Options], values: dict[str, Any], where: str) -> Options:
    """Build a pydantic model from a recipe's values.

    Args:
        model: The model that says which keys there are.
        values: The values as read.
        where: What the values belong to, for the message, such as ``"train"``.

    Raises:
        InputError: One line a mistake, with the nearest right key for a misspelt one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(explain(error, model, where)) from None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """Say in plain words what pydantic found wrong."""
    lines = []
    for problem in error.errors():
        path = _readable(where, problem["loc"], model)
        if problem["type"] == "extra_forbidden":
            allowed = _allowed_keys(model, problem["loc"][:-1])
            key = str(problem["loc"][-1])
            lines.append(
                f"Unknown key {path!r}.{nearest(key, allowed)} Allowed here: {', '.join(allowed)}."
            )
        elif problem["type"] == "missing":
            lines.append(f"The key {path!r} is missing.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{path}: {message} (got {problem['input']!r})." if path else message)
    return "\n".join(lines)


def _readable(where: str, location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """A dotted path as the user wrote it, without the tags that pydantic adds for unions."""
    parts = [where] if where else []
    current: Any = model
    for part in location:
        if not isinstance(current, dict):
            parts.append(str(part))
        current = _step(current, str(part)) if current is not None else None
    return ".".join(parts)


def _allowed_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that a (nested) model takes at a path of an error."""
    current: Any = model
    for part in path:
        current = _step(current, str(part))
        if current is None:
            return []
    return sorted(current.model_fields)


def _step(model: Any, part: str) -> Any:
    """The model under a key, or, within a tagged union, the model of a tag."""
    if isinstance(model, dict):
        return model.get(part)
    field = model.model_fields.get(part)
    if field is None:
        return None
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return field.annotation
    members = [m for m in getattr(field.annotation, "__args__", ()) if hasattr(m, "model_fields")]
    tags = {m.model_fields["kind"].default: m for m in members if "kind" in m.model_fields}
    return tags or (members[0] if members else None)
