"""Ports that are chosen now and listened on later."""

import socket
from pathlib import Path

import pytest

from perennial.ops.serving import processes
from perennial.ops.serving.processes import free_port


def test_no_outgoing_connection_takes_a_port_that_was_chosen() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    chosen = {free_port() for _ in range(50)}
    assert len(chosen) > 40
    assert not any(low <= port <= high for port in chosen)


def test_a_port_that_somebody_holds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as held:
        taken = held.getsockname()[1]
        numbers = iter([taken, taken, taken + 1])
        monkeypatch.setattr(processes.secrets, "randbelow", lambda most: next(numbers) - processes._LOWEST_PORT)
        assert free_port() != taken


def test_a_machine_that_tells_no_range_has_ports_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert free_port() > 0
