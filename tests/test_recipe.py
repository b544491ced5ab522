from pathlib import Path

import pytest
import yaml

from braintune.errors import InputError
from braintune.recipe import Recipe, change_preparation
from conftest import tiny_values


def parse(**changes: object) -> Recipe:
    return Recipe.parse(tiny_values(**changes))


def test_a_recipe_reads_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = parse(task={"kind": "regression", "target": "age", "loss": "mse"})
    (tmp_path / "r.yaml").write_text(recipe.dump())
    assert Recipe.read(tmp_path / "r.yaml") == recipe
    assert recipe.task.options == {"loss": "mse"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epoch": 3}}, r"Unknown key 'train.epoch'. Did you mean 'epochs'\?"),
        (
            {"protocol": {"kind": "cross-validation", "fold": 3}},
            r"Unknown key 'protocol.fold'. Did you mean 'folds'\?",
        ),
        ({"protocol": {"kind": "cv"}}, "cross-validation"),
        ({"prepare": {"shape": [1, 2, 3000]}}, "at most 1024 voxels"),
        ({"train": {"lr": -1}}, "greater than 0"),
        ({"task": {"kind": "regression"}}, r"'task.target' is missing"),
        ({"task": {"kind": "regression", "target": "scan_id"}}, "is an identifier"),
        ({"adaptor": {"name": "lora"}}, r"Unknown key 'adaptor'. Did you mean 'adapter'\?"),
    ],
)
def test_mistakes_are_named_with_a_remedy(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(**changes)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse(train={"epoch": 3, "lr": "fast"})
    assert "train.epoch" in str(caught.value)
    assert "train.lr" in str(caught.value)


def test_overrides_change_values_and_keep_types(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny_values()))
    recipe = Recipe.read(
        tmp_path / "r.yaml",
        ["train.lr=1e-4", "prepare.shape=[16,16,16]", "adapter.name=lora", "adapter.rank=2"],
    )
    assert recipe.train.lr == 1e-4
    assert recipe.prepare.shape == (16, 16, 16)
    assert recipe.adapter.options == {"rank": 2}


@pytest.mark.parametrize("override", ["train.lr", "=3", "train.lr.x=1", "train.lr=[1"])
def test_wrong_overrides_are_refused(tmp_path: Path, override: str) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny_values()))
    with pytest.raises(InputError, match="--set"):
        Recipe.read(tmp_path / "r.yaml", [override])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "just words", "\x00"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=r"r\.yaml"):
        Recipe.read(tmp_path / "r.yaml")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("a: " + "x" * 1_100_000)
    with pytest.raises(InputError, match="larger than 1 MB"):
        Recipe.read(tmp_path / "r.yaml")


def test_preparation_comes_from_recipe_filters_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(tiny_values(scans={"desc": "brain"})))
    recipe = Recipe.read(tmp_path / "r.yaml")
    scans, prepare = change_preparation(recipe, ["spacing=3"], {"space": "MNI"})
    assert (scans.desc, scans.space) == ("brain", "MNI")
    assert (prepare.spacing, prepare.shape) == (3.0, (32, 36, 32))
    with pytest.raises(InputError, match="Did you mean 'spacing'"):
        change_preparation(None, ["spacings=3"], {})


def test_another_choice_drops_the_options_of_the_former(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(tiny_values()))
    changes = ["backbone.name=resnet18", "protocol.kind=hold-out", "protocol.column=part"]
    recipe = Recipe.read(path, changes)
    assert recipe.backbone.options == {}
    assert recipe.protocol.model_dump()["column"] == "part"
    same = Recipe.read(path, ["backbone.name=sfcn", "task.kind=classification"])
    assert same.backbone.options["channels"] == [4, 8]
    assert same.task.target == "dx"


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        ({"power": 2}, "power belongs to schedule: polynomial"),
        ({"momentum": 0.5}, "momentum belongs to optimiser: sgd-nesterov"),
        ({"mix_alpha": 0.2}, "mix_alpha belongs to mixup or cutmix"),
        ({"mixup": 0.6, "cutmix": 0.5}, "may be 1 together at most"),
        ({"mixup": 0.5, "batch_size": 1}, "set batch_size to 2 or more"),
        ({"schedule": "one-cycle", "warmup": 0}, "set warmup above 0"),
        ({"average_last": 9, "keep": "last", "epochs": 8}, r"more than there are epochs \(8\)"),
        ({"average_last": 2, "keep": "last", "ema": 0.9}, "set one of them"),
        ({"average_last": 2, "keep": "last", "patience": 3}, "leave average_last out"),
        ({"average_last": 2, "keep": "best"}, "set 'keep: last'"),
        ({"sam": 0}, "train.sam: Input should be greater than 0"),
        ({"sam": float("inf")}, "finite"),
        ({"drop_path": 1}, "train.drop_path: Input should be less than 1"),
        ({"optimiser": "adam"}, "'adamw', 'adam-amsgrad' or 'sgd-nesterov'"),
        ({"augment": "strong"}, "train.augment.strength: .*'heavy'"),
        ({"augment": {"blurr": 1}}, r"Unknown key 'train.augment.blurr'. Did you mean 'blur'\?"),
        ({"augment": {"crop": 1}}, "train.augment.crop: Input should be less than 1"),
        ({"augment": {"low_resolution": 0.5}}, "greater than or equal to 1"),
    ],
)
def test_training_that_cannot_be_right_is_refused(train: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parse(train=train)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("light", "light"),
        ({"strength": "heavy"}, "heavy"),
        ({"blur": 1}, {"strength": "standard", "blur": 1.0}),
        ({"strength": "none", "flip": 0.5}, {"strength": "none", "flip": 0.5}),
    ],
)
def test_augmentation_is_a_strength_or_changes_of_one(given: object, written: object) -> None:
    recipe = parse(train={"augment": given})
    assert recipe.model_dump()["train"]["augment"] == written
    assert Recipe.parse(yaml.safe_load(recipe.dump())) == recipe
