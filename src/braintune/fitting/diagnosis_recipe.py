"""The recipe of a diagnosis: what is told from which columns, by which classifier."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from braintune.recipe import CrossValidation, Protocol, RecipeFile, Section, TaskRecipe


class HarmoniseRecipe(Section):
    """Sites taken out of volumes by ComBat, which is fitted on training rows alone.

    Attributes:
        site: The column of the site.
        keep: Columns whose effect on volumes stays, such as age and sex; never the target.
        unseen: What becomes of rows of a site that the training rows do not have: they are refused,
            or taken for a site without shift and scale.
    """

    site: str = "site"
    keep: list[str] = Field([])
    unseen: Literal["refuse", "average"] = "refuse"


class DiagnosisRecipe(RecipeFile):
    """All of a diagnosis but where the table lies.

    Attributes:
        target: The column to tell.
        labels: Its classes in order; of two, the second is the positive one. Rows of others are
            left out.
        volumes: Columns of volumes, by name or pattern; by default all in mm³.
        covariates: Further columns: numbers or names.
        model: The classifier.
        normalise: How head size is taken out of the volumes; residuals are fitted on training rows.
        icv: The column of the intracranial volume.
        reference: The class whose training rows residuals are fitted on; by default all.
        harmonise: How sites are taken out of the volumes, if they are.
        protocol: Who tests.
        inner_folds: Among how many inner folds hyperparameters are chosen.
        importance_repeats: How often each column is permuted.
        seed: The same seed gives the same numbers.

    Example:
        >>> DiagnosisRecipe.parse({"target": "dx", "covariates": ["age"]}).model
        'logistic'
    """

    target: str
    labels: list[str] | None = Field(None, min_length=2)
    volumes: list[str] = Field([])
    covariates: list[str] = Field([])
    model: Literal["logistic", "svm", "forest", "boosting"] = "logistic"
    normalise: Literal["none", "proportion", "residual"] = "none"
    icv: str | None = None
    reference: str | None = None
    harmonise: HarmoniseRecipe | None = None
    protocol: Protocol = CrossValidation()
    inner_folds: int = Field(5, ge=2)
    importance_repeats: PositiveInt = 10
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.normalise != "none" and self.icv is None:
            msg = f"normalise: {self.normalise} needs the column of the intracranial volume (icv)"
            raise ValueError(msg)
        if self.reference is not None and self.normalise != "residual":
            msg = "reference is for normalise: residual alone"
            raise ValueError(msg)
        if self.harmonise is not None and self.target in {
            self.harmonise.site,
            *self.harmonise.keep,
        }:
            msg = (
                f"harmonise may not see the target {self.target}: at test time nobody knows it, and"
                " what is kept for it would be put into the volumes"
            )
            raise ValueError(msg)
        return self

    @property
    def task(self) -> TaskRecipe:
        """The task: classification of the target."""
        options = {"labels": self.labels} if self.labels else {}
        return TaskRecipe.model_validate(
            {"kind": "classification", "target": self.target, **options}
        )
