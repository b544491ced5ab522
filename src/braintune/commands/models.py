"""``braintune models``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braintune.commands.options import AsJson, print_json, print_line

if TYPE_CHECKING:
    from braintune.models.weights.record import WeightRecord

app = typer.Typer(help="Backbones and their weights.", no_args_is_help=True)

RecordName = Annotated[str, typer.Argument(help="The weights, such as resnet18.medicalnet.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the backbones and the weights that there are of them.

    Example: braintune models list
    """
    from braintune.models.weights.record import WEIGHTS
    from braintune.reporting.registry_text import as_table, backbone_documents
    from braintune.reporting.weights_text import record_row

    documents = backbone_documents()
    if as_json:
        print_json(documents)
        return
    print_line(as_table(documents, ["name", "family", "parameters", "weights", "summary"]))
    rows = [record_row(WEIGHTS.get(name)) for name in WEIGHTS.names()]
    print_line("\nWeights: 'braintune models show NAME' tells all about one.\n")
    print_line(as_table(rows, ["name", "MB", "licence", "fetched"]))


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A backbone, or weights: resnet18.medicalnet.")],
    as_json: AsJson = False,
) -> None:
    """Explain a backbone and its options, or weights and how a recipe takes them.

    Example: braintune models show resnet18
    """
    if "." in name:
        _show_record(name, as_json)
    else:
        _show_backbone(name, as_json)


def _show_backbone(name: str, as_json: bool) -> None:
    from braintune.models.weights.record import records_of
    from braintune.reporting.registry_text import as_list, as_table, backbone_document
    from braintune.reporting.weights_text import record_row

    document = backbone_document(name)
    if as_json:
        print_json(document)
        return
    print_line(as_list({key: value for key, value in document.items() if key != "records"}))
    if rows := [record_row(record) for record in records_of(name)]:
        print_line("\n" + as_table(rows, ["name", "MB", "licence", "fetched", "summary"]))


def _show_record(name: str, as_json: bool) -> None:
    from braintune.reporting.registry_text import as_list
    from braintune.reporting.weights_text import recipe_lines, record_document, record_facts

    record = _record(name)
    if as_json:
        print_json(record_document(record))
        return
    print_line(as_list(record_facts(record)))
    print_line(f"\nIn a recipe, with the preparation that they expect:\n\n{recipe_lines(record)}")


@app.command("fetch")
def fetch_weights(
    name: RecordName,
    offline: Annotated[
        bool, typer.Option("--offline", help="Open no connection; as BRAINTUNE_OFFLINE=1.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download weights, check them, and convert them for recipes; once, and kept in the cache.

    Example: braintune models fetch resnet18.medicalnet
    """
    from braintune.models.weights.fetching import fetch

    record = _record(name)
    _tell(record, fetch(record, offline=offline), as_json)


@app.command("convert")
def convert_weights(
    name: RecordName,
    file: Annotated[Path, typer.Argument(help="The file as its publisher gives it.")],
    out: Annotated[
        Path | None, typer.Option(help="A .safetensors file; by default where recipes find it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a downloaded file of weights for recipes; code in it is never run.

    Example: braintune models convert resnet18.medicalnet resnet_18_23dataset.pth
    """
    from braintune.errors import InputError
    from braintune.models.weights.conversion import convert
    from braintune.models.weights.places import file_of

    record = _record(name)
    if out is not None and out.suffix != ".safetensors":
        raise InputError(f"--out {out} must end with .safetensors, by which recipes know it.")
    _tell(record, convert(file, record, out or file_of(record)), as_json)


def _record(name: str) -> "WeightRecord":
    """The weights of a full name, such as ``resnet18.medicalnet``."""
    from braintune.errors import InputError, listing
    from braintune.models.weights.record import WEIGHTS, records_of

    if "." not in name and (records := records_of(name)):
        tagged = listing((record.name for record in records), limit=20)
        raise InputError(f"{name} is a backbone. Name one of its weights: {tagged}.")
    return WEIGHTS.get(name)


def _tell(record: "WeightRecord", path: Path, as_json: bool) -> None:
    """Say where weights are, what their licence asks, and how a recipe takes them."""
    from braintune.console import say
    from braintune.models.weights.places import file_of
    from braintune.reporting.weights_text import licence_text

    say(f"Licence of {record.name}: {licence_text(record)}. Cite {record.citation}.")
    if as_json:
        facts = {"licence": record.licence, "non_commercial": record.non_commercial}
        print_json({"name": record.name, "path": str(path), **facts})
        return
    weights = record.tag if path == file_of(record) else path
    print_line(f"{record.name} is in {path}.")
    print_line(f"In a recipe: 'backbone: {{name: {record.backbone}, weights: {weights}}}'.")
