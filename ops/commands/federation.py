"""A model's part in learning together with other sites: announce, send, take, leave."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perennial.continual.errors import ConfigurationError, DataError, NotFound, Refused
from perennial.continual.federation.announcement import announcement_of
from perennial.continual.federation.masking import Keys
from perennial.continual.federation.others import features_of
from perennial.continual.federation.round import Round
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.card import ModelCard, read_card
from perennial.continual.learning.closed_form import CLOSED_FORMS
from perennial.continual.learning.names import LearnerName
from perennial.continual.learning.trained import STATISTICS_FILE
from perennial.continual.privacy.noise import Privacy
from perennial.ops.commands.retraining import asked_retraining
from perennial.ops.parts import Parts
from perennial.ops.store.federation import Federation, OpenRound

__all__ = ["Announced", "Left", "Site", "Taken", "show_round"]

LEAST_ROWS = 10
_DIGITS = 32  # of a digest: nobody can find two lists that share so many


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What was announced, and who is there by now."""

    site: str
    version: int
    rows: int
    classes: int
    sites: tuple[str, ...]
    epsilon: float | None = None  # of the noise that is to come; None: none
    delta: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSums:
    """What was sent, and the epsilon that all exchanges with noise have spent by now; None of one without."""

    sites: tuple[str, ...]
    masked: bool
    bytes: int
    round: str
    epsilon_spent: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What others have learnt, and the command that asks for a version with it; None where none can be asked for."""

    sites: tuple[str, ...]
    rows: int
    classes: int
    new_classes: tuple[str, ...]
    round: str
    command: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Whose sums the next version has no more."""

    sites: tuple[str, ...]
    command: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """Who has announced itself and who has sent, and whether the list of sites is fixed.

    `round` is the digest of that list, or of the one that a `send` would fix now; None where nobody is there.
    """

    announced: tuple[str, ...]
    sent: tuple[str, ...]
    closed: bool
    round: str | None


def show_round(folder: Path) -> RoundState:
    """What lies in a round's folder.

    Raises:
        DataError: a file is damaged.
    """
    there = _round(folder)
    listing = there.listing
    return RoundState(
        announced=tuple(there.announced),
        sent=there.sent,
        closed=there.closed is not None,
        round=None if listing is None else listing.digest,
    )


class Site:
    """One model of a workspace as a site of a round."""

    def __init__(self, parts: Parts, model: str) -> None:
        self._parts, self._model = parts, model
        self._held = Federation(parts.workspace, model)

    def announce(
        self, folder: Path, site: str, *, actor: str, privacy: Privacy | None = None, dry_run: bool = False
    ) -> Announced:
        """Say who this is, with the sums of the version that answers now, which are sent with noise where told so.

        Raises:
            NotFound: no version answers.
            Refused: another site has the name, the round is closed, the settings have a budget and no noise is told, or
                other noise was told before.
            DataError: its sums cannot be added to those of the sites that are there.
            ConfigurationError: what answers is no closed form.
        """
        round_ = _round(folder)
        held = self._held.open_round(_keys_in(round_))
        version = self._champion() if held is None else held.version
        keys = Keys.made() if held is None else Keys(held.private)
        if held is not None and privacy not in (None, held.privacy):
            raise Refused(
                f"{held.site} has announced itself in {folder} with {_told(held.privacy)}, not {_told(privacy)}; begin "
                "a new round"
            )
        privacy = privacy if held is None else held.privacy
        self._check_noise(privacy)
        sums, card = self._sums(version)
        features = features_of(sums, encoder=card.encoder_fingerprint, max_length=card.max_length)
        said = announcement_of(sums, site if held is None else held.site, keys, features, privacy)
        told = (None, None) if privacy is None else (privacy.epsilon, privacy.delta)
        new = OpenRound(site=said.site, private=keys.private, version=version, epsilon=told[0], delta=told[1])
        if not dry_run:
            self._held.keep_round(keys.public, new if held is None else held)
            try:
                round_.announce(said)
            except (Refused, DataError):
                if held is None:
                    self._held.end_round(keys.public)
                raise
            self._note(actor, "announced", folder=str(folder), site=said.site, version=version)
        there = tuple(sorted({*round_.announced, said.site}))
        return Announced(
            site=said.site,
            version=version,
            rows=sums.rows,
            classes=len(said.classes),
            sites=there,
            epsilon=told[0],
            delta=told[1],
        )

    def send(
        self,
        folder: Path,
        *,
        sites: int | None,
        unmasked: bool,
        few_rows: bool,
        actor: str,
        agreed: str | None = None,
        dry_run: bool = False,
    ) -> SentSums | None:
        """Leave the sums of the version that was announced; None of a dry run.

        Raises:
            Refused: sites are missing, a class has so few rows that its sum tells of each, the budget is spent, or the
                list of sites has another digest than the one that people `agreed` on, or 32 and more digits of it.
            DataError: the sums have gone, a file of the round is damaged, or the list of sites is another by now.
            NotFound: this model has not announced itself.
        """
        held = self._take_part(folder)
        self._check_noise(held.privacy)  # the budget may have been set since
        sums, _ = self._sums(held.version)
        few = {label: count for label, count in sums.counts.items() if count < LEAST_ROWS}
        if few and not few_rows and held.privacy is None:
            told = ", ".join(f"{label} ({count})" for label, count in list(few.items())[:5])
            raise Refused(
                f"{len(few)} classes have fewer than {LEAST_ROWS} rows, so that their sums tell much of each: {told}; "
                "wait for more rows, announce noise, or send them by --few-rows"
            )
        if dry_run:
            return None
        there, keys, spent = _round(folder), Keys(held.private), None
        there.mine(keys)
        if (listing := there.listing) is not None:  # before a list is fixed that nobody wants
            _check_agreed(folder, listing.digest, agreed)
        listed = there.close(sites, unmasked=unmasked).digest
        _check_agreed(folder, listed, agreed)
        if held.listed not in (None, listed):
            raise DataError(f"the sites in {folder} are others than those that sums were sent to; begin a new round")
        self._held.keep_round(keys.public, replace(held, listed=listed))
        if held.privacy is not None:  # nothing is spent on a round that cannot be
            spent = self._held.spend(keys.public, held.privacy, limit=self._limit)
        sent = there.send(sums, keys, sites=sites, unmasked=unmasked, privacy=held.privacy)
        done = SentSums(**asdict(sent), epsilon_spent=spent)
        self._note(actor, "sent", version=held.version, **asdict(done))
        return done

    def take(self, folder: Path, *, actor: str, dry_run: bool = False) -> Taken:
        """Keep the sums of all other sites for the next version, and ask for it.

        Raises:
            Refused: a site has not sent yet.
            DataError: a file is damaged, the sums are no sums of rows, or versions have other features by now.
            NotFound: this model has not announced itself, or has taken the sums already.
        """
        held = self._take_part(folder)
        kept = self._parts.workspace.bundle(self._model, held.version).is_dir()
        own, card = self._sums(held.version if kept else self._champion())  # only their features matter now
        others = _round(folder).take(own, Keys(held.private))
        others.check_fit(own, encoder=card.encoder_fingerprint, max_length=card.max_length)
        taken = Taken(
            sites=others.shared.sites,
            rows=others.shared.rows,
            classes=len(others.sums.labels),
            new_classes=tuple(sorted(set(others.sums.labels) - set(card.labels))),
            round=others.shared.round,
            command=None,
        )
        if dry_run:
            return taken
        self._held.keep_others(others)
        self._note(actor, "took", sites=list(taken.sites), rows=taken.rows, round=taken.round)
        command = self._asked(actor, "sums of other sites")  # before the key goes: until then all may be repeated
        self._held.end_round(Keys(held.private).public)
        return replace(taken, command=command)

    def leave(self, *, actor: str, dry_run: bool = False) -> Left:
        """Let the next version learn from this site's rows alone, and ask for it.

        Raises:
            NotFound: no sums of others are kept.
        """
        shared = self._held.shared
        if shared is None:
            raise NotFound(f"model {self._model} keeps no sums of other sites; there is nothing to leave")
        if dry_run:
            return Left(sites=shared.sites, command=None)
        self._held.drop_others()
        self._note(actor, "left", sites=list(shared.sites))
        return Left(sites=shared.sites, command=self._asked(actor, "other sites left"))

    @property
    def _limit(self) -> Privacy | None:
        """What all exchanges together may tell; None where nobody has set it."""
        told = self._parts.workspace.model(self._model).federation
        return None if told.epsilon is None else Privacy(epsilon=told.epsilon, delta=told.delta)

    def _check_noise(self, privacy: Privacy | None) -> None:
        if privacy is None and self._limit is not None:
            raise Refused(
                f"the settings of {self._model} have a budget of epsilon {self._limit.epsilon:g}, and sums without "
                "noise spend more than any; begin a round with an --epsilon"
            )

    def _asked(self, actor: str, reason: str) -> int | None:
        return asked_retraining(self._parts.ledger, self._model, actor, reason=reason)

    def _champion(self) -> int:
        route = self._parts.ledger.route(self._model)
        if route is None:
            raise NotFound(f"model {self._model} serves no version yet; make one by `perennial init`")
        return route.champion

    def _note(self, actor: str, done: str, **what: Any) -> None:
        self._parts.ledger.audit(actor, f"federation.{done}", self._model, what)

    def _take_part(self, folder: Path) -> OpenRound:
        held = self._held.open_round(_keys_in(_round(folder)))
        if held is None:
            raise NotFound(
                f"model {self._model} takes no part in the round in {folder}, or has taken its sums already; begin by "
                f"`perennial federate announce {folder} --site NAME`"
            )
        return held

    def _sums(self, version: int) -> tuple[AnchoredSums, ModelCard]:
        """A version's own sums, without those of others."""
        bundle = self._parts.workspace.bundle(self._model, version)
        statistics = bundle / STATISTICS_FILE
        if not bundle.is_dir():
            raise DataError(
                f"version {version} of {self._model}, which was announced, has been removed; begin a new round"
            )
        card = read_card(bundle)
        if card.head not in CLOSED_FORMS or not statistics.is_file() or card.learner == LearnerName.FINETUNE:
            raise ConfigurationError(
                f"version {version} of {self._model} is no closed form on an untouched encoder (learner "
                f'{card.learner!r}, head {card.head!r}), and only sums can be exchanged; set learner = "ridge" and '
                "train a version"
            )
        sums: AnchoredSums = CLOSED_FORMS[card.head].load(statistics)
        return sums, card


def _told(privacy: Privacy | None) -> str:
    return "no noise" if privacy is None else f"epsilon {privacy.epsilon:g} and delta {privacy.delta:g}"


def _check_agreed(folder: Path, digest: str, agreed: str | None) -> None:
    if agreed is not None and digest[: max(len(agreed), _DIGITS)] != agreed:
        raise Refused(
            f"the sites in {folder} have the digest {digest}, not {agreed}: another site or key, or fewer than "
            f"{_DIGITS} digits; compare what `perennial federate show` prints at each site, and begin a new round"
        )


def _keys_in(there: Round) -> list[str]:
    return [said.public_key for said in there.announced.values()]


def _round(folder: Path) -> Round:
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}; make one that all sites of the round can read and write")
    return Round(folder)
