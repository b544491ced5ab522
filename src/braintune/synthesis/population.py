"""Who is in a simulated cohort, and what is planted in each brain."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from braintune.recipe import Section


class SimulationRecipe(Section):
    """A simulated cohort.

    Attributes:
        subjects: How many.
        sessions: Scans of each subject, one to three years apart.
        sites: Scanners, which differ in contrast, noise, bias field and resolution.
        spacing: Voxel size in millimetres.
        effect: Multiplies every planted effect; with 0 the scans tell nothing of age, sex or
            diagnosis.
        site_bias: Share of subjects whose site follows their diagnosis, from 0 (none) to 1.
        seed: The same seed gives the same cohort.
    """

    subjects: PositiveInt = 100
    sessions: PositiveInt = 1
    sites: PositiveInt = 3
    spacing: PositiveInt = Field(2, le=8)
    effect: NonNegativeFloat = 1.0
    site_bias: float = Field(0.0, ge=0, le=1)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True)
class Subject:
    """One simulated person at the first session."""

    id: str
    age: float
    sex: str
    dx: str
    site: int
    # What chance adds to the planted log volumes, and the seed of the person's own anatomy.
    luck: dict[str, float]
    seed: int


# Standard deviations between people of the log volumes, beyond age, sex and disease.
_BETWEEN = {
    "ventricles": 0.15,
    "sulci": 0.06,
    "cortex": 0.015,
    "hippocampus": 0.05,
    "hippocampus_left": 0.02,
    "hippocampus_right": 0.02,
    "head": 0.06,
}
# Planted log changes of volume: for a year of age, for disease, and for male against female.
_PER_YEAR = {"ventricles": 0.015, "sulci": 0.010, "cortex": -0.003, "hippocampus": -0.002}
_OF_DISEASE = {"ventricles": 0.45, "cortex": -0.03, "hippocampus": -0.30}
_OF_MALE = {"head": 0.10}
_MIDDLE_AGE = 52.0


def draw_subjects(recipe: SimulationRecipe) -> list[Subject]:
    """Draw people: ages 20 to 85, both sexes and diagnoses, independent of each other."""
    generator = np.random.default_rng([recipe.seed, 1])
    count = recipe.subjects
    width = max(3, len(str(count)))
    ages = np.round(generator.permutation(np.linspace(20, 85, count)), 1)
    sexes = generator.permutation(["F", "M"] * ((count + 1) // 2))[:count]
    diagnoses = generator.permutation(["CN", "AD"] * ((count + 1) // 2))[:count]
    sites = generator.permutation(np.arange(count) % recipe.sites)
    follows = generator.random(count) < recipe.site_bias
    sites = np.where(follows, (diagnoses == "AD") % recipe.sites, sites)
    return [
        Subject(
            id=f"sub-{number + 1:0{width}d}",
            age=float(ages[number]),
            sex=str(sexes[number]),
            dx=str(diagnoses[number]),
            site=int(sites[number]),
            luck={name: float(generator.normal(0, sd)) for name, sd in _BETWEEN.items()},
            seed=int(generator.integers(2**31)),
        )
        for number in range(count)
    ]


def ages_at_sessions(subject: Subject, sessions: int) -> list[float]:
    """The subject's age at each session."""
    generator = np.random.default_rng([subject.seed, 2])
    gaps = generator.uniform(1, 3, sessions - 1)
    return [round(float(age), 1) for age in subject.age + np.concatenate([[0.0], np.cumsum(gaps)])]


def planted(subject: Subject, age: float, effect: float) -> dict[str, float]:
    """Log volume changes against the template, for each growth field and the head as a whole."""

    def of(name: str) -> float:
        change = _PER_YEAR.get(name, 0.0) * (age - _MIDDLE_AGE)
        change += _OF_DISEASE.get(name, 0.0) * (subject.dx == "AD")
        change += _OF_MALE.get(name, 0.0) * (0.5 if subject.sex == "M" else -0.5)
        return effect * change + subject.luck[name]

    both = of("hippocampus")
    return {
        "ventricles": of("ventricles"),
        "sulci": of("sulci"),
        "cortex": of("cortex"),
        "hippocampus_left": both + subject.luck["hippocampus_left"],
        "hippocampus_right": both + subject.luck["hippocampus_right"],
        "head": of("head"),
    }
