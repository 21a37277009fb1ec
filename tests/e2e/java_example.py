"""The example in Java as Debian's packages compile it, out of the protobuf that Triton's Python client brings."""

import shutil
import subprocess
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tritonclient.grpc import model_config_pb2, service_pb2

__all__ = ["MISSING", "compiled"]

_TOOLS = ("protoc", "grpc_java_plugin", "javac", "java")
MISSING = [tool for tool in _TOOLS if shutil.which(tool) is None]
_JARS = Path("/usr/share/java")
_LIBRARIES = (
    *(f"grpc-{part}" for part in ("api", "context", "core", "netty", "protobuf", "protobuf-lite", "stub")),
    *(f"netty-{part}" for part in ("buffer", "codec", "codec-http", "codec-http2", "common", "handler", "resolver")),
    *("netty-transport", "protobuf", "guava", "perfmark-api", "geronimo-annotation-1.3-spec"),
)


def compiled(source: Path, folder: Path) -> tuple[str, ...]:
    """Compile a program with the protocol's classes, and return the command that runs it, but for its arguments."""
    described = FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(described.file.add())
    (folder / "protocol.desc").write_bytes(described.SerializeToString())
    built = folder / "built"
    built.mkdir()
    plugin = f"--plugin=protoc-gen-grpc-java={shutil.which('grpc_java_plugin')}"
    made = ["--descriptor_set_in", str(folder / "protocol.desc"), plugin, f"--java_out={built}"]
    _run("protoc", *made, f"--grpc-java_out={built}", "grpc_service.proto", "model_config.proto")
    libraries = ":".join(str(_JARS / f"{name}.jar") for name in _LIBRARIES)
    _run("javac", "-nowarn", "-cp", libraries, "-d", str(built), *map(str, built.rglob("*.java")), str(source))
    return ("java", "-cp", f"{built}:{libraries}", source.stem)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
