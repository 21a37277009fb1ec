"""What other sites have learnt, as sums beside a site's own, without a row's key."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perennial.continual.errors import DataError
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.closed_form import CLOSED_FORMS
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.sums import SumsFile

__all__ = ["Others", "Shared", "features_of"]

_PROBES = 20_261_127  # any number, the same at all sites
_ABOUT = "federation"  # of the file of sums


def features_of(sums: AnchoredSums, *, encoder: str, max_length: int) -> dict[str, str]:
    """All that must be alike for sums to be added, by the words that tell a person what differs."""
    fourier = sums.features
    words = asdict(sums.lexical) if isinstance(sums, Ridge) else {}
    return {
        "closed form": _head_of(sums),
        "encoder": encoder,
        "tokens of a text": str(max_length),
        "features of an embedding": f"{fourier.size} of {fourier.dimension}, {_probed(fourier)}",
        "columns of words": " ".join(f"{name} {value}" for name, value in sorted(words.items())) or "none",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Where the sums of others come from: `digest` tells one exchange from every other.

    >>> Shared(round="ab12", sites=("north",), features={}, rows=10, digest="0f").sites
    ('north',)
    """

    round: str
    sites: tuple[str, ...]  # whose rows are in, and not the one that keeps the file
    features: Mapping[str, str]
    rows: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """The sums of all other sites together, and where they come from."""

    sums: AnchoredSums
    shared: Shared

    @property
    def head(self) -> str:
        """Which closed form they are of."""
        return self.shared.features["closed form"]

    def begun(self, carried: Any | None, *, encoder: str, max_length: int) -> Any:
        """A site's own sums as far as it has come, or empty ones over the same features, once they fit.

        Raises:
            DataError: they are over other features.
        """
        own = self.sums.blank() if carried is None else carried
        self.check_fit(own, encoder=encoder, max_length=max_length)
        return own

    def joined(self, own: Any) -> Any:
        """The sums of all sites, of the kind of `own`, whose rows keep their keys; these sums are used up."""
        self.sums.merge(own)
        return self.sums

    def check_fit(self, own: AnchoredSums, *, encoder: str, max_length: int) -> None:
        """Refuse to stand beside sums over other features.

        Raises:
            DataError: something differs; it is named.
        """
        features = features_of(own, encoder=encoder, max_length=max_length)
        differ = [
            f"{name} {theirs!r} and here {features.get(name)!r}"
            for name, theirs in self.shared.features.items()
            if features.get(name) != theirs
        ]
        if differ:
            raise DataError(
                f"the sums of {', '.join(self.shared.sites)} do not fit this training: {'; '.join(differ)}; make the "
                "settings alike and exchange anew, or learn alone again by `perennial federate leave`"
            )

    def write(self, path: Path) -> None:
        """Write one file, whole or not at all; it is a file of sums as a site's own is."""
        self.sums.save(path, {_ABOUT: asdict(self.shared)})

    @classmethod
    def read(cls, path: Path) -> "Others":
        """What `write` left.

        Raises:
            DataError: the file is missing, or is none of these.
        """
        shared = cls.about(path)
        return cls(sums=CLOSED_FORMS[shared.features["closed form"]].load(path), shared=shared)

    @staticmethod
    def about(path: Path) -> Shared:
        """Where the sums of a file come from.

        Raises:
            DataError: the file is missing, or is none of these.
        """
        told: Mapping[str, Any] | None = SumsFile.about_of(path).get(_ABOUT)
        try:
            shared = Shared(**(told or {}))
            known = shared.features["closed form"] in CLOSED_FORMS
        except (TypeError, KeyError) as error:
            raise DataError(f"{path} holds no sums of other sites ({error}); exchange anew") from error
        if not known:
            raise DataError(f"{path} holds sums of a closed form that this release does not know; exchange anew")
        return replace(shared, sites=tuple(shared.sites))


def _probed(features: FourierFeatures) -> str:
    """Three digits of four sums over the map. Another processor may round its last bits otherwise, and still agrees."""
    rng = np.random.default_rng(_PROBES)
    found = []
    for _ in range(4):
        left, right = rng.standard_normal(features.dimension), rng.standard_normal(features.size)
        found.append(f"{left @ features.omega.astype(np.float64) @ right + features.phase @ right:.2e}")
    return " ".join(found)


def _head_of(sums: AnchoredSums) -> str:
    return "ridge" if isinstance(sums, Ridge) else "kernel_lda"
