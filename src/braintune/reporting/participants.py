"""Who went into a run and who was left out: the report's first tables."""

from collections import Counter
from typing import Any

import pandas as pd

from braintune.cohort.labels import looks_numeric, numbers

_SHOWN = ("age", "sex", "site", "dx")


def flow(cohort: pd.DataFrame, excluded: list[dict[str, Any]]) -> dict[str, Any]:
    """How many were found, left out with each reason, and used."""
    reasons = Counter(str(event["reason"]) for event in excluded)
    return {
        "found": len(cohort) + len(excluded),
        "excluded": len(excluded),
        "reasons": reasons.most_common(),
        "scans": len(cohort),
        "subjects": len(cohort["participant_id"].unique()),
        "ids": [(str(event["id"]), str(event["reason"])) for event in excluded],
    }


def demographics(cohort: pd.DataFrame, predictions: pd.DataFrame, target: str) -> dict[str, Any]:
    """A row a characteristic, a column for everybody and one for the test side of each fold."""
    people = cohort.drop_duplicates("participant_id").set_index("participant_id")
    groups = {"all": people}
    for name, tested in predictions.groupby("fold", sort=False):
        groups[f"tested in {name}"] = people.loc[tested["participant_id"].unique()]
    if len(groups) > 8:
        groups = {"all": people}
    shown = [name for name in dict.fromkeys((target, *_SHOWN)) if name in people.columns]
    rows = [("subjects", [str(len(group)) for group in groups.values()])]
    for name in shown:
        rows += _characteristic(name, people[name], list(groups.values()))
    return {"columns": list(groups), "rows": rows}


def _characteristic(
    name: str, column: pd.Series, groups: list[pd.DataFrame]
) -> list[tuple[str, list[str]]]:
    if looks_numeric(column) and len(column.dropna().unique()) > 5:
        return [(f"{name}, mean ± SD", [_mean(group[name]) for group in groups])]
    values = column.fillna("n/a").value_counts().index[:8]
    return [
        (
            f"{name} {value}",
            [str(int((group[name].fillna("n/a") == value).sum())) for group in groups],
        )
        for value in sorted(values)
    ]


def _mean(column: pd.Series) -> str:
    values = numbers(column).dropna()
    spread = values.std() if len(values) > 1 else 0.0
    return f"{values.mean():.1f} ± {spread:.1f}" if len(values) else "–"
