"""Adapt pre-trained 3D vision models to your brain MRI cohort, and know how good the result is.

The verbs of the command line, in Python. Names are imported when they are first used, because torch
takes a second.

Example:
    >>> import braintune
    >>> sorted(braintune.__all__)[:3]
    ['ChainRecipe', 'Cohort', 'DiagnosisRecipe']
"""

import importlib
from typing import TYPE_CHECKING, Any

from braintune._version import __version__

if TYPE_CHECKING:
    from braintune.adapters.adapter import adapt, attach, detach, merge
    from braintune.adapters.files import load_adapter, save_adapter
    from braintune.chain import run_chain
    from braintune.cohort.cohort import Cohort
    from braintune.cohort.read import read_cohort
    from braintune.fitting.chain_recipe import ChainRecipe
    from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
    from braintune.fitting.diagnosis_work import diagnose_into
    from braintune.fitting.fit import Execution, fit
    from braintune.fitting.predict import predict
    from braintune.fitting.pretraining.pretrain import pretrain
    from braintune.fitting.segmentation.segment import segment
    from braintune.imaging.prepare import prepare
    from braintune.models.weights.loading import load_backbone
    from braintune.pretraining_recipe import PretrainRecipe
    from braintune.recipe import Recipe
    from braintune.reporting.report import write_report
    from braintune.studies.evaluate import evaluate
    from braintune.synthesis.simulate import simulate
    from braintune.volumetry.derivative import measure_into

_HOMES = {
    "ChainRecipe": "braintune.fitting.chain_recipe",
    "Cohort": "braintune.cohort.cohort",
    "DiagnosisRecipe": "braintune.fitting.diagnosis_recipe",
    "Execution": "braintune.fitting.fit",
    "PretrainRecipe": "braintune.pretraining_recipe",
    "Recipe": "braintune.recipe",
    "adapt": "braintune.adapters.adapter",
    "attach": "braintune.adapters.adapter",
    "detach": "braintune.adapters.adapter",
    "diagnose_into": "braintune.fitting.diagnosis_work",
    "evaluate": "braintune.studies.evaluate",
    "fit": "braintune.fitting.fit",
    "load_adapter": "braintune.adapters.files",
    "load_backbone": "braintune.models.weights.loading",
    "measure_into": "braintune.volumetry.derivative",
    "merge": "braintune.adapters.adapter",
    "predict": "braintune.fitting.predict",
    "prepare": "braintune.imaging.prepare",
    "pretrain": "braintune.fitting.pretraining.pretrain",
    "read_cohort": "braintune.cohort.read",
    "run_chain": "braintune.chain",
    "save_adapter": "braintune.adapters.files",
    "segment": "braintune.fitting.segmentation.segment",
    "simulate": "braintune.synthesis.simulate",
    "write_report": "braintune.reporting.report",
}

__all__ = [
    "ChainRecipe",
    "Cohort",
    "DiagnosisRecipe",
    "Execution",
    "PretrainRecipe",
    "Recipe",
    "__version__",
    "adapt",
    "attach",
    "detach",
    "diagnose_into",
    "evaluate",
    "fit",
    "load_adapter",
    "load_backbone",
    "measure_into",
    "merge",
    "predict",
    "prepare",
    "pretrain",
    "read_cohort",
    "run_chain",
    "save_adapter",
    "segment",
    "simulate",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    msg = f"module 'braintune' has no attribute {name!r}"
    raise AttributeError(msg)
