from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from braintune.cohort.cohort import Cohort
from braintune.errors import BraintuneError, InputError
from braintune.evaluation.splits import Fold, check_disjoint, deal, make_folds, splits_table
from braintune.recipe import CrossValidation, HoldOut, LeaveOneSiteOut, Protocol, TaskRecipe
from braintune.tasks.task import make_task

LABELS = ["CN", "AD"]


def split(data: Cohort, codes: np.ndarray, protocol: Protocol, seed: int = 0) -> list[Fold]:
    """Folds of a two-class target."""
    recipe = TaskRecipe(kind="classification", target="dx", labels=LABELS)
    column = pd.Series([LABELS[code] for code in codes], dtype="string", name="dx")
    task, truth = make_task(recipe).read(column)
    return make_folds(data, task, truth, protocol, 0.2, seed)


def cohort(subjects: int = 30, sessions: int = 1, **columns: list[str]) -> Cohort:
    ids = [f"sub-{i:03d}" for i in range(subjects) for _ in range(sessions)]
    numbers = [f"ses-{j}" for _ in range(subjects) for j in range(sessions)]
    table = pd.DataFrame(
        {
            "scan_id": [f"{a}_{b}" for a, b in zip(ids, numbers, strict=True)],
            "participant_id": ids,
            "session_id": numbers,
            "path": "x",
            **columns,
        }
    )
    return Cohort(Path("cohort.tsv"), table)


@st.composite
def designs(draw: st.DrawFn) -> tuple[Cohort, np.ndarray, int, int]:
    folds = draw(st.integers(2, 5))
    subjects = draw(st.integers(4 * folds, 60))
    sessions = draw(st.integers(1, 3))
    seed = draw(st.integers(0, 1000))
    strata = np.repeat(np.random.default_rng(seed).permutation(np.arange(subjects) % 2), sessions)
    return cohort(subjects, sessions), strata, folds, seed


@settings(max_examples=40)
@given(designs(), st.floats(0.3, 0.95))
def test_a_fraction_of_the_training_subjects_is_nested_and_stratified(
    design: tuple[Cohort, np.ndarray, int, int], fraction: float
) -> None:
    data, strata, count, seed = design
    whole = split(data, strata, CrossValidation(folds=count), seed)
    try:
        parts = [
            split(data, strata, CrossValidation(folds=count, fraction=share), seed)
            for share in (fraction, 1.0)
        ]
    except InputError:  # of so few subjects that a class would be missing
        assume(False)
    subjects = data.table["participant_id"].to_numpy()
    for few, many, fold in zip(*parts, whole, strict=True):
        assert np.array_equal(few.test, fold.test)
        assert np.array_equal(many.train, fold.train)
        chosen, all_rows = (np.concatenate([f.train, f.validation]) for f in (few, many))
        assert set(chosen) <= set(all_rows)
        # All sessions of a subject, or none.
        assert set(chosen) == set(np.flatnonzero(np.isin(subjects, subjects[chosen]))) & set(
            all_rows
        )
        there = len(set(subjects[all_rows]))
        assert len(set(subjects[chosen])) == max(1, round(fraction * there))
        shares = [np.mean(strata[rows] == 0) for rows in (chosen, all_rows)]
        assert abs(shares[0] - shares[1]) <= 1.5 / len(set(subjects[chosen]))


@settings(max_examples=60)
@given(designs())
def test_cross_validation_tests_each_scan_once_and_never_parts_a_subject(
    design: tuple[Cohort, np.ndarray, int, int],
) -> None:
    data, strata, count, seed = design
    folds = split(data, strata, CrossValidation(folds=count), seed)
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    assert tested.tolist() == list(range(len(data)))
    subjects = data.table["participant_id"].to_numpy()
    for fold in folds:
        sides = [set(subjects[rows]) for rows in fold.parts().values()]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert len(fold.train) + len(fold.validation) + len(fold.test) == len(data)
        assert len(fold.validation) > 0
        assert set(strata[fold.train]) == set(strata)
    sizes = [len(set(subjects[fold.test])) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=60)
@given(designs())
def test_folds_are_balanced_over_the_target(design: tuple[Cohort, np.ndarray, int, int]) -> None:
    data, strata, count, seed = design
    folds = split(data, strata, CrossValidation(folds=count), seed)
    first = data.table["participant_id"].duplicated().to_numpy()
    for stratum in (0, 1):
        held = [(~first[f.test] & (strata[f.test] == stratum)).sum() for f in folds]
        assert max(held) - min(held) <= 1


def test_the_seed_decides() -> None:
    data, strata = cohort(), np.arange(30) % 2
    tables = [
        splits_table(data, split(data, strata, CrossValidation(), seed)) for seed in (0, 0, 1)
    ]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_more_columns_are_balanced_too() -> None:
    random = np.random.default_rng(0)
    sex = random.permutation(["F", "M"] * 50).tolist()
    age = [str(a) for a in random.uniform(20, 80, 100)]
    data = cohort(100, sex=sex, age=age)
    strata = np.arange(100) % 2
    folds = split(data, strata, CrossValidation(stratify=["sex", "age"]), 0)
    females = [int((np.array(sex)[fold.test] == "F").sum()) for fold in folds]
    assert max(females) - min(females) <= 2
    means = [np.array(age, dtype=float)[fold.test].mean() for fold in folds]
    assert np.ptp(means) < 8


def test_families_stay_together() -> None:
    families = [f"f{i // 3}" for i in range(30)]
    data = cohort(30, family=families)
    folds = split(data, np.arange(30) % 2, CrossValidation(folds=3, group="family"), 0)
    for fold in folds:
        tested = {families[row] for row in fold.test}
        assert not tested & {families[row] for row in [*fold.train, *fold.validation]}
    torn = cohort(10, 2, family=[f"f{i % 3}" for i in range(20)])
    with pytest.raises(InputError, match="puts a subject into two groups"):
        split(torn, np.arange(20) % 2, CrossValidation(group="family"), 0)


def test_dealing_spreads_rare_strata() -> None:
    groups = np.arange(20)
    strata = np.array([[1]] * 5 + [[0]] * 15)
    for seed in range(20):
        hands = deal(groups, strata, 5, np.random.default_rng(seed))
        assert np.bincount(hands[:5], minlength=5).tolist() == [1] * 5
        assert np.bincount(hands).tolist() == [4] * 5


def test_hold_out_takes_the_column_at_its_word() -> None:
    data = cohort(30, split=["train"] * 24 + ["test"] * 6)
    (fold,) = split(data, np.arange(30) % 2, HoldOut(), 0)
    assert fold.test.tolist() == list(range(24, 30))
    assert len(fold.train) + len(fold.validation) == 24


@pytest.mark.parametrize(
    ("columns", "protocol", "message"),
    [
        ({}, HoldOut(), "no column 'split'"),
        ({"split": ["train"] * 30}, HoldOut(), "No scan has split 'test'; there are: train"),
        ({"split": ["test"] * 30}, HoldOut(), "none is left to train"),
        ({"split": ["test", None] * 15}, HoldOut(), "is missing for"),
        ({}, LeaveOneSiteOut(), "no column 'site'"),
        ({"site": ["a"] * 30}, LeaveOneSiteOut(), "one site only, a"),
        ({"site": ["a", None] * 15}, LeaveOneSiteOut(), "is missing for"),
        ({}, CrossValidation(folds=20), "30 subjects to learn from, too few for 20 folds"),
        ({}, CrossValidation(group="family"), "no column 'family'"),
        ({}, CrossValidation(stratify=["age"]), "no column 'age'"),
    ],
)
def test_what_can_not_be_split_is_refused(
    columns: dict[str, list[str]], protocol: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split(cohort(30, **columns), np.arange(30) % 2, protocol, 0)


def test_a_subject_in_two_splits_is_refused() -> None:
    data = cohort(10, 2, split=["train", "test"] + ["train"] * 18)
    with pytest.raises(InputError, match="puts a subject on two sides of a split: sub-000"):
        split(data, np.arange(20) % 2, HoldOut(), 0)
    travelling = cohort(10, 2, site=["a", "b"] + ["a"] * 10 + ["b"] * 8)
    with pytest.raises(InputError, match="two sides of a split: sub-000"):
        split(travelling, np.arange(20) % 2, LeaveOneSiteOut(), 0)


def test_each_site_is_tested_by_a_model_that_has_not_seen_it() -> None:
    sites = ["a", "b", "c"] * 10
    data = cohort(30, site=sites)
    folds = split(data, np.repeat([0, 1], 15), LeaveOneSiteOut(), 0)
    assert [fold.name for fold in folds] == ["a", "b", "c"]
    for fold in folds:
        assert {sites[row] for row in fold.test} == {fold.name}
        assert fold.name not in {sites[row] for row in [*fold.train, *fold.validation]}


def test_a_class_that_only_one_site_has_can_not_be_learnt_elsewhere() -> None:
    data = cohort(30, site=["a"] * 15 + ["b"] * 15)
    with pytest.raises(InputError, match="would train without one of the classes"):
        split(data, np.repeat([0, 1], 15), LeaveOneSiteOut(), 0)


def test_the_last_check_catches_what_should_never_be() -> None:
    fold = Fold("1", np.array([0, 1]), np.array([2]), np.array([3]))
    check_disjoint([fold], np.array([0, 1, 2, 3]))
    with pytest.raises(BraintuneError, match="on two sides"):
        check_disjoint([fold], np.array([0, 1, 2, 0]))
