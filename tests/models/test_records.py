"""Every weight record is sound, and turns the keys of the network that was published into ours.

The published networks are built by libraries that have nothing to do with this one, without
numbers: what is compared is which keys there are, and their shapes.
"""

import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from braintune.extras import make_torchvision_importable
from braintune.models.backbone import BACKBONES, Backbone, InputShape, build_backbone, check_options
from braintune.models.records.hosts import HASH_UNKNOWN, NOT_PINNED
from braintune.models.weights.conversion import STEPS, convert_state
from braintune.models.weights.loading import fit_state
from braintune.models.weights.record import WEIGHTS, WeightRecord

Shapes = dict[str, torch.Tensor]

NAMES = WEIGHTS.names()
# Folds of one network are turned into ours in the same way.
DISTINCT = {repr((r.backbone, r.options, r.conversion)): r.name for r in map(WEIGHTS.get, NAMES)}
_HOSTS_WITH_REVISIONS = ("huggingface.co", "raw.githubusercontent.com", "gitlab.di.unito.it")
# A brain of one channel, which is what the sets are loaded for.
_SCAN = InputShape(1, (64, 96, 64))


def backbone_of(record: WeightRecord, given: InputShape | None = None) -> Backbone:
    """The network of a record, without numbers; by default as it was trained."""
    if record.backbone not in BACKBONES.names():
        pytest.skip(f"{record.backbone} is not registered yet")
    entry = BACKBONES.get(record.backbone)
    trained = InputShape(record.channels, record.prepare.shape or entry.published.shape)
    with torch.device("meta"):
        return build_backbone(record.backbone, given or trained, record.options)


@pytest.mark.parametrize("name", NAMES)
def test_records_say_what_one_must_know(name: str) -> None:
    record = WEIGHTS.get(name)
    assert record.summary
    assert record.cohorts
    assert record.prepare.words
    assert record.licence.strip()
    assert re.search(r"arXiv \d{4}\.\d{5}|doi 10\.", record.citation)
    forbids = re.search("CC-BY-NC|non-commercial", record.licence) is not None
    assert record.non_commercial == forbids


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_pinned_or_say_that_they_are_not(name: str) -> None:
    record = WEIGHTS.get(name)
    source = record.source
    assert source is not None
    assert (source.url is None) == (source.manual is not None)
    assert (source.sha256 is None) == (HASH_UNKNOWN in record.quirks)
    if source.url is None:
        return
    parts = urllib.parse.urlsplit(source.url)
    assert parts.scheme == "https"
    assert re.fullmatch(r"[\w.-]+\.\w+", source.file)
    if parts.hostname in _HOSTS_WITH_REVISIONS:
        assert (source.revision is None) == (NOT_PINNED in record.quirks)
    if source.revision is not None:
        assert re.fullmatch("[0-9a-f]{40}", source.revision)
        assert source.revision in parts.path.split("/")


@pytest.mark.parametrize("name", NAMES)
def test_patterns_and_steps_are_valid(name: str) -> None:
    record = WEIGHTS.get(name)
    for pattern in (*record.conversion.unused, *record.adaptation.new):
        re.compile(pattern)
    for pattern, replacement in record.conversion.rename:
        groups = re.compile(pattern).groups
        assert all(int(n) <= groups for n in re.findall(r"\\(\d)", replacement))
    assert set(record.conversion.steps) <= set(STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_what_may_differ_is_there_in_the_backbone(name: str) -> None:
    record = WEIGHTS.get(name)
    network = backbone_of(record)
    check_options(record.backbone, record.options)
    keys = network.state_dict()
    adaptation = record.adaptation
    assert adaptation.first_layer is not None
    stems = [keys[key] for key in keys if re.fullmatch(adaptation.first_layer, key)]
    assert stems
    assert all(stem.shape[1] == record.channels for stem in stems)
    assert set(adaptation.positions) <= set(network.token_grids)
    for pattern in (*adaptation.new, *filter(None, [adaptation.relative])):
        assert any(re.fullmatch(pattern, key) for key in keys), pattern


def medicalnet(record: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import resnet

    depth = int(record.backbone.removeprefix("resnet"))
    bias, shortcut = resnet.get_medicalnet_pretrained_resnet_args(depth)
    build = getattr(resnet, record.backbone)
    network = build(
        n_input_channels=1, feed_forward=False, shortcut_type=shortcut, bias_downsample=bias
    )
    shapes = {**network.state_dict(), "conv_seg.0.weight": torch.empty(512, 32, 3, 3, 3)}
    return {"state_dict": prefixed("module.", shapes)}


def imagenet(record: WeightRecord) -> dict[str, Any]:
    from torchvision import models

    return dict(models.get_model(record.backbone).state_dict())


def imagenet_densenet(_: WeightRecord) -> dict[str, Any]:
    from torchvision import models

    new = models.densenet121().state_dict()
    old = {re.sub(r"(layer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): new[key] for key in new}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    return old


def imagenet_vit(_: WeightRecord) -> dict[str, Any]:
    from transformers import ViTConfig, ViTModel

    stored = as_stored(ViTModel(ViTConfig()))
    assert "encoder.layer.0.attention.attention.query.weight" in stored
    return stored


def fmcib(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import resnet

    network = resnet.resnet50(
        n_input_channels=1, widen_factor=2, feed_forward=False, bias_downsample=True
    )
    return {"trunk_state_dict": network.state_dict()}


def sfcn(record: WeightRecord) -> dict[str, Any]:
    network = nn.Module()
    network.feature_extractor = nn.Module()
    inputs = 1
    for number, outputs in enumerate(record.options["channels"]):
        convolution = nn.Conv3d(inputs, outputs, 3 if number < 5 else 1)
        block = nn.Sequential(convolution, nn.BatchNorm3d(outputs))
        network.feature_extractor.add_module(f"conv_{number}", block)
        inputs = outputs
    network.classifier = nn.Module()
    network.classifier.conv_6 = nn.Conv3d(inputs, 40, 1)
    return prefixed("module.", network.state_dict())


def anatcl(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import resnet

    encoder = resnet.resnet18(n_input_channels=1, feed_forward=False, bias_downsample=False)
    head = {"head.0.weight": torch.empty(512, 512), "head.0.bias": torch.empty(512)}
    return {"model": {**prefixed("encoder.", encoder.state_dict()), **head}}


def brainiac(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import ViT

    network = ViT(1, (96, 96, 96), (16, 16, 16))
    head = {"projection_head.layers.0.weight": torch.empty(768, 768)}
    return {"state_dict": {**prefixed("backbone.", network.state_dict()), **head}, "epoch": 1}


def brainiac_resnet50(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import resnet

    network = resnet.resnet50(n_input_channels=1, feed_forward=False)
    head = {"projection_head.layers.0.weight": torch.empty(2048, 2048)}
    return {"state_dict": {**prefixed("backbone.", network.state_dict()), **head}}


def swin_encoder(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets.swin_unetr import PatchMerging, SwinTransformer

    with torch.device("cpu"):  # MONAI's can't be built without numbers.
        network = SwinTransformer(
            1, 48, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24), downsample=PatchMerging
        )
    shapes = {
        re.sub(r"mlp\.linear([12])", r"mlp.fc\1", key): value
        for key, value in network.state_dict().items()
    }
    heads = ("rotation_head.bias", "contrastive_head.bias", "convTrans3d.bias", "norm.bias")
    shapes |= {key: torch.empty(4) for key in heads}
    return {"state_dict": prefixed("module.", shapes)}


def swin_unetr(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import SwinUNETR

    with torch.device("cpu"):
        network = SwinUNETR(in_channels=4, out_channels=3, feature_size=48)
    return {"state_dict": network.state_dict(), "epoch": 300}


def segresnet(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import SegResNet

    network = SegResNet(
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
        init_filters=16,
        in_channels=4,
        out_channels=3,
    )
    return dict(network.state_dict())


def unetr(_: WeightRecord) -> dict[str, Any]:
    from monai.networks.nets import UNETR

    network = UNETR(1, 14, (96, 96, 96), proj_type="perceptron")
    # MONAI had an idle class token when the set was published.
    token = {"vit.patch_embedding.cls_token": torch.empty(1, 1, 768)}
    return dict(network.state_dict()) | token


def video(record: WeightRecord) -> dict[str, Any]:
    from torchvision.models import get_model

    names = {
        "r3d18": "r3d_18",
        "mc3-18": "mc3_18",
        "r2plus1d18": "r2plus1d_18",
        "mvit-v2-s": "mvit_v2_s",
        "swin3d-t": "swin3d_t",
    }
    return dict(get_model(names[record.backbone]).state_dict())


def videomae(record: WeightRecord) -> dict[str, Any]:
    from transformers import (
        VideoMAEConfig,
        VideoMAEForPreTraining,
        VideoMAEForVideoClassification,
    )

    if record.tag == "pretrained":
        stored = as_stored(VideoMAEForPreTraining(VideoMAEConfig(use_mean_pooling=False)))
    else:
        stored = as_stored(VideoMAEForVideoClassification(VideoMAEConfig(use_mean_pooling=True)))
    assert "videomae.encoder.layer.0.attention.attention.q_bias" in stored
    return stored


def slice_set_resnet(record: WeightRecord) -> dict[str, Any]:
    from torchvision.models import get_model

    return dict(get_model(record.options["encoder"]).state_dict())


def slice_set_convnext(_: WeightRecord) -> dict[str, Any]:
    """Timm knows the names of the published file and turns them into its own; this is backwards."""
    from timm.models import convnext

    network = convnext.convnext_tiny()
    stem = {"stem.": "downsample_layers.0.", "head.norm.": "norm.", "head.fc.": "head."}
    published = {}
    for key, value in network.state_dict().items():
        old = re.sub(r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        old = re.sub(r"(stages\.\d)\.blocks\.", r"\1.", old)
        old = old.replace("conv_dw.", "dwconv.").replace("mlp.fc", "pwconv")
        for new, before in stem.items():
            old = before + old.removeprefix(new) if old.startswith(new) else old
        published[old] = value
    understood = convnext.checkpoint_filter_fn({"model": published}, network)
    assert set(understood) == set(network.state_dict())
    return {"model": published}


def slice_set_dino(record: WeightRecord) -> dict[str, Any]:
    from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

    generation, size = record.tag.split("-")
    width, heads = (384, 6) if size == "small" else (768, 12)
    sizes = {"hidden_size": width, "num_attention_heads": heads}
    if generation == "dinov2":
        return as_stored(Dinov2Model(Dinov2Config(image_size=518, **sizes)))
    config = DINOv3ViTConfig(intermediate_size=4 * width, num_register_tokens=4, **sizes)
    return as_stored(DINOv3ViTModel(config))


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + key: value for key, value in shapes.items()}


def as_stored(network: Any) -> dict[str, Any]:
    """The keys of transformers' files, which newer versions rename when they load them."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(network, network.state_dict()))


def filled(document: Any) -> Any:
    """Tensors of ones in place of those without numbers."""
    if isinstance(document, dict):
        return {key: filled(value) for key, value in document.items()}
    if isinstance(document, torch.Tensor):
        return torch.ones((), dtype=document.dtype, device="cpu").expand(document.shape)
    return document


PUBLISHED: dict[str, Callable[[WeightRecord], dict[str, Any]]] = {
    "anatcl": anatcl,
    "brainiac": brainiac,
    "brainiac-resnet50": brainiac_resnet50,
    "densenet121.imagenet": imagenet_densenet,
    "fmcib": fmcib,
    "mc3-18": video,
    "mvit-v2-s": video,
    "r2plus1d18": video,
    "r3d18": video,
    "segresnet": segresnet,
    "sfcn": sfcn,
    "slice-set-resnet18": slice_set_resnet,
    "slice-set.imagenet-convnext-tiny": slice_set_convnext,
    "slice-set.imagenet-resnet18": slice_set_resnet,
    "slice-set.imagenet-resnet50": slice_set_resnet,
    **{f"slice-set.dinov{v}-{s}": slice_set_dino for v in (2, 3) for s in ("small", "base")},
    "swin3d-t": video,
    "swinunetr.brats21": swin_unetr,
    "swinunetr.ssl": swin_encoder,
    "unetr.btcv": unetr,
    "videomae": videomae,
    "vit.imagenet": imagenet_vit,
    **{f"resnet{depth}.medicalnet": medicalnet for depth in (10, 18, 34, 50, 101)},
    **{f"resnet{depth}.imagenet": imagenet for depth in (18, 34, 50, 101)},
}


@pytest.mark.parametrize("name", DISTINCT.values())
def test_the_published_networks_keys_become_ours(name: str) -> None:
    make_torchvision_importable()
    record = WEIGHTS.get(name)
    as_trained, for_scans = backbone_of(record), backbone_of(record, _SCAN)
    publish = PUBLISHED.get(name) or PUBLISHED[record.backbone]
    with torch.device("meta"):
        document = publish(record)
    state = convert_state(filled(document), record)
    for network in (as_trained, for_scans):
        fitted, report = fit_state(state, network, record.adaptation, Path(name))
        expected = network.state_dict()
        assert all(value.shape == expected[key].shape for key, value in fitted.items())
        assert set(fitted) | set(report.new) == set(expected)
        assert bool(report.new) == bool(record.adaptation.new)
