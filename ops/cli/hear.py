"""`hear`: recordings as text and, of a served model, the answers to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.ops.cli.console import ConfigOption, print_json, say

if TYPE_CHECKING:
    from perennial.continual.speech import Heard
    from perennial.continual.speech.listener import Listener
    from perennial.ops.settings import Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(hear)


def hear(
    places: Annotated[
        list[Path], typer.Argument(help="WAV, FLAC, MP3 or Ogg files of at most a minute each, or folders with such")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="a served model of texts that is asked about each")] = "",
    key: Annotated[str | None, typer.Option(help="caller's id, by which the rows can be erased")] = None,
    recogniser: Annotated[
        str, typer.Option(help="a folder that faster-whisper reads; default that of the settings")
    ] = "",
    language: Annotated[str | None, typer.Option(help="that is spoken, e.g. en; default that of the settings")] = None,
    config: ConfigOption = None,
) -> None:
    """Turn recordings into text; with --model ask the served model about it. The recordings are kept nowhere.

    What cannot be understood is named with its reason, and does not end the others. The exit code is 2 where nothing
    was understood. They are unpacked in a process of its own, which alone is ended where one does it harm.
    """
    from contextlib import closing
    from dataclasses import replace

    from perennial.continual.errors import DataError, DependencyUnreachable
    from perennial.continual.preparation import admit_key
    from perennial.continual.speech.listener import Listener, NoRecogniser
    from perennial.ops.settings import load_settings

    settings, key = load_settings(config), admit_key(key)
    if model:
        from perennial.ops.commands.speech import check_spoken

        check_spoken(model, settings.task_of(model))
    files = _files(places)
    spec = settings.speech.spec
    spec = replace(spec, name=recogniser or spec.name, language=language or spec.language)
    rows, understood = list[dict[str, Any]](), list["Heard"]()
    with closing(Listener(spec)) as listener:
        for file in files:
            try:
                heard = _heard(listener, file, settings)
            except NoRecogniser:
                raise
            except (DataError, DependencyUnreachable) as exc:
                rows.append({"file": str(file), "refused": str(exc)})
                continue
            understood.append(heard)
            rows.append({"file": str(file), **_shown(heard)})
    if model and understood:
        answers = iter(_answers(settings, model, understood, key))
        rows = [row if "refused" in row else row | {"answer": next(answers)} for row in rows]
    print_json(rows)
    if not understood:
        raise typer.Exit(DataError.exit_code)
    if refused := len(rows) - len(understood):
        say(f"{refused} of {len(rows)} recordings were not understood")


def _heard(listener: "Listener", file: Path, settings: "Settings") -> "Heard":
    """What is said in a file.

    Raises:
        DataError: it cannot be read or understood. DependencyUnreachable: it took too long, or ended the process.
    """
    from perennial.continual.errors import DataError
    from perennial.continual.speech import check_sure
    from perennial.continual.speech.sound import MOST_BYTES

    try:
        with file.open("rb") as opened:
            sent = opened.read(MOST_BYTES + 1)
    except OSError as exc:
        raise DataError(f"it cannot be read ({exc.strerror}); mend its rights, or move it") from exc
    heard = listener.hear(sent)
    check_sure(heard, settings.speech.least_probability, field="it")
    return heard


def _files(places: list[Path]) -> list[Path]:
    """The files named, and those within the folders named, in the order of their paths.

    Raises:
        typer.BadParameter: a place is neither, or a folder has no recording in it.
    """
    from perennial.continual.speech.sound import ENDINGS

    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(path for path in place.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
            if not inside:
                raise typer.BadParameter(f"{str(place)!r} has no file that ends in {', '.join(ENDINGS)}")
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise typer.BadParameter(f"{str(place)!r} is neither a file nor a folder; give recordings")
    return found


def _shown(heard: "Heard") -> dict[str, Any]:
    chosen = {} if heard.language_probability is None else {"language_probability": heard.language_probability}
    return {
        "text": heard.text,
        "probability": round(heard.probability, 4),
        "language": heard.language,
        **chosen,
        "seconds": round(heard.seconds, 2),
    }


def _answers(settings: "Settings", model: str, understood: "list[Heard]", key: str | None) -> list[Any]:
    from perennial.ops.app.wiring import grpc_url
    from perennial.ops.commands.speech import ask_about
    from perennial.ops.serving.client import PerennialClient

    task = settings.task_of(model)
    with PerennialClient(grpc_url(settings), model, task=task) as client:
        return ask_about(client, task, understood, key)
