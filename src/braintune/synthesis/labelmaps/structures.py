"""Structures: sets of labels that effects are planted in and volumes are measured of."""

from collections.abc import Sequence

from braintune.errors import InputError, listing, nearest
from braintune.synthesis.labelmaps.numbering import Label
from braintune.synthesis.labelmaps.tissues import OUTSIDE_BRAIN, Tissue

HEAD = "head"

_FLUID = {Tissue.CSF, Tissue.VENTRICLE}
_GROUPS: dict[str, frozenset[Tissue]] = {
    "ventricles": frozenset({Tissue.VENTRICLE}),
    "sulci": frozenset({Tissue.CSF}),
    "cortex": frozenset({Tissue.CORTEX}),
    "white-matter": frozenset({Tissue.WHITE}),
    "hippocampus": frozenset({Tissue.HIPPOCAMPUS}),
    "amygdala": frozenset({Tissue.AMYGDALA}),
    "thalamus": frozenset({Tissue.THALAMUS}),
    "basal-ganglia": frozenset({Tissue.CAUDATE, Tissue.PUTAMEN, Tissue.PALLIDUM, Tissue.ACCUMBENS}),
    "brainstem": frozenset({Tissue.BRAINSTEM}),
    "cerebellum": frozenset({Tissue.CEREBELLAR_CORTEX, Tissue.CEREBELLAR_WHITE}),
    "skull": frozenset({Tissue.SKULL}),
}


def in_brain(label: Label) -> bool:
    """Whether a skull-stripped scan shows a label; one of unknown tissue is taken for brain."""
    return label.tissue not in OUTSIDE_BRAIN


def structures(labels: Sequence[Label]) -> dict[str, tuple[int, ...]]:
    """All structures of some labels, as positions in the list of labels.

    They are the labels by name (those of one name together), the groups of tissues that there are,
    ``brain`` (all but fluid) and ``intracranial`` (with fluid).

    Example:
        >>> labels = [Label(0, "background", Tissue.BACKGROUND), Label(7, "blob", None)]
        >>> structures(labels)
        {'blob': (1,), 'brain': (1,), 'intracranial': (1,)}
    """
    found: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        if label.tissue is Tissue.BACKGROUND:
            continue
        found.setdefault(label.name, []).append(position)
    groups: dict[str, list[int]] = {
        name: [p for p, label in enumerate(labels) if label.tissue in tissues]
        for name, tissues in _GROUPS.items()
    }
    inside = [p for p, label in enumerate(labels) if in_brain(label)]
    groups["brain"] = [p for p in inside if labels[p].tissue not in _FLUID]
    groups["intracranial"] = inside
    found.update({name: members for name, members in groups.items() if members})
    return {name: tuple(members) for name, members in found.items()}


def members_of(name: str, known: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """The labels of one structure.

    Raises:
        InputError: If no label map has it; the message lists those that there are.
    """
    if name not in known:
        raise InputError(
            f"The label maps have no structure {name!r}.{nearest(name, known)} There are:"
            f" {listing(sorted(known), limit=60)}."
        )
    return known[name]


def check_disjoint(chosen: dict[str, tuple[int, ...]], labels: Sequence[Label]) -> None:
    """Refuse structures that share a label, which would be asked to grow in two ways.

    Raises:
        InputError: If two do.
    """
    owner: dict[int, str] = {}
    for name, members in chosen.items():
        for position in members:
            if position in owner:
                raise InputError(
                    f"Effects are planted in {owner[position]!r} and in {name!r}, which share the"
                    f" label {labels[position].name!r}. Plant them in one of the two."
                )
            owner[position] = name


def mirrored(labels: Sequence[Label]) -> list[int] | None:
    """For each label the position of its mirror image, None if a sided label has no partner.

    Example:
        >>> mirrored([Label(1, "mid", None), Label(2, "left hand", None)]) is None
        True
        >>> mirrored([Label(1, "Hand_L", None), Label(2, "Hand_R", None)])
        [1, 0]
    """
    positions = {label.name: position for position, label in enumerate(labels)}
    partners = []
    for position, label in enumerate(labels):
        other = _other_side(label.name)
        if other is None:
            partners.append(position)
        elif other in positions:
            partners.append(positions[other])
        else:
            return None
    return partners


_SIDES = (("left", "right"), ("Left", "Right"), ("lh", "rh"), ("L", "R"))


def _other_side(name: str) -> str | None:
    """The name of a label on the other side, None for one without a side."""
    for left, right in _SIDES:
        for this, other in ((left, right), (right, left)):
            for mark in "-_ .":
                if name.startswith(this + mark):
                    return other + name[len(this) :]
                if name.endswith(mark + this):
                    return name[: -len(this)] + other
    return None
