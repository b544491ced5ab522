from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.cohort.audit import audit_table, cramers_v
from braintune.cohort.cohort import Cohort
from braintune.errors import InputError


def cohort(**columns: list[str]) -> Cohort:
    count = len(next(iter(columns.values())))
    ids = [f"sub-{i}" for i in range(count)]
    keys = {"scan_id": ids, "participant_id": ids, "session_id": None, "path": ids}
    return Cohort(Path("table.tsv"), pd.DataFrame({**keys, **columns}))


def test_a_site_that_gives_the_label_away_is_a_problem() -> None:
    audit = audit_table(cohort(dx=["AD", "CN"] * 20, site=["a", "b"] * 20), "dx")
    assert audit.associations["site"] == pytest.approx(1.0)
    assert [f.where for f in audit.problems] == ["site"]
    assert "leave-one-site-out" in audit.problems[0].remedy


def test_a_balanced_site_is_none() -> None:
    audit = audit_table(cohort(dx=["AD", "CN"] * 20, site=["a", "a", "b", "b"] * 10), "dx")
    assert audit.associations["site"] < 0.1
    assert audit.problems == ()


def test_numeric_targets_are_crossed_by_quarters() -> None:
    ages = [str(20 + i) for i in range(40)]
    audit = audit_table(cohort(age=ages, sex=["F"] * 20 + ["M"] * 20), "age")
    assert audit.associations["sex"] > 0.5
    assert audit.crossed["sex"].shape == (2, 4)


def test_small_classes_one_class_and_missing_targets_are_told() -> None:
    audit = audit_table(cohort(dx=["AD"] * 3 + ["CN"] * 20 + [None]), "dx")
    assert [f.what for f in audit.problems] == ["3 scans only of dx AD"]
    assert any(f.what == "no dx" for f in audit.cautions)
    assert audit_table(cohort(dx=["AD"] * 20), "dx").problems[0].what == "dx has one value only"
    with pytest.raises(InputError, match="no column 'dy'"):
        audit_table(cohort(dx=["AD", "CN"]), "dy")


def test_demographics_are_summed_up() -> None:
    audit = audit_table(
        cohort(age=[str(a) for a in range(30, 40)], sex=["F"] * 4 + ["M"] * 5 + [None])
    )
    assert audit.demographics["age"] == "34.5 ± 3.0 (30 to 39)"
    assert audit.demographics["sex"] == "M: 5, F: 4, 1 missing"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=4, max_size=60))
def test_cramers_v_lies_between_0_and_1_and_is_symmetric(pairs: list[tuple[str, str]]) -> None:
    first, second = (pd.Series(values) for values in zip(*pairs, strict=True))
    value = cramers_v(first, second)
    assert np.isnan(value) or 0 <= value <= 1 + 1e-9
    assert np.isclose(value, cramers_v(second, first), atol=1e-6, equal_nan=True)


def test_cramers_v_of_independent_columns_is_near_0() -> None:
    random = np.random.default_rng(0)
    first, second = (pd.Series(random.choice(list("abc"), 3000)) for _ in range(2))
    assert cramers_v(first, second) < 0.05
