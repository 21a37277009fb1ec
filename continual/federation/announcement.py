"""What each site says of itself before sums are exchanged, and the list of sites that a round is closed with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Self

from perennial.continual.errors import DataError
from perennial.continual.preparation import admit_name

__all__ = ["Announcement", "SiteList"]

_FORMAT = "perennial-federation-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One site's. Class names, the number of rows and the size of the largest sum are seen by all sites.

    >>> said = Announcement(site="north", public_key="ab", features={"closed form": "ridge"}, classes=("a",), rows=3,
    ...                     largest=3.0, plain=True)
    >>> Announcement.of(said.text()) == said
    True
    """

    site: str
    public_key: str
    features: Mapping[str, str]  # see `features_of`
    classes: tuple[str, ...]
    rows: int
    largest: float  # no sum of the site lies farther from 0
    plain: bool  # whether sums of the embeddings themselves are kept
    spread: float = 0.0  # of the noise on outer products; 0: none. With noise `rows` is 0, which tells nothing

    def text(self) -> str:
        """As it lies in a file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, text: str) -> Self:
        """The announcement that `text` wrote.

        Raises:
            DataError: it is none, or of another release.
        """
        told = _told(cls, text)
        said = cls(**{**told, "classes": tuple(told["classes"])})
        admit_name(said.site, field="site")
        return said

    def check_alike(self, other: "Announcement") -> None:
        """Refuse a round of sites whose sums cannot be added.

        Raises:
            DataError: they map rows to other features; what differs is named.
        """
        differ = [
            f"{name} is {value!r} at {self.site} and {other.features.get(name)!r} at {other.site}"
            for name, value in self.features.items()
            if other.features.get(name) != value
        ]
        if differ:
            raise DataError(
                f"sums over different features cannot be added: {'; '.join(differ)}; give both sites the same encoder, "
                "seed, learner and params, train a version, and announce it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteList:
    """Who is in a round, fixed by the first that sends: site -> the sha256 of its announcement.

    >>> SiteList.of(SiteList(sites={"north": "0f"}, open=True).text()).open
    True
    """

    sites: Mapping[str, str]
    open: bool  # no masks: whoever reads the folder reads each site's sums

    def text(self) -> str:
        """As it lies in a file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def of(cls, text: str) -> Self:
        """The list that `text` wrote.

        Raises:
            DataError: it is none, or of another release.
        """
        return cls(**_told(cls, text))

    @property
    def digest(self) -> str:
        """What tells this round from every other."""
        return sha256(self.text().encode()).hexdigest()


def _told(kind: Any, text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
        if told.pop("format") != _FORMAT:
            raise DataError(f"it is of a release that is not this one, which reads {_FORMAT!r}")
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(f"it is no JSON of a round ({type(error).__name__}: {error})") from error
    names = {field.name for field in fields(kind)}
    if told.keys() != names:
        raise DataError(f"it has the fields {sorted(told)} and not {sorted(names)}")
    return dict(told)
