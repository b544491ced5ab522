"""``braintune simulate``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import AsJson, print_json, print_line

NAME = "simulate"
HELP = """Write a simulated BIDS cohort with known effects.

Warped MNI152 brains: ventricles and sulci widen and cortex thins with age, hippocampi shrink with
disease, head size goes with sex; sites differ in contrast, noise, bias field and resolution.

Example: braintune simulate cohort --subjects 100
"""


def run(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    subjects: Annotated[int, typer.Option(help="How many people.")] = 100,
    sessions: Annotated[int, typer.Option(help="Scans of each, years apart.")] = 1,
    sites: Annotated[int, typer.Option(help="Scanners.")] = 3,
    spacing: Annotated[int, typer.Option(help="Voxel size in mm.")] = 2,
    effect: Annotated[float, typer.Option(help="Size of all effects; 0 plants nothing.")] = 1.0,
    site_bias: Annotated[
        float, typer.Option(help="Share of subjects whose site follows their diagnosis.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same cohort.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Simulate a cohort."""
    from braintune.registry import parse
    from braintune.synthesis.population import SimulationRecipe
    from braintune.synthesis.simulate import simulate

    values = {
        "subjects": subjects,
        "sessions": sessions,
        "sites": sites,
        "spacing": spacing,
        "effect": effect,
        "site_bias": site_bias,
        "seed": seed,
    }
    truth = simulate(out, parse(SimulationRecipe, values, "simulate"))
    if as_json:
        print_json({"out": str(out), "scans": len(truth), **values})
    else:
        print_line(f"{len(truth)} scans in {out}. What was planted is in {out / 'truth.tsv'}.")
