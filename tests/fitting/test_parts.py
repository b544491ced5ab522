import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from braintune.errors import InputError
from braintune.fitting.averaging import MovingAverage
from braintune.fitting.batches import (
    derive_seed,
    epoch_rows,
    steps_per_epoch,
    stratum_weights,
)
from braintune.fitting.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_moving_state,
    moving_state,
    save_checkpoint,
)
from braintune.fitting.inference import swapped
from braintune.fitting.network import audit_recipe
from braintune.fitting.optimiser import make_optimiser
from braintune.fitting.schedule import lr_factor
from braintune.fitting.typicality import Typicality, learn_typicality
from braintune.recipe import AdapterRecipe, TrainRecipe
from conftest import tiny_recipe


@given(
    total=st.integers(2, 500),
    warmup=st.floats(0, 0.9),
    schedule=st.sampled_from(["cosine", "constant", "polynomial"]),
)
def test_learning_rates_rise_then_never_rise_again(
    total: int, warmup: float, schedule: str
) -> None:
    factors = [lr_factor(step, total, warmup, schedule) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)
    assert max(factors) == pytest.approx(1, abs=0.02) or total < 5
    top = int(np.argmax(factors))
    assert (np.diff(factors[: top + 1]) >= 0).all()
    assert (np.diff(factors[top:]) <= 1e-12).all()


@given(count=st.integers(1, 50), seed=st.integers(0, 100))
def test_an_epoch_shows_every_scan_once(count: int, seed: int) -> None:
    rows = np.arange(count) * 3
    order = epoch_rows(rows, np.zeros(count, int), balanced=False, seed=seed)
    assert sorted(order) == rows.tolist()


def test_a_balanced_epoch_shows_classes_equally_often() -> None:
    rows, strata = np.arange(1000), np.repeat([0, 2], [900, 100])
    drawn = epoch_rows(rows, strata, balanced=True, seed=0)
    assert 0.45 < (drawn >= 900).mean() < 0.55
    assert len(drawn) == 1000


def test_weights_make_classes_equally_heavy() -> None:
    strata = np.repeat([0, 2], [90, 10])
    weights = stratum_weights(strata)
    assert weights[strata].mean() == pytest.approx(1)
    assert weights[strata][:90].sum() == pytest.approx(weights[strata][90:].sum())
    assert weights[1] == 0


def test_batches_are_whole_unless_there_are_too_few_scans() -> None:
    assert steps_per_epoch(17, 8) == 2
    assert steps_per_epoch(5, 8) == 1


def test_seeds_depend_on_every_part() -> None:
    seeds = {derive_seed(*parts) for parts in [(0, 1), (1, 0), (0, "1", 0), (0,), ("start", 0)]}
    assert len(seeds) == 5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2, 1))


def test_decay_spares_norms_and_biases_and_frozen_parameters() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    decayed, free = make_optimiser(net, TrainRecipe(weight_decay=0.1)).param_groups
    assert [p.shape for p in decayed["params"]] == [net[3].weight.shape]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0)
    assert len(free["params"]) == 4


def test_the_average_follows_the_network() -> None:
    net = network()
    average = MovingAverage(net, 0.9)
    start = average.state["0.weight"].clone()
    with torch.no_grad():
        net[0].weight += 1
    for _ in range(200):
        average.after_step(net)
    assert torch.allclose(average.state["0.weight"], start + 1, atol=1e-3)
    expected = copy.deepcopy(net.state_dict())
    with swapped(net, average.state):
        assert torch.equal(net[0].weight, average.state["0.weight"])
    assert all(torch.equal(v, expected[k]) for k, v in net.state_dict().items())


def test_checkpoints_keep_what_moves_and_read_back(tmp_path: Path) -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    saved = Checkpoint(step=3, trained=moving_state(net), history=[{"epoch": 1.0}])
    assert "0.weight" not in saved.trained
    assert "1.running_mean" in saved.trained
    save_checkpoint(tmp_path / "c.pt", saved)
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert loaded is not None
    assert (loaded.step, loaded.history) == (3, [{"epoch": 1.0}])
    assert all(torch.equal(v, saved.trained[k]) for k, v in loaded.trained.items())
    assert load_checkpoint(tmp_path / "none.pt") is None
    with pytest.raises(InputError, match="of another network"):
        load_moving_state(nn.Linear(1, 1), loaded.trained)


class Evil:
    def __reduce__(self):
        return (Path("pwned").touch, ())


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps(Evil())])
def test_checkpoints_run_no_code(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.pt").write_bytes(content)
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(Path("c.pt"))
    torch.save({"step": Evil()}, "d.pt")
    with pytest.raises(InputError, match="is no checkpoint"):
        load_checkpoint(Path("d.pt"))
    assert not Path("pwned").exists()


def test_the_audit_counts_the_paper_head_and_the_parts() -> None:
    recipe = tiny_recipe(
        task={"kind": "classification", "target": "dx", "classes": 2, "head": {"kind": "mlp"}},
        backbone={"name": "resnet50", "width": 4},
        adapter={"name": "lora", "rank": 2},
    )
    counts = audit_recipe(recipe).parameters
    assert counts.parts["head"] == 128 * 256 + 256 + 256 * 2 + 2
    assert counts.trainable_parts["backbone"] == 0
    assert counts.trainable == counts.parts["adapter"] + counts.parts["head"]
    memory = audit_recipe(recipe).memory
    assert memory["parameters"] == 4 * counts.total
    assert memory["gradients_and_optimiser"] == 12 * counts.trainable
    assert memory["activations"] > 0
    # Adapted layers put out as much as their bases, whether they call them or not.
    whole = recipe.model_copy(update={"adapter": AdapterRecipe(name="full")})
    assert memory["activations"] == audit_recipe(whole).memory["activations"]


def test_typical_scans_are_told_from_others() -> None:
    random = np.random.default_rng(0)
    base = np.zeros((1, 20, 24, 20), dtype=np.float32)
    base[:, 4:16, 4:18, 6:16] = random.normal(0, 1, (1, 12, 14, 10))
    scans = [(base + random.normal(0, 0.3, base.shape)).astype(np.float16) for _ in range(30)]
    volumes = random.normal(1200, 80, 30)
    typicality = learn_typicality(scans, volumes)
    assert all(typicality.objections(s, v) == [] for s, v in zip(scans, volumes, strict=True))
    again = Typicality.restore(typicality.state())
    new = (base + random.normal(0, 0.3, base.shape)).astype(np.float16)
    assert again.objections(new, 1250) == []
    assert "looks unlike" in again.objections(new[:, :, :, ::-1].copy(), 1250)[0]
    assert "looks unlike" in again.objections(-new, 1250)[0]
    assert "looks unlike" in again.objections(np.zeros_like(new), 1250)[0]
    assert "brain volume 300 mL is outside" in again.objections(new, 300)[0]
