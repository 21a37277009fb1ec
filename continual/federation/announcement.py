"""What each site says of itself before sums are exchanged, and the list of sites that a round is closed with."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Any, Self

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.federation.masking import Keys
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.preparation import admit_label, admit_name
from perennial.continual.privacy.noise import Privacy, longest_row, outer_noise

__all__ = ["LEAST_OPEN", "LEAST_SITES", "Announcement", "SiteList", "announcement_of", "seal_of"]

LEAST_OPEN, LEAST_SITES = 2, 3  # of two sites, each reads the other's sums: the total less its own

_FORMAT = "perennial-federation-1"
_KEY = re.compile("[0-9a-f]{64}")
_LARGEST = 2.0**40  # farther than any sum that can be exchanged
_LARGEST_NOISED = float(2**20)  # told of sums whose size is nobody's business


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One site's. Class names, the number of rows and the size of the largest sum are seen by all sites.

    >>> said = Announcement(site="north", public_key="ab" * 32, features={"closed form": "ridge"}, classes=("a",),
    ...                     rows=3, largest=3.0, plain=True, seal="cd" * 32)
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
    seal: str  # of the sums, by the private key: tells nothing, and no other sums can be sent (see `Keys.seal`)
    spread: float = 0.0  # of the noise on outer products; 0: none. With noise `rows` is 0, which tells nothing

    def text(self) -> str:
        """As it lies in a file."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, text: str) -> Self:
        """The announcement that `text` wrote.

        Raises:
            DataError: it is none, of another release, or says what cannot be: another site wrote it.
        """
        told = _told(cls, text)
        _check(told)
        return cls(**{**told, "classes": tuple(told["classes"])})

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

    >>> SiteList.of(SiteList(sites={"north": "0f", "west": "1a"}, open=True).text()).open
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
            DataError: it is none, of another release, names what is no site, or what no site writes.
        """
        told = _told(cls, text)
        if not isinstance(told["sites"], dict) or not isinstance(told["open"], bool):
            raise DataError("it is no list of sites")
        for site in told["sites"]:
            admit_name(site, field="site")
        there = len(told["sites"])
        if there < LEAST_OPEN or told["open"] is not (there < LEAST_SITES):
            raise DataError(f"no site closes a round of {there} sites so")
        return cls(**told)

    @property
    def digest(self) -> str:
        """What tells this round from every other."""
        return sha256(self.text().encode()).hexdigest()


def announcement_of(
    sums: AnchoredSums, site: str, keys: Keys, features: Mapping[str, str], privacy: Privacy | None = None
) -> Announcement:
    """What a site with these sums says; with `privacy` neither their number nor their size, but how they are noised.

    Raises:
        DataError: the name is none, or no row has been learnt.
    """
    if not sums.rows:
        raise DataError(f"site {site} has no rows in its sums; train a version on labelled rows first")
    if privacy is None:
        largest = max(float(np.abs(array).max(initial=0.0)) for array in sums.named.arrays.values())
        size: dict[str, Any] = {"rows": sums.rows, "largest": float(2 ** np.ceil(np.log2(max(largest, 1.0))))}
    else:
        size = {"rows": 0, "largest": _LARGEST_NOISED, "spread": outer_noise(longest_row(sums), privacy.multiplier)}
    return Announcement(
        site=admit_name(site, field="site"),
        public_key=keys.public,
        features=dict(features),
        classes=tuple(sorted(sums.counts)),
        plain=privacy is None and sums.plain is not None,
        seal=seal_of(sums, keys),
        **size,
    )


def seal_of(sums: AnchoredSums, keys: Keys) -> str:
    """What an announcement says of sums, so that no others are sent in their place."""
    found = sha256(repr(sums.named.entries("class")).encode())
    for name, array in sorted(sums.named.arrays.items()):
        found.update(f"{name} {array.shape}".encode() + array.tobytes())
    return keys.seal(found.digest())


def _told(kind: Any, text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
        if told.pop("format") != _FORMAT:
            raise DataError(f"it is of a release that is not this one, which reads {_FORMAT!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"it is no JSON of a round ({type(error).__name__}: {error})") from error
    names = {field.name for field in fields(kind)}
    if told.keys() != names:
        raise DataError(f"it has the fields {sorted(told)} and not {sorted(names)}")
    return dict(told)


def _check(told: Mapping[str, Any]) -> None:
    admit_name(told["site"], field="site")
    features = told["features"]
    admitted = {
        "public_key": _is_key(told["public_key"]),
        "seal": _is_key(told["seal"]),
        "features": isinstance(features, dict) and all(isinstance(value, str) for value in features.values()),
        "classes": isinstance(told["classes"], list),
        "rows": type(told["rows"]) is int and 0 <= told["rows"] <= _LARGEST,
        "largest": type(told["largest"]) in (int, float) and 0 < told["largest"] <= _LARGEST,  # NaN is neither
        "plain": isinstance(told["plain"], bool),
        "spread": type(told["spread"]) in (int, float) and 0 <= told["spread"] <= _LARGEST,
    }
    if wrong := [name for name, is_fine in admitted.items() if not is_fine]:
        raise DataError(f"it says what cannot be of {', '.join(wrong)}")
    for label in told["classes"]:
        admit_label(label, field="class")


def _is_key(told: Any) -> bool:
    return isinstance(told, str) and _KEY.fullmatch(told) is not None
