import numpy as np
import pandas as pd
import pytest

from braintune.cohort.labels import find_classes, looks_numeric, numbers
from braintune.errors import InputError


def column(*values: object) -> pd.Series:
    return pd.Series(values, dtype="string", name="dx")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("AD", "CN", "AD"), ("CN", "AD")),
        (("F", "M"), ("F", "M")),
        (("1", "0"), ("0", "1")),
        (("10", "9", "2"), ("2", "9", "10")),
        (("PD", "healthy", "control"), ("control", "healthy", "PD")),
    ],
)
def test_reference_groups_come_first(values: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert find_classes(column(*values)).names == expected


def test_wanted_classes_select_and_order() -> None:
    classes = find_classes(column("AD", "MCI", "CN"), ["MCI", "AD"])
    assert classes.positive == "AD"
    assert classes.encode(column("AD", "CN", None, "MCI")).tolist() == [1, -1, -1, 0]


def test_one_class_many_classes_and_unknown_ones_are_refused() -> None:
    with pytest.raises(InputError, match=r"has one class only: AD \(2 scans\)"):
        find_classes(column("AD", "AD", None))
    with pytest.raises(InputError, match="set 'task: {kind: regression}'"):
        find_classes(column(*range(200)))
    with pytest.raises(InputError, match="No scan has the dx 'ADD'. Did you mean 'AD'"):
        find_classes(column("AD", "CN"), ["CN", "ADD"])


def test_numbers_keep_missing_values_and_refuse_words() -> None:
    assert np.array_equal(numbers(column("1.5", None)).to_numpy(), [1.5, np.nan], equal_nan=True)
    with pytest.raises(InputError, match=r"must hold numbers, but has 'old'"):
        numbers(column("1", "old"))
    with pytest.raises(InputError, match="'inf'"):
        numbers(column("1", "inf"))
    assert looks_numeric(column("1", None))
    assert not looks_numeric(column("a", "1"))
    assert not looks_numeric(column(None, None))
