"""A recording that is refused before anybody listens to it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perennial.continual.errors import DataError, NotFound, PerennialError, Refused
from perennial.continual.speech import Heard
from perennial.ops.commands.speech import hear_and_ask
from perennial.ops.settings import ModelSettings, Settings
from perennial.ops.settings.speech import SpeechSettings
from perennial.ops.store.workspace import Workspace


class _Deaf:
    def hear(self, sent: bytes, *, language: str | None = None, caller: str = "") -> Heard:
        raise AssertionError(f"nobody is to listen to {len(sent)} bytes in {language} of {caller}")


@pytest.mark.parametrize(
    ("enabled", "model", "key", "error", "why"),
    [
        (True, "other", None, NotFound, "'other' is not in the settings"),
        (True, "shapes", None, DataError, "is not asked about texts"),
        (False, "intent", None, Refused, "speech is switched off here"),
        (True, "intent", "a\x07", DataError, "cannot be seen"),
        (True, "intent", "\u00e9" * 200, DataError, "at most 256 are allowed"),
    ],
    ids=["no model", "images", "off", "hidden key", "long key"],
)
def test_it_is_refused_before_anybody_listens(
    tmp_path: Path, enabled: bool, model: str, key: str | None, error: type[PerennialError], why: str
) -> None:
    models = {"intent": ModelSettings(), "shapes": ModelSettings(task="image_classification")}
    speech = SpeechSettings(enabled=enabled)
    settings = Settings(state=tmp_path, repository=tmp_path / "r", models=models, speech=speech)
    parts = cast("Any", SimpleNamespace(settings=settings, workspace=Workspace(settings)))
    with pytest.raises(error, match=why):
        hear_and_ask(parts, cast("Any", _Deaf()), model, b"fLaC", key=key, language=None, caller="ann")
