"""What the demonstration may be told, and the workspace settings it runs under."""

from dataclasses import dataclass
from pathlib import Path

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import DataError
from perennial.continual.learning.names import LearnerName
from perennial.ops.serving.processes import free_port

__all__ = ["DemoOptions", "free_ports", "write_settings"]

_TOML = """# Written by `perennial demo`; the loop runs under these settings.
state = "state"
repository = "model_repository"
seed = {seed}

[triton]
grpc_port = {grpc}
http_port = {http}
metrics_port = {metrics}
engine_threads = 1
keep_after_control_dies = false

[api]
port = {api}

[traffic]
rotate_rows = 1000
rotate_s = 20.0

[schedule]
watch_s = 1.0
retrain_check_s = 1.0
reconcile_s = 10.0
compact_s = 30.0

[models.intent.learning]
replay_rows = {replay_rows}
learner = "{learner}"
niceness = 0  # an hour's calm is a minute here: the training may not wait for its turn

[models.intent.engine]
parity_rows = 96

[models.intent.drift]
window_rows = {window_rows}
reference_rows = {reference_rows}
cooldown_requests = {cooldown_requests}
report_every_windows = 1000

[models.intent.cycle]
probation_s = {probation_s}
resident_versions = 2

[models.intent.policy]
kind = "any"
policies = [{{ kind = "drift" }}, {{ kind = "schedule", interval_s = {retrain_every_s} }}{on_labels}]
limits = {{ cooldown_s = 5.0, min_feedback = {min_labels}, budget_per_day = 100 }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The demonstration's knobs.

    `rate` is requests a second. `label_share` of the answered requests get their label `label_delay_s` later.
    `steady_requests` pass before the first wave, `settle_requests` by the new version before the next one. After the
    last wave `finish_requests` more are sent; None: until every row has been, and then until the scheduled retraining
    has learnt what is left. So many `retrain_on_labels` begin a cycle by themselves, where it is set.
    `kill_triton_at` is the request at which the inference server is killed, to see it come back.
    """

    out: Path
    data: Path | None = None
    seed: int = 0
    rate: float = 30.0
    clients: int = 4
    first_intents: int = 40
    waves: int = 3
    wave_share: float = 0.5
    label_share: float = 0.8
    label_delay_s: float = 3.0
    steady_requests: int = 500
    settle_requests: int = 300
    most_requests: int = 30_000
    wave_timeout_s: float = 420.0
    replay_rows: int = 770
    learner: str = LearnerName.KERNEL_LDA.value
    window_rows: int = 120
    reference_rows: int = 240
    min_labels: int = 200
    retrain_every_s: float = 180.0
    retrain_on_labels: int | None = None
    finish_requests: int | None = 200
    kill_triton_at: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 2_000 or self.clients < 1:
            raise DataError(
                f"rate {self.rate} must lie in (0, 2000] requests a second, clients {self.clients} at least 1"
            )
        if not 0 < self.label_share <= 1 or not 0 < self.wave_share < 1:
            raise DataError(
                f"label share {self.label_share} must lie in (0, 1], wave share {self.wave_share} inside (0, 1)"
            )
        if self.steady_requests < self.reference_rows + self.window_rows:
            raise DataError(
                f"{self.steady_requests} steady requests are fewer than the reference and a window "
                f"({self.reference_rows + self.window_rows}); the loop could not know what is normal"
            )


def free_ports() -> tuple[int, int, int, int]:
    """Ports of this machine that nobody listens on, for gRPC, HTTP, metrics and the control API."""
    ports: set[int] = set()
    while len(ports) < 4:
        ports.add(free_port())
    first, second, third, fourth = ports
    return first, second, third, fourth


def write_settings(options: DemoOptions) -> Path:
    """Write `perennial.toml` into the demo's folder, on free ports, and return its path."""
    grpc, http, metrics, api = free_ports()
    path = options.out / "perennial.toml"
    content = _TOML.format(
        seed=options.seed,
        grpc=grpc,
        http=http,
        metrics=metrics,
        api=api,
        replay_rows=options.replay_rows,
        learner=options.learner,
        window_rows=options.window_rows,
        reference_rows=options.reference_rows,
        cooldown_requests=2 * options.window_rows,
        probation_s=5.0,
        retrain_every_s=options.retrain_every_s,
        min_labels=options.min_labels,
        on_labels=""
        if options.retrain_on_labels is None
        else f', {{ kind = "feedback_count", at_least = {options.retrain_on_labels} }}',
    )
    write_atomically(path, content)
    return path
