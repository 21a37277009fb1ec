"""Opinion: what a headline says of each symbol in it, which event it belongs to, and whether to sound an alarm."""

from perennial.continual.tasks.opinion.headline import Headline, Symbol
from perennial.continual.tasks.opinion.task import Opinion

__all__ = ["Headline", "Opinion", "Symbol"]
