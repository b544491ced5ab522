"""What a cohort's tables tell: who is in it, and what gives the target away."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats.contingency import association, crosstab

from braintune.cohort.cohort import Cohort
from braintune.cohort.labels import looks_numeric, numbers

# Cramér's V from which a site (or sex) says so much of the target that a network may learn the
# site instead: 0.5 is a large effect for two classes (Cohen 1988), 0.3 a medium one.
GIVES_AWAY, CONFOUNDED = 0.5, 0.3
_FEW_A_CLASS = 10
CONFOUNDERS = ("site", "sex", "scanner", "center")


@dataclass(frozen=True)
class Finding:
    """One thing to know or to mend."""

    what: str
    where: str
    remedy: str


@dataclass(frozen=True)
class TableAudit:
    """Demographics and associations of a cohort.

    Attributes:
        demographics: A summary of each covariate, as text.
        crossed: Target against site and sex, as tables of counts.
        associations: Cramér's V of the target with each confounder.
        problems: What must be mended.
        cautions: What to know of.
    """

    demographics: dict[str, str]
    crossed: dict[str, pd.DataFrame] = field(default_factory=dict)
    associations: dict[str, float] = field(default_factory=dict)
    problems: tuple[Finding, ...] = ()
    cautions: tuple[Finding, ...] = ()


def audit_table(cohort: Cohort, target: str | None = None) -> TableAudit:
    """Summarise who is in a cohort and what is associated with the target.

    Raises:
        InputError: If the cohort has no column of the target's name.
    """
    demographics = {"scans": str(len(cohort)), "subjects": str(cohort.n_subjects)}
    per_subject = cohort.table.drop_duplicates("participant_id")
    for name in cohort.covariates:
        demographics[name] = _summary(per_subject[name])
    cautions = [Finding("left out", item.id, item.reason) for item in cohort.exclusions]
    if target is None:
        return TableAudit(demographics, cautions=tuple(cautions))
    labels = _as_classes(cohort.column(target))
    problems, crossed, associations = [], {}, {}
    missing = cohort.table.loc[labels.isna(), "scan_id"]
    if len(missing):
        cautions.append(
            Finding(f"no {target}", f"{len(missing)} scans", "they can't be learnt from")
        )
    problems += _imbalance(labels, target)
    for name in CONFOUNDERS:
        if name == target or name not in cohort.table.columns:
            continue
        crossed[name] = _crossed(labels, cohort.table[name])
        value = cramers_v(labels, cohort.table[name])
        associations[name] = value
        finding = Finding(
            f"{name} tells the {target} (Cramér's V {value:.2f})",
            name,
            f"balance the {target} over each {name}, or test with leave-one-site-out",
        )
        if value > GIVES_AWAY:
            problems.append(finding)
        elif value > CONFOUNDED:
            cautions.append(finding)
    return TableAudit(demographics, crossed, associations, tuple(problems), tuple(cautions))


def cramers_v(first: pd.Series, second: pd.Series) -> float:
    """Cramér's V of two categorical columns, corrected for bias (Bergsma 2013); NaN if undefined.

    Example:
        >>> site = pd.Series(["a", "b"] * 20)
        >>> round(cramers_v(site, site), 2), round(cramers_v(site, pd.Series(["x"] * 40)), 2)
        (1.0, nan)
    """
    known = first.notna() & second.notna()
    _, counts = crosstab(first[known].astype(str), second[known].astype(str))
    rows, columns = counts.shape
    n = counts.sum()
    if min(rows, columns) < 2 or n < 3:
        return float("nan")
    phi2 = association(counts, method="cramer") ** 2 * (min(rows, columns) - 1)
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    rows_c = rows - (rows - 1) ** 2 / (n - 1)
    columns_c = columns - (columns - 1) ** 2 / (n - 1)
    return float(np.sqrt(phi2 / max(min(rows_c, columns_c) - 1, 1e-9)))


def _as_classes(target: pd.Series) -> pd.Series:
    """A target as classes: numbers with many values are cut into quartiles."""
    if looks_numeric(target) and target.nunique() > 10:
        return pd.qcut(numbers(target), 4, duplicates="drop").astype("string")
    return target


def _imbalance(labels: pd.Series, target: str) -> list[Finding]:
    counts = labels.value_counts()
    if len(counts) < 2:
        return [Finding(f"{target} has one value only", target, "choose another target")]
    return [
        Finding(f"{count} scans only of {target} {value}", target, "add scans, or join classes")
        for value, count in counts.items()
        if count < _FEW_A_CLASS
    ]


def _crossed(labels: pd.Series, confounder: pd.Series) -> pd.DataFrame:
    return pd.crosstab(confounder.fillna("n/a"), labels.fillna("n/a"))


def _summary(column: pd.Series) -> str:
    known = column.dropna()
    absent = f", {len(column) - len(known)} missing" if len(known) < len(column) else ""
    if known.empty:
        return "all missing"
    if looks_numeric(column) and known.nunique() > 5:
        values = numbers(known)
        spread = f"{values.mean():.1f} ± {values.std():.1f} ({values.min():g} to {values.max():g})"
        return spread + absent
    counts = known.value_counts()
    if len(counts) > 12:
        return f"{len(counts)} different values{absent}"
    return ", ".join(f"{value}: {count}" for value, count in counts.items()) + absent
