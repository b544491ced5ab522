"""``braintune synthesize train``, ``sample``, ``report`` and ``convert``: latent diffusion."""

from pathlib import Path
from typing import Annotated

import typer

from braintune.commands.options import (
    AsJson,
    CohortPath,
    Excluded,
    Filters,
    Overrides,
    Workers,
    print_json,
    print_line,
)

Accelerator = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Unit = Annotated[float | None, typer.Option(help="What all samples share, in [0, 1].")]


def train(
    cohort: CohortPath,
    out: Annotated[Path, typer.Argument(help="The model's folder.")],
    preset: Annotated[str, typer.Option(help="tiny, small or brain-ldm.")] = "small",
    overrides: Overrides = None,
    table: Annotated[
        Path | None,
        typer.Option(help="A table with more columns, such as the volumes of each subject."),
    ] = None,
    filters: Filters = None,
    exclude: Excluded = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the prepared store; by default in the cache.")
    ] = None,
    workers: Workers = None,
    accelerator: Accelerator = "auto",
    checkpoint_every: Annotated[float, typer.Option(help="Seconds between checkpoints.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Train a latent diffusion model of a cohort's scans.

    An autoencoder, then a denoiser of its latents, conditioned on columns of the cohort that are
    scaled to [0, 1]. After an interruption, the same command goes on and ends with the same
    weights.

    Example: braintune synthesize train cohort model --table cohort/truth.tsv
    """
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.synthesis.diffusion.data import with_columns
    from braintune.synthesis.diffusion.recipe import DiffusionRecipe
    from braintune.synthesis.diffusion.train import Execution
    from braintune.synthesis.diffusion.train import train as train_model

    recipe = DiffusionRecipe.read(preset, overrides)
    scans = parse(ScansRecipe, {**parse_filters(filters or [])}, "scans")
    subjects = read_cohort(cohort, scans).exclude(exclude or [], "excluded by --exclude")
    if table is not None:
        subjects = with_columns(subjects, table)
    execution = Execution(
        accelerator=accelerator, store=store, workers=workers, checkpoint_every=checkpoint_every
    )
    record = train_model(subjects, out, recipe, execution)
    facts = {"out": str(out), "scans": record.trained_on, "measured": record.measured}
    if as_json:
        print_json({**facts, "conditions": [c.model_dump() for c in record.conditions]})
    else:
        print_line(f"{out} learnt from {record.trained_on} scans. {record.measured}")
        print_line(f"Sample from it: 'braintune synthesize sample {out} samples --count 10'.")


def sample(
    model: Annotated[Path, typer.Argument(help="A model's folder.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the cohort.")],
    count: Annotated[int, typer.Option(help="How many scans.")] = 10,
    overrides: Overrides = None,
    age: Unit = None,
    sex: Unit = None,
    ventricles: Unit = None,
    brain: Unit = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="Another condition of the model, such as icv=0.3. Repeatable."),
    ] = None,
    accelerator: Accelerator = "auto",
    as_json: AsJson = False,
) -> None:
    """Sample scans from a latent diffusion model, as a BIDS cohort with labels.

    Conditions that are not given are drawn as they were together in the training cohort. --set
    changes steps, guidance, batch_size and seed. After an interruption, the same command goes on.

    Example: braintune synthesize sample model samples --count 100 --age 0.7 --set guidance=2
    """
    from braintune.cohort.read import parse_filters
    from braintune.errors import InputError
    from braintune.recipe import override
    from braintune.registry import parse
    from braintune.synthesis.diffusion.sample import SampleRecipe
    from braintune.synthesis.diffusion.sample import sample as sample_scans
    from braintune.synthesis.diffusion.train import choose_device

    values: dict[str, object] = {"count": count}
    for change in overrides or []:
        override(values, change)
    named = {"age": age, "sex": sex, "ventricles": ventricles, "brain": brain}
    fixed = {name: value for name, value in named.items() if value is not None}
    for name, text in parse_filters(condition or []).items():
        try:
            fixed[name] = float(text)
        except ValueError:
            raise InputError(f"--condition {name}={text} must be a number in [0, 1].") from None
    if fixed:
        values["conditions"] = fixed
    recipe = parse(SampleRecipe, values, "")
    made = sample_scans(model, out, recipe, choose_device(accelerator))
    if as_json:
        print_json({"out": str(out), "scans": len(made.table), "made": made.made})
    else:
        print_line(f"{len(made.table)} scans in {out}, {made.made} of them new.")
        print_line(f"See how good they are: 'braintune synthesize report {out} --against COHORT'.")


def report(
    samples: Annotated[Path, typer.Argument(help="A cohort of samples.")],
    against: Annotated[
        Path, typer.Option(help="Real scans: those that were trained on, and others.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report; by default within the samples'.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="A table with more columns of the real scans.")
    ] = None,
    backbone: Annotated[str, typer.Option(help="Whose features are compared.")] = "resnet10",
    weights: Annotated[str, typer.Option(help="Its weights; none are random ones.")] = "none",
    filters: Filters = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Measure sampled scans: diversity, likeness, copies, and whether they have what was asked.

    Example: braintune synthesize report samples --against cohort --table cohort/truth.tsv
    """
    from braintune.cohort.read import parse_filters, read_cohort
    from braintune.recipe import ScansRecipe
    from braintune.registry import parse
    from braintune.reporting.samples_report import samples_text, write_samples_report
    from braintune.synthesis.diffusion.data import with_columns
    from braintune.synthesis.diffusion.quality.assess import AssessmentOptions, assess

    real = read_cohort(against, parse(ScansRecipe, {**parse_filters(filters or [])}, "scans"))
    if table is not None:
        real = with_columns(real, table)
    folder = out or samples / "quality"
    options = AssessmentOptions(backbone=backbone, weights=weights, workers=workers)
    document = assess(samples, real, folder, options)
    page = write_samples_report(folder)
    if as_json:
        print_json({**document, "report": str(page)})
    else:
        print_line(f"{samples_text(document)}\nSee {page}.")


def convert(
    name: Annotated[str, typer.Argument(help="The published model: brain-ldm.")],
    autoencoder: Annotated[Path, typer.Argument(help="Its autoencoder, as published.")],
    denoiser: Annotated[Path, typer.Argument(help="Its denoiser, as published.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the model.")],
    as_json: AsJson = False,
) -> None:
    """Convert a published latent diffusion model; code in its files is never run.

    Example: braintune synthesize convert brain-ldm autoencoder.pt model.pt brain-ldm
    """
    from braintune.console import say
    from braintune.synthesis.diffusion.convert import convert as convert_model
    from braintune.synthesis.diffusion.records import find_published

    published = find_published(name)
    record = convert_model(published, autoencoder, denoiser, out)
    say(f"Licence of {name}: {record.licence}. Cite {record.citation}.")
    for quirk in published.quirks:
        say(f"Note: {quirk}.")
    if as_json:
        print_json({"out": str(out), "licence": record.licence, "quirks": list(published.quirks)})
    else:
        print_line(f"Sample from it: 'braintune synthesize sample {out} samples --count 1'.")
