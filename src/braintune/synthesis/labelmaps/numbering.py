"""Which tissue a label is: known numberings, and rules for the names of any other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from braintune.synthesis.labelmaps.tissues import Tissue


@dataclass(frozen=True)
class Label:
    """One label of a label map.

    Attributes:
        value: The number in the files.
        name: What volumes and errors call it.
        tissue: Its kind, or None for a label that draws an intensity of its own.
    """

    value: int
    name: str
    tissue: Tissue | None


Table = Mapping[int, tuple[str, Tissue | None]]

_SIDED_FREESURFER: tuple[tuple[int, int, str, Tissue], ...] = (
    (2, 41, "cerebral white matter", Tissue.WHITE),
    (3, 42, "cerebral cortex", Tissue.CORTEX),
    (4, 43, "lateral ventricle", Tissue.VENTRICLE),
    (5, 44, "inferior lateral ventricle", Tissue.VENTRICLE),
    (7, 46, "cerebellum white matter", Tissue.CEREBELLAR_WHITE),
    (8, 47, "cerebellum cortex", Tissue.CEREBELLAR_CORTEX),
    (10, 49, "thalamus", Tissue.THALAMUS),
    (11, 50, "caudate", Tissue.CAUDATE),
    (12, 51, "putamen", Tissue.PUTAMEN),
    (13, 52, "pallidum", Tissue.PALLIDUM),
    (17, 53, "hippocampus", Tissue.HIPPOCAMPUS),
    (18, 54, "amygdala", Tissue.AMYGDALA),
    (26, 58, "accumbens", Tissue.ACCUMBENS),
    (28, 60, "ventral diencephalon", Tissue.VENTRAL),
    (30, 62, "vessel", Tissue.VESSEL),
    (31, 63, "choroid plexus", Tissue.VENTRICLE),
)
# The numbers above 500 are those of the whole-head label maps of Billot et al. (Medical Image
# Analysis 86, 2023), whose classes outside the brain have no names. What each is was guessed from
# where it lies in one of the maps.
FREESURFER: Table = {
    0: ("background", Tissue.BACKGROUND),
    **{left: (f"left {name}", tissue) for left, _, name, tissue in _SIDED_FREESURFER},
    **{right: (f"right {name}", tissue) for _, right, name, tissue in _SIDED_FREESURFER},
    14: ("third ventricle", Tissue.VENTRICLE),
    15: ("fourth ventricle", Tissue.VENTRICLE),
    16: ("brainstem", Tissue.BRAINSTEM),
    24: ("cerebrospinal fluid", Tissue.CSF),
    25: ("left lesion", None),
    57: ("right lesion", None),
    72: ("fifth ventricle", Tissue.VENTRICLE),
    77: ("white matter hypointensities", None),
    85: ("optic chiasm", Tissue.WHITE),
    **{value: (f"corpus callosum {value - 250}", Tissue.WHITE) for value in (251, 252, 253, 254)},
    255: ("corpus callosum 5", Tissue.WHITE),
    **{value: (f"inner structure {value}", None) for value in (136, 137, 163, 164)},
    502: ("vessels", Tissue.VESSEL),
    506: ("eyes", Tissue.EYE),
    507: ("soft tissue", Tissue.SOFT),
    508: ("lenses and optic nerves", Tissue.MUSCLE),
    509: ("mouth", Tissue.MUSCLE),
    511: ("skin", Tissue.SKIN),
    512: ("spinal cord", Tissue.SOFT),
    514: ("venous sinuses", Tissue.VESSEL),
    515: ("skull", Tissue.SKULL),
    516: ("bone marrow", Tissue.MARROW),
    530: ("pituitary", Tissue.SOFT),
}

_SIDED_DLMUSE: tuple[tuple[int, int, str, Tissue], ...] = (
    (23, 30, "AccumbensArea", Tissue.ACCUMBENS),
    (31, 32, "Amygdala", Tissue.AMYGDALA),
    (36, 37, "Caudate", Tissue.CAUDATE),
    (38, 39, "CerebellumExterior", Tissue.CEREBELLAR_CORTEX),
    (40, 41, "Cerebellum_WM", Tissue.CEREBELLAR_WHITE),
    (47, 48, "Hippocampus", Tissue.HIPPOCAMPUS),
    (49, 50, "InfLatVentricle", Tissue.VENTRICLE),
    (51, 52, "LateralVentricle", Tissue.VENTRICLE),
    (55, 56, "Pallidum", Tissue.PALLIDUM),
    (57, 58, "Putamen", Tissue.PUTAMEN),
    (59, 60, "ThalamusProper", Tissue.THALAMUS),
    (61, 62, "VentralDC", Tissue.VENTRAL),
    (76, 75, "BasalForebrain", Tissue.ACCUMBENS),
    (81, 82, "Frontal_WM", Tissue.WHITE),
    (83, 84, "Occipital_WM", Tissue.WHITE),
    (85, 86, "Parietal_WM", Tissue.WHITE),
    (87, 88, "Temporal_WM", Tissue.WHITE),
    (89, 90, "Fornix", Tissue.WHITE),
    (91, 92, "AnteriorLimbInternalCapsule", Tissue.WHITE),
    (93, 94, "PosteriorLimbInternalCapsule", Tissue.WHITE),
)
# DLMUSE (Bashyam et al., and the atlases of Doshi et al., NeuroImage 127, 2016): the numbers from
# 100 to 207 are gyri.
DLMUSE: Table = {
    0: ("background", Tissue.BACKGROUND),
    1: ("CortCSF", Tissue.CSF),
    4: ("3rdVentricle", Tissue.VENTRICLE),
    11: ("4thVentricle", Tissue.VENTRICLE),
    35: ("BrainStem", Tissue.BRAINSTEM),
    46: ("CSF", Tissue.CSF),
    69: ("OpticChiasm", Tissue.WHITE),
    71: ("CerebellarVermalLobules_1to5", Tissue.CEREBELLAR_CORTEX),
    72: ("CerebellarVermalLobules_6to7", Tissue.CEREBELLAR_CORTEX),
    73: ("CerebellarVermalLobules_8to10", Tissue.CEREBELLAR_CORTEX),
    95: ("CorpCall", Tissue.WHITE),
    **{right: (f"{name}_R", tissue) for right, _, name, tissue in _SIDED_DLMUSE},
    **{left: (f"{name}_L", tissue) for _, left, name, tissue in _SIDED_DLMUSE},
    **{value: (f"gyrus {value}", Tissue.CORTEX) for value in range(100, 208)},
}

# The first rule that a name matches decides; names are lower case with single spaces.
_RULES: tuple[tuple[str, Tissue | None], ...] = (
    (r"^(background|air|outside|unknown)$", Tissue.BACKGROUND),
    (r"lesion|tumou?r|infarct|edema|hypointens|hyperintens", None),
    (r"ventral ?(dc|dienc)|hypothal", Tissue.VENTRAL),
    (r"vessel|sinus|arter|vein", Tissue.VESSEL),
    (r"ventric|choroid", Tissue.VENTRICLE),
    (r"csf|cerebrospinal|sulci", Tissue.CSF),
    (r"cerebell.*(white|wm)", Tissue.CEREBELLAR_WHITE),
    (r"cerebell|vermis|vermal", Tissue.CEREBELLAR_CORTEX),
    (r"parahippocamp", Tissue.CORTEX),
    (r"hippocamp", Tissue.HIPPOCAMPUS),
    (r"amygdal", Tissue.AMYGDALA),
    (r"thalam", Tissue.THALAMUS),
    (r"caudate", Tissue.CAUDATE),
    (r"putamen", Tissue.PUTAMEN),
    (r"pallid", Tissue.PALLIDUM),
    (r"accumb|forebrain", Tissue.ACCUMBENS),
    (r"brain ?stem|midbrain|pons|medulla", Tissue.BRAINSTEM),
    (r"white|\bwm\b|callos|corp ?call|capsule|fornix|optic|chiasm", Tissue.WHITE),
    (
        r"cort(ex|ical)|\bctx\b|gr[ae]y|\bgm\b|gyr(us|i)|lob(e|ule)|pole|opercul|insul|cuneus|planum",
        Tissue.CORTEX,
    ),
    (r"marrow|diploe", Tissue.MARROW),
    (r"skull|bone", Tissue.SKULL),
    (r"skin", Tissue.SKIN),
    (r"eye", Tissue.EYE),
    (r"muscle|tongue", Tissue.MUSCLE),
    (r"extra ?cerebral|scalp|soft tissue|fat\b", Tissue.SOFT),
)


def tissue_of_name(name: str) -> Tissue | None:
    """The tissue that a label's name tells of, None where it tells nothing.

    Example:
        >>> str(tissue_of_name("Left-Cerebral-White-Matter"))
        'white-matter'
        >>> tissue_of_name("blob") is None
        True
    """
    plain = re.sub(r"[\W_]+", " ", name).strip().lower()
    return next((tissue for pattern, tissue in _RULES if re.search(pattern, plain)), None)


def known_table(values: set[int], names: Mapping[int, str]) -> Table:
    """The numbering that labels follow: FreeSurfer's, DLMUSE's, or none that is known (empty).

    Args:
        values: The labels that there are, in the map or in its table.
        names: Their names, where there is a table of them.
    """
    if {2, 3, 41, 42} <= values and _agree(FREESURFER, names, (2, 3, 41, 42)):
        return FREESURFER
    muse = (47, 48, 51, 52, 81, 206, 207)
    if values.issuperset(muse) and _agree(DLMUSE, names, muse):
        return DLMUSE
    return {}


def _agree(table: Table, names: Mapping[int, str], values: tuple[int, ...]) -> bool:
    """Whether the names, where there are any, tell of the table's tissues."""
    given = [value for value in values if value in names]
    return all(tissue_of_name(names[value]) == table[value][1] for value in given)


def describe(value: int, names: Mapping[int, str], table: Table) -> Label:
    """A label's name and tissue: the name from the files, the tissue from its number, if known.

    Example:
        >>> describe(17, {}, FREESURFER)
        Label(value=17, name='left hippocampus', tissue=<Tissue.HIPPOCAMPUS: 'hippocampus'>)
    """
    known = table.get(value)
    name = names.get(value) or (known[0] if known else f"label-{value}")
    if value == 0:
        return Label(0, name, Tissue.BACKGROUND)
    return Label(value, name, known[1] if known else tissue_of_name(name))
