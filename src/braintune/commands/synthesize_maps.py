"""``braintune synthesize maps``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, Workers, print_json, print_line


def maps(
    label_maps: Annotated[
        list[Path], typer.Argument(metavar="MAPS...", help="Label maps, or folders of them.")
    ],
    out: Annotated[Path, typer.Argument(help="A new folder, or one to go on in.")],
    count: Annotated[int, typer.Option(help="How many scans.")] = 100,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change an option, such as contrast=any. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same scans.")] = 0,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Make scans from label maps: a BIDS cohort with planted, recorded traits and volumes.

    After an interruption, the same command goes on; a larger --count adds scans.

    Example: braintune synthesize maps segmentations scans --count 500 --set brain=head
    """
    from typing import Any

    from braintune.recipe import override
    from braintune.registry import parse
    from braintune.synthesis.labelmaps.cohort import write_cohort
    from braintune.synthesis.labelmaps.options import GeneratorOptions

    values: dict[str, Any] = {"seed": seed, "maps": [str(path) for path in label_maps]}
    for change in changes or []:
        override(values, change)
    rows = write_cohort(out, parse(GeneratorOptions, values, ""), count, workers)
    if as_json:
        print_json({"out": str(out), "scans": len(rows), "columns": list(rows.columns)})
    else:
        print_line(
            f"{len(rows)} scans in {out}. What is known of them: {out / 'participants.tsv'}."
        )
