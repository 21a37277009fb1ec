"""A round: sites meet in a folder, say who they are, leave their sums, and take the sums of all others.

The folder lies wherever every site can write to: a shared disk, a mounted bucket. Each file in it is written whole, by
one site, and once:

    NAME.site.json            what the site says of itself
    sites.json                the list that the round is closed with, by the first site that sends
    NAME.sums.safetensors     its sums, masked
"""

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError, NotFound, Refused
from perennial.continual.federation.announcement import LEAST_OPEN, LEAST_SITES, Announcement, SiteList, seal_of
from perennial.continual.federation.left_file import read_left
from perennial.continual.federation.masking import ROOM, FixedPoint, Keys, masked, unmasked
from perennial.continual.federation.others import Others, Shared
from perennial.continual.federation.totals import check_size, settled
from perennial.continual.federation.vectors import from_vector, to_vector
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import PLAIN_OUTER, PLAIN_SUMS
from perennial.continual.learning.sums import NamedSums, SumsFile
from perennial.continual.privacy.noise import Normal, Privacy, longest_row, noised, outer_noise, sound

__all__ = ["Round", "Sent"]

_SITE, _SUMS, _LIST = ".site.json", ".sums.safetensors", "sites.json"
_FORMAT, _WORDS, _CLASS = "perennial-masked-sums-1", "words", "class"
_SQUARES = ("outer", PLAIN_OUTER)
_SHARED = 0o644  # whatever the umask: the other sites may be other users of the machine
_HEADER = 2**16  # bytes: most by which files of equally many numbers differ
Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a site has left in a round's folder.

    >>> Sent(sites=("a", "b", "c"), masked=True, bytes=8, round="0f").masked
    True
    """

    sites: tuple[str, ...]
    masked: bool
    bytes: int
    round: str  # the digest of the list: people at two sites who compare it know that both mean the same sites and keys


class Round:
    """One exchange in a folder; every step may be repeated.

    >>> Round(Path("nowhere")).announced
    {}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._agreed: SiteList | None = None  # the one that `close` gave; a second look might see another

    @property
    def announced(self) -> dict[str, Announcement]:
        """Who has said so, by name.

        Raises:
            DataError: a file is damaged.
        """
        return {path.name.removesuffix(_SITE): self._said(path) for path in sorted(self.folder.glob(f"*{_SITE}"))}

    @property
    def sent(self) -> tuple[str, ...]:
        """The sites whose sums are there."""
        return tuple(sorted(path.name.removesuffix(_SUMS) for path in self.folder.glob(f"*{_SUMS}")))

    @property
    def closed(self) -> SiteList | None:
        """The list of sites, once it is fixed.

        Raises:
            DataError: the file is damaged, or an announcement has changed since.
        """
        path = self.folder / _LIST
        try:
            listed = SiteList.of(read_left(path).decode())
        except FileNotFoundError:
            return None
        except (DataError, ValueError) as error:
            raise DataError(f"{path} cannot be used: {error}; begin a new round in another folder") from error
        self._listed(listed)
        return listed

    @property
    def listing(self) -> SiteList | None:
        """The list of sites as it is fixed, or as `close` would fix it now; None where nobody is there.

        Raises:
            DataError: a file is damaged, or has changed since the list was fixed.
        """
        listed, there = self.closed, self.announced
        return self._listing(there) if listed is None and there else listed

    def announce(self, said: Announcement) -> None:
        """Say who we are; said again it changes nothing.

        Raises:
            Refused: another site has that name, or the list of sites is fixed.
            DataError: a site that is there has other features.
        """
        there = self.announced
        if (same := there.get(said.site)) is not None:
            if same == said:
                return
            if same.public_key != said.public_key:
                raise Refused(f"a site {said.site} has announced itself in {self.folder}; choose another name")
        if (closed := self.closed) is not None:
            raise Refused(
                f"the round in {self.folder} is closed with {', '.join(sorted(closed.sites))}; begin a new one in "
                "another folder"
            )
        for other in there.values():
            if other.site != said.site:
                other.check_alike(said)
        write_atomically(self.folder / f"{said.site}{_SITE}", said.text(), mode=_SHARED)

    def mine(self, keys: Keys) -> Announcement:
        """What the site with these keys has said.

        Raises:
            NotFound: nothing.
        """
        for said in self.announced.values():
            if said.public_key == keys.public:
                return said
        raise NotFound(f"this site has not announced itself in {self.folder}; `perennial federate announce` does")

    def send(
        self,
        sums: AnchoredSums,
        keys: Keys,
        *,
        sites: int | None = None,
        unmasked: bool = False,
        privacy: Privacy | None = None,
    ) -> Sent:
        """Leave the sums of this site; the list of sites is fixed from the first one on. Sent again it changes nothing.

        Args:
            sums: those that were announced.
            keys: this site's.
            sites: how many are expected; fewer are waited for.
            unmasked: with fewer than three sites, leave sums that whoever sees the folder can read.
            privacy: that was announced.

        Raises:
            Refused: sites are missing, or there are fewer than three.
            DataError: the sums are not those that were announced, or a file has changed.
            NotFound: this site has not announced itself.
        """
        said, listed = self.mine(keys), self.close(sites, unmasked=unmasked)
        if said.site not in listed.sites:
            raise Refused(f"the round was closed without {said.site}, which came later; take part in the next one")
        all_said = self._listed(listed)
        _check_same(said, all_said)
        spread = 0.0 if privacy is None else outer_noise(longest_row(sums), privacy.multiplier)
        if spread != said.spread:
            raise DataError("noise was announced that is not what is to be sent; begin a new round")
        if (0 if spread else sums.rows, tuple(sorted(sums.counts))) != (said.rows, said.classes):
            raise DataError(f"the sums hold {sums.rows} rows, and {said.rows} were announced; begin a new round")
        if seal_of(sums, keys) != said.seal:  # under the same masks, two would show how they differ
            raise DataError("the sums are not those that were announced; begin a new round")
        values = self._vector(sums, all_said, privacy, keys.noise())
        if np.abs(values).max(initial=0.0) > said.largest + ROOM:
            raise DataError(f"a sum is farther from 0 than {said.largest:.0f}; exchange the sums of fewer rows")
        words = self._point(all_said).encoded(values)
        if not listed.open:
            words = masked(words, said.site, keys, _peers(all_said, said.site), _salt(listed))
        about = {"site": said.site, "round": listed.digest, "sha256": sha256(words.tobytes()).hexdigest()}
        path = self.folder / f"{said.site}{_SUMS}"  # what lies there may be of somebody else
        SumsFile(format=_FORMAT, tensors={_WORDS: words}, about=about).write(path, mode=_SHARED)
        sizes = path.stat().st_size
        return Sent(sites=tuple(sorted(listed.sites)), masked=not listed.open, bytes=sizes, round=listed.digest)

    def take(self, own: AnchoredSums, keys: Keys) -> Others:
        """The sums of all other sites together.

        Args:
            own: this site's sums, for their features alone.
            keys: this site's.

        Raises:
            Refused: sites have not sent yet; they are named.
            DataError: a file is damaged or of another round, or the masks do not cancel.
            NotFound: this site has not announced itself.
        """
        said, listed = self.mine(keys), self.closed
        missing = sorted(set(listed.sites) - set(self.sent)) if listed is not None else sorted(self.announced)
        if listed is None or missing:
            raise Refused(f"{', '.join(missing)} have not sent their sums to {self.folder}; wait for them")
        all_said = self._listed(listed)
        _check_same(said, all_said)
        total = np.zeros(0, dtype=np.uint64)
        sizes = {site: (self.folder / f"{site}{_SUMS}").stat().st_size for site in listed.sites}
        usual = sizes.get(said.site, min(sizes.values()))
        for site in sorted(listed.sites):
            if sizes[site] > usual + _HEADER:
                raise DataError(f"{site} has sent more numbers than others; begin a new round without it")
            words = self._words(site, listed)
            if site == said.site:
                if not listed.open:  # what we sent is ours alone without its masks
                    words = words - unmasked(words, site, keys, _peers(all_said, site), _salt(listed))
                else:
                    words = np.zeros_like(words)
            if len(total) not in (0, len(words)):
                raise DataError(f"{site} has sent {len(words)} numbers, and others {len(total)}; begin a new round")
            total = words if not len(total) else total + words
        vector = self._point(all_said).decoded(total)
        check_size(vector, 1.0 + sum(each.largest + ROOM for each in all_said.values()))
        named = from_vector(vector, self._layout(own, all_said), {_CLASS: _classes(all_said)}, _SQUARES)
        theirs = [each for each in all_said.values() if each.site != said.site]
        spread = math.sqrt(sum(each.spread**2 for each in theirs))
        if spread:
            others = own.of_named(sound(named, spread))
        else:
            others = settled(own, named, sum(each.rows for each in theirs))
        shared = Shared(
            round=listed.digest,
            sites=tuple(site for site in sorted(listed.sites) if site != said.site),
            features=said.features,
            rows=others.rows,
            digest=sha256(vector.tobytes()).hexdigest(),
        )
        return Others(sums=others, shared=shared)

    def close(self, sites: int | None = None, *, unmasked: bool = False) -> SiteList:
        """The list of sites, fixed now if it is not yet; see `send`, which sends to the list that was closed here.

        Raises:
            Refused: sites are missing, or there are fewer than three.
            DataError: a file has changed.
        """
        if self._agreed is None:
            self._agreed = self._closing(sites, unmasked=unmasked)
        return self._agreed

    def _closing(self, sites: int | None, *, unmasked: bool) -> SiteList:
        if (listed := self.closed) is not None:
            if listed.open and not unmasked:
                raise Refused(
                    f"the round in {self.folder} has {len(listed.sites)} sites, and sums in it can be read by all of "
                    "them; agree to that by --open"
                )
            if sites is not None and len(listed.sites) != sites:
                names = ", ".join(sorted(listed.sites))
                raise Refused(f"the round is closed with {len(listed.sites)} sites ({names}), not {sites}; begin anew")
            return listed
        there = self.announced
        if sites is not None and len(there) != sites:
            raise Refused(f"{len(there)} sites have announced themselves ({', '.join(there)}), not {sites}; wait")
        if len(there) < LEAST_OPEN or (len(there) < LEAST_SITES and not unmasked):
            raise Refused(
                f"{len(there)} sites have announced themselves ({', '.join(there)}); with fewer than {LEAST_SITES} "
                "each reads the other's sums: wait for more, or agree to that by --open"
            )
        first, *rest = there.values()
        for other in rest:
            first.check_alike(other)
        wanted = self._listing(there)
        try:
            self._fix(wanted)
        except FileExistsError:
            return self._closing(sites, unmasked=unmasked)  # another site was first
        return wanted

    def _listing(self, there: Iterable[str]) -> SiteList:
        digests = {site: sha256(read_left(self.folder / f"{site}{_SITE}")).hexdigest() for site in there}
        return SiteList(sites=digests, open=len(digests) < LEAST_SITES)

    def _fix(self, listed: SiteList) -> None:
        """Write the list if there is none; a reader sees all of it or nothing where the file system has links."""
        draft = self.folder / f".{_LIST}.{secrets.token_hex(8)}"
        try:
            draft.write_text(listed.text(), encoding="utf-8")
            draft.chmod(_SHARED)
            try:
                (self.folder / _LIST).hardlink_to(draft)
            except FileExistsError:
                raise
            except OSError:  # a mounted bucket has no links
                with (self.folder / _LIST).open("x", encoding="utf-8") as file:
                    file.write(listed.text())
        finally:
            draft.unlink(missing_ok=True)

    def _said(self, path: Path, content: bytes | None = None) -> Announcement:
        try:
            said = Announcement.of((read_left(path) if content is None else content).decode())
        except (DataError, OSError, ValueError) as error:
            raise DataError(f"{path} cannot be used: {error}; let that site announce itself anew") from error
        if said.site != path.name.removesuffix(_SITE):
            raise DataError(f"{path} names the site {said.site!r}; a site's file bears its name")
        return said

    def _listed(self, listed: SiteList) -> dict[str, Announcement]:
        """What the sites of a round have said, read from the very bytes of the list: a second look might see others."""
        found = {}
        for site, digest in listed.sites.items():
            path = self.folder / f"{site}{_SITE}"
            content = read_left(path) if path.is_file() else b""
            if sha256(content).hexdigest() != digest:
                raise DataError(f"{path} is not what it was when the round was closed; begin a new round")
            found[site] = self._said(path, content)
        return found

    def _point(self, said: Mapping[str, Announcement]) -> FixedPoint:
        return FixedPoint(largest=sum(each.largest for each in said.values()), sites=len(said))

    def _layout(self, sums: AnchoredSums, said: Mapping[str, Announcement]) -> dict[str, tuple[str | int, ...]]:
        plain = all(each.plain for each in said.values())
        layout = sums.named.layout
        return {name: axes for name, axes in layout.items() if plain or name not in (PLAIN_SUMS, PLAIN_OUTER)}

    def _vector(
        self,
        sums: AnchoredSums,
        said: Mapping[str, Announcement],
        privacy: Privacy | None,
        rng: Normal,
    ) -> NDArray[np.float64]:
        layout = self._layout(sums, said)
        sent = NamedSums(layout)
        sent.restore({_CLASS: sums.named.entries(_CLASS)}, {name: sums.named.arrays[name] for name in layout})
        if privacy is not None:
            sent = noised(sent, longest_row(sums), privacy.multiplier, rng)
        return to_vector(sent, {_CLASS: _classes(said)}, _SQUARES)

    def _words(self, site: str, listed: SiteList) -> Words:
        path = self.folder / f"{site}{_SUMS}"
        try:
            file = SumsFile.read(path)
            file.check_format(path, _FORMAT)
            words: Words = file.tensors[_WORDS]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} holds no sums ({type(error).__name__}: {error}); let {site} send anew") from error
        if (file.about.get("round"), file.about.get("site")) != (listed.digest, site):
            raise DataError(f"{path} is of another round or site; let {site} send it anew")
        if words.dtype != np.uint64 or words.ndim != 1:
            raise DataError(
                f"{path} holds {words.dtype} of shape {words.shape} and no masked sums; let {site} send anew"
            )
        if sha256(words.tobytes()).hexdigest() != file.about.get("sha256"):
            raise DataError(f"{path} is damaged: its numbers are not those that {site} sent; copy the file anew")
        return words


def _classes(said: Mapping[str, Announcement]) -> Sequence[str]:
    return sorted({label for each in said.values() for label in each.classes})


def _peers(said: Mapping[str, Announcement], site: str) -> dict[str, str]:
    return {name: each.public_key for name, each in said.items() if name != site}


def _salt(listed: SiteList) -> bytes:
    return bytes.fromhex(listed.digest)


def _check_same(said: Announcement, all_said: Mapping[str, Announcement]) -> None:
    """What this site has said must be in the list that all sites compare, its own key above all.

    Raises:
        DataError: something else is there in its name.
    """
    if all_said.get(said.site, said) != said:
        raise DataError(f"the round has another announcement of {said.site} than its own; begin a new round")
