"""Sites taken out of volumes as a step of a pipeline: fitted on the rows that `fit` sees alone."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin

from braintune.volumetry.combat import ComBat


@dataclass(frozen=True)
class SiteRule:
    """How sites are taken out.

    Attributes:
        site: The column that names the site; None takes nothing out.
        volumes: The columns that are changed.
        numbers: Columns of numbers whose effect is kept.
        names: Columns of names whose effect is kept.
    """

    site: str | None = None
    volumes: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


class Harmonise(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """ComBat of the volumes; the target is never looked at, neither to fit nor to transform.

    A site that `fit` has not seen is taken for one without shift and scale.

    Args:
        rule: How.
    """

    def __init__(self, rule: SiteRule) -> None:
        self.rule = rule

    def fit(self, frame: pd.DataFrame, truth: npt.NDArray[Any] | None = None) -> Self:
        """Learn the sites' shifts and scales, and the lines over what is kept."""
        del truth
        self.combat_: ComBat | None = None
        if self.rule.site is None:
            return self
        numbers = frame[list(self.rule.numbers)]
        self.medians_ = numbers.median().fillna(0.0)
        self.spreads_ = numbers.std().fillna(1.0).replace(0.0, 1.0)
        # The first value of each column of names is what the others differ from.
        self.values_ = {name: sorted(set(frame[name]))[1:] for name in self.rule.names}
        volumes, site, kept = self._parts(frame)
        self.combat_ = ComBat.fit(volumes, site, kept)
        return self

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with its volumes changed."""
        if self.combat_ is None:
            return frame
        changed = self.combat_.apply(*self._parts(frame))
        return frame.assign(**dict(zip(self.rule.volumes, changed.T, strict=True)))

    def _parts(
        self, frame: pd.DataFrame
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Volumes, sites, and what is kept; missing numbers are the fitted rows' median."""
        columns = [
            ((frame[name].fillna(self.medians_[name]) - self.medians_[name]) / self.spreads_[name])
            for name in self.rule.numbers
        ]
        columns += [
            (frame[name] == value).astype("float64")
            for name, values in self.values_.items()
            for value in values
        ]
        kept = (
            np.stack([c.to_numpy() for c in columns], 1) if columns else np.zeros((len(frame), 0))
        )
        volumes = frame[list(self.rule.volumes)].to_numpy(dtype=np.float64)
        return volumes, frame[self.rule.site].to_numpy(dtype=object), kept
