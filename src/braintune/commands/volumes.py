"""``braintune volumes``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Filters, Workers, print_json, print_line

NAME = "volumes"
HELP = """Measure label maps: mm³ by structure and side, head size taken out, and what looks wrong.

Takes label maps of any tool: a BIDS derivative, files, quoted patterns, or a table of paths. A map
that can't be measured is listed, and the command exits with 2.

Example: braintune volumes derivatives/seg --cohort bids --icv labels:all --out volumes
"""


def run(
    labelmaps: Annotated[
        list[str], typer.Argument(help="Folders, files, quoted patterns, or tables of paths.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    cohort: Annotated[
        Path | None, typer.Option(help="Who they are: BIDS dataset, or table with participant_id.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Table of labels: index, name, and if needed structure, side."),
    ] = None,
    normalise: Annotated[
        str, typer.Option(help="Take head size out: none, proportion or residual.")
    ] = "none",
    icv: Annotated[
        str | None,
        typer.Option(
            help="Intracranial volume: column:NAME, mask:FOLDER, labels:1,2 or labels:all."
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Rows that residuals are fitted on, such as dx=CN.")
    ] = None,
    partial_volume: Annotated[
        bool, typer.Option("--partial-volume", help="Measure by probability maps.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Cohort of the scans, for pictures of what was flagged.")
    ] = None,
    filters: Filters = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Measure label maps."""
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.reporting.volumes_report import write_volumes_report
    from braintune.reporting.volumes_text import volumes_document, volumes_text
    from braintune.volumetry.derivative import measure_into
    from braintune.volumetry.finding import find_label_maps
    from braintune.volumetry.intracranial import IntracranialSource
    from braintune.volumetry.volumes import VolumesRequest, parse_reference

    request = VolumesRequest(
        labels=labels,
        cohort=cohort,
        normalise=normalise,
        icv=IntracranialSource.parse(icv) if icv else None,
        reference=parse_reference(reference) if reference else None,
        partial_volume=partial_volume,
        workers=workers,
    )
    maps = find_label_maps(labelmaps, parse_filters(filters or []))
    pictured = read_cohort(images) if images else None
    volumes = measure_into(maps, request, out, pictured)
    write_volumes_report(out)
    if as_json:
        print_json(volumes_document(volumes, out))
    else:
        print_line(volumes_text(volumes, out))
    if volumes.failed:
        raise typer.Exit(2)
