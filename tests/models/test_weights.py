import pickle
from pathlib import Path

import pytest
import torch

from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights import load_backbone, load_weights, write_tensors

SHAPE = InputShape(1, (32, 32, 32))
OPTIONS = {"channels": [4, 8]}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return build_backbone("sfcn", SHAPE, OPTIONS).state_dict()


def test_weights_load_whole(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    write_tensors(tmp_path / "w.safetensors", state)
    backbone = load_backbone("sfcn", SHAPE, str(tmp_path / "w.safetensors"), OPTIONS)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    report = load_weights(backbone, tmp_path / "w.safetensors")
    assert (report.loaded, report.parameters) == (
        len(state),
        sum(v.numel() for v in state.values()),
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("blocks.0.0.weight"), "missing blocks.0.0.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"blocks.0.0.bias": torch.zeros(5)}), r"is \[5\] instead of \[4\]"),
        (lambda s: s["blocks.0.0.bias"].fill_(torch.nan), "holds NaN"),
    ],
)
def test_any_misfit_loads_nothing(
    tmp_path: Path, state: dict[str, torch.Tensor], spoil, message: str
) -> None:
    backbone = build_backbone("sfcn", SHAPE, OPTIONS)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    spoil(state)
    write_tensors(tmp_path / "w.safetensors", state)
    with pytest.raises(InputError, match=message):
        load_weights(backbone, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_missing_and_pickled_files_are_refused(tmp_path: Path) -> None:
    backbone = build_backbone("sfcn", SHAPE, OPTIONS)
    with pytest.raises(InputError, match="do not exist"):
        load_weights(backbone, tmp_path / "none.safetensors")
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match="Pickled checkpoints are not read"):
        load_weights(backbone, tmp_path / "w.pt")
