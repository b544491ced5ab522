"""The recipe of a chain: from scans to label maps, volumes and a diagnosis."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from braintune.fitting.diagnosis_recipe import DiagnosisRecipe
from braintune.recipe import RecipeFile, ScansRecipe
from braintune.section import Section
from braintune.volumetry.intracranial import IntracranialSource
from braintune.volumetry.volumes import VolumesRequest, parse_reference


class SegmentRecipe(Section):
    """How scans are segmented.

    Attributes:
        run: A finished run that gives label maps, or a copy of its model folder.
        scans: Which files of the cohort; by default those that the run was fitted on.
        probabilities: Whether the probability of each label is written too.
    """

    run: str
    scans: ScansRecipe | None = None
    probabilities: bool = False


class VolumesRecipe(Section):
    """How label maps are measured, as by `braintune volumes`.

    Attributes:
        normalise: How head size is taken out; it needs ``icv``.
        icv: Where intracranial volumes come from, such as ``mask:FOLDER`` or ``column:NAME``.
        reference: Rows that residuals are fitted on, such as ``dx=CN``.
        partial_volume: Measure by probabilities instead of by voxels.
    """

    normalise: Literal["none", "proportion", "residual"] = "none"
    icv: str | None = None
    reference: str | None = None
    partial_volume: bool = False

    def request(self, cohort: Path) -> VolumesRequest:
        """What measuring is asked for.

        Args:
            cohort: Where people's columns are.

        Raises:
            InputError: If the options do not go together.
        """
        return VolumesRequest(
            cohort=cohort,
            normalise=self.normalise,
            icv=IntracranialSource.parse(self.icv) if self.icv else None,
            reference=parse_reference(self.reference) if self.reference else None,
            partial_volume=self.partial_volume,
        )


class ChainRecipe(RecipeFile):
    """From scans to a diagnosis.

    Attributes:
        segment: How scans are segmented.
        volumes: How label maps are measured.
        diagnose: What is told from the volumes and from columns of the cohort.

    Example:
        >>> recipe = ChainRecipe.parse({"segment": {"run": "runs/hippocampus"},
        ...                             "diagnose": {"target": "dx", "covariates": ["age"]}})
        >>> recipe.diagnose.model
        'logistic'
    """

    called: ClassVar[str] = "recipe of a chain"

    segment: SegmentRecipe
    volumes: VolumesRecipe = VolumesRecipe()
    diagnose: DiagnosisRecipe

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.volumes.partial_volume and not self.segment.probabilities:
            msg = "volumes.partial_volume needs segment.probabilities: true"
            raise ValueError(msg)
        return self
