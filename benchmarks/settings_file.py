"""The settings of a benchmark's workspace, on ports that are free now."""

from pathlib import Path

from perennial.ops.serving.processes import free_port

__all__ = ["write_settings"]


def write_settings(folder: Path, text: str, **more: object) -> Path:
    """Write `perennial.toml` into a folder, which is made; `{grpc}`, `{http}`, `{metrics}`, `{api}` become ports."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = {name: free_port() for name in ("grpc", "http", "metrics", "api")}
    config = folder / "perennial.toml"
    config.write_text(text.format(**ports, **more), encoding="utf-8")
    return config
