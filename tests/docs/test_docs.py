"""The documentation does what it says: commands run, recipes are right, options exist."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from braintune import parallel
from braintune.adapters import adapter as adapters
from braintune.commands.main import app
from braintune.fitting.chain_recipe import ChainRecipe
from braintune.models import backbone as backbones
from braintune.pretraining_recipe import PretrainRecipe
from braintune.recipe import Recipe
from braintune.studies.recipe import StudyRecipe, whole_study
from braintune.tasks.pretraining.objective import make_objective
from braintune.tasks.task import make_any_task

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [page for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if page.exists()]
COMMANDS: Any = typer.main.get_command(app)
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE = re.compile(r"`(braintune [^`]+)`")
# What an untitled piece of a recipe is put into before it is checked.
_REST = {
    "task": {"kind": "classification", "target": "dx"},
    "backbone": {"name": "resnet18"},
}
# The same for a recipe of pre-training, and the sections by which it is known.
_PRETRAINING = {
    "objective": {"kind": "masked"},
    "backbone": {"name": "nit"},
    "sources": {"made": {"maps": "segmentations"}},
    "scans_per_epoch": 512,
}
_OF_STUDIES = {"base", "axes", "tune", "cluster"}
_OF_PRETRAINING = {"objective", "sources", "exclude", "probe"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its title if it has one, its text."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for language, rest, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        title = _TITLE.search(rest)
        found.append(Block(language, title[1] if title else None, text))
    return found


def all_blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page))
        if block.language in languages
    ]


def command_lines(block: Block) -> list[str]:
    """The commands of a block: all lines of a script, those after a prompt of a session."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def words_of(line: str) -> list[str] | None:
    """What follows ``braintune`` up to a redirection, or None for a line without it."""
    match = re.search(r"(?:^|\s)braintune ([^>|&]*)", line)
    return shlex.split(match[1], comments=True) if match else None


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no processes, which would take seconds to start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parallel, "available_cores", lambda: 1)
    return tmp_path


def run_line(line: str) -> None:
    words = words_of(line)
    if words is None:
        subprocess.run(["bash", "-c", line], check=True)
    else:
        assert not COMMANDS.main(words, prog_name="braintune", standalone_mode=False), line


@pytest.mark.slow
def test_the_tutorial_runs_in_order(workplace: Path) -> None:
    for block in blocks(DOCS / "tutorial.md"):
        if block.title is not None:
            (workplace / block.title).write_text(block.text, encoding="utf-8")
        elif block.language in {"bash", "console"}:
            for line in command_lines(block):
                run_line(line)
    assert (workplace / "runs/dx/report.html").exists()
    assert (workplace / "predictions/desc-dx_predictions.tsv").exists()


def test_volumes_and_diagnosis_run_in_order(workplace: Path) -> None:
    for block in blocks(DOCS / "how-to" / "measure-volumes-and-diagnose.md"):
        if block.language == "python":
            exec(compile(block.text, "measure-volumes-and-diagnose.md", "exec"), {})
        elif block.language == "bash":
            for line in command_lines(block):
                run_line(line)
    assert (workplace / "shares/phenotype/volumes.tsv").exists()
    assert (workplace / "runs/volumes/report.html").exists()
    assert (workplace / "told/desc-dx_predictions.tsv").exists()


@pytest.mark.slow
def test_a_study_runs_in_order(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(DOCS / "how-to" / "compare-methods.md"):
        if block.title == "study.yaml":
            (workplace / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, "compare-methods.md", "exec"), {})
        elif block.language == "bash" and "--cluster" not in block.text:
            for line in command_lines(block):
                run_line(line)
    assert (workplace / "studies/width/study.html").exists()
    assert "mean absolute error" in capsys.readouterr().out.splitlines()[-2]


@pytest.mark.parametrize(
    "page",
    [
        "adapt-a-network.md",
        "add-a-backbone-or-adapter.md",
        "make-training-scans.md",
        "use-it-from-python.md",
        "use-published-weights.md",
    ],
)
def test_python_runs_in_order(
    page: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for registry in (backbones.BACKBONES, adapters.ADAPTERS):
        registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    session: dict[str, Any] = {"__name__": "docs"}
    printed = ""
    for number, block in enumerate(blocks(DOCS / "how-to" / page)):
        if block.language == "python":
            exec(compile(block.text, f"{page}, block {number}", "exec"), session)
            printed = capsys.readouterr().out
        elif block.language == "text":
            assert printed == block.text


@pytest.mark.parametrize("block", all_blocks("yaml"))
def test_recipes_are_right(block: Block) -> None:
    values = yaml.safe_load(block.text)
    if not _OF_PRETRAINING.isdisjoint(values):
        pretraining = PretrainRecipe.parse({**_PRETRAINING, **values})
        make_objective(pretraining.objective.kind, pretraining.objective.options)
        return
    if not _OF_STUDIES.isdisjoint(values):
        base = values.get("base", "a path")
        StudyRecipe.parse(whole_study({**values, "base": _REST if isinstance(base, str) else base}))
        return
    if "diagnose" in values:
        ChainRecipe.parse(values)
        return
    recipe = Recipe.parse(values if block.title else {**_REST, **values})
    make_any_task(recipe.task)
    backbones.check_options(recipe.backbone.name, recipe.backbone.options)
    adapters.check_options(recipe.adapter.name, recipe.adapter.options)


def test_every_key_of_a_recipe_is_explained() -> None:
    folder = DOCS / "how-to"
    text = "".join(
        (folder / f"{name}.md").read_text(encoding="utf-8")
        for name in ("write-a-recipe", "prepare-scans", "read-your-data", "choose-a-protocol")
    )
    for name, section in Recipe.model_fields.items():
        for key in [name, *getattr(section.annotation, "model_fields", {})]:
            assert re.search(rf"`{key}[`:]|^## {key}$", text, re.MULTILINE), key


@pytest.mark.parametrize("block", all_blocks("bash", "console"))
def test_commands_can_be_given_as_they_are(block: Block) -> None:
    for line in command_lines(block):
        words = words_of(line)
        if words is not None:
            command, name, rest = found_command(words)
            command.make_context(name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_in_the_text_exist(page: Path) -> None:
    for line in _INLINE.findall(page.read_text(encoding="utf-8")):
        words = words_of(line)
        assert words is not None
        command, name, rest = found_command(words)
        there = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        used = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert used <= there, f"{name}: {used - there}"


def found_command(words: list[str]) -> tuple[Any, str, list[str]]:
    """The command that words name, its name, and the words that are left for it."""
    command, name = COMMANDS, "braintune"
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("--"):
        name = rest.pop(0)
        assert name in command.commands, f"no command {name}"
        command = command.commands[name]
    return command, name, rest


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        assert (page.parent / link).exists(), link
