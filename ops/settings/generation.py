"""How many rewrites are written at once, and for how long."""

from pydantic import Field

from perennial.ops.settings.section import Section

__all__ = ["GenerationSettings"]


class GenerationSettings(Section):
    """Rewrites of approved replies, of task generation."""

    streams: int = Field(8, ge=1, le=256, description="rewrites that are streamed at once; more are refused")
    deadline_s: float = Field(
        60.0, gt=0, description="a rewrite that takes longer is given up; whoever asked is told so"
    )
