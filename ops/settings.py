"""Settings: `perennial.toml` in the working folder, overridden by `PERENNIAL_*` variables (`__` between levels)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.events import AlertRule, EventSettings, WatchPlan
from perennial.continual.events.plan import BAD, GOOD
from perennial.continual.learning.names import AUTO_ENCODER, DEFAULT_LEARNER, LEARNERS_OF, LearnerName, default_learner
from perennial.continual.preparation import admit_name
from perennial.continual.tasks import DEFAULT_TASK, TASKS, task_named
from perennial.continual.text_file import SavedText
from perennial.ops.safety.secrecy import shown_problems, shown_toml_error
from perennial.ops.safety.tokens import is_hashed

__all__ = [
    "AlertRuleSettings",
    "ApiSettings",
    "CycleSettings",
    "DriftWatchSettings",
    "EngineSettings",
    "EventWatchSettings",
    "FeedSettings",
    "LearningSettings",
    "MailSettings",
    "ModelSettings",
    "NotifySettings",
    "RefusedModel",
    "ScheduleSettings",
    "Settings",
    "TrafficSettings",
    "TritonSettings",
    "WebhookSettings",
    "load_settings",
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TritonSettings(_Section):
    """The inference server: the embedded one, or an external one by URL."""

    url: str = Field(
        "", description="gRPC address host:port of a Triton run by somebody else; empty starts the embedded one"
    )
    secret: SecretStr | None = Field(
        None,
        description="what the restricted protocols of that Triton expect under the key perennial-secret, best given by "
        "the environment; the embedded one makes its own at each start",
    )
    host: str = Field("127.0.0.1", description="address that the embedded server listens on")
    expose_unauthenticated_inference: bool = Field(
        False,
        description="allows a host beyond loopback, where whoever reaches it may ask the models without a password",
    )
    grpc_port: int = Field(8001, ge=1, le=65535)
    http_port: int = Field(8000, ge=1, le=65535)
    http: bool = Field(True, description="whether the embedded server answers over HTTP at all, beside gRPC")
    http_body_bytes: int = Field(64 * 2**20, ge=1_024, le=2**30, description="most bytes of a request over HTTP")
    http_hosts: tuple[str, ...] = Field(
        (), description="names by which clients may call the HTTP port beside localhost and its address"
    )
    http_origins: tuple[str, ...] = Field(
        (), description='web pages, as "https://name", whose requests over HTTP are let through; all others are refused'
    )
    metrics_port: int = Field(8002, ge=1, le=65535)
    router_instances: int = Field(2, ge=1, description="router processes; each tokenises and logs on its own")
    engine_instances: int = Field(1, ge=1, description="engine processes per version")
    engine_threads: int = Field(0, ge=0, description="threads of one engine; 0 lets the runtime decide")
    engine_backend: Literal["perennial_engine", "onnxruntime", "openvino", "tensorrt"] = Field(
        "perennial_engine",
        description="what executes the versions; the others are backends of NGC's server (set url), for bundles of "
        "that engine",
    )
    max_batch_size: int = Field(64, ge=1)
    challenger_limit_s: float = Field(
        1.0, gt=0, description="a challenger that takes longer is answered for by the champion"
    )
    champion_limit_s: float = Field(
        10.0,
        gt=0,
        description="a champion that takes longer is answered for by the one before it, while that one is loaded",
    )
    queue_limit_s: float = Field(
        10.0,
        gt=0,
        description="a request that would wait for longer before it is worked on is refused, told when to retry",
    )
    queue_rows: int = Field(8_192, ge=1, description="texts that may wait in one router process")
    stall_limit_s: float = Field(
        30.0,
        gt=0,
        description="the server is restarted when callers wait and so long no answer comes out; more than the slowest "
        "batch takes",
    )
    keep_after_control_dies: bool = Field(
        True, description="the server goes on answering when the control process is killed; the next one adopts it"
    )


class ApiSettings(_Section):
    """The HTTP control plane."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    tokens: dict[str, Literal["viewer", "labeller", "operator"]] = Field(
        default_factory=dict,
        description="hash of a bearer token (`perennial token new` prints both) -> role; empty leaves a loopback "
        "address open and refuses any other",
    )
    hosts: tuple[str, ...] = Field(
        (), description="names that this server answers to beside localhost and its own address, e.g. of a proxy"
    )
    body_bytes: int = Field(16 * 2**20, ge=1_024, description="largest request body")
    idle_s: float = Field(
        10.0, gt=0, description="a caller that sends no more of its request for so long is disconnected"
    )

    @field_validator("tokens")
    @classmethod
    def _tokens_are_hashed(cls, tokens: dict[str, str]) -> dict[str, str]:
        for number, entry in enumerate(tokens, start=1):
            if not is_hashed(entry):
                raise ValueError(
                    f"entry {number} is not the hash of a token (sha256: and 64 hexadecimal digits); run "
                    f"`perennial token new`, or `perennial token hash` for a token that is in use"
                )
        return tokens


class TrafficSettings(_Section):
    """The log of answered requests."""

    rotate_rows: int = Field(5_000, ge=1)
    rotate_s: float = Field(60.0, gt=0)
    retention_days: float = Field(30.0, gt=0)


class LearningSettings(_Section):
    """How a challenger is learnt."""

    encoder: str = Field(
        AUTO_ENCODER,
        description="a Hugging Face name or folder; packaged:minilm and packaged:e5 need no download, and auto takes "
        "the one of them that reads the rows; docs/encoders.md",
    )
    insist_on_encoder: bool = Field(
        False, description="keep a named encoder although its tokenizer does not know what the rows are written in"
    )
    learner: LearnerName = Field(DEFAULT_LEARNER, description="of the model's task, whose first one is the default")
    max_length: int = Field(128, ge=8, le=512, description="tokens kept of a text")
    replay_kind: Literal["class_balanced", "reservoir", "herding", "uncertainty"] = "class_balanced"
    replay_rows: int = Field(770, ge=1)
    replay_bytes: int | None = Field(None, ge=200, description="byte budget of the replay buffer, beside its rows")
    holdout_share: float = Field(
        0.1, gt=0, lt=0.5, description="share of labelled rows kept for proof, by a hash of the text"
    )
    min_class_rows: int = Field(5, ge=1, description="rows that a new label needs before it becomes a class")
    holdout_rows: int = Field(1_500, ge=50, description="most old held-out rows that one judgement looks at")
    reuse_logged_embeddings: bool = Field(
        True,
        description="learn from the embeddings that answered the requests, kept in half precision in the traffic log",
    )
    threads: int = Field(2, ge=1)
    niceness: int = Field(10, ge=0, le=19)
    timeout_s: float = Field(3_600.0, gt=0)
    params: dict[str, Any] = Field(default_factory=dict, description="passed on to the learner")


class EngineSettings(_Section):
    """What a challenger is compiled to."""

    engine: Literal["auto", "onnxruntime", "openvino", "tensorrt", "aotinductor"] = "auto"
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16", "fp8", "int8"] = "auto"
    parity_rows: int = Field(512, ge=16, description="held-out texts that the parity gate compares")
    limits: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="parity limits by precision, in place of the defaults of docs/engines.md"
    )
    timeout_s: float = Field(1_800.0, gt=0)


class DriftWatchSettings(_Section):
    """How traffic is watched."""

    window_rows: int = Field(300, ge=50, description="answered requests in one comparison; windows never overlap")
    reference_rows: int = Field(600, ge=100, description="first requests of a new champion that become its reference")
    copies_within: int = Field(
        1_000,
        ge=0,
        le=10_000,
        description="a request that a caller repeats within so many requests counts once; 0 counts every request",
    )
    caller_share: float = Field(
        0.05,
        gt=0,
        le=1,
        description="most that one caller has of the requests that count, where there are many callers",
    )
    answer_mix: Literal["told", "drift"] = Field(
        "told", description="what another mix of the same answers is: told, or drift that may open a retraining"
    )
    votes: Literal["2 of 3", "3 of 5"] = "2 of 3"
    cooldown_requests: int = Field(1_000, ge=0, description="requests between two alerts at the least")
    requests_per_false_retraining: int = Field(
        100_000, ge=1_000, description="at most one false retraining per so many clean requests"
    )
    worth_points: float = Field(
        1.0, ge=0, lt=100, description="points of score that learning must buy before it is worth a retraining"
    )
    report_every_windows: int = Field(
        10, ge=1, description="an Evidently report at least this often, and at the first alert of an episode"
    )
    reports_kept: int = Field(50, ge=1)
    report_timeout_s: float = Field(120.0, gt=0)
    feedback_within_s: float = Field(
        600.0,
        gt=0,
        description="of answers that users like or pass over: how long after one it is looked at what became of it",
    )
    accuracy_rows: int = Field(
        500, ge=50, description="newest answers, and newest labels, from which the champion's accuracy is told"
    )
    random_label_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the answers, picked by a hash, that is labelled whatever they are: only these measure "
        "accuracy then; 0 takes every label, on the assumption that labels come regardless of the answer",
    )
    abstain_below: float = Field(
        0.5, gt=0, lt=1, description="an answer of less confidence counts as an abstention for the sequential watch"
    )


class CycleSettings(_Section):
    """What stands between the gate and the championship."""

    approval: Literal["automatic", "operator"] = "automatic"
    approval_deadline_s: float = Field(86_400.0, gt=0)
    shadow: bool = False
    shadow_rows: int = Field(500, ge=50)
    shadow_rows_per_s: float = Field(100.0, gt=0, description="most texts a second that a shadow replay answers")
    canary_shares: tuple[float, ...] = ()
    canary_step_s: float = Field(60.0, gt=0, description="least time at each share")
    canary_limit_s: float = Field(3_600.0, gt=0, description="a canary that labels have not decided is judged then")
    margin_points: float = Field(3.0, gt=0, lt=100, description="points of accuracy that a rollout must tell apart")
    rollout_error_rate: float = Field(
        0.10, gt=0, lt=0.5, description="most challengers of equal quality that are turned away for it"
    )
    latency_ratio: float = Field(
        1.5, ge=1, description="a challenger's answer is slow beyond this times the champion's 95th percentile"
    )
    step_patience_s: float = Field(
        300.0, ge=0, description="a step goes on trying for so long while Triton or the ledger cannot be reached"
    )
    probation_s: float = Field(
        604_800.0, ge=0, description="probation lasts so long where labels prove nothing before; 0 switches it off"
    )
    probation_least_s: float = Field(
        300.0, ge=0, description="failures and times are watched for so long, whatever the labels prove"
    )
    resident_versions: int = Field(2, ge=1, description="versions that Triton holds: the champion and those before it")
    disk_versions: int = Field(10, ge=2, description="bundles kept on disk")
    min_gain_points: float = 0.0
    max_forgetting_points: float = Field(1.0, ge=0)
    min_fresh_rows: int = Field(20, ge=0, description="fresh held-out rows that a judgement needs")


class AlertRuleSettings(_Section):
    """An alert that is asked for by rule: so many headlines of one sentiment about a symbol within a time."""

    name: str = Field(min_length=1, max_length=100)
    sentiment: str = Field(min_length=1)
    at_least: int = Field(3, ge=1)
    within_minutes: float = Field(60.0, gt=0)
    sources: int = Field(2, ge=1, description="different ones; copies of one headline are one")
    symbols: tuple[str, ...] = Field((), description="empty: every symbol")


class EventWatchSettings(_Section):
    """What is an event among headlines, and what of it alarms; for the task opinion."""

    false_alerts_per_day: float = Field(1.0, gt=0, description="events by mere chance; the limit is calibrated to it")
    sources: int = Field(2, ge=1, description="so many different ones make an event; copies of one headline are one")
    quiet_hours: float = Field(24.0, gt=0, description="an event that nobody tells of for so long is over")
    joins: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how near in meaning a headline must be to join an open event, beyond what one in a thousand "
        "others is by the same encoder; 1 is never, and its words must tell",
    )
    risk_limit: float = Field(0.5, ge=0, le=1, description="risk from which an event alarms")
    good: tuple[str, ...] = Field(GOOD, description="sentiments of good news")
    bad: tuple[str, ...] = Field(BAD, description="sentiments of bad news")
    rules: tuple[AlertRuleSettings, ...] = ()

    def plan(self) -> WatchPlan:
        """The same for the routers, which have no settings."""
        return WatchPlan(
            events=EventSettings(sources=self.sources, quiet=timedelta(hours=self.quiet_hours), joins=self.joins),
            risk_limit=self.risk_limit,
            good=tuple(label.casefold() for label in self.good),
            bad=tuple(label.casefold() for label in self.bad),
            rules=tuple(
                AlertRule(
                    name=rule.name,
                    sentiment=rule.sentiment,
                    at_least=rule.at_least,
                    within=timedelta(minutes=rule.within_minutes),
                    sources=rule.sources,
                    symbols=rule.symbols,
                )
                for rule in self.rules
            ),
        )


class FeedSettings(_Section):
    """Where headlines come from: an address of RSS or Atom, a growing file of rows, or a stream of Redis."""

    url: str = Field("", description="of an RSS or Atom document, or of a Redis, as redis://host:6379/0")
    stream: str = Field("", description="key of a Redis stream, whose entries have the fields of a row")
    secret: SecretStr | None = Field(None, description="password of that Redis; best given by the environment")
    file: str = Field("", description="JSON lines or CSV with text and where known source, published_at and symbols")
    source: str = Field("", description="who publishes it; empty: as the feed calls itself")
    every_s: float = Field(60.0, ge=1, description="how often it is asked")
    timeout_s: float = Field(10.0, gt=0)
    most_bytes: int = Field(4_000_000, ge=1_000, description="of one document, unpacked")
    items_at_once: int = Field(64, ge=1, description="asked of the model in one go")
    private_addresses: bool = Field(False, description="whether it may lie on this machine or in a private network")

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if bool(self.url) == bool(self.file):
            raise ValueError("a feed has a url or a file, one of them")
        address = urlsplit(self.url)
        if bool(self.stream) != (address.scheme in {"redis", "rediss"}):
            raise ValueError("a feed by Redis has a url redis://host:port/database and the key of a stream")
        if self.stream and address.password:
            raise ValueError("a feed's url is kept and shown as it is; give the password as its secret")
        return self

    @property
    def is_document(self) -> bool:
        """Whether it is read whole each time, and does not grow."""
        return not self.file and not self.stream


class ScheduleSettings(_Section):
    """How often the loop looks, in seconds, and how much of its work is done at once."""

    trainings_at_once: int = Field(
        1, ge=1, description="models that train, export or are judged at the same time; the others wait their turn"
    )
    warm_jobs: bool = Field(
        True,
        description="keep a process ready from which jobs begin at once: an update takes seconds less, and the machine "
        "holds about 100 MB more",
    )
    watch_s: float = Field(10.0, gt=0)
    retrain_check_s: float = Field(10.0, gt=0)
    reconcile_s: float = Field(15.0, gt=0)
    compact_s: float = Field(300.0, gt=0)
    retention_s: float = Field(86_400.0, gt=0)
    report_s: float = Field(5.0, gt=0, description="how soon a wanted Evidently report is begun")
    events_s: float = Field(60.0, gt=0, description="how often the watch of events is looked after")
    notify_s: float = Field(2.0, gt=0, description="how soon people are told")


class WebhookSettings(_Section):
    """One receiver of messages as JSON over HTTP."""

    url: str = Field(min_length=1)
    secret: SecretStr | None = Field(None, description="signs each post (HMAC-SHA256); best given by the environment")
    headers: dict[str, str] = Field(default_factory=dict)
    attempts: int = Field(3, ge=1)
    timeout_s: float = Field(5.0, gt=0)


class MailSettings(_Section):
    """One set of recipients of messages by SMTP."""

    host: str = Field(min_length=1)
    port: int = Field(587, ge=1, le=65535)
    sender: str = Field(min_length=3)
    recipients: tuple[str, ...] = Field(min_length=1)
    user: str | None = None
    password: SecretStr | None = Field(None, description="best given by the environment")
    starttls: bool = True
    attempts: int = Field(3, ge=1)
    timeout_s: float = Field(10.0, gt=0)


class NotifySettings(_Section):
    """Who hears of drift alerts, refused and promoted challengers, rollbacks and restarts; each thing once."""

    log: bool = Field(True, description="write each message into the log")
    webhook: dict[str, WebhookSettings] = Field(default_factory=dict, description="by a name of your own")
    mail: dict[str, MailSettings] = Field(default_factory=dict, description="by a name of your own")


class ModelSettings(_Section):
    """One served model with its own cycle, policy and buffer."""

    task: str = Field(DEFAULT_TASK, description="what the model is asked and how an answer is scored")
    learning: LearningSettings = Field(default_factory=LearningSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    drift: DriftWatchSettings = Field(default_factory=DriftWatchSettings)
    cycle: CycleSettings = Field(default_factory=CycleSettings)
    events: EventWatchSettings = Field(default_factory=EventWatchSettings)
    feeds: dict[str, FeedSettings] = Field(default_factory=dict, description="by a name of your own; of task opinion")
    policy: dict[str, Any] = Field(
        default_factory=lambda: {
            "kind": "any",
            "policies": [{"kind": "drift"}, {"kind": "gain"}, {"kind": "feedback_count", "at_least": 1_000}],
            "limits": {"cooldown_s": 600.0, "min_feedback": 100, "budget_per_day": 24},
        },
        description="trigger policy; see perennial.continual.policy",
    )

    @field_validator("task")
    @classmethod
    def _task_is_known(cls, task: str) -> str:
        try:
            return task_named(task).name
        except ConfigurationError as exc:
            raise ValueError(str(exc)) from exc

    @model_validator(mode="after")
    def _learner_is_of_the_task(self) -> Self:
        """Take the task's own learner where none is named, and refuse one that makes other models."""
        if "learner" not in self.learning.model_fields_set:
            learning = self.learning.model_copy(update={"learner": default_learner(self.task)})
            object.__setattr__(self, "learning", learning)  # the section is frozen once it is made
        elif self.learning.learner not in LEARNERS_OF[self.task]:
            known = ", ".join(LEARNERS_OF[self.task])
            raise ValueError(
                f"learner {self.learning.learner.value!r} makes no models of task {self.task!r}; use one of {known}"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedModel:
    """A model whose section cannot be used, with the reason. It goes on being served, by its task."""

    problem: str
    task: str


class Settings(BaseSettings):
    """Everything `perennial` can be told."""

    model_config = SettingsConfigDict(
        env_prefix="PERENNIAL_", env_nested_delimiter="__", extra="forbid", frozen=True, toml_file="perennial.toml"
    )

    state: Path = Field(Path("var"), description="ledger, traffic, runs, reports and caches")
    repository: Path = Field(Path("model_repository"), description="what Triton loads")
    ledger_url: str = Field("", description="SQLAlchemy URL; empty is SQLite in the state folder")
    umask: str = Field(
        "077",
        pattern="^0?[0-7]{3}$",
        description="permissions, in octal, that no file or folder gives; 007 shares them with the group, for an "
        "external Triton that runs as another user",
    )
    seed: int = 0
    triton: TritonSettings = Field(default_factory=TritonSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    traffic: TrafficSettings = Field(default_factory=TrafficSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    notify: NotifySettings = Field(default_factory=NotifySettings)
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="by name; where none is named, those that the ledger knows"
    )
    _refused: dict[str, RefusedModel] = PrivateAttr(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if problem := _name_problem(name, models):
                raise ValueError(problem)
        return models

    @property
    def refused(self) -> Mapping[str, RefusedModel]:
        """The models whose sections cannot be used; the others are not kept waiting for them."""
        return MappingProxyType(self._refused)

    def task_of(self, model: str) -> str:
        """A model's task. One whose section cannot be used goes on being served, by the task that the section names."""
        if (sound := self.models.get(model)) is not None:
            return sound.task
        return DEFAULT_TASK if (refused := self._refused.get(model)) is None else refused.task

    def with_models(self, models: Mapping[str, ModelSettings], refused: Mapping[str, RefusedModel]) -> "Settings":
        """These settings with other models."""
        changed = self.model_copy(update={"models": dict(models)})
        changed._refused = dict(refused)
        return changed

    @property
    def ledger_address(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.ledger_url or f"sqlite:///{self.state.resolve() / 'ledger.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over arguments over the TOML file."""
        del dotenv_settings, file_secret_settings
        return env_settings, init_settings, _SavedToml(settings_cls)


class _SavedToml(TomlConfigSettingsSource):
    """The TOML file in the encoding that its editor chose."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        import tomllib

        return tomllib.loads(SavedText.of(file_path.read_bytes()).text)


def load_settings(config: Path | None = None) -> Settings:
    """The settings in force.

    Relative `state` and `repository` paths count from the folder of the settings file. A model's section that cannot be
    used stands in `refused`, and keeps no other model from being used.

    Raises:
        ConfigurationError: the named file is missing or not TOML, a setting is unknown or out of range, or no model's
            section can be used.
    """
    import tomllib

    path = config or Path("perennial.toml")
    if config is not None and not path.is_file():
        raise ConfigurationError(f"settings file {path} does not exist; run `perennial init` to write one")

    refused = dict[str, RefusedModel]()

    class _Located(Settings):
        model_config = SettingsConfigDict(**{**Settings.model_config, "toml_file": str(path)})

        @model_validator(mode="before")
        @classmethod
        def _put_aside(cls, given: Any) -> Any:
            """Keep one model's mistake from all others."""
            sections = given.get("models") if isinstance(given, dict) else None
            if not isinstance(sections, dict):
                return given
            refused.update(_refused(sections))
            return {**given, "models": {name: section for name, section in sections.items() if name not in refused}}

    try:
        settings = _Located()
    except SettingsError as exc:  # a variable that should hold JSON; its message quotes it
        raise ConfigurationError(
            f"a PERENNIAL_* variable cannot be read ({type(exc.__cause__).__name__}): give nested values as JSON, e.g. "
            f"PERENNIAL_API__HOSTS='[\"models.example\"]'"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"{path} is not UTF-8 (byte {exc.object[exc.start]:#04x} at position {exc.start}); save it as UTF-8 and "
            "try again"
        ) from None
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"{path} is not valid TOML: {shown_toml_error(exc)}; correct the line and try again"
        ) from None
    except ValidationError as exc:
        problems = "; ".join(shown_problems(exc))
        # from None: pydantic's own message quotes what it saw, secrets among it
        raise ConfigurationError(f"settings from {path} and PERENNIAL_* variables: {problems}") from None
    if refused and not settings.models:
        problems = "; ".join(model.problem for model in refused.values())
        raise ConfigurationError(f"settings from {path} and PERENNIAL_* variables: {problems}")
    base = path.resolve().parent
    located = Settings.model_construct(
        **{
            **{name: getattr(settings, name) for name in Settings.model_fields},
            "state": base / settings.state,
            "repository": base / settings.repository,
        }
    )
    return located.with_models(settings.models, refused)


def _refused(sections: Mapping[str, Any]) -> dict[str, RefusedModel]:
    """The sections that cannot be used, by the model's name."""
    found = {name: _section_problem(name, section, sections) for name, section in sections.items()}
    return {
        name: RefusedModel(problem=problem, task=_task_named_by(sections[name]))
        for name, problem in found.items()
        if problem
    }


def _section_problem(name: str, section: Any, names: Iterable[str]) -> str:
    """Why a model's section cannot be used; empty where it can."""
    if problem := _name_problem(name, names):
        return f"models: {problem}"
    try:
        ModelSettings.model_validate(section)
    except ValidationError as exc:
        return "; ".join(f"models.{name}.{problem}" for problem in shown_problems(exc))
    return ""


def _task_named_by(section: Any) -> str:
    """The task of a section that cannot be used: the one that it names, where that much of it is right."""
    task = section.get("task") if isinstance(section, dict) else None
    return task if isinstance(task, str) and task in TASKS else DEFAULT_TASK


def _name_problem(name: str, names: Iterable[str]) -> str:
    """Why a model cannot be called so; empty where it can."""
    try:
        admit_name(name)
    except DataError as exc:
        return str(exc)
    if name.endswith("_engine"):
        return f"model name {name!r} must not end in '_engine', which names the versions' own model"
    first = next(other for other in names if other.lower() == name.lower())
    return "" if first == name else f"model name {name!r} differs from {first!r} by its case alone; choose another"
