"""What a deployment stands on: processor, memory, disk, ports, clock, GPU, database, permissions, what is exposed."""

import importlib.util
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perennial.continual.errors import InputError
from perennial.continual.processor import processor_facts
from perennial.continual.speech.recogniser import recogniser_folder
from perennial.exporters.bundle import toolchain_versions
from perennial.exporters.tensorrt import Flavour
from perennial.ops.serving.server.exposure import is_local
from perennial.ops.settings import Settings

__all__ = ["Fact", "examine_machine"]

_GIB = 2**30
_LEAST_FREE = 1.0  # GiB, of memory and of a disk
_AHEAD_S = 300.0  # by which a file may be younger than now
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that was looked at; `todo` says what to do, and is empty where it is well."""

    what: str
    seen: str
    todo: str = ""

    def to_json(self) -> dict[str, object]:
        """In the shape of what Triton was tried for."""
        state = "wrong" if self.todo else "well"
        return {"what": self.what, "where": self.seen, "state": state, "wrong": bool(self.todo), "todo": self.todo}


def examine_machine(settings: Settings, config: Path) -> tuple[Fact, ...]:
    """Look at everything; nothing is changed, and no folder is made."""
    return (
        _processor(Path("/proc/cpuinfo")),
        _memory(Path("/proc/meminfo")),
        *_disks(settings),
        *_ports(settings),
        _clock(settings.state),
        _accelerator(),
        _database(settings),
        *_extras(settings),
        *_permissions(settings, config),
        *_exposed(settings),
    )


def _processor(cpuinfo: Path) -> Fact:
    flags = set(processor_facts(cpuinfo).get("flags", "").split())
    has = [name for name in _INSTRUCTIONS if name in flags]
    todo = "" if "avx2" in flags else "without AVX2 answers take several times as long: use another machine"
    return Fact(
        what="processor", seen=f"{len(os.sched_getaffinity(0))} usable, {' '.join(has) or 'no AVX2'}", todo=todo
    )


def _memory(meminfo: Path) -> Fact:
    rows = (line.split() for line in meminfo.read_text().splitlines()) if meminfo.is_file() else iter(())
    gib = {row[0].rstrip(":"): int(row[1]) * 1024 / _GIB for row in rows if len(row) > 1 and row[1].isdecimal()}
    free = gib.get("MemAvailable", 0.0)
    todo = "" if free >= _LEAST_FREE else f"a training needs some GiB: free some, at least {_LEAST_FREE:g}"
    return Fact(what="memory", seen=f"{free:.1f} of {gib.get('MemTotal', 0.0):.1f} GiB free", todo=todo)


def _disks(settings: Settings) -> Iterator[Fact]:
    for what, folder in (("disk of the state folder", settings.state), ("disk of the repository", settings.repository)):
        there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
        free = shutil.disk_usage(there).free / _GIB
        todo = "" if free >= _LEAST_FREE else f"free some, at least {_LEAST_FREE:g} GiB: a full disk loses the log"
        yield Fact(what=what, seen=f"{free:.1f} GiB free at {there}", todo=todo)


def _ports(settings: Settings) -> Iterator[Fact]:
    ports = {"api.port": settings.api.port}
    if not settings.triton.url:
        ports |= {
            f"triton.{name}": getattr(settings.triton, name) for name in ("grpc_port", "http_port", "metrics_port")
        }
    shared = {port for port in ports.values() if list(ports.values()).count(port) > 1}
    for name, port in ports.items():
        with socket.socket() as line:
            line.settimeout(0.5)
            used = line.connect_ex(("127.0.0.1", port)) == 0
        todo = "two settings name this port: change one" if port in shared else ""
        yield Fact(what=f"port {name}", seen=f"{port}, {'something listens' if used else 'free'}", todo=todo)


def _clock(state: Path) -> Fact:
    newest = max((place.stat().st_mtime for place in state.glob("*")), default=0.0) if state.is_dir() else 0.0
    ahead = newest - time.time()
    todo = f"a file of the state folder is {ahead:.0f} s younger than now: set the clock" if ahead > _AHEAD_S else ""
    return Fact(what="clock", seen=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), todo=todo)


def _accelerator() -> Fact:
    driver = Path("/proc/driver/nvidia/version")
    gpu = "NVIDIA driver loaded" if driver.is_file() else "no NVIDIA driver"
    installed = toolchain_versions(*(flavour.package for flavour in Flavour))
    found = [f"{name} {version}" for name, version in installed.items()]
    return Fact(what="GPU and TensorRT", seen=f"{gpu}; {', '.join(found) or 'no TensorRT'}")


def _database(settings: Settings) -> Fact:
    from sqlalchemy import create_engine, make_url, text
    from sqlalchemy.exc import SQLAlchemyError

    address = make_url(settings.ledger_address)
    where = address.render_as_string(hide_password=True)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").is_file():
        return Fact(what="database", seen=f"{where}, not made yet")
    try:
        engine = create_engine(address, hide_parameters=True)
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        engine.dispose()
    except (SQLAlchemyError, ImportError) as exc:
        return Fact(
            what="database", seen=where, todo=f"it does not answer ({type(exc).__name__}): start it, or see ledger_url"
        )
    return Fact(what="database", seen=f"{where} answers")


def _extras(settings: Settings) -> Iterator[Fact]:
    """What pictures and speech need beside the package itself, where the settings ask for them."""
    needed: dict[str, tuple[str, ...]] = {}
    if any(each.task == "image_classification" for each in settings.models.values()):
        needed["images"] = ("PIL",)
    if settings.speech.enabled:
        needed["speech"] = ("faster_whisper", "av")
    for extra, modules in needed.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        todo = f"{' and '.join(missing)} missing: pip install 'perennial-serving[{extra}]'" if missing else ""
        if extra == "speech" and not missing:
            try:
                recogniser_folder(settings.speech.spec)
            except InputError as exc:
                todo = str(exc)
        yield Fact(what=f"what {extra} need{'s' if extra == 'speech' else ''}", seen=", ".join(modules), todo=todo)


def _permissions(settings: Settings, config: Path) -> Iterator[Fact]:
    forbidden = int(settings.umask, 8)
    for place in (config, settings.state, settings.repository):
        if not place.exists():
            continue
        mode = place.stat().st_mode & 0o777
        todo = f"others may use it: chmod {mode & ~forbidden:o} {place}" if mode & forbidden & 0o077 else ""
        yield Fact(what=f"permissions of {place.name}", seen=f"{mode:04o}", todo=todo)


def _exposed(settings: Settings) -> Iterator[Fact]:
    hosts = {"control API": settings.api.host} | ({} if settings.triton.url else {"Triton": settings.triton.host})
    for what, host in hosts.items():
        beyond = not is_local(host)
        yield Fact(
            what=f"{what} listens on", seen=f"{host}{', beyond this machine: put a proxy before it' if beyond else ''}"
        )
