import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from braintune.models import backbone as backbones
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.fetching import fetch
from braintune.models.weights.loading import load_backbone
from braintune.models.weights.places import file_of
from braintune.models.weights.record import (
    WEIGHTS,
    Conversion,
    ExpectedPreparation,
    Source,
    WeightRecord,
)
from braintune.recipe import Recipe
from conftest import Command

OPTIONS = {"channels": [4, 8]}
SHAPE = InputShape(1, (32, 32, 32))
BY_HAND = WeightRecord(
    backbone="sfcn",
    tag="byhand",
    options=OPTIONS,
    summary="a tiny network [of nobody]",
    source=Source(manual="Fill in the form at example.org."),
    licence="CC-BY-NC-4.0",
    non_commercial=True,
    citation="Nobody 2026",
    cohorts=("OASIS-1",),
    prepare=ExpectedPreparation(
        spacing=2, shape=(32, 40, 32), intensity="zscore", words="Divided by the mean."
    ),
    conversion=Conversion(container=("state_dict",)),
    quirks=("the first quirk", "the second one"),
)
BY_PROGRAM = BY_HAND.model_copy(
    update={
        "tag": "byprogram",
        "source": Source(url="https://127.0.0.1:9/w.pth", sha256="0" * 64, size=12_345_678),
        "licence": "MIT",
        "non_commercial": False,
    }
)


@pytest.fixture(autouse=True)
def _tiny_registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two records and two backbones alone, and an empty cache."""
    for registry in (WEIGHTS, backbones.BACKBONES):
        registry.names()
    entries = {record.name: record for record in (BY_HAND, BY_PROGRAM)}
    monkeypatch.setattr(WEIGHTS, "_entries", entries)
    few = {name: backbones.BACKBONES.get(name) for name in ("sfcn", "nit")}
    monkeypatch.setattr(backbones.BACKBONES, "_entries", few)
    monkeypatch.setenv("BRAINTUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The checkpoint of the record that is got by hand."""
    torch.manual_seed(4)
    state = build_backbone("sfcn", SHAPE, OPTIONS).state_dict()
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def document(braintune: Command, *words: object) -> Any:
    outcome = braintune("models", *words, "--json")
    assert outcome.status == 0, outcome.err
    return json.loads(outcome.out)


@pytest.mark.parametrize("name", ["list", "show", "fetch", "convert"])
def test_each_command_has_an_example(name: str, braintune: Command) -> None:
    assert f"Example: braintune models {name}" in braintune("models", name, "--help").out


def test_weights_are_listed_with_their_backbones(braintune: Command, published: Path) -> None:
    document(braintune, "convert", "sfcn.byhand", published)
    nit, sfcn = document(braintune, "list")
    assert (nit["name"], nit["weights"], nit["records"]) == ("nit", [], [])
    assert sfcn["weights"] == ["byhand", "byprogram"]
    assert sfcn["records"] == [
        {
            "name": "sfcn.byhand",
            "tag": "byhand",
            "summary": "a tiny network [of nobody]",
            "licence": "CC-BY-NC-4.0",
            "non_commercial": True,
            "size": None,
            "fetched": True,
        },
        {
            "name": "sfcn.byprogram",
            "tag": "byprogram",
            "summary": "a tiny network [of nobody]",
            "licence": "MIT",
            "non_commercial": False,
            "size": 12_345_678,
            "fetched": False,
        },
    ]


def test_the_list_can_be_read(braintune: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = braintune("models", "list").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["name", "family", "parameters", "weights", "summary"]
    assert any(line.split()[:4] == ["sfcn", "sfcn", "2,950,336", "byhand,"] for line in lines)
    rows = [line.split() for line in lines if line.startswith("sfcn.")]
    assert rows == [
        ["sfcn.byhand", "–", "CC-BY-NC-4.0", "(non-commercial)", "no,", "by", "hand"],
        ["sfcn.byprogram", "12", "MIT", "no"],
    ]


def test_a_record_is_explained(braintune: Command) -> None:
    text = braintune("models", "show", "sfcn.byhand").out
    for words in (
        "CC-BY-NC-4.0 (non-commercial)",
        "[of nobody]",
        "Nobody 2026",
        "OASIS-1",
        "Divided by the mean.",
        "channels: [4, 8]",
        "Fill in the form at example.org.",
        "braintune models convert sfcn.byhand",
        "the second one",
    ):
        assert words in text, words
    shown = document(braintune, "show", "sfcn.byprogram")
    assert shown["source"]["sha256"] == "0" * 64
    assert not shown["fetched"]
    assert shown["path"] == str(file_of(BY_PROGRAM))


def test_the_lines_shown_are_a_recipe(braintune: Command) -> None:
    text = braintune("models", "show", "sfcn.byhand").out
    lines = yaml.safe_load(text[text.index("prepare: {") :])
    assert lines == document(braintune, "show", "sfcn.byhand")["recipe"]
    recipe = Recipe.parse({"task": {"kind": "classification", "target": "dx"}, **lines})
    assert recipe.prepare.shape == (32, 40, 32)
    assert recipe.prepare.spacing == 2
    assert recipe.backbone.weights == "byhand"


def test_a_backbone_shows_its_weights(braintune: Command) -> None:
    text = braintune("models", "show", "sfcn").out
    assert "norm: batch" in text
    assert "sfcn.byprogram" in text
    assert "fetched" not in braintune("models", "show", "nit").out


def test_a_converted_file_is_found_by_recipes(braintune: Command, published: Path) -> None:
    outcome = braintune("models", "convert", "sfcn.byhand", published)
    assert outcome.status == 0
    assert str(file_of(BY_HAND)) in outcome.out
    assert "'backbone: {name: sfcn, weights: byhand}'" in outcome.out
    assert "CC-BY-NC-4.0 (non-commercial). Cite Nobody 2026." in outcome.err
    backbone = load_backbone("sfcn", SHAPE, "byhand", {})
    wanted = torch.load(published, weights_only=True)["state_dict"]
    assert torch.equal(backbone.state_dict()["blocks.0.0.weight"], wanted["blocks.0.0.weight"])
    assert document(braintune, "fetch", "sfcn.byhand")["path"] == str(file_of(BY_HAND))


def test_a_converted_file_may_lie_elsewhere(
    braintune: Command, published: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.safetensors"
    told = document(braintune, "convert", "sfcn.byhand", published, "--out", out)
    assert told["path"] == str(out)
    assert told["non_commercial"]
    assert not file_of(BY_HAND).exists()
    bad = braintune("models", "convert", "sfcn.byhand", published, "--out", tmp_path / "mine.pt")
    assert bad.status == 2
    assert "must end with .safetensors" in bad.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "sfcn.byhnd"], "Did you mean 'sfcn.byhand'?"),
        (["show", "scfn"], "Did you mean 'sfcn'?"),
        (["fetch", "sfcn"], "is a backbone. Name one of its weights: sfcn.byhand, sfcn.byprogram"),
        (["fetch", "sfcn.byhand"], "Fill in the form at example.org."),
        (["fetch", "sfcn.byprogram", "--offline"], "it is offline"),
        (["convert", "sfcn.byhand", "none.pth"], "none.pth does not exist"),
    ],
)
def test_mistakes_are_explained(braintune: Command, words: list[str], message: str) -> None:
    outcome = braintune("models", *words)
    assert outcome.status == 2
    assert message in outcome.err
    assert outcome.out == ""


def test_fetching_by_command_is_fetching(
    braintune: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command hands on what it was given, and its answer."""
    asked = []

    def remember(record: WeightRecord, *, offline: bool) -> Path:
        asked.append((record.name, offline))
        return file_of(record)

    monkeypatch.setattr(f"{fetch.__module__}.fetch", remember)
    told = document(braintune, "fetch", "sfcn.byprogram")
    assert told == {
        "name": "sfcn.byprogram",
        "path": str(file_of(BY_PROGRAM)),
        "licence": "MIT",
        "non_commercial": False,
    }
    assert asked == [("sfcn.byprogram", False)]
