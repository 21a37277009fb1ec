"""What a model's answers may tell of a single row that it has learnt."""

from typing import Literal

from pydantic import Field

from perennial.ops.settings.section import Section

__all__ = ["PrivacySettings"]


class PrivacySettings(Section):
    """What a model's versions may tell of a single row that they have learnt; docs/privacy.md."""

    epsilon: float | None = Field(
        None, gt=0, description="of all versions together, the budget; where it is set, versions are learnt with noise"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="of all versions together")
    version_epsilon: float | None = Field(
        None,
        gt=0,
        description="of what one version tells of a row, at most `epsilon`; default room for three, e.g. 4.18 of 8",
    )
    by: Literal["sums", "gradients"] = Field(
        "sums", description="what carries the noise; gradients need the extra `privacy`, and all rows for each version"
    )
