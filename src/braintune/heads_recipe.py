"""The recipe's section on raw heads, typed, and named preparations as plain settings."""

from typing import Any, Literal

from braintune.errors import nearest
from braintune.section import Section

Registration = Literal["rigid", "similarity", "affine-9", "affine-12", "none"]
BrainSource = Literal["template", "masks", "hd-bet", "synthstrip", "freesurfer", "none"]


class HeadsRecipe(Section):
    """How a head as the scanner wrote it comes into MNI152 space (see `braintune.imaging.heads`).

    Attributes:
        bias: ``"n4"`` divides by the bias field that N4 finds; ``"none"`` leaves it.
        brain: Where the brain mask is from. ``"template"``: found here, with nothing downloaded.
            ``"masks"``: beside the scans already. ``"hd-bet"``, ``"synthstrip"``, ``"freesurfer"``:
            programs that are installed. ``"none"``: the scans are skull-stripped already, so that
            what is not 0 is brain.
        registration: Degrees of freedom to the template: ``"rigid"`` 6, ``"similarity"`` 7,
            ``"affine-9"``, ``"affine-12"``; ``"none"`` if the scans are in MNI152 space already.
        template: The space; its brain comes with nilearn.
        skull: ``"strip"`` sets what is not brain to 0; ``"keep"`` keeps it.
        deface: Whether the face is taken out of whatever is kept of the head.
    """

    bias: Literal["n4", "none"] = "n4"
    brain: BrainSource = "template"
    registration: Registration = "affine-9"
    template: Literal["mni152"] = "mni152"
    skull: Literal["strip", "keep"] = "strip"
    deface: bool = False


# Preparations by name. They resolve to plain settings, so that a run's recipe says what was done
# even if a preset changes later.
PRESETS: dict[str, dict[str, Any]] = {
    "mni-2mm": {
        "spacing": 2.0,
        "shape": (91, 109, 91),
        "intensity": "zscore",
        "brain": "whole",
        "heads": {"registration": "affine-9"},
    },
    "mni-1mm": {
        "spacing": 1.0,
        "shape": (182, 218, 182),
        "intensity": "zscore",
        "heads": {"registration": "affine-9"},
    },
    "sfcn": {
        "spacing": 1.0,
        "shape": (160, 192, 160),
        "intensity": "zscore",
        "heads": {"registration": "affine-12"},
    },
    "fmcib": {
        "spacing": 2.0,
        "shape": (50, 50, 50),
        "center": "brain",
        "intensity": "percentile",
        "heads": {"registration": "affine-9"},
    },
    "brainiac": {
        "spacing": 2.0,
        "shape": (96, 96, 96),
        "center": "brain",
        "intensity": "zscore",
        "heads": {"registration": "rigid"},
    },
    "ldm": {
        "spacing": 1.0,
        "shape": (160, 224, 160),
        "intensity": "percentile",
        "heads": {"registration": "rigid"},
    },
}


def with_preset(values: Any) -> Any:
    """Plain values of a ``prepare`` section with its ``preset`` replaced by what that stands for.

    What is set beside the preset wins, also key by key within ``heads``.

    Raises:
        ValueError: If no preset has that name.

    Example:
        >>> with_preset({"preset": "brainiac", "spacing": 1.5})["spacing"]
        1.5
    """
    if not isinstance(values, dict) or values.get("preset") is None:
        return values
    own = {key: value for key, value in values.items() if key != "preset"}
    name = str(values["preset"])
    if name not in PRESETS:
        msg = f"unknown preset {name!r}.{nearest(name, PRESETS)} Available: {', '.join(PRESETS)}."
        raise ValueError(msg)
    preset = PRESETS[name]
    merged = {**preset, **own}
    heads = own.get("heads", {})
    if isinstance(heads, HeadsRecipe):
        heads = heads.model_dump(exclude_unset=True)
    if isinstance(heads, dict):
        merged["heads"] = {**preset["heads"], **heads}
    return merged
