"""Pages of studies: made from files alone, escaped, and readable however much there is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braintune.errors import InputError
from braintune.reporting.scale_report import write_scale_report
from braintune.reporting.study_figures import pareto_front
from braintune.reporting.study_report import write_study_report
from braintune.reporting.study_text import study_text
from braintune.studies.compare import plan
from braintune.studies.cost import plan_document
from braintune.studies.recipe import StudyRecipe
from braintune.studies.verdict import verdict
from studies.small_study import study_values


@pytest.fixture
def study(finished_study: Path, tmp_path: Path) -> Path:
    """A copy whose files may be changed."""
    kept = ("study.json", "study.yaml", "identity.json", "environment.json", "ledger.jsonl")
    for name in kept:
        shutil.copy(finished_study / name, tmp_path / name)
    return tmp_path


def change(study: Path, **changes: Any) -> dict[str, Any]:
    document = json.loads((study / "study.json").read_text())
    document["contexts"][0].update(changes)
    (study / "study.json").write_text(json.dumps(document))
    return document


def test_names_are_text_and_never_code(study: Path) -> None:
    document = json.loads((study / "study.json").read_text())
    entries = document["contexts"][0]["entries"]
    entries[0]["name"] = "<script>alert(1)</script>"
    reason = "<img src=x onerror=alert(1)>"
    incomplete = [{"name": "a", "done": 0, "wanted": 1, "reason": reason}]
    change(study, entries=entries, incomplete=incomplete)
    page = write_study_report(study).read_text()
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_a_long_table_is_cut_and_says_so(study: Path) -> None:
    document = json.loads((study / "study.json").read_text())
    entries = document["contexts"][0]["entries"]
    many = [{**entries[0], "name": f"choice {i}"} for i in range(5000)]
    document = change(study, entries=many, groups=[[0, 4999]])
    page = write_study_report(study)
    assert "4940 more are in leaderboard.tsv" in page.read_text()
    assert page.stat().st_size < 1_000_000
    assert len(study_text(document, page).splitlines()) < 40


def test_a_study_without_scores_has_no_page(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no learning curves yet"):
        write_scale_report(study)
    (study / "study.json").unlink()
    with pytest.raises(InputError, match="no scores yet"):
        write_study_report(study)
    with pytest.raises(InputError, match="is no study"):
        write_study_report(tmp_path / "elsewhere")


def test_the_cost_is_that_of_fits_that_are_done(finished_study: Path, cohort_folder: Path) -> None:
    planned = plan(StudyRecipe.parse(study_values()), cohort_folder)
    document = plan_document(planned, finished_study, workers=1)
    assert {choice["estimated_from"] for choice in document["choices"]} == {"earlier fits"}
    done = [json.loads(p.read_text()) for p in finished_study.glob("fits/*/*/result.json")]
    truth = sum(result["seconds"] for result in done)
    assert truth / 3 < document["seconds"] < 3 * truth


def entry(name: str, real: bool, trivial: bool = False, below: bool = True) -> dict[str, Any]:
    beside = {"difference": 1.0, "low": 0.5, "high": 1.5, "p": 0.01, "p_holm": 0.01, "real": real}
    return {
        "name": name,
        "trivial": trivial,
        "value": 5.0,
        "low": 4.0,
        "high": 6.0,
        "against_best": beside,
        "below_best": below,
    }


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([entry("b", True), entry("c", True)], "a wins with mean absolute error 5 [4, 6]: it is"),
        ([entry("b", False), entry("c", True)], "a leads with"),
        ([entry("b", False), entry("c", False)], "No choice wins: a leads"),
        ([], "there is no other choice to compare it with"),
    ],
)
def test_a_sentence_says_who_wins(others: list[dict[str, Any]], expected: str) -> None:
    best = {**entry("a", False), "against_best": None, "below_best": False}
    trivial = [entry("the mean", True, trivial=True)]
    context = {"entries": [best, *others, *trivial], "label": "mean absolute error"}
    sentences = verdict({**context, "test": "a test", "pairs": 3})
    assert expected in sentences[0]
    assert sentences[-1] == "a is better than what is predicted without images."
    if expected == "a leads with":
        assert sentences[1] == "Its difference from b is noise."


def test_a_trivial_baseline_above_is_said() -> None:
    best = {**entry("a", False), "against_best": None, "below_best": False}
    above = entry("age only", True, trivial=True, below=False)
    context = {"entries": [above, best], "label": "MAE", "test": "a test", "pairs": 1}
    assert "not shown to be better than age only" in verdict(context)[-1]


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=10),
    st.booleans(),
)
def test_no_entry_beats_one_of_the_front_in_both(points, higher: bool) -> None:
    entries = [{"cost": cost, "value": float(value)} for cost, value in points]
    front = pareto_front(entries, "cost", higher)
    sign = -1 if higher else 1
    for i, (cost, value) in enumerate(points):
        beaten = any(
            c <= cost and sign * v <= sign * value and (c, v) != (cost, value) for c, v in points
        )
        assert (i in front) == (not beaten)
