"""What `perennial doctor` says of the machine: what is well, what is wrong, and what to do then."""

import os
import socket
import time
from pathlib import Path

import pytest

from perennial.ops.commands.machine import Fact, examine_machine
from perennial.ops.settings import Settings, load_settings


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "perennial.toml").write_text('state = "state"\nrepository = "models"\n[models.intent]\n')
    (tmp_path / "perennial.toml").chmod(0o600)
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path


def facts(place: Path, **changed: object) -> dict[str, Fact]:
    settings: Settings = load_settings(place / "perennial.toml").model_copy(update=changed)
    return {fact.what: fact for fact in examine_machine(settings, place / "perennial.toml")}


def test_a_sound_place_is_told_in_full_and_nothing_is_made_there(place: Path) -> None:
    before = sorted(place.rglob("*"))
    seen = facts(place)
    assert {"processor", "memory", "clock", "GPU and TensorRT", "database", "port triton.grpc_port"} <= seen.keys()
    assert "usable" in seen["processor"].seen
    assert seen["database"].seen.endswith("not made yet")
    assert not [fact for name, fact in seen.items() if fact.todo and name not in {"processor", "memory"}]
    assert sorted(place.rglob("*")) == before


_ASKED = "[models.shapes]\ntask = 'image_classification'\n[speech]\nenabled = true\n"


def test_what_pictures_and_speech_need_is_looked_for_where_they_are_asked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = {"what images need", "what speech needs"}
    assert not extras & facts(place).keys()
    with (place / "perennial.toml").open("a") as file:
        file.write(_ASKED)
    seen = facts(place)
    assert [seen[name].todo for name in sorted(extras)] == ["", ""]
    with (place / "perennial.toml").open("a") as file:
        file.write(f"recogniser = '{place}'\n")
    assert "lacks config.json" in facts(place)["what speech needs"].todo
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    seen = facts(place)
    assert seen["what images need"].todo == "PIL missing: pip install 'perennial-serving[images]'"
    assert seen["what speech needs"].todo.startswith("faster_whisper and av missing: pip install")


def test_what_others_may_read_is_told_with_the_command_that_mends_it(place: Path) -> None:
    (place / "perennial.toml").chmod(0o644)
    fact = facts(place)["permissions of perennial.toml"]
    assert (fact.seen, fact.todo) == ("0644", f"others may use it: chmod 600 {place / 'perennial.toml'}")
    assert fact.to_json()["wrong"]
    assert not facts(place, umask="000")["permissions of perennial.toml"].todo


def test_a_file_of_the_future_tells_of_a_clock_that_was_wrong(place: Path) -> None:
    (place / "state" / "ledger.db").touch()
    os.utime(place / "state" / "ledger.db", (time.time() + 9_000, time.time() + 9_000))
    assert "set the clock" in facts(place)["clock"].todo


def test_a_database_that_does_not_answer_is_told_without_its_password(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
    address = f"postgresql+psycopg://me:secret-word@127.0.0.1:{port}/perennial"
    fact = facts(place, ledger_url=address)["database"]
    assert "it does not answer" in fact.todo
    assert "secret-word" not in fact.seen + fact.todo


def test_a_port_tells_whether_something_listens(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        text = f"[triton]\ngrpc_port = {port}\nhttp_port = {port}\n"
        (place / "perennial.toml").write_text(text)
        seen = facts(place)
    assert seen["port triton.grpc_port"].seen == f"{port}, something listens"
    assert "change one" in seen["port triton.http_port"].todo
