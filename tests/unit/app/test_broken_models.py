"""What health says of a model that is not answered while the server that holds it is not to blame."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.continual.errors import DependencyUnreachable
from perennial.ops.app.probing import ModelProbes
from perennial.ops.app.service import Service
from perennial.ops.app.wiring import open_parts
from perennial.ops.serving.processes import free_port
from perennial.ops.serving.router_losses import RouterLosses
from perennial.ops.serving.tasks.text_classification import SIDE


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    config = tmp_path / "perennial.toml"
    config.write_text(f"[triton]\ngrpc_port = {free_port()}\n[models.card]\n[models.loan]\n")
    parts = open_parts(config)
    yield Service(parts)
    parts.close()


def test_a_model_that_no_probe_reaches_is_named_by_health_and_the_others_are_not(service: Service) -> None:
    assert not {"model:card", "model:loan"} & set(service.control.health().unhealthy)
    service.servers._probes[0].look(("card",), timeout_s=0.05)
    health = service.control.health()
    assert {"model:card", "model:loan"} & set(health.unhealthy) == {"model:card"}
    assert not health.models["card"].healthy


def test_a_model_whose_lost_process_waits_for_a_restart_is_named_by_health(service: Service) -> None:
    budget = service.servers._budget
    assert budget.allows("loan", others_answered=1)
    assert service.servers.supervisor is not None
    service.servers.supervisor.restarts += 1
    assert not budget.allows("loan", others_answered=1)
    health = service.control.health()
    assert {"model:card", "model:loan"} & set(health.unhealthy) == {"model:loan"}
    assert "a process of it is gone" in str(health.models["loan"].wrong)


class _Away:
    """A server that hangs: it does not even say that it lives."""

    url = "127.0.0.1:1"

    def __init__(self) -> None:
        self.timeouts = list[float]()

    def wait_live(self, timeout_s: float) -> None:
        self.timeouts.append(timeout_s)
        raise DependencyUnreachable("it hangs")


def test_a_server_that_hangs_is_found_as_soon_with_a_hundred_models_as_with_one() -> None:
    away = _Away()
    probes = ModelProbes(away, side_of=lambda _: SIDE, stall_limit_s=30.0, losses=RouterLosses())  # type: ignore[arg-type]
    failing = probes.look([f"m{number}" for number in range(100)], timeout_s=3.0)
    assert len(failing) == len(probes.failing) == 100
    assert {type(error) for error in failing.values()} == {DependencyUnreachable}
    assert len(away.timeouts) == 1
