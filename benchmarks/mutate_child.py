"""One process of a mutation run, forked from a parent that has imported the libraries: a traced run, or one mutant."""

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import pytest

from benchmarks.mutate_tests import ROOT, path_of

__all__ = ["Child", "Trace", "preload", "start_mutant", "start_trace", "wait_any"]

_LIBRARIES = (
    "hypothesis", "_hypothesis_pytestplugin", "pytest_timeout", "numpy", "numpy.testing", "scipy.stats",
    "scipy.special", "sklearn.linear_model",
    "sklearn.feature_extraction.text", "sklearn.cluster", "pandas", "sqlalchemy", "pydantic_settings", "onnx",
    "onnxruntime", "openvino", "torch", "tokenizers", "safetensors", "prometheus_client", "apscheduler", "httpx",
    "tritonclient.grpc",
)  # fmt: skip
_MORE_MEMORY = 3 * 2**30
_QUIET = (
    "-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:faulthandler",
    "-p", "no:unraisableexception", "-p", "no:threadexception",  # they collect garbage, twice a run
    "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin",  # all the plugins that the tests need
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # these are imported before the fork
)  # fmt: skip
_NOT_FOUND = 4  # pytest: usage error, such as a test that the arguments name and that is not there


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one test did: its processor seconds, and the lines of each traced module that it ran."""

    passed: bool
    cpu_s: float
    lines: dict[str, frozenset[int]]


@dataclass(slots=True, kw_only=True)
class Child:
    """A forked process that runs tests; its own group, so that what it started ends with it."""

    pid: int
    handle: int
    folder: tempfile.TemporaryDirectory[str]
    ends_by: float

    @property
    def output(self) -> Path:
        """What it printed."""
        return Path(self.folder.name) / "output"

    def end(self, *, kill: bool) -> int | None:
        """Return its exit status, or None where it had to be ended or ended itself by a signal."""
        if kill:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what the tests left running
        os.close(self.handle)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def preload() -> None:
    """Import what tests import, once; nothing of this project, because each child imports that anew."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    for name in _LIBRARIES:
        importlib.import_module(name)


def wait_any(children: Sequence[Child]) -> tuple[Child, int | None]:
    """Wait until one child ends or passes its time, and return it with its exit status (None: ended by force)."""
    poll = select.poll()
    for child in children:
        poll.register(child.handle, select.POLLIN)
    first = min(child.ends_by for child in children)
    ready = {handle for handle, _ in poll.poll(max(0.0, first - time.monotonic()) * 1000)}
    for child in children:
        if child.handle in ready:
            return child, child.end(kill=False)
    late = min(children, key=lambda child: child.ends_by)
    return late, late.end(kill=True)


def start_mutant(module: str, tree: ast.Module, tests: Sequence[str], *, cpu_s: float, wall_s: float) -> Child:
    """Run the tests against the module with this tree in place of its source; exit status 0 says that all passed."""

    def work(folder: Path) -> int:
        _install(module, compile(tree, str(path_of(module)), "exec"))
        importlib.import_module(module)
        status = _pytest([*tests], folder, [])
        if status == _NOT_FOUND:  # the change renamed a parametrised test
            status = _pytest(sorted({test.split("::")[0] for test in tests}), folder, [])
        return status

    return _fork(work, cpu_s=cpu_s, wall_s=wall_s)


def start_trace(modules: Sequence[str], tests: Sequence[str], answer: Path, *, wall_s: float) -> Child:
    """Run the tests on the code as it is and write what each did to `answer`, as `read_trace` reads it."""

    def work(folder: Path) -> int:
        tracer = _Tracer({str(path_of(module)): module for module in modules})
        status = _pytest(list(tests), folder, [tracer])
        answer.write_text(json.dumps(tracer.traces()), encoding="utf-8")
        return status

    return _fork(work, cpu_s=wall_s, wall_s=wall_s)


def _fork(work: Callable[[Path], int], *, cpu_s: float, wall_s: float) -> Child:
    folder = tempfile.TemporaryDirectory(prefix="mutant-")
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid=pid, handle=os.pidfd_open(pid), folder=folder, ends_by=time.monotonic() + wall_s)
    status = 1
    try:
        os.setsid()
        _limit(cpu_s)
        output = os.open(f"{folder.name}/output", os.O_WRONLY | os.O_CREAT, 0o600)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.chdir(ROOT)
        status = work(Path(folder.name))
    except BaseException as error:  # whatever a mutant raises while it is imported
        print(repr(error), file=sys.stderr)
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(int(status))


def _limit(cpu_s: float) -> None:
    seconds = int(cpu_s) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    held = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + _MORE_MEMORY, held + _MORE_MEMORY))


def _pytest(arguments: list[str], folder: Path, plugins: list[object]) -> int:
    import hypothesis

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")
    return int(pytest.main([*_QUIET, "--basetemp", str(folder / "pytest"), *arguments], plugins=plugins))


class _Mutated(importlib.machinery.SourceFileLoader):
    """Gives the changed code in place of the file's; everything else about the module stays."""

    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, code: CodeType) -> None:
        self._module, self._code = module, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        file = str(path_of(fullname))
        loader = _Mutated(fullname, file)
        loader.code = self._code
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def _install(module: str, code: CodeType) -> None:
    sys.meta_path.insert(0, _Finder(module, code))


class _Tracer:
    """A pytest plugin that notes which lines of some files each test runs.

    What a fixture runs counts for every test of the file, since only the first one of those that share it is seen.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files
        self._now: dict[str, set[int]] = {}
        self._tests: dict[str, dict[str, Any]] = {}
        self._shared: dict[str, dict[str, set[int]]] = {}

    def traces(self) -> dict[str, dict[str, Any]]:
        for node, test in self._tests.items():
            for module, lines in self._shared.get(node.split("::")[0], {}).items():
                test["lines"].setdefault(module, set()).update(lines)
            test["lines"] = {module: sorted(lines) for module, lines in test["lines"].items()}
        return self._tests

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        with self._traced(self._shared.setdefault(item.nodeid.split("::")[0], {})):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        test = self._tests.setdefault(item.nodeid, {"cpu_s": 0.0, "passed": True, "lines": {}})
        began = time.process_time()
        try:
            with self._traced(test["lines"]):
                return (yield)
        finally:
            test["cpu_s"] = time.process_time() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._tests.setdefault(report.nodeid, {"cpu_s": 0.0, "lines": {}})["passed"] = False

    def _traced(self, lines: dict[str, set[int]]) -> "_Tracing":
        return _Tracing(self._files, lines)


class _Tracing:
    def __init__(self, files: dict[str, str], lines: dict[str, set[int]]) -> None:
        self._files, self._lines = files, lines

    def __enter__(self) -> None:
        threading.settrace(self._call)
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _call(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        module = self._files.get(frame.f_code.co_filename)
        if module is None:
            return None
        seen = self._lines.setdefault(module, set())

        def line(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
            seen.add(frame.f_lineno)
            return line

        seen.add(frame.f_lineno)
        return line


def read_trace(answer: Path) -> dict[str, Trace]:
    """Return what each test did, by pytest's name for it."""
    traces = json.loads(answer.read_text(encoding="utf-8"))
    return {
        node: Trace(
            passed=test["passed"],
            cpu_s=test["cpu_s"],
            lines={module: frozenset(lines) for module, lines in test["lines"].items()},
        )
        for node, test in traces.items()
    }
