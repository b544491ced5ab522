"""What a cell tries next: a function of what its earlier trials found, so that it can be repeated.

A search keeps no state of its own. Its trials are read from their results and told to the sampler
again, which then asks for the same next one, whoever was killed in between.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from braintune.extras import import_extra
from braintune.studies.recipe import RangeRecipe, TuneRecipe


@dataclass(frozen=True)
class Trial:
    """A fit of a search, as the search sees it.

    Attributes:
        settings: The values tried.
        curve: Validation loss after each epoch.
        value: Validation loss of the kept epoch; infinite if the fit failed.
        is_complete: Whether it ran to its end, and so may be chosen.
    """

    settings: dict[str, Any]
    curve: tuple[float, ...] = ()
    value: float = float("inf")
    is_complete: bool = False


def grid(tune: TuneRecipe) -> list[dict[str, Any]]:
    """All combinations of the values, in their order.

    Example:
        >>> grid(TuneRecipe(keys={"train.lr": [0.1, 0.2], "train.epochs": [5]}))
        [{'train.lr': 0.1, 'train.epochs': 5}, {'train.lr': 0.2, 'train.epochs': 5}]
    """
    lists = [values for values in tune.keys.values() if isinstance(values, list)]
    return [dict(zip(tune.keys, values, strict=True)) for values in product(*lists)]


def next_settings(tune: TuneRecipe, seed: int, earlier: Sequence[Trial]) -> dict[str, Any]:
    """What optuna's sampler asks for after some trials.

    Args:
        tune: What may be tried.
        seed: Of the sampler.
        earlier: All trials so far, in order.
    """
    study = _replayed(tune, seed, earlier)
    return _suggested(study.ask(), tune)


def is_hopeless(tune: TuneRecipe, earlier: Sequence[Trial], curve: Sequence[float]) -> bool:
    """Whether successive halving stops a trial after the epochs of its curve."""
    if tune.halving is None or not curve:
        return False
    trial = _replayed(tune, 0, earlier).ask()
    return [_reported(trial, epoch, loss) for epoch, loss in enumerate(curve, start=1)][-1]


def best_of(trials: Sequence[Trial]) -> int | None:
    """The number of the best complete trial, the earliest of equals; None if all failed."""
    complete = [number for number, trial in enumerate(trials) if trial.is_complete]
    return min(complete, key=lambda number: trials[number].value, default=None)


def _replayed(tune: TuneRecipe, seed: int, earlier: Sequence[Trial]) -> Any:
    """A study of optuna that has seen the earlier trials."""
    optuna = import_extra("optuna", "studies")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.NopPruner()
    if tune.halving is not None:
        pruner = optuna.pruners.SuccessiveHalvingPruner(reduction_factor=tune.halving)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    states = optuna.trial.TrialState
    for done in earlier:
        trial = study.ask()
        _suggested(trial, tune)
        for epoch, loss in enumerate(done.curve, start=1):
            _reported(trial, epoch, loss)
        if done.is_complete:
            study.tell(trial, done.value)
        else:
            study.tell(trial, state=states.PRUNED if done.curve else states.FAIL)
    return study


def _suggested(trial: Any, tune: TuneRecipe) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, values in tune.keys.items():
        if isinstance(values, RangeRecipe):
            settings[key] = trial.suggest_float(key, values.low, values.high, log=values.log)
        else:
            settings[key] = trial.suggest_categorical(key, values)
    return settings


def _reported(trial: Any, epoch: int, loss: float) -> bool:
    trial.report(loss, epoch)
    return bool(trial.should_prune())
