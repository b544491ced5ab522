"""Every adapter of the registry keeps its promises on whole networks; a new one is tested for free.

`test_adapters.py` goes over geometries of single layers.
"""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from braintune.adapters.adapter import (
    ADAPTERS,
    AdapterLayer,
    adapt,
    adapted_layers,
    attach,
    check_options,
    detach,
    merge,
    set_training,
)
from braintune.adapters.files import base_state, load_adapter, own_state, save_adapter
from braintune.errors import InputError
from braintune.fitting.precision import Precision, find_overhang, keep_exact
from braintune.models.backbone import Backbone, InputShape, build_backbone
from braintune.models.weights.tensors import read_tensors, write_tensors
from models.test_backbones import TINY, close

NAMES = ADAPTERS.names()
BACKBONES = ["resnet10", "sfcn", "slice-set", "vit"]
# What suits tiny networks, by option; options that an adapter does not have are left out.
SMALL = {"rank": 2, "dim": 2}
# Those that draw no random numbers: what they start from follows from the weights alone.
WITHOUT_CHANCE = ["bias", "full", "ia3", "last-k", "lora-pt", "mlp-head", "norm", "olora", "pissa"]
WITHOUT_CHANCE += ["probe", "ssf", "tcurlora"]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
every_network = pytest.mark.parametrize(
    ("name", "backbone"), [(name, backbone) for name in NAMES for backbone in BACKBONES]
)


def options_of(name: str) -> dict[str, Any]:
    fields = ADAPTERS.get(name).options.model_fields
    return {key: value for key, value in SMALL.items() if key in fields}


def plain(backbone: str, seed: int = 0) -> Backbone:
    """A small network in evaluation, whose batch norms have seen something."""
    torch.manual_seed(seed)
    network = build_backbone(backbone, InputShape(1, (32, 32, 32)), TINY[backbone])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval()


def adapted(name: str, backbone: str) -> Backbone:
    """That network, adapted; the test is skipped where the method has nothing to adapt."""
    network = plain(backbone)
    try:
        adapt(network, name, options_of(name))
    except InputError as error:
        pytest.skip(str(error))
    return network


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(seed))


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def loss_of(features: torch.Tensor) -> torch.Tensor:
    """A loss that pulls every feature somewhere else."""
    return (features.float() - targets_of(*features.shape)).square().sum()


def targets_of(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def train(network: nn.Module, steps: int = 5) -> None:
    set_training(network)
    parameters = trained_parameters(network)
    optimiser = torch.optim.Adam(parameters, lr=1e-2) if parameters else None
    for step in range(steps):
        loss = loss_of(network(images(step)))
        if optimiser is not None:
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    network.eval()


def gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    return {k: p.grad for k, p in network.named_parameters() if p.grad is not None}


@torch.no_grad()
def output(network: nn.Module, seed: int = 0) -> torch.Tensor:
    dtype = next(network.parameters()).dtype
    return network.eval()(images(seed).to(dtype))


@pytest.mark.parametrize("name", NAMES)
def test_every_adapter_fits_a_network(name: str) -> None:
    """The tests below skip what a method can't adapt; it must be able to adapt something."""
    fits = []
    for backbone in BACKBONES:
        with torch.device("meta"):
            network = build_backbone(backbone, InputShape(1, (32, 32, 32)), TINY[backbone])
            try:
                adapt(network, name, options_of(name))
            except InputError:
                continue
        assert all(p.is_meta for p in network.parameters())
        fits.append(backbone)
    assert fits


@every_network
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_start_computes_what_the_backbone_computed(
    name: str, backbone: str, dtype: torch.dtype
) -> None:
    if not ADAPTERS.get(name).starts_as_backbone:
        pytest.skip("the method does not promise it")
    network = plain(backbone).to(dtype)
    expected = output(network)
    try:
        adapt(network, name, options_of(name))
    except InputError as error:
        pytest.skip(str(error))
    assert torch.equal(output(network), expected)


@every_network
def test_all_that_trains_moves_and_nothing_else(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    trains = {k for k, p in network.named_parameters() if p.requires_grad}
    may_move = {id(v) for v in own_state(network, check_options(name, options_of(name))).values()}
    state = network.state_dict(keep_vars=True)
    before = {key: value.detach().clone() for key, value in state.items()}
    train(network)
    for key, value in state.items():
        moved = not torch.equal(value, before[key])
        if key in trains:
            assert moved, f"{key} does not train"
        elif not (id(value) in may_move and key.endswith(STATISTICS)):
            assert not moved, f"{key} is frozen but moved"
    assert all(torch.isfinite(value).all() for value in state.values())
    untouched = {k: v for k, v in base_state(network).items() if id(v) not in may_move}
    first = plain(backbone).state_dict()
    assert all(torch.equal(value, first[key]) for key, value in untouched.items())


@every_network
def test_merging_gives_ordinary_layers_and_attaching_undoes_it(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    train(network)
    expected, layers = output(network), adapted_layers(network)
    merge(network)
    assert not [m for m in network.modules() if isinstance(m, AdapterLayer)]
    assert close(output(network), expected)
    attach(network, layers)
    assert torch.equal(output(network), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backbone", ["sfcn", "vit"])
def test_a_merged_network_exports(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    train(network, steps=1)
    merge(network)
    exported = torch.export.export(network, (images(),)).module()
    assert close(exported(images()), output(network))


@every_network
def test_detaching_restores_the_backbone(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    trained_base = [v for v in base_state(network).values() if v.requires_grad]
    train(network)
    layers = detach(network)
    first = plain(backbone)
    assert [type(m) for m in network.modules()] == [type(m) for m in first.modules()]
    assert network.state_dict().keys() == first.state_dict().keys()
    if not trained_base:
        assert torch.equal(output(network), output(first))
    attach(network, layers)
    assert adapted_layers(network).keys() == layers.keys()


@every_network
def test_files_bring_it_back(name: str, backbone: str, tmp_path: Path) -> None:
    network = adapted(name, backbone)
    train(network)
    save_adapter(network, name, options_of(name), tmp_path / "a.safetensors")
    again = plain(backbone)
    load_adapter(again, tmp_path / "a.safetensors")
    assert torch.equal(output(again), output(network))
    if name != "full":
        with pytest.raises(InputError, match="another backbone"):
            load_adapter(plain(backbone, seed=1), tmp_path / "a.safetensors")


@every_network
def test_bfloat16_autocast_gives_finite_gradients(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    expected = output(network)
    keep_exact(network, find_overhang(network, images()))
    with torch.autocast("cpu", torch.bfloat16):
        rough = output(network).float()
    assert nn.functional.cosine_similarity(rough, expected).min() > 0.98
    if not trained_parameters(network):
        return
    set_training(network)
    with torch.autocast("cpu", torch.bfloat16):
        features = network(images())
    loss_of(features).backward()
    found = gradients(network)
    assert found.keys() == {k for k, p in network.named_parameters() if p.requires_grad}
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


@every_network
def test_channels_last_changes_nothing_but_rounding(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    train(network, steps=2)
    expected = output(network)
    layout = Precision("fp32", channels_last=True)
    layout.arrange_kernels(network)
    with torch.no_grad():
        assert close(network(layout.arrange(images())), expected, 1e-4)


@every_network
def test_gradient_checkpointing_gives_the_same_gradients(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    if not trained_parameters(network):
        pytest.skip("nothing trains")
    set_training(network)
    torch.manual_seed(0)
    loss_of(network(images())).backward()
    expected = gradients(network)
    network.zero_grad()
    torch.manual_seed(0)
    loss_of(checkpoint(network, images(), use_reentrant=False)).backward()
    found = gradients(network)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.allclose(value, expected[key], rtol=1e-4, atol=1e-6), key


@every_network
def test_a_copy_is_another_network(name: str, backbone: str) -> None:
    network = adapted(name, backbone)
    twin = copy.deepcopy(network)
    expected = output(network)
    assert torch.equal(output(twin), expected)
    train(twin, steps=1)
    assert torch.equal(output(network), expected)
    tensors = [
        {v.data_ptr() for v in n.state_dict().values() if v.numel()} for n in (network, twin)
    ]
    assert not tensors[0] & tensors[1]


@every_network
def test_chance_is_drawn_for_what_needs_it_alone(name: str, backbone: str) -> None:
    states = []
    for seed in (1, 1, 2):
        network = plain(backbone)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        try:
            adapt(network, name, options_of(name))
        except InputError as error:
            pytest.skip(str(error))
        if name in WITHOUT_CHANCE:
            assert torch.equal(torch.get_rng_state(), before)
        states.append({k: v.detach().clone() for k, v in network.state_dict().items()})
    first, same, other = states
    assert all(torch.equal(first[key], same[key]) for key in first)
    if name in WITHOUT_CHANCE:
        assert all(torch.equal(first[key], other[key]) for key in first)


def take_half(name: str, backbone: str, folder: str, rank: int) -> None:
    """What one of two processes does: the gradients of its scan, averaged over both."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    network = adapted(name, backbone)
    set_training(network)
    shared = DistributedDataParallel(network)
    features = shared(images()[rank : rank + 1])
    (features - targets_of(2, features.shape[1])[rank]).square().sum().backward()
    write_tensors(Path(folder) / f"{rank}.safetensors", gradients(network))
    distributed.destroy_process_group()


@pytest.mark.parametrize(("name", "backbone"), [("lora", "sfcn"), ("hyps", "vit")])
def test_two_processes_find_the_gradients_of_one(name: str, backbone: str, tmp_path: Path) -> None:
    network = adapted(name, backbone)
    set_training(network)
    loss_of(network(images())).backward()
    expected = gradients(network)
    call = "from adapters.test_invariants import take_half; take_half"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"{call}{(name, backbone, str(tmp_path), rank)}"],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (read_tensors(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(first[key], second[key])
        assert close(2 * first[key], value), key
