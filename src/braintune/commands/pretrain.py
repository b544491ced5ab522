"""``braintune pretrain``."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    ExcludeBroken,
    Overrides,
    Workers,
    print_json,
    print_line,
)

NAME = "pretrain"
HELP = """Pre-train a backbone on real or generated scans; recipes take the folder as weights.

Everything is checked before anything is written. After an interruption, the same command goes on
and ends with the same weights.

Example: braintune pretrain recipes/pretrain-masked.yaml --out weights/masked
--set sources.made.maps=segmentations
"""


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe of pre-training, a YAML file.")],
    out: Annotated[Path, typer.Option(help="The weight folder.")],
    overrides: Overrides = None,
    exclude_broken: ExcludeBroken = False,
    workers: Workers = None,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    generate_on_gpu: Annotated[
        bool, typer.Option(help="Make scans on the GPU instead of in processes.")
    ] = False,
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Pre-train a backbone."""
    from braintune.fitting.pretraining.pretrain import PretrainExecution, pretrain
    from braintune.pretraining_recipe import PretrainRecipe

    execution = PretrainExecution(
        accelerator=accelerator,
        workers=workers,
        generate_on_gpu=generate_on_gpu,
        checkpoint_every=checkpoint_every,
        exclude_broken=exclude_broken,
    )
    folder = pretrain(PretrainRecipe.read(recipe, overrides), out, execution)
    document = folder.document()
    if as_json:
        print_json(document)
        return
    print_line(folder.record.summary + ".")
    for name, score in document["probe"].items():
        print_line(f"{name.replace('_', ' ')}: {score:.3g}")
    print_line(
        f"Take it in a recipe: 'backbone: {{name: {folder.record.backbone}, weights: {out}}}'."
    )
