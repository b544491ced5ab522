"""Linear probes: what a straight line through the frozen features knows of a cohort."""

from dataclasses import dataclass

import lightning_fabric
import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braintune.cohort.cohort import Cohort
from braintune.errors import InputError
from braintune.fitting.precision import Precision
from braintune.imaging.loader import ScanLoader
from braintune.imaging.store import PreparedStore
from braintune.models.backbone import Backbone
from braintune.pretraining_recipe import ProbeRecipe
from braintune.recipe import TaskRecipe
from braintune.tasks.task import FloatArray, make_task

_ALPHAS = np.logspace(-2, 5, 15)
_CS = np.logspace(-5, 2, 8)


@dataclass(frozen=True)
class Probe:
    """A cohort that features are tried on.

    Attributes:
        recipe: Of the probe.
        cohort: The scans with a target.
        truth: The encoded target of each.
    """

    recipe: ProbeRecipe
    cohort: Cohort
    truth: FloatArray

    @property
    def subjects(self) -> npt.NDArray[np.str_]:
        """Whose scan each is; all of a subject's are on one side of a split."""
        return self.cohort.table["participant_id"].to_numpy(dtype=str)

    def scores(self, features: FloatArray, seed: int) -> dict[str, float]:
        """How good linear predictions from features are, by cross-validation over subjects.

        Args:
            features: Of shape (scans, features).
            seed: Of the folds.

        Returns:
            ``probe_mae`` beside ``probe_mae_of_mean``, or ``probe_auc``.
        """
        score = _regression if self.recipe.kind == "regression" else _classification
        return score(features, self.truth, self.subjects, self.recipe.folds, seed)


def read_probe(recipe: ProbeRecipe, cohort: Cohort) -> Probe:
    """Read the target of a probe's cohort.

    Raises:
        InputError: If there is no such column, it can't be learnt, or there are too few subjects.
    """
    task = make_task(TaskRecipe(kind=recipe.kind, target=recipe.target))
    task, truth = task.read(cohort.column(recipe.target))
    if recipe.kind == "classification" and task.n_outputs != 2:
        raise InputError(
            f"A probe tells two classes apart, but {recipe.target!r} has {task.n_outputs}. Choose"
            " another target, or rows with 'where:'."
        )
    known = cohort.column(recipe.target).notna()
    kept = cohort.keep(known, f"the target {recipe.target} is missing")
    if kept.n_subjects < 2 * recipe.folds:
        raise InputError(
            f"The probe has {kept.n_subjects} subjects with a {recipe.target}; {recipe.folds} folds"
            f" need {2 * recipe.folds}. Set 'probe: {{folds: 2}}', or take more scans."
        )
    return Probe(recipe, kept, truth[known.to_numpy()])


@torch.no_grad()
def features_of(
    backbone: Backbone,
    store: PreparedStore,
    scan_ids: list[str],
    batch_size: int,
    fabric: lightning_fabric.Fabric,
    precision: Precision,
) -> FloatArray:
    """The features of prepared scans, of shape (scans, features)."""
    backbone.eval()
    rows = np.arange(len(scan_ids))
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    loader = ScanLoader(store, scan_ids)
    found = []
    for images in loader.batches(batches):
        shown = precision.arrange(images.to(fabric.device).float())
        with fabric.autocast():
            found.append(backbone(shown).float().cpu())
    return torch.cat(found).double().numpy()


def _regression(
    features: FloatArray, truth: FloatArray, subjects: npt.NDArray[np.str_], folds: int, seed: int
) -> dict[str, float]:
    """Ridge regression; its strength is chosen within the training rows."""
    predicted, mean = np.empty_like(truth), np.empty_like(truth)
    split = GroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for train, test in split.split(features, truth, subjects):
        model = make_pipeline(StandardScaler(), RidgeCV(_ALPHAS)).fit(features[train], truth[train])
        predicted[test], mean[test] = model.predict(features[test]), truth[train].mean()
    return {
        "probe_mae": float(np.abs(predicted - truth).mean()),
        "probe_mae_of_mean": float(np.abs(mean - truth).mean()),
    }


def _classification(
    features: FloatArray, truth: FloatArray, subjects: npt.NDArray[np.str_], folds: int, seed: int
) -> dict[str, float]:
    """Logistic regression; its strength is chosen within the training rows.

    The area under the curve is that within each fold, averaged: scores of different fits can't be
    ranked together.
    """
    areas = []
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    for train, test in split.split(features, truth, subjects):
        if len(np.unique(truth[test])) == 2:
            model = _logistic().fit(features[train], truth[train])
            areas.append(roc_auc_score(truth[test], model.predict_proba(features[test])[:, 1]))
    return {"probe_auc": float(np.mean(areas)) if areas else float("nan")}


def _logistic() -> GridSearchCV:
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return GridSearchCV(model, {"logisticregression__C": _CS}, scoring="neg_log_loss", cv=3)
