"""What a model keeps of its exchanges with other sites: their sums, and the keys of rounds that are not over."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from perennial.continual.atomic_file import share_file, write_atomically
from perennial.continual.errors import DataError, Refused
from perennial.continual.federation.others import Others, Shared
from perennial.continual.learning.trained import OTHERS_FILE
from perennial.continual.preparation import admit_name
from perennial.continual.privacy.budget import alone
from perennial.continual.privacy.noise import Privacy, epsilon_of
from perennial.ops.store.workspace import Workspace

__all__ = ["Federation", "OpenRound", "Spent"]

_PRIVATE = 0o600
_SLACK = 1e-6  # of a budget: a single exchange may spend it whole


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRound:
    """A round that this model takes part in: its private key, and the version whose sums were announced."""

    site: str
    private: str
    version: int
    epsilon: float | None = None  # of the noise that was announced; None: none
    delta: float | None = None
    listed: str | None = None  # the digest of the list of sites that sums were sent to; another list gets none

    @property
    def privacy(self) -> Privacy | None:
        """What the exchange may tell of a row; None where no noise was announced."""
        if self.epsilon is None or self.delta is None:
            return None
        return Privacy(epsilon=self.epsilon, delta=self.delta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one exchange has told: `mu` is what a row changes over the noise's standard deviation."""

    round: str  # the public key that was announced
    mu: float
    epsilon: float
    delta: float
    at: str


class Federation:
    """One model's."""

    def __init__(self, workspace: Workspace, model: str) -> None:
        self._folder = workspace.state / "federation" / admit_name(model)

    @property
    def others(self) -> Path | None:
        """The sums of other sites that the next version counts; None where it learns alone."""
        path = self._folder / OTHERS_FILE
        return path if path.is_file() else None

    @property
    def shared(self) -> Shared | None:
        """Where those come from.

        Raises:
            DataError: the file cannot be read.
        """
        return None if self.others is None else Others.about(self.others)

    def lend_others(self, folder: Path) -> Path | None:
        """A name of their own in `folder` for the sums of others as they are now; None where there are none.

        What is taken or left while a version is made changes nothing in it.
        """
        lent = folder / OTHERS_FILE
        lent.unlink(missing_ok=True)  # never written to: older versions may share its content
        kept = self.others
        if kept is None:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            share_file(kept, lent)
        except FileNotFoundError:  # left at this moment
            return None
        return lent

    def keep_others(self, others: Others) -> None:
        """Let the next version count these, and no others that were there."""
        others.write(self._folder / OTHERS_FILE)

    def drop_others(self) -> None:
        """Let the next version learn alone."""
        (self._folder / OTHERS_FILE).unlink(missing_ok=True)

    def open_round(self, public_keys: Iterable[str]) -> OpenRound | None:
        """What is kept of the round in which one of these keys was announced; None where this model takes no part.

        Raises:
            DataError: the file is damaged.
        """
        for key in public_keys:
            path = self._of(key)
            try:
                return OpenRound(**json.loads(path.read_text(encoding="utf-8")))
            except FileNotFoundError:
                continue
            except (ValueError, TypeError) as error:
                raise DataError(f"{path} is damaged ({error}); delete it, and begin a new round") from error
        return None

    def keep_round(self, public_key: str, held: OpenRound) -> None:
        """Keep it, readable by this user alone."""
        write_atomically(self._of(public_key), json.dumps(asdict(held)), mode=_PRIVATE)

    @property
    def spent(self) -> tuple[Spent, ...]:
        """What exchanges with noise have told so far, oldest first.

        Raises:
            DataError: the file is damaged.
        """
        try:
            read = json.loads(self._budget.read_text(encoding="utf-8"))
            return tuple(Spent(**one) for one in read)
        except FileNotFoundError:
            return ()
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self._budget} is damaged ({error}), and tells no more what exchanges have told; restore it from a "
                "backup"
            ) from error

    def spend(self, public_key: str, privacy: Privacy, *, limit: Privacy | None) -> float:
        """Note what a round tells, before it is told; return the epsilon of all rounds at the limit's delta.

        A round is counted once, however often it is sent; of two processes one waits for the other.

        Raises:
            Refused: all rounds together would tell more than the limit allows.
            DataError: what was spent cannot be read.
        """
        with alone(self._folder / "budget.lock"):
            spent = self.spent
            known = any(one.round == public_key for one in spent)
            mu = 1.0 / privacy.multiplier
            told = [one.mu for one in spent] + ([] if known else [mu])
            delta = privacy.delta if limit is None else limit.delta
            epsilon = epsilon_of(math.sqrt(sum(one**2 for one in told)), delta)
            if known:
                return epsilon
            if limit is not None and epsilon > limit.epsilon * (1.0 + _SLACK):
                before = epsilon_of(math.sqrt(sum(one.mu**2 for one in spent)), delta)
                raise Refused(
                    f"with this exchange epsilon would be {epsilon:.3g} at delta {delta:g}, and the budget is "
                    f"{limit.epsilon:g}, of which {len(spent)} exchanges have spent {before:.3g}; announce a smaller "
                    "--epsilon, or raise the budget: [models.NAME.federation] epsilon"
                )
            own = Spent(
                round=public_key,
                mu=mu,
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            write_atomically(self._budget, json.dumps([asdict(one) for one in (*spent, own)], indent=1), mode=_PRIVATE)
            return epsilon

    @property
    def _budget(self) -> Path:
        return self._folder / "budget.json"

    def end_round(self, public_key: str) -> None:
        """Forget the key: from now on nobody can take the masks off what was sent."""
        self._of(public_key).unlink(missing_ok=True)

    def _of(self, public_key: str) -> Path:
        return self._folder / "rounds" / f"{admit_name(public_key, field='public key')}.json"
