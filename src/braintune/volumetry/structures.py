"""What a label is called, which side it is on, and which label is its other side."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from braintune.cohort.tables import read_table
from braintune.errors import InputError, listing
from braintune.synthesis.labelmaps.naming import read_names
from braintune.synthesis.labelmaps.numbering import known_table

Side = Literal["left", "right"]
_WORDS: dict[str, Side] = {"left": "left", "lh": "left", "right": "right", "rh": "right"}
_LETTERS: dict[str, Side] = {"l": "left", "r": "right"}


@dataclass(frozen=True)
class Structure:
    """One label as the tables name it.

    Attributes:
        value: The number in the files.
        name: What the files call it.
        base: The name without its side, fit for a column.
        side: Its side, None for what lies on both or in the middle.
    """

    value: int
    name: str
    base: str
    side: Side | None

    @property
    def key(self) -> str:
        """How its columns begin, such as ``hippocampus_left``."""
        return f"{self.base}_{self.side}" if self.side else self.base


def structure_of_name(value: int, name: str) -> Structure:
    """Find the side in a name.

    Words for sides may stand anywhere; the letters L and R only at an end, since they may be part
    of a name.

    Example:
        >>> structure_of_name(17, "Left-Hippocampus").key
        'hippocampus_left'
        >>> structure_of_name(47, "Hippocampus_R").key, structure_of_name(16, "Brain-Stem").key
        ('hippocampus_right', 'brain_stem')
    """
    words = [word.lower() for word in re.split(r"[\W_]+", name) if word]
    found = {_WORDS[word] for word in words if word in _WORDS}
    rest = [word for word in words if word not in _WORDS]
    if not found and len(words) > 1:
        for end in (words[-1], words[0]):
            if end in _LETTERS:
                found = {_LETTERS[end]}
                rest = words[:-1] if end == words[-1] else words[1:]
                break
    if len(found) != 1 or not rest:
        return Structure(value, name, "_".join(words) or f"label_{value}", None)
    return Structure(value, name, "_".join(rest), found.pop())


def read_structures(path: Path) -> dict[int, Structure]:
    """Read a table of labels.

    Args:
        path: A table with ``index`` and ``name``, and, where names do not tell them, ``structure``
            (the same for both sides) and ``side`` (left, right or n/a).

    Raises:
        InputError: If it is no such table, or two labels would have the same columns.
    """
    structures = {v: structure_of_name(v, name) for v, name in read_names(path).items()}
    table = read_table(path)
    if {"structure", "side"} & set(table.columns):
        for row in table.dropna(subset=["index", "name"]).to_dict("records"):
            value = int(str(row["index"]))
            structures[value] = _declared(
                structures[value], row.get("structure"), row.get("side"), path
            )
    return refuse_equal_columns(structures, str(path))


def _declared(structure: Structure, declared: object, side: object, path: Path) -> Structure:
    """A structure with what its row says of it."""
    if isinstance(declared, str):
        base = "_".join(re.findall(r"\w+", declared.lower()))
        structure = replace(structure, base=base or structure.base)
    if isinstance(side, str):
        if side.lower() not in ("left", "right"):
            msg = f"{path} gives label {structure.value} the side {side!r}; use left, right or n/a."
            raise InputError(msg)
        structure = replace(structure, side=_WORDS[side.lower()])
    return structure


def name_values(values: Iterable[int], names: Mapping[int, str]) -> dict[int, Structure]:
    """Name labels from a table of names, or from the numbering that they follow, if it is known.

    Labels of no known name are called by their number.
    """
    values = set(values) - {0}
    known = known_table(values | set(names), names)
    structures = {}
    for value in sorted(values):
        name = names.get(value) or (known[value][0] if value in known else f"label {value}")
        structures[value] = structure_of_name(value, name)
    return refuse_equal_columns(structures, "The table of label names")


def refuse_equal_columns(structures: dict[int, Structure], source: str) -> dict[int, Structure]:
    """Return the structures without the background, if each has columns of its own.

    Raises:
        InputError: If two labels would share a column.
    """
    owners: dict[str, list[int]] = {}
    for value, structure in structures.items():
        if value:
            owners.setdefault(structure.key, []).append(value)
    shared = {key: values for key, values in owners.items() if len(values) > 1}
    if shared:
        texts = (f"{key} ({listing(values)})" for key, values in shared.items())
        raise InputError(
            f"{source} gives several labels one name: {listing(texts)}. Name each label of its own."
        )
    return {value: s for value, s in structures.items() if value}


def pairs(structures: Iterable[Structure]) -> dict[str, tuple[Structure, Structure]]:
    """Left and right of the structures that have both, by their common name."""
    sides: dict[str, dict[Side, Structure]] = {}
    for structure in structures:
        if structure.side:
            sides.setdefault(structure.base, {})[structure.side] = structure
    return {base: (s["left"], s["right"]) for base, s in sides.items() if len(s) == 2}
