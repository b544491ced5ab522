"""A diagnosis from its table to its run folder."""

import time
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.fitting.diagnosis import diagnose
from braintune.fitting.diagnosis_plan import plan_diagnosis
from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.fitting.diagnosis_run import check_free, write_diagnosis
from braintune.run import RunFolder


def diagnose_into(recipe: DiagnosisRecipe, rows: Cohort, out: Path) -> RunFolder:
    """Fit and test a diagnosis under its protocol, and write the run.

    Args:
        recipe: What to do.
        rows: One row a scan (see `read_rows`).
        out: The run folder, new, or of the same recipe and table, which is then written again.

    Raises:
        InputError: If recipe, table and folder do not fit together; nothing is written then.
    """
    start = time.monotonic()
    plan = plan_diagnosis(recipe, rows)
    check_free(out, plan)
    found = diagnose(plan)
    return write_diagnosis(found, out, time.monotonic() - start)
