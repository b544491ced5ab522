"""What a fit starts from is settled before it begins, said, and written down."""

from pathlib import Path
from typing import Any

import pytest
import torch

from braintune.cohort.read import read_cohort
from braintune.errors import InputError
from braintune.files import read_json
from braintune.fitting.network import make_network, outline
from braintune.fitting.starting import preparation_differences, read_start, settle
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.loading import save_folder
from braintune.models.weights.record import WeightRecord
from braintune.models.weights.tensors import sha256_of
from braintune.recipe import AdapterRecipe, PrepareRecipe, Recipe, ScansRecipe, TaskRecipe
from braintune.tasks.task import make_task
from conftest import tiny_values


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights that belong to another network than the backbone's default one."""
    torch.manual_seed(7)
    record = WeightRecord.model_validate(
        {
            "backbone": "sfcn",
            "tag": "mine",
            "options": {"channels": [4, 8], "norm": "instance"},
            "licence": "CC-BY-NC-4.0",
            "non_commercial": True,
            "citation": "Somebody 2026",
            "cohorts": ["Simulated", "UK Biobank"],
            "prepare": {"spacing": 6.0, "shape": [32, 40, 32], "intensity": "percentile"},
        }
    )
    network = build_backbone("sfcn", InputShape(1, (32, 40, 32)), record.options)
    save_folder(tmp_path / "weights", record, network.state_dict())
    return tmp_path / "weights"


def recipe(weights: Path, prepare: dict[str, Any] | None = None, **options: Any) -> Recipe:
    values = tiny_values(backbone={"name": "sfcn", "weights": str(weights), **options})
    if prepare is not None:
        values["prepare"] = prepare
    return Recipe.parse(values)


def test_weights_bring_their_options(weights: Path) -> None:
    settled = settle(recipe(weights))
    assert settled.backbone.options == {"channels": [4, 8], "norm": "instance"}
    assert settle(settled) == settled
    with pytest.raises(InputError, match="norm: batch"):
        settle(recipe(weights, norm="batch"))


def test_like_weights_takes_their_preparation_and_keeps_what_was_set(weights: Path) -> None:
    settled = settle(recipe(weights, prepare={"like": "weights", "intensity": "zscore"}))
    expected = {"like": None, "spacing": 6.0, "shape": (32, 40, 32), "intensity": "zscore"}
    assert expected.items() <= settled.prepare.model_dump().items()
    with pytest.raises(InputError, match="The recipe has no weights that tell one"):
        settle(Recipe.parse(tiny_values(prepare={"like": "weights"})))


def test_every_difference_of_the_preparation_is_named(weights: Path) -> None:
    record = WeightRecord.model_validate(read_json(weights / "record.json"))
    prepare = PrepareRecipe(spacing=2.0, shape=(32, 40, 32), intensity="zscore")
    assert preparation_differences(prepare, record) == (
        "spacing 2.0 here, 6.0 there",
        "intensity zscore here, percentile there",
    )


def test_what_the_weights_have_seen_is_found_whatever_its_spelling(
    weights: Path, cohort_folder: Path
) -> None:
    cohort = read_cohort(cohort_folder, ScansRecipe())
    settled = settle(recipe(weights))
    start = read_start(settled, cohort)
    assert start is not None
    assert start.seen == ()
    table = cohort.table.assign(study=["uk-biobank", *["other"] * (len(cohort) - 1)])
    known = read_start(settled, type(cohort)(cohort.source, table))
    assert known is not None
    assert known.seen == ("uk-biobank",)
    assert any("have seen uk-biobank" in warning for warning in known.warnings())


def test_a_run_records_what_it_loaded_and_reports_it(
    weights: Path, cohort_folder: Path, tmp_path: Path, recipe_file, braintune
) -> None:
    path = recipe_file(
        backbone={"name": "sfcn", "weights": str(weights)},
        adapter={"name": "probe"},
        train={"epochs": 1},
    )
    run = tmp_path / "run"
    outcome = braintune("fit", path, "--cohort", cohort_folder, "--out", run)
    assert outcome.status == 0, outcome.err
    assert "Note: The weights sfcn.mine were trained on another preparation" in outcome.err
    document = read_json(run / "weights.json")
    assert document["sha256"] == sha256_of(weights / "weights.safetensors")
    assert document["published_sha256"] is None
    assert document["parameters_from_weights"] == document["parameters"]
    resolved = Recipe.read(run / "recipe.yaml")
    assert resolved.backbone.options == {"channels": [4, 8], "norm": "instance"}
    page = (run / "report.html").read_text()
    assert document["sha256"] in page
    assert "may not be used commercially (CC-BY-NC-4.0)" in page
    assert "from the weights sfcn.mine (Somebody 2026)" in page
    # A probe leaves the backbone as it was loaded.
    from braintune.models.weights.tensors import read_tensors

    frozen = read_tensors(run / "model" / "frozen.safetensors")
    loaded = read_tensors(weights / "weights.safetensors")
    assert torch.equal(frozen["backbone.blocks.0.0.weight"], loaded["blocks.0.0.weight"])


@pytest.mark.parametrize("adapter", ["probe", "lora"])
def test_what_the_weights_lack_trains_under_any_adapter(tmp_path: Path, adapter: str) -> None:
    record = WeightRecord.model_validate(
        {
            "backbone": "sfcn",
            "tag": "part",
            "licence": "MIT",
            "citation": "–",
            "adaptation": {"new": [r"blocks\.1\..*"]},
        }
    )
    options = {"channels": [4, 8], "norm": "instance"}
    state = build_backbone("sfcn", InputShape(1, (32, 36, 32)), options).state_dict()
    part = {key: value for key, value in state.items() if key.startswith("blocks.0")}
    save_folder(tmp_path / "part", record, part)
    settled = recipe(tmp_path / "part", **options).model_copy(
        update={"adapter": AdapterRecipe(name=adapter)}
    )
    task = make_task(TaskRecipe(kind="regression", target="age"))
    for network in (make_network(settled, task), outline(settled, task)):
        trains = {
            name.replace("base.", "")
            for name, parameter in network.backbone.named_parameters()
            if parameter.requires_grad and "lora" not in name
        }
        assert trains == {f"blocks.1.{key}" for key in ("0.weight", "0.bias", "1.weight", "1.bias")}
