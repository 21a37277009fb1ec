"""Which C++ compiler a package is compiled with: one whose code shares the C++ library that torch has loaded.

A compiler may be set up to put a copy of libstdc++ into each library it links. Such a package meets the copy that torch
uses: half of its symbols bind to one, half to the other, and the first look at a locale (torch's generated code reads
the device's name with `std::regex`) ends in a segmentation fault when the package is opened.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from perennial.continual.errors import DependencyUnreachable

__all__ = ["choose_compiler"]

_ORDINARY = ("g++", "/usr/bin/g++", "c++", "/usr/bin/c++", "clang++")
_SOURCE = "int *number() { return new int(1); }\n"  # `new` lives in the C++ library
_SHARED_LIBRARY = b"libstdc++.so"


def choose_compiler() -> str | None:
    """The compiler that `CXX` names if it links the shared C++ library, else the first ordinary one that does.

    None leaves the choice to torch, where the question does not arise (not on Linux).

    Raises:
        DependencyUnreachable: there is no C++ compiler, or none that links the shared library.
    """
    if sys.platform != "linux":
        return None
    named = os.environ.get("CXX", "").strip()
    return _first_sharing(((named,) if named else ()) + _ORDINARY)


@functools.cache
def _first_sharing(candidates: tuple[str, ...]) -> str:
    compilers = list(dict.fromkeys(path for name in candidates if (path := shutil.which(name)) is not None))
    for path in compilers:
        if _links_the_shared_library(path):
            return path
    if not compilers:
        raise DependencyUnreachable("AOTInductor needs a C++ compiler and none was found; install g++")
    raise DependencyUnreachable(
        f"AOTInductor needs a C++ compiler that links libstdc++.so, and {', '.join(compilers)} do not: "
        "a package with a C++ library of its own crashes beside torch's; set CXX to another compiler, or install g++"
    )


def _links_the_shared_library(compiler: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="compiler-") as folder:
        source, library = Path(folder) / "probe.cpp", Path(folder) / "probe.so"
        source.write_text(_SOURCE, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", str(source), "-o", str(library)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        return _SHARED_LIBRARY in library.read_bytes()
