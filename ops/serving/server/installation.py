"""A Triton put together from the installed `nvidia-pytriton` wheel and our own backends."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import perennial
from perennial.continual.errors import DependencyUnreachable
from perennial.ops.serving.server.server_binary import without_classification

__all__ = ["Installation", "assemble"]

_GLIBC = (2, 35)
_OURS = ("perennial", "perennial_engine", "perennial_stream")
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """What is needed to start it."""

    binary: Path
    backends: Path
    library_path: str

    def environment(self) -> dict[str, str]:
        """This process's environment, completed for the server and its stubs.

        The stubs ignore virtual environments and PYTHONPATH; our backends take `PERENNIAL_PYTHONPATH` instead. The
        folder where this process happened to be started is not in it: what lies there is none of ours.
        """
        root = Path(perennial.__file__).resolve().parents[1]
        found = sys.path if sys.flags.safe_path or not _is_working_folder(sys.path[0]) else sys.path[1:]
        places = [str(root), *(str(Path(place).resolve()) for place in found if place)]
        return {
            **os.environ,
            "LD_LIBRARY_PATH": self.library_path,
            "PERENNIAL_PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
            "TOKENIZERS_PARALLELISM": "false",
        }


def assemble(folder: Path) -> Installation:
    """Lay out the server's backends under `folder`; what is there already is brought up to date.

    Raises:
        DependencyUnreachable: the wheel, its stub for this Python, libpython or a recent enough glibc is missing.
    """
    wheel = _wheel()
    _check_glibc()
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / _STUB
    if not stub.is_file():
        raise DependencyUnreachable(
            f"nvidia-pytriton has no stub for Python {platform.python_version()} ({stub} is missing); use Python 3.11"
        )
    library_path = _library_path(wheel)
    _check_libraries(stub, library_path)
    backends = folder / "backends"
    shutil.rmtree(backends, ignore_errors=True)
    python = backends / "python"
    python.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copyfile(wheel / "backends" / "python" / name, python / name)  # Triton refuses a link out of its folder
    shutil.copyfile(stub, python / _STUB)  # Triton looks beside the library for it, and it must be executable
    (python / _STUB).chmod(0o700)
    for name in _OURS:
        (backends / name).mkdir()
        shutil.copyfile(Path(__file__).parents[1] / "backends" / name / "model.py", backends / name / "model.py")
    binary = without_classification(wheel / "bin" / "tritonserver", folder / "bin")
    return Installation(binary=binary, backends=backends, library_path=library_path)


def _is_working_folder(place: str) -> bool:
    """Whether `python -m` put this first in the path, and nobody asked for it."""
    named = [Path(each).resolve() for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    folder = Path(place).resolve()
    return folder == Path.cwd().resolve() and folder not in named


def _wheel() -> Path:
    spec = importlib.util.find_spec("pytriton")  # found, not imported: importing it configures signal handlers
    if spec is None or spec.origin is None:
        raise DependencyUnreachable(
            "the embedded Triton needs nvidia-pytriton, which is not installed here; "
            "run `pip install nvidia-pytriton==0.7.0`, or name an external Triton by triton.url"
        )
    folder = Path(spec.origin).parent / "tritonserver"
    if not (folder / "bin" / "tritonserver").is_file():
        raise DependencyUnreachable(f"nvidia-pytriton holds no server at {folder}; reinstall the wheel")
    return folder


def _check_glibc() -> None:
    name, version = platform.libc_ver()
    seen = tuple(int(part) for part in version.split(".")[:2]) if version else (0, 0)
    if name != "glibc" or seen < _GLIBC:
        raise DependencyUnreachable(
            f"the embedded Triton needs glibc {_GLIBC[0]}.{_GLIBC[1]}, this system has {name or 'none'} {version}; "
            "use a newer system, or name an external Triton by triton.url"
        )


def _library_path(wheel: Path) -> str:
    places = [str(wheel.parents[1] / "nvidia_pytriton.libs")]
    libdir, library = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    if libdir and library and (Path(libdir) / library).is_file():
        places.append(libdir)
    return os.pathsep.join([*places, *filter(None, [os.environ.get("LD_LIBRARY_PATH", "")])])


def _check_libraries(stub: Path, library_path: str) -> None:
    listing = subprocess.run(
        ["ldd", str(stub)],
        env={**os.environ, "LD_LIBRARY_PATH": library_path},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if missing := [line.split()[0] for line in listing.splitlines() if "not found" in line]:
        raise DependencyUnreachable(
            f"Triton's python stub needs {', '.join(missing)}, not found on this system; install it "
            "(Debian: apt-get install libpython3.11), or use a Python built with --enable-shared"
        )
