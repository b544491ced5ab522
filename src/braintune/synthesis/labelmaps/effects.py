"""Who is generated, and what is planted in each brain."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from braintune.synthesis.labelmaps.numbering import Label
from braintune.synthesis.labelmaps.options import GeneratorOptions, PeopleOptions, PlantedEffect
from braintune.synthesis.labelmaps.structures import HEAD, check_disjoint, members_of

# From 20 to 85 years, for the most severe disease, and for men. Round numbers set by hand, in the
# directions that ageing and Alzheimer's disease are known for; they are fitted to no cohort. The
# head's volume is that of everything.
USUAL_EFFECTS: dict[str, PlantedEffect] = {
    HEAD: PlantedEffect(male=0.12, between=0.06),
    "ventricles": PlantedEffect(age=1.6, disease=0.5, between=0.2),
    "sulci": PlantedEffect(age=0.4, disease=0.1, between=0.06),
    "cortex": PlantedEffect(age=-0.14, disease=-0.05, between=0.03),
    "hippocampus": PlantedEffect(age=-0.15, disease=-0.25, between=0.06),
    "amygdala": PlantedEffect(age=-0.12, disease=-0.15, between=0.06),
    "thalamus": PlantedEffect(age=-0.15, between=0.04),
    "basal-ganglia": PlantedEffect(age=-0.12, between=0.04),
}
# Where effects of a trait of an unknown person start from.
_MIDDLE = 0.5


@dataclass(frozen=True)
class Person:
    """What is known of the person an anatomy is of, on the scale of `Traits`."""

    age: float | None = None
    male: float | None = None


@dataclass(frozen=True)
class Traits:
    """What is planted in one scan.

    Attributes:
        age: From 0, the youngest, to 1, the oldest.
        disease: From 0, none, to 1, the most severe.
        male: 1 for a male, 0 for a female.
    """

    age: float
    disease: float
    male: float


def chosen_effects(
    options: GeneratorOptions, known: dict[str, tuple[int, ...]], labels: list[Label]
) -> dict[str, PlantedEffect]:
    """The effects that are planted: those asked for, or the usual ones of the structures there are.

    Raises:
        InputError: If an effect names a structure that there is not, or two share a label.
    """
    if options.effects is None:
        return {n: e for n, e in USUAL_EFFECTS.items() if n in known or n == HEAD}
    members = {n: members_of(n, known) for n in options.effects if n != HEAD}
    check_disjoint(members, labels)
    return dict(options.effects)


def draw_traits(chance: np.random.Generator, options: GeneratorOptions, person: Person) -> Traits:
    """Draw a person: any age and severity, either sex, unless the anatomy's own is known."""
    age, severity, ill, male = chance.random(4)
    if person.age is not None:
        reach = options.people.reach if options.people else 1.0
        low, high = max(0.0, person.age - reach), min(1.0, person.age + reach)
        age = low + age * (high - low)
    sex = float(male < 0.5) if person.male is None else person.male
    return Traits(float(age), float(severity) if ill < options.diseased else 0.0, sex)


def planted_changes(
    chance: np.random.Generator,
    effects: Mapping[str, PlantedEffect],
    traits: Traits,
    person: Person,
) -> dict[str, float]:
    """Log of how many times larger each structure is made than it is in the anatomy.

    Example:
        >>> effects = {"ventricles": PlantedEffect(change=0.3)}
        >>> traits = Traits(age=0.2, disease=0.0, male=1.0)
        >>> changes = planted_changes(np.random.default_rng(0), effects, traits, Person())
        >>> round(float(np.exp(changes["ventricles"])), 6)
        1.3
    """
    age = traits.age - (_MIDDLE if person.age is None else person.age)
    male = traits.male - (_MIDDLE if person.male is None else person.male)
    changes = {}
    for name, effect in effects.items():
        change = np.log1p(effect.change) + np.log1p(effect.age) * age
        change += np.log1p(effect.disease) * traits.disease + np.log1p(effect.male) * male
        changes[name] = float(change + effect.between * chance.standard_normal())
    return changes


def age_position(years: float, options: PeopleOptions) -> float:
    """An age in years on the scale from 0 to 1, which ages beyond the range leave.

    Example:
        >>> age_position(52.5, PeopleOptions())
        0.5
    """
    youngest, oldest = options.years
    return (years - youngest) / (oldest - youngest)
