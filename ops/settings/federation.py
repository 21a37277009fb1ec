"""What exchanges with other sites may tell."""

from pydantic import Field

from perennial.ops.settings.section import Section

__all__ = ["FederationSettings"]


class FederationSettings(Section):
    """What exchanges with other sites may tell of a single row; docs/federation.md."""

    epsilon: float | None = Field(
        None, gt=0, description="of all exchanges together; where it is set, sums are sent with noise alone"
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="of all exchanges together")
