"""Running a study: whichever fits are ready, as many at once as there are places."""

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from braintune.console import Progress, progress
from braintune.errors import InterruptedFitError
from braintune.fitting.interrupt import stop_on_signals
from braintune.recipe import Recipe
from braintune.studies.folder import StudyFolder
from braintune.studies.plan import Cell, Fit, StudyPlan
from braintune.studies.search import Trial, best_of, grid, next_settings
from braintune.studies.work import Order, write_failure
from braintune.studies.workers import INTERRUPTED, KILLED, Ended, Workers

_LIVES = 3


@dataclass
class CellState:
    """How far a cell is, as its files tell.

    Attributes:
        cell: The cell.
        search: Its fits so far, in order.
        trials: What they found; as many as are known.
        chosen: The best of them, once the search is over.
        is_over: Whether the search is over.
    """

    cell: Cell
    search: list[Fit] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    chosen: Fit | None = None
    is_over: bool = False


def read_cell(folder: StudyFolder, plan: StudyPlan, cell: Cell) -> CellState:
    """What is known of a cell's search, from files alone."""
    state = CellState(cell)
    tune, first = cell.subject.choice.tune, plan.study.seeds[0]
    if tune is None:
        state.chosen, state.is_over = cell.fit(first, {}), True
        return state
    if tune.by == "grid":
        state.search = [cell.fit(first, settings) for settings in grid(tune)]
        found = [read_trial(folder, fit) for fit in state.search]
        state.trials = [trial for trial in found if trial is not None]
        state.is_over = len(state.trials) == len(found)
    else:
        _follow(folder, state, first)
    if state.is_over:
        best = best_of(state.trials)
        state.chosen = None if best is None else state.search[best]
    return state


def _follow(folder: StudyFolder, state: CellState, seed: int) -> None:
    """Repeat a search that asks for one trial after the other, up to the one that is not done."""
    tune = state.cell.subject.choice.tune
    assert tune is not None
    while len(state.trials) < tune.budget:
        settings = next_settings(tune, state.cell.fold, state.trials)
        earlier = tuple(state.trials) if tune.halving else ()
        fit = state.cell.fit(seed, settings, earlier)
        state.search.append(fit)
        trial = read_trial(folder, fit)
        if trial is None:
            return
        state.trials.append(trial)
    state.is_over = True


def read_trial(folder: StudyFolder, fit: Fit) -> Trial | None:
    """What a fit found, as its search sees it; None if it is not done."""
    result = folder.result(fit.id)
    if result is not None:
        value = float("inf") if result["validation_loss"] is None else result["validation_loss"]
        return Trial(fit.settings, tuple(result["curve"]), value, result["complete"])
    return Trial(fit.settings) if folder.failure_file(fit.id).exists() else None


def final_fits(plan: StudyPlan, state: CellState) -> list[Fit]:
    """The fits whose test rows count: the chosen settings with each seed."""
    if state.chosen is None:
        return []
    chosen, others = state.chosen, plan.study.seeds[1:]
    return [chosen, *[state.cell.fit(seed, chosen.settings) for seed in others]]


class Execution:
    """The fits of a study that are to be done, one after the other becoming ready.

    Args:
        plan: The study.
        folder: Its folder.
        stores: The prepared store of each cohort and preparation.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self,
        plan: StudyPlan,
        folder: StudyFolder,
        stores: dict[tuple[str, str], Path],
        accelerator: str = "auto",
    ) -> None:
        self._plan, self._folder, self._stores = plan, folder, stores
        self._accelerator = accelerator
        self._fresh = plan.cells()
        self._ready: deque[tuple[Cell, Fit]] = deque()
        self._cell_of: dict[str, Cell] = {}
        self._counted: set[str] = set()
        self._lives: dict[str, int] = {}
        self._again: deque[Order] = deque()
        self.failed = 0

    def run(self, workers: Workers) -> None:
        """Do what is not done.

        Raises:
            InterruptedFitError: If someone asked to stop; the same call goes on.
        """
        waiting = 0
        with stop_on_signals() as stop, progress("Fits", self._plan.n_fits) as bar:
            while True:
                while not stop.wanted and waiting < workers.slots:
                    order = self._again.popleft() if self._again else self._next_order(bar)
                    if order is None:
                        break
                    workers.submit(order)
                    waiting += 1
                if not waiting:
                    break
                if stop.wanted:
                    workers.stop()
                for ended in workers.wait():
                    waiting -= 1
                    self._take(ended, bar)
            if stop.wanted:
                raise InterruptedFitError("Stopped. The same command goes on from here.")

    def _next_order(self, bar: Progress) -> Order | None:
        """The next fit that is ready, if there is one."""
        while True:
            if self._ready:
                cell, fit = self._ready.popleft()
                return self._order(cell, fit)
            cell_ = next(self._fresh, None)
            if cell_ is None:
                return None
            self._expand(cell_, bar)

    def _expand(self, cell: Cell, bar: Progress) -> None:
        """Find which fits of a cell are ready; those that are done are counted."""
        state = read_cell(self._folder, self._plan, cell)
        fits = final_fits(self._plan, state) if state.is_over else state.search
        for fit in {fit.id: fit for fit in [*state.search, *fits]}.values():
            if fit.id in self._cell_of:
                continue
            if self._is_known(fit):
                self._count(fit, bar)
            else:
                self._cell_of[fit.id] = cell
                self._ready.append((cell, fit))
        if state.is_over and state.chosen is None:
            bar.skip(len(self._plan.study.seeds) - 1)

    def _is_known(self, fit: Fit) -> bool:
        return (
            self._folder.result_file(fit.id).exists() or self._folder.failure_file(fit.id).exists()
        )

    def _count(self, fit: Fit, bar: Progress) -> None:
        if fit.id not in self._counted:
            self._counted.add(fit.id)
            bar.skip(1)

    def _order(self, cell: Cell, fit: Fit) -> Order:
        recipe = cell.subject.tuned(fit.settings, fit.seed)
        return Order(
            fit=fit,
            study=self._folder.path.resolve(),
            recipe=_from_anywhere(recipe),
            cohort=cell.context.cohort,
            splits=cell.context.hash,
            store=self._stores[cell.context.cohort, recipe.prepare.model_dump_json()].resolve(),
            tune=cell.subject.choice.tune if fit.earlier else None,
            accelerator=self._accelerator,
            external=tuple(
                (name, self._stores[name, recipe.prepare.model_dump_json()].resolve())
                for name in self._plan.external
            ),
        )

    def _take(self, ended: Ended, bar: Progress) -> None:
        fit = ended.order.fit
        cell = self._cell_of.pop(fit.id)
        if ended.how == INTERRUPTED:
            return
        undone = not self._folder.result_file(fit.id).exists()
        if ended.how == KILLED and undone and not self._die(ended):
            self._cell_of[fit.id] = cell
            return
        if self._folder.failure_file(fit.id).exists():
            self.failed += 1
            self._folder.note("fit failed", id=fit.id, choice=fit.choice, reason=ended.reason)
        self._counted.add(fit.id)
        bar.advance(note=self._note(fit))
        self._expand(cell, bar)

    def _die(self, ended: Ended) -> bool:
        """Let a fit whose process was killed be done again, until it has died too often."""
        fit = ended.order.fit
        lives = self._lives[fit.id] = self._lives.get(fit.id, _LIVES) - 1
        self._folder.note("process killed", id=fit.id, choice=fit.choice, reason=ended.reason)
        if lives:
            self._again.append(ended.order)
            return False
        reason = (
            f"{ended.reason}, {_LIVES} times; most often for want of memory. Try fewer --workers"
            " or a smaller train.batch_size."
        )
        write_failure(self._folder, fit, reason)
        return True

    def _note(self, fit: Fit) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{fit.context} {fit.choice} fold {fit.fold + 1}{failed}"


def _from_anywhere(recipe: Recipe) -> dict[str, Any]:
    """A recipe's plain values for a process that works in another folder."""
    values = recipe.model_dump(mode="json")
    if (weights := Path(recipe.backbone.weights)).exists():
        values["backbone"]["weights"] = str(weights.resolve())
    return values
