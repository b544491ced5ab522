"""`braintune adapters` lists what there is, and explains each option of each adapter."""

import json

from braintune.adapters.adapter import ADAPTERS
from braintune.reporting.options_text import option_rows
from conftest import Command


def test_adapters_are_listed(braintune: Command) -> None:
    documents = json.loads(braintune("adapters", "--json").out)
    assert [d["name"] for d in documents] == ADAPTERS.names()
    for document in documents:
        assert document["cost"], document["name"]
        assert document["options"]["norms"] == "frozen", document["name"]
        assert isinstance(document["starts_as_backbone"], bool)
    text = braintune("adapters").out
    assert all(name in text for name in ADAPTERS.names())
    for word in ("cost", "paper", "Conv1d", "2106.09685"):
        assert word in text


def test_one_adapter_is_explained(braintune: Command) -> None:
    text = braintune("adapters", "lora").out
    for word in (
        "α/r",
        "standard | rslora",
        "whole number > 0",
        "regular expression",
        "2106.09685",
    ):
        assert word in text
    document = json.loads(braintune("adapters", "pissa", "--json").out)
    assert document["options"]["start"] == "principal"
    explained = {row["option"]: row for row in document["explained_options"]}
    assert explained.keys() == document["options"].keys()
    assert explained["start"]["default"] == "principal"
    assert explained["rank"]["takes"] == "whole number > 0"
    assert explained["kinds"]["takes"] == "list of linear | convolution | transposed or nothing"
    outcome = braintune("adapters", "lor")
    assert outcome.status == 2
    assert "Did you mean 'lora'?" in outcome.err


def test_every_option_has_a_meaning() -> None:
    for name in ADAPTERS.names():
        for row in option_rows(ADAPTERS.get(name).options):
            assert row["meaning"].endswith("."), (name, row["option"])
