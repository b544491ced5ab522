"""What every part of a typed YAML file is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a recipe: no unknown keys, no changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
