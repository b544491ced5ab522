"""Weights load whole and as declared, or not at all and with a reason."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from braintune.errors import InputError
from braintune.models.backbone import Backbone, InputShape, build_backbone
from braintune.models.weights.loading import (
    WeightSet,
    find_weights,
    load_backbone,
    load_weights,
    save_folder,
)
from braintune.models.weights.record import Adaptation, WeightRecord
from braintune.models.weights.tensors import write_tensors

SHAPE = InputShape(1, (32, 32, 32))
OPTIONS = {"channels": [4, 8]}
VIT = {"patch": 8, "width": 24, "depth": 2, "heads": 3, "hidden": 32}


def record(backbone: str = "sfcn", **values: Any) -> WeightRecord:
    return WeightRecord.model_validate(
        {"backbone": backbone, "tag": "mine", "licence": "MIT", "citation": "–", **values}
    )


def sfcn() -> Backbone:
    return build_backbone("sfcn", SHAPE, OPTIONS)


def stored(folder: Path, state: dict[str, torch.Tensor], **adaptation: Any) -> WeightSet:
    write_tensors(folder / "w.safetensors", state, unused="head.weight head.bias")
    declared = record(adaptation=Adaptation(**adaptation)) if adaptation else None
    return WeightSet(folder / "w.safetensors", declared)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return sfcn().state_dict()


def test_weights_load_whole(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    weights = stored(tmp_path, state)
    backbone = load_backbone("sfcn", SHAPE, str(weights.path), OPTIONS)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    report = load_weights(backbone, weights)
    assert set(report.loaded) == set(state)
    assert report.parameters == report.total == sum(v.numel() for v in state.values())
    assert report.unused == ("head.weight", "head.bias")
    assert "100.0 % of the backbone's numbers" in report.text()
    assert "2 of the file not used: head.weight, head.bias" in report.text()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("blocks.0.0.weight"), "missing blocks.0.0.weight"),
        (lambda s: s.update(renamed=s.pop("blocks.0.0.weight")), "unknown renamed, missing blocks"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"blocks.0.0.bias": torch.ones(5)}), r"is \[5\] instead of \[4\]"),
        (lambda s: s["blocks.0.0.bias"].fill_(torch.nan), "holds NaN"),
        (lambda s: s["blocks.0.0.weight"].zero_(), "blocks.0.0.weight is all zeros"),
        (lambda s: s["blocks.0.1.weight"].zero_(), "blocks.0.1.weight is all zeros"),
        (lambda s: s["blocks.0.1.running_var"].zero_(), "running_var is all zeros"),
        (
            lambda s: s.update({"blocks.0.0.bias": torch.ones(4, dtype=torch.int64)}),
            "of the kind torch.int64",
        ),
    ],
)
@pytest.mark.parametrize("declared", [False, True])
def test_any_misfit_loads_nothing(
    tmp_path: Path, state: dict[str, torch.Tensor], declared: bool, spoil, message: str
) -> None:
    """With a bare file, and with a record that declares other differences."""
    backbone = sfcn()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    spoil(state)
    allowed = {"first_layer": "blocks.0.0.weight", "inflate": True} if declared else {}
    with pytest.raises(InputError, match=message):
        load_weights(backbone, stored(tmp_path, state, **allowed))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_another_depth_and_another_architecture_are_refused(tmp_path: Path) -> None:
    deeper = build_backbone("sfcn", SHAPE, {"channels": [4, 8, 8]}).state_dict()
    with pytest.raises(InputError, match=r"unknown blocks\.2\.0\.weight"):
        load_weights(sfcn(), stored(tmp_path, deeper))
    thick = build_backbone("resnet18", SHAPE, {"width": 4}).state_dict()
    thin = build_backbone("resnet10", SHAPE, {"width": 4})
    with pytest.raises(InputError, match="nothing was loaded"):
        load_weights(thin, stored(tmp_path, thick))


def test_counters_of_norms_may_be_absent(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    old = {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    report = load_weights(sfcn(), stored(tmp_path, old))
    assert set(report.loaded) == set(old)


def test_declared_new_keys_start_at_random(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    part = {key: value for key, value in state.items() if key.startswith("blocks.0")}
    report = load_weights(sfcn(), stored(tmp_path, part, new=(r"blocks\.1\..*",)))
    assert "blocks.1.0.weight" in report.new
    assert report.parameters < report.total
    with pytest.raises(InputError, match=r"missing blocks\.1"):
        load_weights(sfcn(), stored(tmp_path, part, new=("blocks",)))


def test_a_stem_of_three_channels_answers_a_grey_image_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    colour = build_backbone("resnet10", InputShape(3, (32, 32, 32)), {"width": 4}).eval()
    grey = build_backbone("resnet10", SHAPE, {"width": 4}).eval()
    weights = stored(tmp_path, colour.state_dict(), first_layer="conv1.weight")
    report = load_weights(grey, weights)
    assert report.adapted == {"conv1.weight": "3 image channels summed to 1"}
    images = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(grey(images), colour(images.expand(-1, 3, -1, -1, -1)), atol=1e-4)
    with pytest.raises(InputError, match=r"conv1.weight is \[4, 3, 7, 7, 7\]"):
        load_weights(grey, stored(tmp_path, colour.state_dict(), inflate=True))


def test_positions_are_resized_only_from_the_grid_that_the_record_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    small = build_backbone("vit", InputShape(1, (16, 24, 16)), VIT)
    large = build_backbone("vit", SHAPE, VIT)
    state = small.state_dict()
    grid = {"pos_embed": (1, (2, 3, 2))}
    report = load_weights(large, stored(tmp_path, state, positions=grid))
    assert report.adapted == {"pos_embed": "tokens resized from 2×3×2 to 4×4×4"}
    assert torch.equal(large.pos_embed[:, 0], small.pos_embed[:, 0])
    for wrong in ({"pos_embed": (1, (3, 3, 2))}, {"pos_embed": (0, (2, 3, 2))}):
        with pytest.raises(InputError, match="pos_embed is"):
            load_weights(large, stored(tmp_path, state, positions=wrong))


def test_a_weight_folder_carries_its_record(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    own = record(options=OPTIONS, cohorts=("IXI",))
    save_folder(tmp_path / "own", own, state)
    backbone = load_backbone("sfcn", SHAPE, str(tmp_path / "own"), {})
    assert torch.equal(backbone.state_dict()["blocks.1.0.weight"], state["blocks.1.0.weight"])
    found = find_weights("sfcn", str(tmp_path / "own"))
    assert found is not None
    assert found.record == own
    with pytest.raises(InputError, match="holds weights of sfcn, but the recipe's backbone is vit"):
        find_weights("vit", str(tmp_path / "own"))
    (tmp_path / "own" / "record.json").write_text('{"backbone": "sfcn", "licens": "MIT"}')
    with pytest.raises(InputError, match="Did you mean 'licence'"):
        find_weights("sfcn", str(tmp_path / "own"))


def test_options_that_make_another_network_are_refused() -> None:
    needed = record("resnet18", options={"output_stride": 8})
    assert needed.demand_options({"width": 4}) == {"output_stride": 8, "width": 4}
    assert needed.demand_options({"output_stride": 8}) == {"output_stride": 8}
    with pytest.raises(InputError, match="the function would be another"):
        needed.demand_options({"output_stride": 32})
    slices = record("slice-set", options={"encoder": "resnet18"})
    chosen = {"encoder": {"name": "resnet18", "normalise": "imagenet"}}
    assert slices.demand_options(chosen) == chosen
    with pytest.raises(InputError, match="'name': 'cnn'"):
        slices.demand_options({"encoder": {"name": "cnn"}})


def test_missing_and_pickled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not exist"):
        load_weights(sfcn(), WeightSet(tmp_path / "none.safetensors"))
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="Pickled checkpoints are not read"):
        load_weights(sfcn(), WeightSet(tmp_path / "w.pt"))
    with pytest.raises(InputError, match=r"There are no weights 'nothing' of sfcn"):
        find_weights("sfcn", "nothing")
