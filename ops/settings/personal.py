"""What counts as personal data beside what the own rules find."""

from importlib.util import find_spec
from pathlib import Path

from pydantic import Field, field_validator

from perennial.ops.settings.section import Section

__all__ = ["PersonalSettings"]


class PersonalSettings(Section):
    """What takes personal data out of texts beside the own rules; docs/privacy.md."""

    presidio: dict[str, str] = Field(
        default_factory=dict,
        description='language -> a model of spaCy that is installed, or "" for patterns alone; needs the extra '
        "`personal`, and a few milliseconds for each text",
    )

    @field_validator("presidio")
    @classmethod
    def _is_installed(cls, presidio: dict[str, str]) -> dict[str, str]:
        if presidio and find_spec("presidio_analyzer") is None:
            raise ValueError("Presidio is not installed; pip install 'perennial-serving[personal]', or take it out")
        if missing := sorted(model for model in presidio.values() if model and not _is_there(model)):
            raise ValueError(
                f'no model of spaCy is installed as {", ".join(missing)}; install it, or give "" for patterns alone'
            )
        return presidio


def _is_there(model: str) -> bool:
    """Whether there is such a package, or such a folder."""
    return Path(model).exists() or (model.isidentifier() and find_spec(model) is not None)
