"""`braintune audit` prints the parameter counts of the papers, exactly where they are exact."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

AGE = {"kind": "regression", "target": "age", "head": {"kind": "mlp", "hidden": 64}}
SLICES = {"spacing": 2.0, "shape": [91, 109, 91]}
SLICE_SET = {"name": "slice-set"}


@pytest.fixture
def audit(tmp_path: Path, braintune):
    def run(backbone: dict[str, Any], **sections: Any) -> dict[str, Any]:
        task = {"kind": "classification", "target": "dx", "classes": 2}
        values = {"task": task, "backbone": backbone, **sections}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        outcome = braintune("audit", path, "--json")
        assert outcome.status == 0, outcome.err
        return json.loads(outcome.out)

    return run


@pytest.mark.parametrize(
    ("backbone", "count"),
    [
        ("fmcib", 184_477_824),
        ("swinunetr", 62_186_708),
        ("slice-set", 998_625),
        ("slice-cnn3d", 2_948_801),
        ("slice-lstm", 1_070_403),
    ],
)
def test_published_forms(audit, backbone: str, count: int) -> None:
    shape = {"slice": [91, 109, 91], "swinu": [64, 64, 64]}.get(backbone[:5], [80, 96, 80])
    assert audit({"name": backbone}, prepare={"shape": shape})["published_backbone"] == count


@pytest.mark.parametrize(("edge", "millions"), [(80, 88.30), (96, 88.37), (128, 88.60)])
def test_vit_at_the_papers_sizes(audit, edge: int, millions: float) -> None:
    document = audit({"name": "vit"}, prepare={"shape": [edge] * 3})
    assert round(document["parts"]["backbone"] / 1e6, 2) == millions


@pytest.mark.parametrize("name", ["nit", "nit-many-heads"])
def test_nit(audit, name: str) -> None:
    document = audit({"name": name}, prepare={"shape": [64] * 3})
    assert round(document["total"] / 1e6, 2) == 1.80


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"aggregate": "mean"}, 998_625),
        ({"aggregate": "max"}, 998_625),
        ({"aggregate": "attention"}, 1_001_889),
        ({"positions": "learned", "plane": "sagittal"}, 998_625 + 17_472),
        ({"positions": "learned", "plane": "coronal"}, 998_625 + 20_928),
        ({"positions": "learned", "aggregate": "attention"}, 1_001_889 + 17_472),
    ],
)
def test_slice_set_networks(audit, options: dict[str, Any], count: int) -> None:
    document = audit(SLICE_SET | options, task=AGE, prepare=SLICES)
    assert document["total"] == count


def test_the_lstm_and_resnet_slice_networks(audit) -> None:
    lstm = audit({"name": "slice-lstm"}, task=AGE, prepare=SLICES)
    assert lstm["total"] == 1_070_403
    resnet = audit({"name": "slice-set-resnet18"}, task=AGE, prepare=SLICES)
    assert round(resnet["total"] / 1e6, 3) == 11.195


def test_the_first_papers_recipe(audit) -> None:
    task = {"kind": "classification", "target": "dx", "classes": 2}
    document = audit(
        {"name": "fmcib", "weights": "none"},
        task={**task, "head": {"kind": "mlp", "hidden": 256}},
        adapter={"name": "lora", "rank": 2},
    )
    assert document["trainable"] == 1_639_088
    assert document["parts"] == {"backbone": 184_477_824, "adapter": 589_742, "head": 1_049_346}
