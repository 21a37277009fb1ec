"""The wheel, installed where nothing of the repository is: it holds everything, nothing else, and the loop runs."""

import email
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from perennial.ops.serving.processes import free_port

pytestmark = [pytest.mark.component, pytest.mark.slow, pytest.mark.timeout(1200)]

_OWN = {"card": ("card", "chip", "pin"), "loan": ("loan", "mortgage", "debt"), "trip": ("trip", "flight", "hotel")}
ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "client" / "perennial_client"
ROOMS = {"client": CLIENT} | {room: ROOT / room for room in ("continual", "exporters", "ops")}
NOT_SOURCE = (".*", "__pycache__", "var", "out", "build", "dist", "*.egg-info", "model_repository")
FILES = {
    f"perennial/{room}/{path.relative_to(folder).as_posix()}"
    for room, folder in ROOMS.items()
    for path in folder.rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
} | {f"perennial/{path.name}" for path in (ROOT / "perennial").iterdir() if path.is_file()}


@dataclass(frozen=True, kw_only=True)
class Built:
    """What is uploaded to a package index."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True, kw_only=True)
class Installed:
    """An environment that has the wheel, and everything else from the environment that runs the tests."""

    folder: Path
    elsewhere: Path

    @property
    def site(self) -> Path:
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    def run(
        self,
        program: str,
        *arguments: str,
        standard_input: str = "",
        timeout_s: float = 60.0,
        own: Mapping[str, str] | None = None,
    ) -> str:
        """What a command prints; `own` are variables of its own."""
        command = [str(self.folder / "bin" / program), *arguments]
        done = subprocess.run(
            command,
            cwd=self.elsewhere,
            env=_plain_environment() | dict(own or {}),
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}: {done.stderr[-3000:]}"
        return done.stdout

    @contextmanager
    def serving(self, own: Mapping[str, str]) -> Iterator[None]:
        """`perennial serve`, once it says that it is ready, until the block ends."""
        log = self.elsewhere / "serve.log"
        with log.open("wb") as file:
            command = [str(self.folder / "bin" / "perennial"), "serve"]
            environment = _plain_environment() | dict(own)
            process = subprocess.Popen(command, cwd=self.elsewhere, env=environment, stdout=file, stderr=file)
        try:
            end = time.monotonic() + 120
            while b"service.ready" not in log.read_bytes():
                assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]  # noqa: PT018
                time.sleep(0.1)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PERENNIAL_"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Made of a copy, so that no list of files from an earlier build has a say, and the repository stays as it is."""
    folder = tmp_path_factory.mktemp("built")
    copy = folder / "source"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    _build(copy, folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(sdist=sdist, wheel=wheel)


def _build(source: Path, into: Path, *kinds: str) -> None:
    command = [sys.executable, "-m", "build", *kinds, "--no-isolation", "--outdir", str(into), str(source)]
    done = subprocess.run(command, env=_plain_environment(), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    made = Installed(folder=tmp_path_factory.mktemp("environment"), elsewhere=tmp_path_factory.mktemp("elsewhere"))
    venv.create(made.folder, symlinks=True)
    python = str(made.folder / "bin" / "python")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", str(built.wheel)]
    done = subprocess.run(command, env=_plain_environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    # Only now: pip would take the repository's own installation there for the wanted one. A folder that is named in a
    # .pth file has no say in sys.path by .pth files of its own, so the way to the repository stays behind.
    packages = [place for place in sys.path if Path(place).name in {"site-packages", "dist-packages"}]
    (made.site / "dependencies.pth").write_text("\n".join(packages) + "\n")
    return made


def test_wheel_and_sdist_hold_every_file_of_the_rooms_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        packed = {name for name in wheel.namelist() if not name.endswith("/") and ".dist-info/" not in name}
    assert packed == FILES
    with tarfile.open(built.sdist) as sdist:
        assert not [member.name for member in sdist.getmembers() if member.issym() or member.islnk()]
        unpacked = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    assert unpacked >= FILES
    assert {name.partition("/")[0] for name in unpacked - FILES} <= {
        *("LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg", "perennial_serving.egg-info"),
    }


def test_every_module_is_found_in_the_wheel_and_no_other_project_is_overwritten(installed: Installed) -> None:
    paths = [Path(name).with_suffix("") for name in FILES if name.endswith(".py")]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    find = (
        "import importlib.util, json, sys; "
        "print(json.dumps({name: importlib.util.find_spec(name).origin for name in json.load(sys.stdin)}))"
    )
    found = json.loads(installed.run("python", "-c", find, standard_input=json.dumps(modules)))
    assert len(found) > 200
    assert not {name: file for name, file in found.items() if not Path(file).is_relative_to(installed.site)}
    there = {place.name for place in installed.site.iterdir() if place.suffix != ".dist-info"}
    assert there == {"dependencies.pth", "perennial"}


def test_tritons_processes_look_into_the_wheel_alone(installed: Installed) -> None:
    show = (
        "from pathlib import Path; from perennial.ops.serving.server.installation import Installation as I; "
        "print(I(binary=Path(), backends=Path(), library_path='').environment()['PERENNIAL_PYTHONPATH'])"
    )
    places = [Path(place) for place in installed.run("python", "-c", show).strip().split(os.pathsep)]
    assert places[0] == installed.site
    assert [place for place in places if (place / "perennial").exists()] == [installed.site]


def test_the_client_asks_from_an_environment_of_its_own_without_torch(tmp_path: Path) -> None:
    copy = tmp_path / "client"
    shutil.copytree(ROOT / "client", copy, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    _build(copy, tmp_path, "--wheel")
    (wheel,) = tmp_path.glob("perennial_client-*.whl")
    made = Installed(folder=tmp_path / "environment", elsewhere=tmp_path)
    venv.create(made.folder, symlinks=True)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(made.site)
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in packed.namelist() if name.endswith("/METADATA"))
        needed = email.message_from_bytes(packed.read(metadata)).get_all("Requires-Dist", [])
    assert names == {f"perennial_client/{path.name}" for path in CLIENT.iterdir() if path.is_file()}
    for place in _needed_places(needed):
        (made.site / place.name).symlink_to(place)
    ask = """
import importlib.util, sys
import perennial_client
from perennial_client import *
try:
    Client("intent", Places(grpc="127.0.0.1:9", timeout_s=0.2)).predict("hello")
except Unreachable as error:
    print(error)
print(sorted(name for name in ("torch", "perennial", "pytriton", "transformers") if importlib.util.find_spec(name)))
"""
    said, others = made.run("python", "-c", ask).strip().splitlines()
    assert said.startswith("asking intent at 127.0.0.1:9: nobody answers")
    assert others == "[]"


def _needed_places(requirements: list[str]) -> set[Path]:
    """Where the packages of some requirements lie, and of what those require, file by file and folder by folder."""
    waiting, seen, places = [Requirement(each) for each in requirements], set(), set()
    while waiting:
        wanted = waiting.pop()
        if (wanted.name, *sorted(wanted.extras)) in seen:
            continue
        seen.add((wanted.name, *sorted(wanted.extras)))
        found = distribution(wanted.name)
        tops = {file.parts[0] for file in found.files or () if not file.parts[0].startswith((".", "__pycache__"))}
        places |= {Path(str(found.locate_file(top))) for top in tops}
        extras = ("", *wanted.extras)
        waiting += [
            requirement
            for requirement in map(Requirement, found.requires or ())
            if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return places


def test_four_commands_lead_from_the_wheel_to_a_served_model_on_ones_own_table(installed: Installed) -> None:
    """The first one, `pip install WHEEL`, made the environment."""
    around = itertools.product(("my {}", "help with the {}", "about a {}"), ("now", "again", "please"))
    texts = [f"{before} {after}" for before, after in around]
    rows = [(text.format(word), label) for label, words in _OWN.items() for word in words for text in texts]
    table = "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)
    (installed.elsewhere / "requests.csv").write_text(table)
    ports = {name: str(free_port()) for name in ("grpc_port", "http_port", "metrics_port")}
    own = {f"PERENNIAL_TRITON__{name.upper()}": port for name, port in ports.items()}
    own |= {"PERENNIAL_TRITON__KEEP_AFTER_CONTROL_DIES": "false", "PERENNIAL_API__PORT": str(free_port())}
    made = json.loads(installed.run("perennial", "init", "requests", "--data", "requests.csv", own=own, timeout_s=240))
    assert made["version"] == 1
    with installed.serving(own):
        (told,) = json.loads(installed.run("perennial", "predict", "please help with my mortgage", own=own))
    assert told["label"] == "loan"


def test_a_new_user_gets_help_settings_and_the_whole_loop(installed: Installed) -> None:
    assert "demo" in installed.run("perennial", "--help")
    installed.run("perennial", "init", "intent")
    assert "[models.intent" in (installed.elsewhere / "perennial.toml").read_text()
    installed.run("perennial", "demo", "--waves", "1", timeout_s=1000)
    summary = json.loads((installed.elsewhere / "var" / "demo" / "summary.json").read_text())
    assert summary["failed_requests"] == 0
    assert summary["versions_served"][:2] == [1, 2]
    assert summary["accuracy_after"] > summary["accuracy_never_retrained"] + 0.1
    assert (installed.elsewhere / "var" / "demo" / "report.html").stat().st_size > 10_000
