"""What all sections of the settings have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """A part of the settings: names that nobody knows are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)
