"""What a study file may say, what is made of it, and what is refused."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from braintune.errors import InputError
from braintune.reporting.study_text import plan_text
from braintune.studies.choices import baseline_of, choices_of
from braintune.studies.compare import plan
from braintune.studies.contexts import contexts_of, read_cohorts
from braintune.studies.cost import plan_document
from braintune.studies.plan import plan_study
from braintune.studies.recipe import StudyRecipe
from braintune.studies.search import Trial, best_of, is_hopeless, next_settings
from conftest import Command, tiny_values
from studies.small_study import study_values


def names(**changes: Any) -> list[str]:
    return [choice.name for choice in choices_of(StudyRecipe.parse(study_values(**changes)))]


def test_methods_and_axes_are_combined_and_scratch_is_there_once() -> None:
    axes = {"adapter.rank": [2, 4], "net": {"small": {}, "large": {"backbone.channels": [8, 16]}}}
    methods = {"lora": {"adapter.name": "lora"}}
    assert names(methods=methods, axes=axes) == [
        "lora, rank 2, small",
        "lora, rank 2, large",
        "lora, rank 4, small",
        "lora, rank 4, large",
        "scratch, small",
        "scratch, large",
    ]


def test_what_is_from_scratch_already_is_not_doubled() -> None:
    assert names() == ["full", "probe"]
    assert names(methods={"probe": {"adapter.name": "probe"}}) == ["probe", "scratch"]


def test_another_adapter_forgets_the_options_of_the_one_before() -> None:
    base = tiny_values(adapter={"name": "lora", "rank": 2})
    study = StudyRecipe.parse(study_values(base=base, methods={"full": {"adapter.name": "full"}}))
    (full,) = choices_of(study)
    assert full.values["adapter"] == {"name": "full"}


def test_a_change_deep_in_a_section_stays_with_its_method() -> None:
    base = tiny_values(prepare={"dwi": {"maps": ["fa"]}})
    methods = {"fa": {}, "md": {"prepare.dwi.maps": ["md"]}, "again": {"adapter.name": "probe"}}
    choices = choices_of(StudyRecipe.parse(study_values(base=base, methods=methods, axes={})))
    maps = {choice.name: choice.values["prepare"]["dwi"]["maps"] for choice in choices}
    assert (maps["fa"], maps["md"], maps["again"]) == (["fa"], ["md"], ["fa"])


def test_the_baseline_is_scratch_unless_named() -> None:
    study = StudyRecipe.parse(study_values(methods={"probe": {"adapter.name": "probe"}}))
    assert baseline_of(study, choices_of(study)).name == "scratch"
    named = study.model_copy(update={"baseline": "probe"})
    assert baseline_of(named, choices_of(named)).name == "probe"
    wrong = study.model_copy(update={"baseline": "prob"})
    with pytest.raises(InputError, match="Did you mean 'probe'"):
        baseline_of(wrong, choices_of(wrong))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"protocol.folds": [2, 3]}}, "'protocol.folds' would give choices other splits"),
        ({"axes": {"seed": [0, 1]}}, "say it in 'seeds'"),
        ({"methods": {"a": {"train": {"validation": 0.3}}}}, "'train.validation' would give"),
        ({"methods": {"a": {"task.target": "sex"}}}, "say it in 'targets'"),
        ({"seeds": [1, 1]}, "seeds names a value twice"),
        ({"fractions": [1.5]}, "at most 1"),
        ({"tune": {"keys": {"train.lr": []}}}, "train.lr has no values"),
        ({"tune": {"keys": {"train.lr": [1e-3]}, "trials": 3}}, "1 combinations, not 3"),
        ({"tune": {"keys": {"train.lr": {"low": 1, "high": 2}}}}, "a grid needs lists"),
        ({"tune": {"keys": {"train.lr": {"low": 2, "high": 1}}}}, "must be below high"),
        ({"metods": {}}, "Did you mean 'methods'"),
        ({"cluster": {"core": 2}}, "Did you mean 'cores'"),
    ],
)
def test_what_a_study_can_not_say(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StudyRecipe.parse(study_values(**changes))


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"a": {"adapter.name": "lora", "adapter.ranks": 2}}, "rank"),
        ({"a": {"tune": {"train.lr": [1, 2, 3]}}}, "An uneven budget favours a method"),
        ({"a": {"train.lr": -1}}, "The choice 'a' is no right recipe"),
    ],
)
def test_a_wrong_choice_is_named_before_anything_is_written(
    methods: dict[str, Any],
    message: str,
    cohort_folder: Path,
    study_file,
    braintune: Command,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    outcome = braintune(
        "compare", study_file(methods=methods), "--cohort", cohort_folder, "--out", out
    )
    assert outcome.status == 2
    assert message in outcome.err
    assert not out.exists()


def test_a_grid_that_can_not_be_fitted_is_named(cohort_folder: Path) -> None:
    study = StudyRecipe.parse(study_values(tune={"keys": {"train.epochs": [2, 0]}}))
    with pytest.raises(InputError, match="can't be tuned with"):
        plan(study, cohort_folder)


def test_one_site_can_not_be_left_out(cohort_folder: Path) -> None:
    values = study_values()
    values["base"]["protocol"] = {"kind": "leave-one-site-out"}
    study = StudyRecipe.parse(values)
    cohorts = read_cohorts(study, cohort_folder)
    assert [c.plan.folds[0].name for c in contexts_of(study, cohorts)]
    alone = {n: c.keep(c.table["site"] == c.table["site"].iloc[0], "") for n, c in cohorts.items()}
    with pytest.raises(InputError, match="one site only.*none is left to train"):
        contexts_of(study, alone)


def test_fractions_are_nested_and_tested_on_the_same_subjects(cohort_folder: Path) -> None:
    study = StudyRecipe.parse(study_values(fractions=[1.0, 0.5]))
    half, whole = plan(study, cohort_folder).contexts
    assert (half.fraction, whole.fraction) == (0.5, 1.0)
    assert half.hash != whole.hash
    for few, all_ in zip(half.plan.folds, whole.plan.folds, strict=True):
        assert (few.test == all_.test).all()
        learnt = {*few.train, *few.validation}
        assert learnt < {*all_.train, *all_.validation}


def test_a_fit_is_known_by_its_content(cohort_folder: Path) -> None:
    first = [fit.id for fit in plan(StudyRecipe.parse(study_values()), cohort_folder).first_fits()]
    again = [fit.id for fit in plan(StudyRecipe.parse(study_values()), cohort_folder).first_fits()]
    assert first == again
    assert len(set(first)) == len(first) == 8
    base = tiny_values(task={"kind": "regression", "target": "age"}, train={"epochs": 7})
    other = plan(StudyRecipe.parse(study_values(base=base)), cohort_folder)
    assert not set(first) & {fit.id for fit in other.first_fits()}


def test_ten_thousand_fits_are_planned_in_seconds(cohort_folder: Path) -> None:
    axes = {"train.weight_decay": [0.01 + 0.001 * i for i in range(250)]}
    tune = {"keys": {"train.lr": [1e-4, 1e-2]}}
    methods = {"probe": {"adapter.name": "probe"}, "full": {}}
    study = StudyRecipe.parse(
        study_values(
            axes=axes, tune=tune, methods=methods, seeds=list(range(4)), fractions=[0.5, 1]
        )
    )
    began = time.monotonic()
    cohorts = read_cohorts(study, cohort_folder)
    planned = plan_study(study, contexts_of(study, cohorts))
    ids = {fit.id for fit in planned.first_fits()}
    seconds = time.monotonic() - began
    assert planned.n_fits == 10_000
    assert len(list(planned.cells())) == 10_000 // 5
    assert len(ids) == 2000 * 2
    assert seconds < 10


def test_the_plan_is_readable_however_long(cohort_folder: Path) -> None:
    axes = {"train.weight_decay": [round(0.001 * i, 3) for i in range(1, 31)]}
    study = StudyRecipe.parse(study_values(axes=axes))
    document = plan_document(plan(study, cohort_folder), None, workers=2)
    text = plan_text(document)
    assert len(text.splitlines()) < 20
    assert document["elapsed"] == pytest.approx(document["seconds"] / 2)
    assert {choice["estimated_from"] for choice in document["choices"]} <= {
        "a timed step",
        "scaled",
    }
    by_name = {choice["name"]: choice for choice in document["choices"]}
    assert by_name["probe, weight_decay 0.001"]["trainable"] == 9


def test_the_dry_run_writes_nothing(
    cohort_folder: Path, study_file, braintune: Command, tmp_path: Path
) -> None:
    outcome = braintune("compare", study_file(), "--cohort", cohort_folder, "--dry-run")
    assert outcome.status == 0
    assert outcome.out.startswith(
        "12 fits: 2 choices in 1 context, 4 cells of 2 trials and 2 seeds."
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "study.yaml"]


def test_a_base_may_lie_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(tiny_values()))
    path = tmp_path / "study.yaml"
    text = "base: base.yaml\nset: {train.epochs: 3}\nseeds: 3\ntargets: [dx, sex]\n"
    path.write_text(text + "tune: {keys: {train.lr: [1e-3, 1e-2]}}\n")
    study = StudyRecipe.read(path)
    assert study.base.train.epochs == 3
    assert study.seeds == [0, 1, 2]
    assert list(study.targets) == ["dx", "sex"]
    # YAML takes 1e-3 for text.
    assert study.tune is not None
    assert study.tune.keys["train.lr"] == [0.001, 0.01]
    short = StudyRecipe.read(path, ["train.epochs=9", "protocol.folds=3", "fractions=[0.5]"])
    assert (short.base.train.epochs, short.base.protocol.folds) == (9, 3)
    assert short.fractions == [0.5]
    written = tmp_path / "again.yaml"
    written.write_text(study.dump())
    assert StudyRecipe.read(written) == study
    path.write_text("methods: {}")
    with pytest.raises(InputError, match="A study needs 'base'"):
        StudyRecipe.read(path)


def test_a_search_is_a_function_of_what_was_found() -> None:
    keys = {"train.lr": {"low": 1e-4, "high": 1e-1}, "train.epochs": [5, 10]}
    tune = StudyRecipe.parse(
        study_values(tune={"keys": keys, "by": "optuna", "trials": 30, "halving": 2})
    ).tune
    assert tune is not None
    found: list[Trial] = []
    for _ in range(30):
        settings = next_settings(tune, 3, found)
        assert settings == next_settings(tune, 3, found)
        assert 1e-4 <= settings["train.lr"] <= 1e-1
        # The loss is least at a learning rate of 0.01.
        loss = abs(__import__("math").log10(settings["train.lr"]) + 2)
        found.append(Trial(settings, (loss + 1, loss), loss, True))
    best = best_of(found)
    assert best is not None
    assert found[best].settings["train.lr"] == pytest.approx(0.01, rel=0.3)
    assert is_hopeless(tune, found, (9.0,))
    assert not is_hopeless(tune, found, (0.0,))
    assert best_of([Trial({})]) is None


EXAMPLES = sorted((Path(__file__).parents[2] / "recipes" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_planned(path: Path, ixi: Path) -> None:
    """At full size on real people; weights that would have to be fetched are left out."""
    study = StudyRecipe.read(path, ["backbone.weights=none"])
    planned = plan(study, ixi)
    names = {choice.name for choice in planned.choices}
    assert len(names) == (4 if path.stem == "adapters" else 6)
    assert planned.n_fits == sum(1 for _ in planned.cells()) * (3 - 1 + 3)
