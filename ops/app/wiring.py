"""The one place where everything is joined."""

from dataclasses import replace
from pathlib import Path

from perennial.continual.errors import ConfigurationError
from perennial.continual.tasks import DEFAULT_TASK, TASKS
from perennial.exporters.generation.signature import STREAM_PIECES
from perennial.exporters.tasks import OPENED_BY
from perennial.exporters.triton_config import EngineBackend, EngineSpec, RouterSpec
from perennial.ops.commands.restore import check_whole
from perennial.ops.ledger import Ledger
from perennial.ops.notify import Channel, LogChannel, Notifier, SmtpChannel, WebhookChannel
from perennial.ops.parts import Parts
from perennial.ops.safety.permissions import give_as
from perennial.ops.serving.control import TritonControl
from perennial.ops.serving.reconciler import Reconciler
from perennial.ops.serving.repository import ModelRepository
from perennial.ops.serving.router.router import RouterSettings
from perennial.ops.serving.server.exposure import check_exposure
from perennial.ops.serving.server.server import OnParentDeath, ServerSpec, TraceSpec
from perennial.ops.serving.server_record import FILE, KeptSecret, Secret
from perennial.ops.serving.tasks import serving_side
from perennial.ops.settings import ModelSettings, Settings, load_settings
from perennial.ops.settings.generation import GenerationSettings
from perennial.ops.store.removals import is_removed
from perennial.ops.store.workspace import Workspace

__all__ = [
    "configured_models",
    "engine_spec",
    "grpc_url",
    "grpc_urls",
    "notifier",
    "open_parts",
    "router_spec",
    "server_spec",
    "stream_spec",
]


def open_parts(config: Path | None, *, may_be_new: bool = False) -> Parts:
    """Settings, ledger, repository and the way to Triton.

    Raises:
        ConfigurationError: there is neither a settings file nor a ledger here, unless `may_be_new`.
        Refused: the workspace is half restored.
    """
    settings = load_settings(config)
    if not may_be_new and config is None:
        _check_workspace(settings)
    check_whole(settings.state)
    give_as(settings.umask)
    urls = grpc_urls(settings)
    ledger = Ledger.open(settings.ledger_address)
    settings = _with_known_models(settings, ledger)
    workspace = Workspace(settings)
    repository = ModelRepository(workspace.repository)
    controls = tuple(TritonControl(url, secret=_secret(settings)) for url in urls)
    reconciler = Reconciler(ledger, workspace, repository, controls)
    return Parts(
        settings=settings,
        workspace=workspace,
        ledger=ledger,
        repository=repository,
        controls=controls,
        reconciler=reconciler,
        config=(config or Path("perennial.toml")).absolute(),
    )


def configured_models(config: Path | None) -> tuple[str, ...]:
    """The models of a workspace, by its settings, or else by its ledger; none where there is no workspace.

    Those whose section cannot be used are among them: a command for one of them says so.

    Raises:
        ConfigurationError: see `load_settings`.
    """
    settings = load_settings(config)
    named = tuple(dict.fromkeys([*settings.models, *settings.refused]))
    if named or not (settings.ledger_url or (settings.state / "ledger.db").is_file()):
        return named
    with Ledger.open(settings.ledger_address) as ledger:
        return tuple(_with_known_models(settings, ledger).models)


def _with_known_models(settings: Settings, ledger: Ledger) -> Settings:
    """Settings that name no model stand for those that the ledger knows, or the routers where it was lost.

    What the ledger knows keeps its task; the rest of its settings was the removed file's.
    """
    if settings.models:
        return settings
    routed = {path.stem for path in (settings.state / "route").glob("*.json")}
    known = {row.name: row.settings.get("task") for row in ledger.models()}
    names = {name for name in {*known, *routed} if name not in known or not is_removed(ledger, name)}
    tasks = {name: task if (task := known.get(name)) in TASKS else DEFAULT_TASK for name in sorted(names)}
    return settings.with_models({name: ModelSettings(task=task) for name, task in tasks.items()}, {})


def _check_workspace(settings: Settings) -> None:
    if Path("perennial.toml").is_file() or settings.ledger_url or (settings.state / "ledger.db").is_file():
        return
    raise ConfigurationError(
        f"{Path.cwd()} is no workspace: it has no perennial.toml, and {settings.state} has no ledger; go to a "
        f"workspace's folder, run `perennial init NAME --data FILE`, or give --config"
    )


def grpc_urls(settings: Settings) -> tuple[str, ...]:
    """Where each Triton answers over gRPC."""
    urls = tuple(url.strip() for url in settings.triton.url.split(",") if url.strip())
    return urls or (server_spec(settings).url,)


def _secret(settings: Settings) -> Secret:
    """The secret of the Triton in use: the embedded server's record holds it, or the settings do."""
    triton = settings.triton
    if not triton.url:
        return KeptSecret(server_spec(settings).folder / FILE)
    return lambda: "" if triton.secret is None else triton.secret.get_secret_value()


def grpc_url(settings: Settings) -> str:
    """Where a client asks."""
    return grpc_urls(settings)[0]


def server_spec(settings: Settings) -> ServerSpec:
    """The embedded server of these settings.

    Raises:
        ConfigurationError: it would listen beyond loopback without a setting that accepts the risk.
    """
    triton = settings.triton
    check_exposure(triton.host, exposed=triton.expose_unauthenticated_inference)
    return ServerSpec(
        folder=settings.state / "triton",
        repository=settings.repository,
        host=triton.host,
        grpc_port=triton.grpc_port,
        http_port=triton.http_port,
        metrics_port=triton.metrics_port,
        http=triton.http,
        http_body_bytes=triton.http_body_bytes,
        http_hosts=triton.http_hosts,
        http_origins=triton.http_origins,
        routes=settings.state / "route",
        traces=TraceSpec(url=settings.traces.url, every=settings.traces.every) if settings.traces.url else None,
        together_rows=triton.max_batch_size if triton.http_together else 0,
        on_parent_death=OnParentDeath.KEEP if triton.keep_after_control_dies else OnParentDeath.STOP,
    )


def router_spec(parts: Parts, model: str) -> RouterSpec:
    """The router's configuration."""
    triton = parts.settings.triton
    return RouterSpec(
        model=model,
        signature=serving_side(parts.settings.task_of(model)).signature,
        parameters=_router_settings(parts, model).to_parameters(),
        instances=triton.router_instances,
        max_batch_size=triton.max_batch_size,
    )


def stream_spec(parts: Parts, model: str) -> RouterSpec | None:
    """The configuration of what sends answers piece by piece; None where the task has no pieces."""
    name = parts.workspace.stream_model(model)
    if name is None:
        return None
    streams = _rewrites(parts, model).streams
    return RouterSpec(
        model=name,
        signature=serving_side(parts.settings.task_of(model)).signature,
        parameters={**replace(_router_settings(parts, model), model=name).to_parameters(), "streams": str(streams)},
        backend="perennial_stream",
        streams=STREAM_PIECES,
    )


def _rewrites(parts: Parts, model: str) -> GenerationSettings:
    """The model's own settings, or the default ones where its section cannot be used: it goes on being served."""
    return parts.settings.models.get(model, ModelSettings()).generation


def _router_settings(parts: Parts, model: str) -> RouterSettings:
    settings, workspace = parts.settings, parts.workspace
    side = serving_side(settings.task_of(model))
    triton = settings.triton
    limit_s = None if workspace.stream_model(model) is None else _rewrites(parts, model).deadline_s
    return RouterSettings(
        model=model,
        engine_model=workspace.engine_model(model),
        route_path=workspace.route_file(model),
        repository=workspace.repository,
        traffic_dir=workspace.traffic(model),
        task=side.name,
        memory_path=workspace.memory(model) if side.remembers else None,
        rotate_rows=settings.traffic.rotate_rows,
        rotate_s=settings.traffic.rotate_s,
        challenger_limit_s=limit_s or triton.challenger_limit_s,
        champion_limit_s=limit_s or triton.champion_limit_s,
        queue_limit_s=triton.queue_limit_s,
        queue_rows=triton.queue_rows,
        max_batch_size=triton.max_batch_size,
        cache_rows=triton.cache_rows,
    )


def engine_spec(parts: Parts, model: str) -> EngineSpec:
    """The engine model's configuration, its versions left out.

    Raises:
        ConfigurationError: a native backend is asked of the embedded server, which has none.
    """
    triton = parts.settings.triton
    backend = EngineBackend(triton.engine_backend)
    if backend is not EngineBackend.PERENNIAL and not triton.url:
        raise ConfigurationError(
            f"triton.engine_backend {backend.value!r} is a backend of NGC's server and the embedded one has only "
            f"{EngineBackend.PERENNIAL.value!r}; set triton.url to such a server, or leave the backend out"
        )
    cache, task = parts.workspace.engines(model), parts.settings.task_of(model)
    if task in OPENED_BY:  # it goes through its graph again and again, which no native backend does
        backend = EngineBackend.PERENNIAL
    # One question wakes one process: where a version has several, none of them lets go of its engine.
    waits = {"route_path": str(parts.workspace.route_file(model).resolve())} if triton.engine_instances == 1 else {}
    return EngineSpec(
        model=parts.workspace.engine_model(model),
        signature=serving_side(task).engine,
        backend=backend,
        profiles=("0", "1") if backend is EngineBackend.TENSORRT else (),
        instances=triton.engine_instances,
        threads=triton.engine_threads,
        max_batch_size=triton.max_batch_size,
        parameters={} if backend is not EngineBackend.PERENNIAL else {"cache_dir": str(cache.resolve())} | waits,
    )


def notifier(settings: Settings, ledger: Ledger) -> Notifier:
    """Who is told, by the settings.

    Raises:
        ConfigurationError: an address cannot be used.
    """
    notify = settings.notify
    channels: list[Channel] = [LogChannel()] if notify.log else []
    channels += [
        WebhookChannel(
            hook.url,
            secret=None if hook.secret is None else hook.secret.get_secret_value(),
            name=f"webhook:{name}",
            attempts=hook.attempts,
            timeout_s=hook.timeout_s,
            headers=hook.headers,
        )
        for name, hook in sorted(notify.webhook.items())
    ]
    channels += [
        SmtpChannel(
            mail.host,
            sender=mail.sender,
            recipients=mail.recipients,
            port=mail.port,
            user=mail.user,
            password=None if mail.password is None else mail.password.get_secret_value(),
            starttls=mail.starttls,
            name=f"mail:{name}",
            attempts=mail.attempts,
            timeout_s=mail.timeout_s,
        )
        for name, mail in sorted(notify.mail.items())
    ]
    return Notifier(ledger, channels)
