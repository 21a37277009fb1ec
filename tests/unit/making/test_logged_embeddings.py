"""What a serving process hands to a training, and what it leaves to it."""

from pathlib import Path
from typing import Any, cast

import pytest

from perennial.continual.learning.packaged import PACKAGED_E5, PACKAGED_MINILM, at_hand, e5_named
from perennial.ops.making.logged_embeddings import reuse_logged_embeddings


@pytest.mark.parametrize("name", [PACKAGED_E5, e5_named(["latin"])])
def test_a_serving_process_converts_no_encoder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when somebody has emptied the folder of converted encoders: the training's own process makes it again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not at_hand(name)
    untouched = cast("Any", None)
    reuse_logged_embeddings(untouched, untouched, "intent", name, [])
    assert not list(tmp_path.iterdir())


def test_other_encoders_are_at_hand(tmp_path: Path) -> None:
    assert at_hand(PACKAGED_MINILM)
    assert at_hand(str(tmp_path))
