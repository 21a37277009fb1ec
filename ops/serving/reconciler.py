"""Makes disk, every Triton and the router's file match the ledger; safe to run at any time, by anybody, twice."""

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from perennial.continual.errors import BundleRejected, DependencyUnreachable, NotFound, PerennialError, PublishFailed
from perennial.continual.records import Route
from perennial.exporters.golden import GOLDEN, Golden
from perennial.ops.ledger import Ledger
from perennial.ops.serving.control import NoSecret, TritonControl
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.store.ledger_guard import LedgerBehind, check_not_behind
from perennial.ops.store.removals import is_removed
from perennial.ops.store.route_changes import restore_route_file
from perennial.ops.store.workspace import Workspace

__all__ = ["Healed", "Reconciler"]

logger = logging.getLogger(__name__)
_PATIENCE_PAUSE_S = 0.25
_WAKE_S = 1.0  # a rollback has no time to lose


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """One difference between the ledger and the world that a pass removed."""

    model: str
    what: str


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one pass over one server, or over all of them, did and could not do."""

    healed: list[Healed]
    errors: dict[str, PerennialError]  # by server, "" for the disk


class Reconciler:
    """Desired state is the ledger's route; everything else follows it.

    Args:
        ledger: where the route is.
        workspace: where the router's file lies.
        repository: what the servers load; all of them share it, and the route folder.
        controls: the servers; each pass speaks to all of them at once.
        answer_s: how long a pass waits for a server to say that it is there.
    """

    def __init__(
        self,
        ledger: Ledger,
        workspace: Workspace,
        repository: ModelRepository,
        controls: tuple[TritonControl, ...],
        *,
        answer_s: float = 3.0,
    ) -> None:
        self._ledger, self._workspace, self._repository, self._controls = ledger, workspace, repository, controls
        self._answer_s = answer_s
        self._proved: set[tuple[str, str, int]] = set()  # (server, model, version) that repeated their golden answers
        self._wrong: dict[tuple[str, str], str] = {}  # (model, server) -> what the last pass could not mend
        self._state, self._alone = threading.Lock(), threading.Lock()

    @property
    def wrong(self) -> Mapping[tuple[str, str], str]:
        """What the last passes could not mend, by model and server; the disk is the server ""."""
        with self._state:
            return dict(self._wrong)

    def proved(self, model: str, version: int) -> bool:
        """Whether the last pass found nothing wrong, and this version on every server; it may have gone since."""
        engine = self._workspace.engine_model(model)
        with self._state:
            well = not any(name == model for name, _ in self._wrong)
            return well and all((control.url, engine, version) in self._proved for control in self._controls)

    def reconcile(self, model: str, *, patience_s: float = 0.0) -> list[Healed]:
        """Bring one model to its route on every server, and return what had to be healed.

        Versions are loaded before the router's file may name them, and dropped only after it no longer does. A server
        that is down or wrong keeps no other one waiting: all that can be healed is, then the errors are raised as one.
        With `patience_s`, servers that do not answer, because they are being restarted, are tried again for so long.

        Raises:
            PublishFailed: a resident version's folder is missing, or did not come up; BundleRejected: it came up and
                does not repeat its golden answers; DependencyUnreachable: a server does not answer. The message names
                each server. LedgerBehind: the ledger is older than what the routers were told; nothing was changed.
        """
        healed, end = list[Healed](), time.monotonic() + patience_s
        while True:
            done = self._pass(model)
            healed += done.healed
            if not done.errors:
                return healed
            away = all(isinstance(error, DependencyUnreachable) for error in done.errors.values())
            if not away or time.monotonic() > end:
                raise _as_one(model, done.errors, len(self._controls))
            time.sleep(_PATIENCE_PAUSE_S)

    def _pass(self, model: str) -> _Pass:
        with self._one_at_a_time(model):
            route = self._ledger.route(model)  # read inside: a pass must not bring back what a later one left behind
            done = self._guarded(model, route)
            if (done.healed or done.errors) and is_removed(self._ledger, model):
                self.let_go(model)  # it was removed while it was loaded: nobody else lets go of it now
        for heal in done.healed:
            logger.info("reconcile.healed", extra={"model": model, "what": heal.what})
        with self._state:
            self._wrong = {key: what for key, what in self._wrong.items() if key[0] != model}
            self._wrong |= {(model, url): str(error) for url, error in done.errors.items()}
        return done

    def _guarded(self, model: str, route: Route | None) -> _Pass:
        """Bring the model to a route that may be trusted; a ledger that is behind the routers commands nobody.

        Nothing is brought up of a model that was removed, whatever its route says.
        """
        try:
            check_not_behind(route, self._workspace, model)
        except LedgerBehind as exc:
            return _Pass([], {"": exc})
        if route is None or is_removed(self._ledger, model):
            return _Pass([], {})
        return self._bring(route)

    def wake(self, model: str, version: int) -> None:
        """Have every server's process of a resident version ready to answer before the routers are told of it.

        One that only waited holds no engine, and loads it at the first question. A server that does not answer is
        waited for no longer than `_WAKE_S`; one that lacks the version is another matter.

        Raises:
            PublishFailed: the version's files are gone, or it says at a server twice that it cannot answer, or gives
                other answers than its golden ones; it is to be led to by no route.
        """
        engine, bundle = self._workspace.engine_model(model), self._workspace.bundle(model, version)
        if bundle.is_dir() and not (bundle / GOLDEN).is_file():  # nothing to ask; its engine is never let go of
            return

        def ask(control: TritonControl) -> list[Healed]:
            if not bundle.is_dir():
                if version in control.versions(engine):  # it may have let go of what nothing can bring back
                    raise PublishFailed(
                        f"the files of version {version} are gone from {bundle.parent}; bring them back, or choose "
                        "another version"
                    )
                return []
            probe = partial(control.probe_engine, engine, version, Golden.read(bundle), timeout_s=_WAKE_S)
            with suppress(NoSecret):  # this process may not ask, and cannot tell
                try:
                    probe()
                except PublishFailed:  # its process may just have been replaced, or memory have been short
                    probe()
            return []

        for url, error in self._on_all(ask).errors.items():
            facts = {"model": model, "version": version, "url": url, "error": str(error)}
            logger.warning("version.not_woken", extra=facts)
            if not isinstance(error, DependencyUnreachable | NotFound):
                raise PublishFailed(
                    f"version {version} of {model} cannot answer at {url} and the champion stays: {error}"
                ) from error

    def follow(self, workspace: Workspace) -> None:
        """Know the models that came since the start; one that goes is to be known until it is let go."""
        self._workspace = workspace

    def let_go(self, model: str) -> None:
        """Have no server hold a model any more; one that is away holds it until it is started anew."""
        for control in self._controls:
            for name in (*self._workspace.routers(model), self._workspace.engine_model(model)):
                try:
                    control.unload(name)
                except PerennialError as exc:
                    facts = {"model": name, "url": control.url, "error": str(exc)}
                    logger.warning("model.not_unloaded", extra=facts)

    def unload_strangers(self, keep: frozenset[str]) -> list[str]:
        """Unload every model but `keep` from every server that answers; only for servers that are ours alone."""
        gone = []
        for control in self._controls:
            for name in sorted({e.model for e in control.index() if e.state == "READY"} - keep):
                control.unload(name)
                gone.append(name)
                logger.info("reconcile.unloaded", extra={"model": name, "url": control.url})
        return gone

    def _bring(self, route: Route) -> _Pass:
        errors: dict[str, PerennialError] = {}
        engine = self._workspace.engine_model(route.model)
        on_disk = tuple(v for v in route.resident if self._workspace.bundle(route.model, v).is_dir())
        if missing := sorted(set(route.resident) - set(on_disk)):
            errors[""] = PublishFailed(
                f"versions {missing} of {route.model} are in the route but not in "
                f"{self._workspace.repository / engine}; restore the folders, or roll back to one that is there"
            )
        healed = list[Healed]()
        if not on_disk:
            return _Pass(healed, errors)
        # what the file still names stays loaded until the file has changed
        named = self._named_by_file(route.model) & set(self._repository.versions(engine))
        for name in self._repository.restore_configurations((engine, *self._workspace.routers(route.model))):
            healed.append(Healed(model=route.model, what=f"config.pbtxt of {name} was altered and is as installed"))
        changed = self._repository.set_versions(engine, named | set(on_disk))
        added = self._on_all(lambda control: self._add(control, route, on_disk))
        if (settled := restore_route_file(self._ledger, self._workspace, route.model)) is not None:
            healed.append(Healed(model=route.model, what=f"route file brought to epoch {settled.epoch}"))
        changed = self._repository.set_versions(engine, on_disk) or changed
        if changed:
            healed.append(Healed(model=route.model, what=f"config.pbtxt of {engine} names versions {list(on_disk)}"))
        away = {url for url, error in added.errors.items() if isinstance(error, DependencyUnreachable)}
        dropped = self._on_all(lambda control: [] if control.url in away else self._drop(control, route, on_disk))
        return _Pass(healed + added.healed + dropped.healed, errors | dropped.errors | added.errors)

    def _named_by_file(self, model: str) -> set[int]:
        seen = self._workspace.read_route(model)
        return set() if seen is None else {v for v in (seen.champion, seen.challenger) if v is not None}

    def _on_all(self, work: Callable[[TritonControl], list[Healed]]) -> _Pass:
        """Do it on every server at once; one that fails fails alone."""
        if len(self._controls) == 1:
            results = [_attempt(work, self._controls[0])]
        else:
            with ThreadPoolExecutor(max(1, len(self._controls)), "reconcile") as pool:
                results = list(pool.map(lambda control: _attempt(work, control), self._controls))
        healed = [heal for result in results if isinstance(result, list) for heal in result]
        pairs = zip(self._controls, results, strict=True)
        return _Pass(healed, {c.url: r for c, r in pairs if isinstance(r, PerennialError)})

    def _add(self, control: TritonControl, route: Route, wanted: tuple[int, ...]) -> list[Healed]:
        """Load what a server lacks and have it prove itself, then see to the router."""
        control.wait_live(self._answer_s)  # one that has just been restarted is met with a channel that still pauses
        engine, healed = self._workspace.engine_model(route.model), list[Healed]()
        failed = list[PerennialError]()
        before = control.versions(engine)
        self._forget(control, engine, before)
        if not set(wanted) <= before:
            try:
                self._load(control, engine, route, before)
            except PublishFailed as exc:
                failed.append(exc)
            if (after := control.versions(engine)) != before:
                what = f"{control.url} took {engine} from {sorted(before)} to {sorted(after)}"
                healed.append(Healed(model=route.model, what=what))
        for version in wanted:
            try:
                self._prove_on(control, route.model, version)
            except PerennialError as exc:
                failed.append(exc)
        for router in self._workspace.routers(route.model):
            if control.versions(router):
                continue
            control.load(router)
            if not control.versions(router):
                raise DependencyUnreachable(f"router {router} at {control.url} is not ready after a load; see its log")
            healed.append(Healed(model=route.model, what=f"{control.url} loaded router {router}"))
        if failed:
            raise failed[0]
        return healed

    def _load(self, control: TritonControl, engine: str, route: Route, before: frozenset[int]) -> None:
        """Load all that `config.pbtxt` names; where that fails and nobody could answer, at least the champion.

        Triton loads all of the versions or none: after a restart, one broken version would take the others with it.
        Where the champion is the broken one, the version before it answers in its place.
        """
        try:
            control.load(engine)
        except PublishFailed as exc:
            if route.champion in before:
                raise
            loaded = self._load_some(control, engine, route, before)
            if not loaded:
                raise
            event = "reconcile.champion_only" if route.champion in loaded else "reconcile.previous_only"
            logger.error(event, extra={"model": route.model, "url": control.url, "error": str(exc)})
            versions = ", ".join(map(str, sorted(loaded)))
            raise PublishFailed(f"only version {versions} of {engine} could be loaded: {exc}") from exc

    def _load_some(self, control: TritonControl, engine: str, route: Route, before: frozenset[int]) -> set[int] | None:
        """Load the champion beside what is held, or else the version before it alone; return what was loaded."""
        with self._alone:  # the other servers read the same file
            wanted = set(self._repository.engine_versions(engine))  # and what the router's file still names
            held = before & wanted
            choices = [{route.champion, *held}] + ([] if held or route.previous is None else [{route.previous}])
            try:
                for choice in choices:
                    if choice < wanted:  # else it was tried already, or is not there
                        self._repository.set_versions(engine, choice)
                        with suppress(PublishFailed):
                            control.load(engine)
                            return choice
            finally:
                self._repository.set_versions(engine, wanted)
        return None

    def _drop(self, control: TritonControl, route: Route, wanted: tuple[int, ...]) -> list[Healed]:
        """Unload what neither the ledger nor the router's file names any more."""
        engine = self._workspace.engine_model(route.model)
        gone = control.versions(engine) - set(wanted)
        if not gone:
            return []
        control.load(engine)
        return [Healed(model=route.model, what=f"{control.url} let go of {sorted(gone)} of {engine}")]

    def _prove_on(self, control: TritonControl, model: str, version: int) -> None:
        engine = self._workspace.engine_model(model)
        if not control.ready(engine, version):
            raise PublishFailed(
                f"{engine} version {version} is not ready at {control.url} after a load; see Triton's log"
            )
        key = (control.url, engine, version)
        if key not in self._proved:
            control.probe_engine(engine, version, Golden.read(self._workspace.bundle(model, version)))
            with self._state:
                self._proved.add(key)

    def _forget(self, control: TritonControl, engine: str, ready: frozenset[int]) -> None:
        """What a server does not hold now proves itself anew when it is loaded again."""
        with self._state:
            gone = {(u, e, v) for u, e, v in self._proved if u == control.url and e == engine and v not in ready}
            self._proved -= gone

    @contextmanager
    def _one_at_a_time(self, model: str) -> Iterator[None]:
        """One pass a model, over all threads and processes of this workspace."""
        path = self._workspace.route_file(model).with_suffix(".reconcile")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _attempt(work: Callable[[TritonControl], list[Healed]], control: TritonControl) -> list[Healed] | PerennialError:
    try:
        return work(control)
    except PerennialError as exc:
        return exc


def _as_one(model: str, errors: Mapping[str, PerennialError], servers: int) -> PerennialError:
    """One error for all: of the kind that they share, or else `PublishFailed`."""
    if len(errors) == 1 and (servers == 1 or isinstance(errors.get(""), LedgerBehind)):
        return next(iter(errors.values()))
    kinds = {type(error) for error in errors.values()}
    kind = kinds.pop() if len(kinds) == 1 else PublishFailed
    if not issubclass(kind, DependencyUnreachable | PublishFailed | BundleRejected | LedgerBehind):
        kind = PublishFailed
    reasons = "; ".join(f"{url or 'the repository'}: {error}" for url, error in errors.items())
    wrong = sum(1 for url in errors if url)
    return kind(f"{model}: {wrong} of {servers} servers do not match the ledger: {reasons}")
