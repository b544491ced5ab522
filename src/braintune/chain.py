"""From scans to a diagnosis in one go: label maps, volumes, classifiers, and their pages."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from braintune.cohort.cohort import Cohort
from braintune.cohort.read import read_cohort
from braintune.console import say
from braintune.errors import InputError, listing
from braintune.files import make_folder, refuse_occupied, write_text
from braintune.fitting.chain_recipe import ChainRecipe
from braintune.fitting.diagnosis_plan import read_rows
from braintune.fitting.diagnosis_work import diagnose_into
from braintune.fitting.segmentation.model import open_segmentation_model
from braintune.fitting.segmentation.segment import is_segmented, segment
from braintune.reporting.diagnosis_report import write_diagnosis_report
from braintune.reporting.volumes_report import write_volumes_report
from braintune.run import RunFolder
from braintune.tasks.task import make_task
from braintune.volumetry.columns import demand_columns
from braintune.volumetry.derivative import measure_into
from braintune.volumetry.finding import find_label_maps
from braintune.volumetry.writing import TABLE


@dataclass(frozen=True)
class Chain:
    """The folder of a chain.

    Attributes:
        folder: Holds all.
    """

    folder: Path

    @property
    def recipe_file(self) -> Path:
        """What was done."""
        return self.folder / "chain.yaml"

    @property
    def segmentations(self) -> Path:
        """Label maps: a BIDS derivative."""
        return self.folder / "segmentations"

    @property
    def volumes(self) -> Path:
        """Volumes: a BIDS derivative."""
        return self.folder / "volumes"

    @property
    def diagnosis(self) -> RunFolder:
        """The run of the diagnosis."""
        return RunFolder(self.folder / "diagnosis")


def run_chain(recipe: ChainRecipe, cohort: Path, out: Path) -> Chain:
    """Segment a cohort, measure the label maps, and tell classes from the volumes.

    Steps that are done are not done again, so a chain that was stopped goes on. Scans that can't be
    segmented or measured are listed in the tables of their step and left out of the next one.

    Args:
        recipe: What to do.
        cohort: The scans and the people's columns: a BIDS dataset or a table.
        out: A new folder, or that of the same recipe and cohort.

    Raises:
        InputError: If recipe, cohort and folder do not fit together.
    """
    chain = Chain(out)
    request = recipe.volumes.request(cohort)
    run = Path(recipe.segment.run)
    model = open_segmentation_model(run)
    scans = recipe.segment.scans or model.recipe.scans
    images = read_cohort(cohort, scans)
    _check_people(recipe, images)
    _claim(chain, recipe, cohort)
    if not is_segmented(chain.segmentations):
        chances = recipe.segment.probabilities
        found = segment(run, [cohort], chain.segmentations, scans=scans, with_probabilities=chances)
        say(f"Label maps: {chain.segmentations}; {found.failed} of {len(found.table)} failed.")
    if not (chain.volumes / TABLE).exists():
        # The table is written last: without it, what is there is half a measurement.
        shutil.rmtree(chain.volumes, ignore_errors=True)
        maps = find_label_maps([str(chain.segmentations)], {})
        volumes = measure_into(maps, request, chain.volumes, images)
        write_volumes_report(chain.volumes)
        failed = f"; not measured: {listing(volumes.failed)}" if volumes.failed else ""
        say(f"Volumes: {chain.volumes / TABLE}{failed}.")
    if not chain.diagnosis.is_complete:
        diagnose_into(recipe.diagnose, read_rows(chain.volumes), chain.diagnosis.path)
        write_diagnosis_report(chain.diagnosis.path)
    return chain


def _check_people(recipe: ChainRecipe, cohort: Cohort) -> None:
    """Find out before the long work whether the cohort has what the diagnosis needs.

    Raises:
        InputError: If a column is missing, or the target can't be told.
    """
    diagnosis = recipe.diagnose
    make_task(diagnosis.task).read(cohort.column(diagnosis.target))
    demand_columns(cohort.table, diagnosis.covariates, str(cohort.source))


def _claim(chain: Chain, recipe: ChainRecipe, cohort: Path) -> None:
    """Mark a folder as this chain's, and refuse one that is something else's."""
    text = f"# cohort: {cohort.absolute()}\n{recipe.dump()}"
    if chain.recipe_file.is_file():
        if chain.recipe_file.read_text(encoding="utf-8") != text:
            raise InputError(
                f"{chain.folder} is of another recipe or cohort. Choose another --out."
            )
        return
    refuse_occupied(chain.folder, "the chain")
    make_folder(chain.folder)
    write_text(chain.recipe_file, text)
