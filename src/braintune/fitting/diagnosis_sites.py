"""Which sites a diagnosis may harmonise, told before anything is fitted."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError, listing
from braintune.evaluation.splits import Fold
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.volumetry.columns import ColumnKinds, demand_columns

# With fewer training rows, inner folds would leave a site's scale to chance.
_FEWEST_ROWS = 5


def kinds_with_sites(
    recipe: DiagnosisRecipe, cohort: Cohort, columns: Sequence[str]
) -> ColumnKinds:
    """The kinds of the columns that are learnt from, and of those that harmonising needs.

    Raises:
        InputError: If one of these is missing, has gaps, or is the target in other words.
    """
    rule = recipe.harmonise
    if rule is None:
        return ColumnKinds.of(cohort.table, columns)
    needed = [rule.site, *rule.keep]
    demand_columns(cohort.table, needed, str(cohort.source))
    site = cohort.table[rule.site]
    if site.isna().any():
        missing = listing(cohort.table.loc[site.isna(), "scan_id"])
        raise InputError(f"The site column {rule.site!r} is missing for {missing}.")
    if site.nunique() < 2:
        raise InputError(
            f"All rows have {rule.site} {site.iloc[0]}: there are no sites to harmonise. Leave"
            " 'harmonise' out."
        )
    for name in needed:
        if _tells(cohort.table[name], cohort.table[recipe.target]):
            raise InputError(
                f"The column {name!r} tells the target {recipe.target!r} without a mistake: to"
                " harmonise by it would take the target out of the volumes, or put it in."
            )
    kinds = ColumnKinds.of(cohort.table, list(dict.fromkeys([*columns, *rule.keep])))
    # Sites are names, also where they are called 1, 2 and 3.
    return ColumnKinds({**kinds.kinds, rule.site: "name"})


def demand_sites(recipe: DiagnosisRecipe, cohort: Cohort, folds: Sequence[Fold]) -> None:
    """Refuse folds that would harmonise sites which nothing is known of.

    Raises:
        InputError: With the sites, and what may be done.
    """
    rule = recipe.harmonise
    if rule is None or rule.unseen == "average":
        return
    sites = cohort.table[rule.site].astype(str)
    for fold in folds:
        counts = sites.iloc[fold.train].value_counts()
        known = set(counts.index[counts >= _FEWEST_ROWS])
        few = sorted(set(sites.iloc[fold.test]) - known)
        if few:
            raise InputError(
                f"Fold {fold.name} tests {rule.site} {listing(few)}, of which fewer than"
                f" {_FEWEST_ROWS} rows train: their shift and scale can't be known. Set"
                " 'harmonise: {unseen: average}' to take them for a site without shift and scale,"
                " or leave 'harmonise' out."
            )


def unseen_sites(recipe: DiagnosisRecipe, known: Cohort, rows: Cohort) -> npt.NDArray[np.bool_]:
    """Which rows are of a site that the run does not know and may not guess."""
    rule = recipe.harmonise
    if rule is None or rule.unseen == "average":
        return np.zeros(len(rows), dtype=bool)
    seen = set(known.table[rule.site].astype(str))
    return ~rows.table[rule.site].astype(str).isin(seen).to_numpy()


def _tells(column: pd.Series, target: pd.Series) -> bool:
    """Whether each value of a column of few values goes with one class alone."""
    both = pd.DataFrame({"value": column, "label": target}).dropna()
    repeated = both["value"].nunique() <= len(both) / 2
    return bool(repeated and both.drop_duplicates()["value"].is_unique)
