"""Activations of frozen stages: the same results with and without, computed once for each scan."""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from braintune.adapters.adapter import ADAPTERS, adapt
from braintune.evaluation.splits import Fold
from braintune.files import cache_folder
from braintune.fitting.features.prefix import Prefix, frozen_prefix
from braintune.fitting.features.shelf import Shelf
from braintune.fitting.features.shown import key_of
from braintune.fitting.interrupt import StopRequest
from braintune.fitting.machinery import FoldData, Machinery
from braintune.fitting.precision import Precision, make_fabric
from braintune.fitting.training import FoldTrainer
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.models.resnet import ResNet
from braintune.recipe import PrepareRecipe
from braintune.tasks.task import make_task
from conftest import tiny_recipe
from fitting.shelf_user import use
from fitting.stopping import StoppingBar
from imaging.test_store import scan
from models.test_backbones import TINY, tiny

SHAPE = (32, 32, 32)
FOLD = Fold("1", np.array([7, 1, 4, 2, 5]), np.array([0, 3]), np.array([6]))
OTHER = Fold("2", np.array([0, 3, 6, 2, 5]), np.array([1, 7]), np.array([4]))
# Plain gradient descent: Adam turns rounding of gradients near zero into whole steps.
TRAIN = {
    "epochs": 2,
    "batch_size": 5,
    "lr": 0.01,
    "augment": "none",
    "optimiser": "sgd-nesterov",
}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    store = PreparedStore.create(tmp_path_factory.mktemp("scans"), PrepareRecipe(shape=SHAPE))
    for number in range(8):
        store.write(f"s{number}", scan(number, SHAPE), "")
    return store


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINTUNE_CACHE", str(tmp_path / "cache"))


def make_trainer(
    store: PreparedStore, folder: Path, room: int, fold: Fold = FOLD, **sections: Any
) -> FoldTrainer:
    train = {**TRAIN, **sections.pop("train", {})}
    recipe = tiny_recipe(
        task={"kind": "regression", "target": "age"},
        prepare={"shape": SHAPE},
        train=train,
        **sections,
    )
    truth = np.arange(8.0)
    precision = Precision("fp32", channels_last=True)
    fabric = make_fabric(precision, "cpu")
    fabric.launch()
    machinery = Machinery(fabric, precision, folder, 1e9, StopRequest(), room)
    scans = ScanLoader(store, [f"s{number}" for number in range(8)])
    task = make_task(recipe.task).fit(truth[fold.train])
    return FoldTrainer(recipe, task, FoldData(scans, truth, fold, 0), machinery)


def run(trainer: FoldTrainer, fold: Fold = FOLD) -> torch.Tensor:
    trainer.resume()
    trainer.run(StoppingBar(StopRequest(), 1000))
    return trainer.outputs(fold.test)


def kept() -> list[Path]:
    return sorted((cache_folder() / "features").rglob("*.safetensors"))


class Counting:
    """Counts the forward passes of a backbone's first parametrised layer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = 0
        plain = Prefix.__call__

        def counted(prefix: Prefix, images: torch.Tensor) -> torch.Tensor:
            self.images += len(images)
            return plain(prefix, images)

        monkeypatch.setattr(Prefix, "__call__", counted)


# A backbone of each kind; SwinUNETR is left out for its size. That each stage goes on from the one
# before, in all backbones, is tested beside the backbones.
KINDS = ["densenet121", "mvit-v2-s", "r2plus1d18", "resnet50", "segresnet", "sfcn", "slice-lstm"]
KINDS += ["slice-set", "swin3d-t", "unet", "unetr", "videomae", "vit"]
PROBED = [(name, {"name": "probe"}) for name in KINDS]
TUNED = [(name, {"name": "last-k", "blocks": 1}) for name in KINDS if tiny(name).steps()]


@pytest.mark.parametrize(
    ("name", "adapter"), [*PROBED, *TUNED], ids=lambda v: v if isinstance(v, str) else v["name"]
)
def test_results_are_the_same_for_every_backbone(
    store: PreparedStore, tmp_path: Path, name: str, adapter: dict[str, Any]
) -> None:
    sections = {
        "backbone": {"name": name, **TINY[name]},
        "adapter": adapter,
        "train": {"epochs": 1, "flip_average": True},
    }
    expected = run(make_trainer(store, tmp_path / "without", 0, **sections))
    assert not kept()
    found = run(make_trainer(store, tmp_path / "with", 10**9, **sections))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    backbone = tiny(name)
    adapt(backbone, adapter["name"], {k: v for k, v in adapter.items() if k != "name"})
    # Of 8 scans the 7 that train or validate, those that are tested, and the mirrored of these.
    assert len(kept()) == (8 + 3 if frozen_prefix(backbone) else 0)


ADAPTED: list[dict[str, Any]] = [
    {"name": "mlp-head"},
    {"name": "last-k", "blocks": 2},
    *(
        {"name": name, "depth": [0.6, 1.0]}
        for name in ADAPTERS.names()
        if "depth" in ADAPTERS.get(name).options.model_fields
    ),
    {"name": "lora", "layers": "layer4", "norms": "affine"},
    {"name": "lora", "norms": "recalibrate"},
    {"name": "norm"},
    {"name": "full"},
]


@pytest.mark.parametrize("adapter", ADAPTED, ids=lambda a: "-".join(map(str, a.values())))
def test_results_are_the_same_under_every_adapter(
    store: PreparedStore, tmp_path: Path, adapter: dict[str, Any]
) -> None:
    sections = {"backbone": {"name": "resnet10", "width": 4}, "adapter": adapter}
    plain = make_trainer(store, tmp_path / "without", 0, **sections)
    expected = run(plain)
    trainer = make_trainer(store, tmp_path / "with", 10**9, **sections)
    torch.testing.assert_close(run(trainer), expected, rtol=1e-4, atol=1e-5)
    for mine, other in zip(trainer.history, plain.history, strict=True):
        assert mine["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-4)
    prefix = frozen_prefix(trainer.network.backbone)
    none = {"norms": "recalibrate"}.items() <= adapter.items()
    assert bool(kept()) == (prefix is not None and not none)


RESNET = {"backbone": {"name": "resnet10", "width": 4}}


def test_folds_rates_and_adapters_share_what_was_computed_once(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(monkeypatch)
    run(make_trainer(store, tmp_path / "1", 10**9, **RESNET, adapter={"name": "probe"}))
    # The first scan twice, to see that it is the same in training. Then the 5 of an epoch, the 2
    # that validate and the one that is tested, each time in a batch that is filled to 8.
    assert counting.images == 2 + 3 * 8
    for number, changes in enumerate(
        (
            {"adapter": {"name": "mlp-head"}},
            {"adapter": {"name": "probe"}, "train": {"lr": 0.1}},
            {"adapter": {"name": "probe"}, "fold": OTHER},
        )
    ):
        run(make_trainer(store, tmp_path / f"more-{number}", 10**9, **RESNET, **changes), FOLD)
    assert counting.images == 2 + 3 * 8
    assert len(kept()) == 8


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"augment": "light"}},
        {"train": {"mixup": 0.5}},
        {"adapter": {"name": "probe", "norms": "recalibrate"}},
        {"adapter": {"name": "full"}},
    ],
    ids=str,
)
def test_nothing_is_kept_where_chance_or_training_changes_it(
    store: PreparedStore, tmp_path: Path, sections: dict[str, Any]
) -> None:
    sections = {**RESNET, "adapter": {"name": "probe"}, **sections}
    run(make_trainer(store, tmp_path, 10**9, **sections))
    assert not kept()


def test_stages_before_the_first_branch_that_is_dropped_are_kept(
    store: PreparedStore, tmp_path: Path
) -> None:
    sections = {**RESNET, "adapter": {"name": "probe"}, "train": {"drop_path": 0.5}}
    trainer = make_trainer(store, tmp_path, 10**9, **sections)
    run(trainer)
    prefix = frozen_prefix(trainer.network.backbone)
    assert prefix is not None
    # The stem, and the first of four blocks, whose branches are never dropped.
    assert prefix.stages == 2
    assert kept()


def test_nothing_is_kept_of_an_encoder_that_drops_without_a_layer_that_says_so(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ResNet._stem

    def dropping(self: ResNet, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(plain(self, images), 0.1, self.training)

    monkeypatch.setattr(ResNet, "_stem", dropping)
    run(make_trainer(store, tmp_path, 10**9, **RESNET, adapter={"name": "probe"}))
    assert not kept()


def test_other_weights_other_preparations_and_other_layers_have_files_of_their_own(
    store: PreparedStore, tmp_path: Path
) -> None:
    probe = {"adapter": {"name": "probe"}}
    trainer = make_trainer(store, tmp_path / "1", 10**9, **RESNET, **probe)
    machinery, recipe = trainer._machinery, trainer._recipe
    prefix = frozen_prefix(trainer.network.backbone)
    assert prefix is not None
    keys = [key_of(recipe, prefix, store, machinery)]
    keys.append(key_of(recipe, Prefix(prefix.backbone, 2), store, machinery))
    bf16 = replace(machinery, precision=Precision("bf16", channels_last=True))
    keys.append(key_of(recipe, prefix, store, bf16))
    other = PreparedStore(store.path, PrepareRecipe(shape=SHAPE, spacing=3.0))
    keys.append(key_of(recipe, prefix, other, machinery))
    with torch.no_grad():
        next(prefix.backbone.buffers()).add_(1)
    keys.append(key_of(recipe, prefix, store, machinery))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", ["resnet18", "vit", "swin3d-t"])
def test_activations_do_not_depend_on_which_others_were_missing(
    store: PreparedStore, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"backbone": {"name": name, **TINY[name]}, "adapter": {"name": "probe"}}
    whole = make_trainer(store, tmp_path, 10**9, **sections)._loader
    (expected,) = whole.batches([list(range(8))])
    for number, pieces in enumerate(([[5, 2], [7]], [[3], [1, 0, 4, 6]], [[6, 6, 5, 6]])):
        monkeypatch.setenv("BRAINTUNE_CACHE", str(tmp_path / f"other-{number}"))
        loader = make_trainer(store, tmp_path, 10**9, **sections)._loader
        for piece in pieces:
            first, again = (batch.clone() for batch in loader.batches([piece, piece[:1]]))
            assert torch.equal(first, expected[piece])
            assert torch.equal(again, expected[piece[:1]])


def test_what_is_too_large_is_computed_each_time(store: PreparedStore, tmp_path: Path) -> None:
    sections = {**RESNET, "adapter": {"name": "probe"}}
    expected = run(make_trainer(store, tmp_path / "without", 0, **sections))
    # 8 scans of 32 numbers have no room in 8 · 100 bytes.
    found = run(make_trainer(store, tmp_path / "with", 800, **sections))
    assert torch.equal(found, expected)


def test_broken_and_removed_files_are_made_again(store: PreparedStore, tmp_path: Path) -> None:
    sections = {**RESNET, "adapter": {"name": "probe"}}
    expected = run(make_trainer(store, tmp_path / "1", 10**9, **sections))
    before = {path: path.read_bytes() for path in kept()}
    for number, path in enumerate(before):
        if number % 3 == 1:
            path.unlink()
        elif number % 3 == 2:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        else:
            path.write_bytes(path.read_bytes()[: number * 10])
    assert torch.equal(run(make_trainer(store, tmp_path / "2", 10**9, **sections)), expected)
    assert {path: path.read_bytes() for path in kept()} == before


def test_the_longest_unused_is_removed_for_room(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 10_000)
    for number in range(8):
        shelf.write(f"k/{number}", torch.full((200,), float(number)))
        os.utime(tmp_path / f"k/{number}.safetensors", (number, number))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 10_000
    assert shelf.read("k/0") is not None
    for number in range(8, 14):
        shelf.write(f"k/{number}", torch.full((200,), float(number)))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) <= 10_000
    there = [number for number in range(14) if shelf.read(f"k/{number}") is not None]
    # What was read last stays beside the newest.
    assert there[0] == 0
    assert there[1:] == list(range(15 - len(there), 14))


def test_processes_read_write_and_remove_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        wrong = list(pool.map(use, [tmp_path] * 2, (0, 7)))
    assert wrong == [0, 0]
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.safetensors")]
    assert 0 < sum(sizes) <= 40_000 * (1 + 2 / 20)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_come_back_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    shelf = Shelf(tmp_path, 10**6)
    tensor = torch.randn(3, 4, 5).to(dtype).transpose(0, 2)
    shelf.write("k/1", tensor)
    found = shelf.read("k/1")
    assert found is not None
    assert found.dtype == dtype
    assert torch.equal(found, tensor)
