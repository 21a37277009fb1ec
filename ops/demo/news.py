"""Where the headlines of a demonstration come from: a newsroom that is made up, or an archive of dated ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perennial.continual.records import Example
from perennial.continual.tasks.opinion import Headline
from perennial.ops.demo.headline_phrases import Story
from perennial.ops.demo.lived import Pace
from perennial.ops.demo.paced import Asking

__all__ = ["News", "ToldStory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldStory:
    """A story that was told: its name, its kind, and the number of the headline that began it."""

    name: str
    kind: Story
    began: int


class News(Protocol):
    """Headlines, their sentiments, and what is known of the stories among them."""

    @property
    def title(self) -> str:
        """Of the page."""
        ...

    @property
    def pace(self) -> Pace:
        """How fast they come."""
        ...

    @property
    def changes(self) -> int:
        """How often their language changes."""
        ...

    @property
    def watched(self) -> Mapping[str, Any]:
        """Settings of the watch of events."""
        ...

    @property
    def learns_after(self) -> int:
        """So many labels begin a cycle by themselves."""
        ...

    @property
    def stories(self) -> Sequence[ToldStory]:
        """Those told so far; none where nobody knows what a story is."""
        ...

    def labelled(self) -> Sequence[Example]:
        """What the first version learns."""
        ...

    def wired(self) -> Sequence[Headline]:
        """What a wire delivers while the service starts, before anybody asks."""
        ...

    def draw(self) -> Asking:
        """The next headline."""
        ...

    def change(self) -> str:
        """Change the language, and say how."""
        ...

    def story_of(self, text: str) -> ToldStory | None:
        """The story that a text tells."""
        ...
