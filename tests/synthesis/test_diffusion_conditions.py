import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.synthesis.diffusion.asking import asked_for
from braintune.synthesis.diffusion.conditions import Condition, demand_in_bounds

AGE = Condition(name="age", column="age", kind="number", low=20, high=60)
SEX = Condition(name="sex", column="sex", kind="two", words=("F", "M"))


@given(st.lists(st.integers(-1000, 1000), min_size=2, unique=True))
def test_scaling_takes_the_training_range_to_zero_and_one_and_back(numbers: list[int]) -> None:
    values = pd.Series([str(number) for number in numbers])
    condition = Condition.learn("x", "x", values)
    scaled = condition.scaled(values)
    assert (scaled.min(), scaled.max()) == (0, 1)
    back = [float(str(condition.natural(float(unit)))) for unit in scaled]
    np.testing.assert_allclose(back, numbers, rtol=1e-4, atol=0.02)


def test_two_words_are_zero_and_one() -> None:
    condition = Condition.learn("sex", "sex", pd.Series(["M", "F", "M"]))
    assert condition.scaled(pd.Series(["F", "M"])).tolist() == [0, 1]
    assert [condition.natural(unit) for unit in (0.0, 0.4, 0.9)] == ["F", "F", "M"]
    with pytest.raises(InputError, match="must be F or M, not X"):
        condition.scaled(pd.Series(["X"]))


def test_rows_beyond_the_training_range_are_clipped() -> None:
    assert AGE.scaled(pd.Series(["10", "40", "90"])).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    ("values", "words"),
    [(["a", "b", "c"], "two words"), (["5", "5"], "conditions nothing"), (["1", "x"], None)],
)
def test_what_can_not_condition_is_refused(values: list[str], words: str | None) -> None:
    if words is None:
        assert Condition.learn("x", "x", pd.Series(values)).kind == "two"
        return
    with pytest.raises(InputError, match=words):
        Condition.learn("x", "x", pd.Series(values))


@pytest.mark.parametrize("value", [-0.01, 1.01, 70, float("nan"), float("inf")])
def test_conditions_outside_the_unit_interval_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"age must be in \[0, 1\]"):
        demand_in_bounds({"age": value}, [AGE, SEX])


def test_natural_units_are_translated_and_names_are_checked() -> None:
    with pytest.raises(InputError, match=r"so 50 is 0\.750"):
        demand_in_bounds({"age": 50}, [AGE])
    with pytest.raises(InputError, match="Did you mean 'age'"):
        demand_in_bounds({"aeg": 0.5}, [AGE, SEX])


def test_a_sample_asks_for_the_same_whatever_the_count() -> None:
    seen = pd.DataFrame({"age_unit": ["0.1", "0.9"], "sex_unit": ["0", "1"]})
    few, many = (asked_for([AGE, SEX], seen, {}, count=n, seed=4) for n in (3, 40))
    np.testing.assert_array_equal(few, many[:3])
    assert ((many >= 0) & (many <= 1)).all()
    # Combinations stay together: the young are of one sex here.
    assert (many[many[:, 1] == 0, 0] < 0.5).all()
    assert (many[many[:, 1] == 1, 0] > 0.5).all()
    assert len(np.unique(many[:, 0])) == 40


def test_fixed_conditions_leave_the_others_as_they_would_be() -> None:
    free = asked_for([AGE, SEX], None, {}, count=9, seed=0)
    fixed = asked_for([AGE, SEX], None, {"age": 0.25}, count=9, seed=0)
    assert (fixed[:, 0] == 0.25).all()
    np.testing.assert_array_equal(fixed[:, 1], free[:, 1])
    assert set(free[:, 1]) == {0, 1}
