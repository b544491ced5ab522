"""Kinds of tissue, and where each lies on the grey scale of a T1-weighted image."""

from enum import StrEnum


class Tissue(StrEnum):
    """What a label is made of; labels of one tissue share one intensity."""

    BACKGROUND = "background"
    CSF = "csf"
    VENTRICLE = "ventricle"
    CORTEX = "cortex"
    WHITE = "white-matter"
    HIPPOCAMPUS = "hippocampus"
    AMYGDALA = "amygdala"
    THALAMUS = "thalamus"
    CAUDATE = "caudate"
    PUTAMEN = "putamen"
    PALLIDUM = "pallidum"
    ACCUMBENS = "accumbens"
    VENTRAL = "ventral-diencephalon"
    BRAINSTEM = "brainstem"
    CEREBELLAR_CORTEX = "cerebellar-cortex"
    CEREBELLAR_WHITE = "cerebellar-white-matter"
    VESSEL = "vessel"
    SKULL = "skull"
    MARROW = "marrow"
    SOFT = "soft-tissue"
    MUSCLE = "muscle"
    SKIN = "skin"
    EYE = "eye"


# Positions on the grey scale of a T1-weighted image: -1 air, 0 cerebrospinal fluid, 1 cortex,
# 2 white matter, 3 fat. Set by hand: those of the brain after a look at the means of regions in one
# scan, those outside it by what T1-weighted scans look like. None is fitted.
T1_POSITION: dict[Tissue, float] = {
    Tissue.BACKGROUND: -1.0,
    Tissue.CSF: 0.15,
    Tissue.VENTRICLE: 0.0,
    Tissue.CORTEX: 1.0,
    Tissue.WHITE: 2.0,
    Tissue.HIPPOCAMPUS: 1.1,
    Tissue.AMYGDALA: 1.15,
    Tissue.THALAMUS: 1.55,
    Tissue.CAUDATE: 1.2,
    Tissue.PUTAMEN: 1.4,
    Tissue.PALLIDUM: 1.8,
    Tissue.ACCUMBENS: 1.25,
    Tissue.VENTRAL: 1.75,
    Tissue.BRAINSTEM: 1.85,
    Tissue.CEREBELLAR_CORTEX: 0.95,
    Tissue.CEREBELLAR_WHITE: 1.9,
    Tissue.VESSEL: 0.5,
    Tissue.SKULL: -0.6,
    Tissue.MARROW: 1.9,
    Tissue.SOFT: 1.6,
    Tissue.MUSCLE: 0.7,
    Tissue.SKIN: 2.4,
    Tissue.EYE: 0.1,
}

# What a skull-stripped scan leaves out.
OUTSIDE_BRAIN = frozenset(
    {
        Tissue.BACKGROUND,
        Tissue.VESSEL,
        Tissue.SKULL,
        Tissue.MARROW,
        Tissue.SOFT,
        Tissue.MUSCLE,
        Tissue.SKIN,
        Tissue.EYE,
    }
)
