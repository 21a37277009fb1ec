"""Which model a command is for, where it names none: the only one there is."""

from pathlib import Path

import typer

__all__ = ["only_model"]


def only_model(context: typer.Context, model: str) -> str:
    """Return the model that was given, or else the only one of the workspace.

    Raises:
        ConfigurationError: there is none, or several to choose from.
    """
    if model or context.resilient_parsing:
        return model
    from perennial.continual.errors import ConfigurationError
    from perennial.ops.app.wiring import configured_models

    config = context.params.get("config")
    names = configured_models(None if config is None else Path(config))
    if len(names) == 1:
        return names[0]
    if not names:
        raise ConfigurationError(
            f"{config or Path.cwd()} names no model; run `perennial init NAME --data FILE`, or give --config or --model"
        )
    raise ConfigurationError(f"{len(names)} models are configured, and --model names none; choose {', '.join(names)}")
