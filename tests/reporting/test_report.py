import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from braintune.cohort.read import read_cohort
from braintune.cohort.tables import read_table
from braintune.errors import InputError
from braintune.fitting.fit import fit
from braintune.reporting.report import write_report
from conftest import tiny_recipe


class Page(HTMLParser):
    """The text, tags and addresses of a page, and whether its tags nest."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], "tags left open"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href"}]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def page(finished_run: Path) -> Page:
    return Page((finished_run / "report.html").read_text())


def test_the_page_is_self_contained(finished_run: Path, finished_age_run: Path) -> None:
    for run in (finished_run, finished_age_run):
        html = (run / "report.html").read_text()
        page = Page(html)
        assert "script" not in page.tags
        assert all(address.startswith(("#", "data:image/png")) for address in page.addresses)
        assert not re.search(r"url\((?!#)", html)
        assert page.tags.count("svg") >= 4
        assert len(html) < 3_000_000


def test_the_page_tells_what_the_files_tell(page: Page, finished_run: Path) -> None:
    metrics = json.loads((finished_run / "metrics.json").read_text())
    auc = metrics["metrics"]["auc"]
    shown = f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"
    assert shown in page.text
    for baseline in metrics["baselines"].values():
        assert baseline["label"] in page.text
        assert f"{baseline['metrics']['auc']['value']:.3f}" in page.text
    for section in ("Who went in", "How good", "Figures", "worst cases", "How it was", "Record"):
        assert section in page.text
    assert "32 subjects used" in page.text
    assert "Test rows were opened 2 times for 2 folds" in page.text
    recipe = " ".join((finished_run / "recipe.yaml").read_text().split())
    assert recipe in page.text
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["packages"]["torch"] in page.text


def test_the_worst_cases_are_the_worst(page: Page, finished_run: Path) -> None:
    table = read_table(finished_run / "predictions.tsv")
    wrong = (table["dx"] == "AD").astype(float) - table["p_AD"].astype(float)
    worst = table["scan_id"][wrong.abs().idxmax()]
    cases = json.loads((finished_run / "cases" / "cases.json").read_text())
    assert cases[0]["scan_id"] == worst
    assert worst in page.text
    assert page.tags.count("img") == len(cases)


def test_brain_age_has_its_adjusted_column(finished_age_run: Path) -> None:
    page = Page((finished_age_run / "report.html").read_text())
    metrics = json.loads((finished_age_run / "metrics.json").read_text())
    assert "bias-adjusted" in page.text
    assert f"{metrics['adjusted']['mae']['value']:.1f}" in page.text
    assert "years" in page.text
    assert "de Lange and Cole" in page.text


def test_whatever_comes_from_files_is_escaped(cohort_folder: Path, tmp_path: Path) -> None:
    """A table with markup in its values, its column names and its labels."""
    evil = "<script>alert('x')</script>"
    scans = sorted(cohort_folder.rglob("*.nii.gz"))
    lines = ["participant_id\tpath\tdx\tsite\tscore<b>"]
    for number, scan in enumerate(scans):
        label = evil if number % 2 else "a & b"
        lines.append(f"p{number}<i>\t{scan}\t{label}\t<u>{number % 2}\t{number}")
    lines.append(f"left<i>\t{scans[0].parent / 'gone.nii.gz'}\t\t<u>\t1")
    table = tmp_path / "table.tsv"
    table.write_text("\n".join(lines) + "\n")
    run = fit(tiny_recipe(train={"epochs": 1}), read_cohort(table), tmp_path / "run")
    html = write_report(run.path).read_text()
    page = Page(html)
    assert evil in page.text
    for tag in ("script", "i", "u"):
        assert tag not in page.tags, tag
    assert "left<i>" in page.text


def test_what_was_left_out_is_told_with_its_reason(cohort_folder: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_folder).exclude(["sub-004"], "excluded by --exclude")
    run = fit(tiny_recipe(train={"epochs": 1}), cohort, tmp_path / "run")
    text = Page(write_report(run.path).read_text()).text
    assert "excluded by --exclude 1" in text
    assert "sub-004_T1w" in text


def test_an_unfinished_run_has_no_report(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    (run / "metrics.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        write_report(run)


def test_a_report_needs_the_runs_files_only(finished_run: Path, tmp_path: Path) -> None:
    """Copied to another machine, without the scans, the page is the same."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    after = write_report(run).read_text()
    # matplotlib names clip paths afresh each time.
    strip = re.compile(r"[#\"]?[mp][0-9a-f]{10}")
    assert strip.sub("", after) == strip.sub("", before)
