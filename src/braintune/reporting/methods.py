"""A paragraph for the methods section of a paper, written from the recipe."""

from typing import Any

from braintune._version import __version__
from braintune.evaluation.splits import validation_hands
from braintune.recipe import CrossValidation, HoldOut, Recipe, TrainRecipe
from braintune.reporting.methods_preparation import preparation_sentences
from braintune.tasks.segmentation import Segmentation
from braintune.tasks.task import AnyTask, Task

_OPTIMISERS = {
    "adamw": "AdamW",
    "adam-amsgrad": "Adam with AMSGrad",
    "sgd-nesterov": "SGD with Nesterov's momentum",
}


def methods_text(
    recipe: Recipe, metrics: dict[str, Any], task: AnyTask, weights: dict[str, Any] | None
) -> str:
    """What was done, in words that may be copied.

    Args:
        recipe: The run's recipe.
        metrics: Its numbers.
        task: Its task.
        weights: What it started from, or None for random weights.
    """
    train = recipe.train
    start = _start(weights)
    kept = {"best": "the epoch with the lowest validation loss", "last": "the last epoch"}[
        train.keep
    ]
    adapted = (
        "all parameters were trained"
        if recipe.adapter.name == "full"
        else f"the backbone was adapted with {recipe.adapter.name}"
    )
    return (
        f"{preparation_sentences(recipe.prepare)} A {recipe.backbone.name} network was trained"
        f" {start}; {adapted}. It was optimised with {_OPTIMISERS[train.optimiser]} (learning rate"
        f" {train.lr:g}, weight decay {train.weight_decay:g}, batches of"
        f" {train.batch_size * train.accumulate},"
        f" {train.schedule} schedule after a warm-up over {100 * train.warmup:g} % of the steps)"
        f" for {_epochs(train)} with {train.augment} augmentation, keeping the weights of"
        f" {kept}.{_further(train)}"
        f" {_protocol(recipe, task)}{_fraction(recipe)} One in"
        f" {validation_hands(train.validation)} of the training subjects was set aside for"
        f" validation. {_fitted(task)} Intervals are"
        f" {round(100 * metrics['interval']['level'])} % {metrics['interval']['method']}"
        f" ({metrics['interval']['resamples']} resamples). Comparisons over folds use the corrected"
        " resampled t-test of Nadeau and Bengio (2003) with Holm's correction."
        f" Analyses were run with braintune {__version__}, random seed {recipe.seed}."
    )


def _start(weights: dict[str, Any] | None) -> str:
    if weights is None:
        return "from random weights"
    citation = f" ({weights['citation']})" if weights["citation"] else ""
    return f"from the weights {weights['name']}{citation}"


def _epochs(train: TrainRecipe) -> str:
    if train.patience is None:
        return f"{train.epochs} epochs"
    return (
        f"{train.epochs} epochs, or until the validation loss had not fallen for {train.patience}"
        " epochs,"
    )


def _further(train: TrainRecipe) -> str:
    """What is not done by everybody, a sentence each."""
    sentences = {
        f"Sharpness-aware minimisation was used (radius {train.sam}).": train.sam is not None,
        f"Weights were averaged exponentially (decay {train.ema}).": train.ema is not None,
        f"Weights were averaged over the last {train.average_last} epochs.": (
            train.average_last is not None
        ),
        f"Scans were mixed by mixup ({100 * train.mixup:g} %) and cutmix ({100 * train.cutmix:g} %)"
        f" with a Beta({train.mix_alpha:g}, {train.mix_alpha:g}) distribution.": train.mixes,
        f"Residual blocks were dropped at a rate rising to {train.drop_path}.": bool(
            train.drop_path
        ),
        "The loss weighed classes by the inverse of their share.": train.balance == "weights",
        "Training scans were drawn so that classes were balanced.": train.balance == "sampler",
        "Predictions were averaged over each scan and its left-right mirror image.": (
            train.flip_average
        ),
    }
    return "".join(f" {sentence}" for sentence, is_so in sentences.items() if is_so)


def _protocol(recipe: Recipe, task: AnyTask) -> str:
    protocol = recipe.protocol
    over = ", ".join([*([task.target] if isinstance(task, Task) else []), *protocol.stratify])
    if isinstance(protocol, CrossValidation):
        return (
            f"Performance was estimated by {protocol.folds}-fold cross-validation over"
            f" {protocol.group.replace('_id', 's')}{f', stratified by {over}' if over else ''}; all"
            " scans of one were"
            " kept in the same fold."
        )
    if isinstance(protocol, HoldOut):
        tested = ", ".join(protocol.test)
        return f"Performance was measured on the scans whose {protocol.column} is {tested}."
    return f"Each {protocol.site} in turn was tested by a model that had never seen it."


def _fraction(recipe: Recipe) -> str:
    share = recipe.protocol.fraction
    if share == 1:
        return ""
    return f" Of the training subjects, {100 * share:g} % were used, balanced over the same strata."


def _segmented(task: Segmentation) -> str:
    """How label maps were learnt, made and scored."""
    options = task.options
    losses = {
        "dice": "soft Dice",
        "ce": "cross-entropy",
        "focal": f"the focal loss (γ {options.gamma:g})",
    }
    loss = " and ".join(losses[name] for name in options.loss.split("-"))
    kept = {
        "Of each structure the largest connected part was kept.": options.largest,
        f"Parts below {options.smallest:g} mm³ were dropped.": options.smallest > 0,
    }
    return (
        f"The network learnt {', '.join(options.labels.values())} from patches, of which"
        f" {100 * options.foreground:g} % were centred on a labelled voxel, with {loss} as loss."
        f" Whole scans were segmented from patches that overlap by {100 * options.overlap:g} %,"
        " weighted by a Gaussian, and probabilities were brought back to each scan's own voxels."
        + "".join(f" {sentence}" for sentence, is_so in kept.items() if is_so)
        + " Distances are in millimetres between the surfaces' voxels; HD95 is the larger of the"
        " two directed 95th percentiles."
    )


def _fitted(task: AnyTask) -> str:
    if isinstance(task, Segmentation):
        return _segmented(task)
    if not isinstance(task, Task):
        return ""
    if getattr(task, "adjusts_bias", False):
        return (
            "The age bias of the predictions was fitted on validation rows (de Lange and Cole,"
            " 2020) and errors are reported raw and adjusted."
        )
    return "All thresholds were set on validation rows." if task.n_outputs > 1 else ""
