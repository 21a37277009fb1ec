"""Where everything lies: one folder for state, one for what Triton loads."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import ConfigurationError, DataError, NotFound, Refused
from perennial.continual.preparation import admit_name, shown
from perennial.continual.records import Route
from perennial.continual.tasks import STREAMED
from perennial.ops.settings import ModelSettings, Settings

__all__ = ["Workspace"]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The paths of a workspace, derived from its settings.

    A model's name becomes part of a path only if it passes the rule of names; DataError is raised where it does not.
    """

    settings: Settings

    @property
    def state(self) -> Path:
        """Ledger, traffic, runs, reports and caches."""
        return self.settings.state

    @property
    def repository(self) -> Path:
        """What Triton loads."""
        return self.settings.repository

    @property
    def cache(self) -> Path:
        """What may be deleted at any time."""
        return self.state / "cache"

    def engines(self, model: str) -> Path:
        """What a toolkit compiled of a model's versions, where whoever loads one of them finds it."""
        return self.cache / "engines" / model

    @property
    def embeddings(self) -> Path:
        """Embeddings of texts, which the trainings of all models share."""
        return self.state / "embeddings"

    def model(self, name: str) -> ModelSettings:
        """One model's settings.

        Raises:
            NotFound: the settings do not name it.
            ConfigurationError: its section cannot be used.
        """
        try:
            return self.settings.models[name]
        except KeyError:
            if (refused := self.settings.refused.get(name)) is not None:
                raise ConfigurationError(f"the settings of model {name} cannot be used: {refused.problem}") from None
            known = ", ".join(sorted(self.settings.models)) or "none"
            raise NotFound(f"model {shown(name)} is not in the settings; they name {known}") from None

    def engine_model(self, name: str) -> str:
        """The Triton model that holds the versions."""
        return f"{admit_name(name)}_engine"

    def stream_model(self, name: str) -> str | None:
        """The Triton model that sends answers piece by piece; None where the task has no pieces."""
        return f"{admit_name(name)}_stream" if self.settings.task_of(name) in STREAMED else None

    def routers(self, name: str) -> tuple[str, ...]:
        """The Triton models that clients call."""
        streaming = self.stream_model(name)
        return (name,) if streaming is None else (name, streaming)

    def bundle(self, name: str, version: int) -> Path:
        """A version's folder."""
        return self.repository / self.engine_model(name) / str(version)

    def champion(self, name: str) -> Path | None:
        """The folder of the version that answers, by the router's file; None where none does."""
        route = self.read_route(name)
        return None if route is None else self.bundle(name, route.champion)

    def traffic(self, name: str) -> Path:
        """The model's log of answered requests."""
        return self.state / "traffic" / admit_name(name)

    def items(self, name: str) -> Path:
        """The catalogue of a model that puts items in order."""
        return self.state / "items" / f"{admit_name(name)}.jsonl"

    def replies(self, name: str) -> Path:
        """The library of replies of a model that answers customers, and what became of answers."""
        return self.state / "replies" / f"{admit_name(name)}.db"

    def user_events(self, name: str) -> Path:
        """What is known of each user of the model now, where its task has users."""
        return self.state / "users" / f"{admit_name(name)}.db"

    def headlines(self, name: str) -> Path:
        """The headlines that the model answered lately, with their events and alerts, where its task has such."""
        return self.state / "headlines" / f"{admit_name(name)}.db"

    def images(self, name: str) -> Path:
        """The pictures that the model's rows and log name, where its task has such."""
        return self.state / "images" / admit_name(name)

    def named_inputs(self, name: str) -> Path | None:
        """Where the inputs lie that the model's rows only name; None where rows hold them."""
        return self.images(name) if self.settings.task_of(name) == "image_classification" else None

    def feeds(self, name: str) -> Path:
        """Where each feed of the model was left."""
        return self.state / "feeds" / f"{admit_name(name)}.db"

    def memory(self, name: str) -> Path:
        """What the model's routers remember beside its versions, by its task."""
        own = {"image_classification": self.images, "opinion": self.headlines, "replies": self.replies}
        return own.get(self.settings.task_of(name), self.user_events)(name)

    def route_file(self, name: str) -> Path:
        """What the router reads."""
        return self.state / "route" / f"{admit_name(name)}.json"

    def run(self, name: str, version: int) -> Path:
        """The work folder of a challenger's training and export."""
        return self.runs(name) / str(version)

    def runs(self, name: str) -> Path:
        """The work folders of all of a model's trainings and exports."""
        return self.state / "runs" / admit_name(name)

    def reports(self, name: str) -> Path:
        """Drift references and Evidently reports."""
        return self.state / "reports" / admit_name(name)

    def reference(self, name: str, version: int) -> Path:
        """What a version's traffic is compared with."""
        return self.reports(name) / f"reference-{version}"

    @property
    def evidently(self) -> Path:
        """The workspace that `evidently ui` opens."""
        return self.state / "evidently"

    def write_route(self, route: Route) -> bool:
        """Make the router's file say this, and tell whether it had to change.

        For the holder of the ledger's route alone (`Ledger.route_held`, `Ledger.move_route`): that keeps writers apart,
        and a late one from undoing a newer decision. Use `restore_route_file` from anywhere else.
        """
        if self.read_route(route.model) == route:
            return False
        # not fsynced: the ledger is, and a start writes the file anew before any router reads it
        write_atomically(self.route_file(route.model), json.dumps(asdict(route)), durable=False)
        return True

    def read_route(self, name: str) -> Route | None:
        """What the router's file says; None when it is missing, torn, or no route."""
        try:
            content = json.loads(self.route_file(name).read_text(encoding="utf-8"))
            return Route(**{**content, "resident": tuple(content["resident"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError, DataError):
            return None

    def claim(self) -> IO[str]:
        """Claim the state folder for one serving process; the claim ends with the returned file, or the process.

        Raises:
            Refused: another process serves from this folder.
        """
        return self._claimed(
            "serve.lock",
            f"another `perennial serve` (pid {{holder}}) uses {self.state}; stop it, or give this one its own state "
            "folder",
        )

    def claim_beginning(self, name: str) -> IO[str]:
        """Claim a model's first version for one process; as `claim`.

        Raises:
            Refused: another process makes it.
        """
        return self._claimed(
            f"first-version-{name}.lock",
            f"another `perennial init` (pid {{holder}}) makes the first version of {name} in {self.state}; wait for "
            "it, or stop it and run this one again",
        )

    def _claimed(self, lock: str, taken: str) -> IO[str]:
        self.state.mkdir(parents=True, exist_ok=True)
        file = (self.state / lock).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise Refused(taken.replace("{holder}", holder)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file
