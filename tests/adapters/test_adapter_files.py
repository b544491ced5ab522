"""Adapters are saved as what trains, and come back on their own backbone alone."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from braintune.adapters.adapter import ADAPTERS, adapt, attach, detach, merge, set_training
from braintune.adapters.files import load_adapter, own_state, save_adapter, sha256_of_state
from braintune.errors import InputError
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.tensors import read_facts, read_tensors, write_tensors


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.GELU(), nn.Conv3d(4, 6, 2, bias=False)
    )
    network[1].running_mean.normal_()
    return network


def trained(name: str, options: dict[str, Any], network: nn.Module | None = None) -> nn.Module:
    """A network that was adapted and has learnt a little."""
    network = network or small()
    adapt(network, name, options)
    set_training(network)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, lr=0.05) if parameters else None
    for _ in range(3):
        loss = network(torch.randn(2, 1, 6, 6, 6)).square().sum()
        if optimiser is not None:
            loss.backward()
            optimiser.step()
    return network.eval()


def change(path: Path, **tensors: torch.Tensor | None) -> None:
    """Rewrite an adapter's file with other tensors; None takes one away."""
    state = {**read_tensors(path), **tensors}
    write_tensors(path, {k: v for k, v in state.items() if v is not None}, **read_facts(path))


IMAGES = torch.linspace(-1, 1, 2 * 6**3).view(2, 1, 6, 6, 6)
CASES = {
    "lora": {"rank": 2, "alpha": 6},
    "dora": {"rank": 2},
    "pissa": {"rank": 2},
    "olora": {"rank": 2},
    "full": {},
    "probe": {},
}
NORMS = ["frozen", "affine", "recalibrate"]


@pytest.mark.parametrize(
    ("name", "norms"),
    # Under full tuning no statistics rest that could be estimated anew.
    [(n, m) for n in CASES for m in NORMS if (n, m) != ("full", "recalibrate")],
)
def test_a_file_brings_the_network_back(name: str, norms: str, tmp_path: Path) -> None:
    options = {**CASES[name], "norms": norms}
    network = trained(name, options)
    if norms == "recalibrate":
        network[1].running_mean += 1
    save_adapter(network, name, options, tmp_path / "a.safetensors")
    again = small()
    names = load_adapter(again, tmp_path / "a.safetensors")
    assert names == adapt(small(), name, options)
    assert torch.equal(again.eval()(IMAGES), network(IMAGES))
    trains = [{k for k, p in n.named_parameters() if p.requires_grad} for n in (network, again)]
    assert trains[0] == trains[1]
    assert torch.equal(merge(again)(IMAGES), merge(network)(IMAGES))


def test_a_file_holds_what_trains_and_what_it_belongs_to(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = trained("pissa", {"rank": 2, "layers": "0", "norms": "affine"})
    save_adapter(network, "pissa", {"rank": 2, "layers": "0", "norms": "affine"}, path)
    added = {"0.lora_a", "0.lora_b", "0.start_a", "0.start_b"}
    assert read_tensors(path).keys() == added | {"1.weight", "1.bias"}
    facts = read_facts(path)
    assert facts["adapter"] == "pissa"
    assert json.loads(facts["options"])["rank"] == 2
    plain = {k: v for k, v in small().state_dict().items() if k not in {"1.weight", "1.bias"}}
    assert facts["backbone_sha256"] == sha256_of_state(plain)


def test_loading_draws_no_random_numbers_and_decomposes_nothing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    for name in ("lora", "pissa"):
        save_adapter(trained(name, {}), name, {}, path)
        again = small()
        before = torch.get_rng_state()
        load_adapter(again, path)
        assert torch.equal(torch.get_rng_state(), before)
    # The start is the file's, even where this machine would find another.
    network = trained("pissa", {})
    save_adapter(network, "pissa", {}, path)
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: eigh(m + torch.eye(len(m)) * m.norm()))
    load_adapter(again := small(), path)
    assert torch.equal(again.eval()(IMAGES), network(IMAGES))


_ELSEWHERE = """
import sys
from pathlib import Path
import torch
from braintune.adapters.files import load_adapter
from braintune.models.backbone import InputShape, build_backbone
from braintune.models.weights.tensors import read_tensors, write_tensors
folder = Path(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(99)
network = build_backbone("sfcn", InputShape(1, (16, 16, 16)), {"channels": [4, 8]})
network.load_state_dict(read_tensors(folder / "weights.safetensors"))
load_adapter(network, folder / "a.safetensors")
with torch.no_grad():
    output = network.eval()(read_tensors(folder / "x.safetensors")["x"])
write_tensors(folder / "y.safetensors", {"y": output})
"""


def test_a_new_process_gets_the_same_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape, options = InputShape(1, (16, 16, 16)), {"rank": 2, "norms": "affine"}
    network = build_backbone("sfcn", shape, {"channels": [4, 8]})
    write_tensors(tmp_path / "weights.safetensors", network.state_dict())
    adapt(network, "dora", options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.rand_like(parameter)
    x = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        expected = network.eval()(x)
    write_tensors(tmp_path / "x.safetensors", {"x": x})
    save_adapter(network, "dora", options, tmp_path / "a.safetensors")
    subprocess.run([sys.executable, "-c", _ELSEWHERE, str(tmp_path)], check=True)
    assert torch.equal(read_tensors(tmp_path / "y.safetensors")["y"], expected)


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(trained("lora", {}), "lora", {}, path)
    statistics, retyped = small(), small().double()
    statistics[1].running_var += 1e-6
    bigger = nn.Sequential(*small(), nn.Linear(2, 2))
    for other in (small(1), statistics, retyped, bigger):
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(InputError, match="another backbone, nothing was loaded: to Sequential"):
            load_adapter(other, path)
        assert other.state_dict().keys() == before.keys()
        assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


@pytest.mark.parametrize(
    ("fault", "tensors"),
    [
        ("missing 0.lora_b", {"0.lora_b": None}),
        ("unknown 0.lora_c", {"0.lora_c": torch.zeros(1)}),
        (r"3.lora_a is \[1, 32\] float32 instead of \[4, 32\]", {"3.lora_a": torch.zeros(1, 32)}),
        ("3.lora_a is .* float64 instead", {"3.lora_a": torch.zeros(4, 32).double()}),
        ("0.lora_a holds NaN", {"0.lora_a": torch.full((4, 27), torch.nan)}),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    fault: str, tensors: dict[str, torch.Tensor | None], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(trained("lora", {}), "lora", {}, path)
    change(path, **tensors)
    network = small()
    with pytest.raises(InputError, match=f"nothing was loaded: {fault}"):
        load_adapter(network, path)
    assert [type(m) for m in network] == [type(m) for m in small()]
    assert all(p.requires_grad for p in network.parameters())


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"adapter file .* does not exist"):
        load_adapter(small(), path)
    write_tensors(path, small().state_dict())
    with pytest.raises(InputError, match="is no adapter file"):
        load_adapter(small(), path)
    network = trained("lora", {"rank": 2})
    with pytest.raises(InputError, match=r"0.lora_a is \[2, 27\] float32 instead of \[3, 27\]"):
        save_adapter(network, "lora", {"rank": 3}, path)
    save_adapter(network, "lora", {"rank": 2}, path)
    with pytest.raises(InputError, match="has an adapter already"):
        load_adapter(network, path)
    with pytest.raises(InputError, match="missing 0.lora_a.*Save before 'merge'"):
        save_adapter(merge(network), "lora", {"rank": 2}, path)


def test_adapters_take_turns_on_one_backbone(tmp_path: Path) -> None:
    files, outputs = {}, {}
    for seed, name in enumerate(("lora", "dora", "pissa")):
        torch.manual_seed(seed)
        network = trained(name, {})
        files[name], outputs[name] = tmp_path / f"{name}.safetensors", network(IMAGES)
        save_adapter(network, name, {}, files[name])
    backbone, layers = small().eval(), {}
    plain = backbone(IMAGES)
    for name, path in files.items():
        load_adapter(backbone, path)
        layers[name] = detach(backbone)
    assert torch.equal(backbone(IMAGES), plain)
    for name in ("dora", "lora", "pissa", "dora"):
        attach(backbone, layers[name])
        assert torch.equal(backbone(IMAGES), outputs[name])
        detach(backbone)


def test_what_the_weights_lacked_is_saved_too(tmp_path: Path) -> None:
    """New layers train with the head, though the adapter would freeze them."""
    path, network = tmp_path / "a.safetensors", small()
    adapt(network, "lora", {"layers": "3"})
    network[0].bias.requires_grad_(True)
    with torch.no_grad():
        network[0].bias += 1
    save_adapter(network, "lora", {"layers": "3"}, path)
    load_adapter(again := small(), path)
    assert torch.equal(again.eval()(IMAGES), network.eval()(IMAGES))
    assert again[0].bias.requires_grad


def test_shared_layers_are_saved_once(tmp_path: Path) -> None:
    def shared() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.Linear(3, 3)
        return nn.ModuleDict({"first": layer, "norm": nn.LayerNorm(3), "second": layer})

    network, path = shared(), tmp_path / "a.safetensors"
    adapt(network, "full")
    with torch.no_grad():
        network["first"].weight += 1
    save_adapter(network, "full", {}, path)
    assert read_tensors(path).keys() == {"first.weight", "first.bias", "norm.weight", "norm.bias"}
    load_adapter(again := shared(), path)
    assert again["second"].weight is again["first"].weight
    assert torch.equal(again["second"].weight, network["first"].weight)


def test_the_papers_adapter_is_a_file_of_2_4_mb() -> None:
    with torch.device("meta"):
        network = build_backbone("fmcib", InputShape(1, (50, 50, 50)), {})
        adapt(network, "lora", {"rank": 2})
    state = own_state(network, ADAPTERS.get("lora").options())
    assert sum(value.nbytes for value in state.values()) == 4 * 589_742 == 2_358_968
