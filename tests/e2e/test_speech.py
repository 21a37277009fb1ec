"""Speech as its users meet it: a spoken question in, its words and the model's answer out, labelled as a text."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perennial.client.texts import Prediction
from perennial.continual.speech import RecogniserSpec
from perennial.continual.speech.recogniser import Recogniser
from perennial.continual.speech.sound import sound_of
from tests.e2e.workspace import E2eWorkspace, wait_for
from tests.unit.speech.sounds import packed, spoken, tone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
RECORDED = Path("/usr/share/pocketsphinx/test/data/librivox")  # people who read a novel, with what they read
QUESTIONS = {
    "please help, my card is lost": "card",
    "why is the interest of my loan so high": "loan",
    "when is my trip, and where is the hotel": "trip",
}


@pytest.fixture(scope="module")
def place(workspace: E2eWorkspace) -> Iterator[E2eWorkspace]:
    """The workspace that knows three subjects is served, and understands recordings."""
    settings = workspace.config.read_text()
    workspace.config.write_text(f"{settings}[speech]\nenabled = true\n[traffic]\nrotate_s = 0.5\n")
    with workspace.serving():
        yield workspace


def hear(place: E2eWorkspace, sent: bytes, **query: str) -> httpx.Response:
    url = f"http://127.0.0.1:{place.api}/v1/models/intent/speech"
    headers = {"Content-Type": "audio/wav", "X-Perennial-Request": "1"}
    return httpx.post(url, content=sent, params=query, headers=headers, timeout=120)


def test_a_spoken_question_is_answered_logged_labelled_and_erased_as_its_words(
    place: E2eWorkspace, tmp_path: Path
) -> None:
    answers: dict[str, Any] = {}
    for kind, (text, label) in zip(("wav", "flac", "ogg"), QUESTIONS.items(), strict=True):
        sent = spoken(text, tmp_path)
        sent = sent if kind == "wav" else packed(sent, kind, {"flac": "flac", "ogg": "libopus"}[kind])
        answer = hear(place, sent, key="ann")
        assert answer.status_code == 200, answer.text
        answers[label] = answer.json()
    assert [told["answer"]["label"] for told in answers.values()] == list(answers), answers
    assert all(told["language"] == "en" and told["probability"] >= 0.5 for told in answers.values())
    card = answers["card"]
    assert "card" in card["transcript"].lower()
    assert card["answer"]["version"] == 1

    def logged() -> dict[str, str]:
        rows = place.here("label", "queue", "--model", "intent", "--fill", "10", "--json")
        return {row["prediction_id"]: row["text"] for row in rows["items"]}

    wait_for(lambda: logged().get(card["answer"]["prediction_id"]) == card["transcript"], 30, "its words to be logged")
    sounds = [p for p in (place.folder / "state").rglob("*") if p.is_file() and p.read_bytes()[:4] in _BEGINNINGS]
    assert not sounds, "no recording is kept"
    place.feedback([(card["answer"]["prediction_id"], "card")])
    receipt = place.here("erase", "--key", "ann", "--model", "intent")
    assert receipt["models"]["intent"]["traffic_rows"] == 3


_BEGINNINGS = {b"RIFF", b"fLaC", b"OggS"}


@pytest.mark.parametrize(
    ("sent", "query", "status", "why"),
    [
        (b"", {}, 422, "audio is empty"),
        (b"GIF89a", {}, 422, "is no WAV, FLAC, MP3 or Ogg file"),
        (tone(61.0, rate=8_000), {}, 422, r"lasts 61 s (limit 60 s)"),
        (tone(1.0, loud=0.0), {}, 422, "is silent"),
        (tone(1.0), {}, 422, "has no speech in its 1.0 s"),
        (tone(1.0), {"language": "de"}, 422, "hears en, not 'de'"),
        (tone(1.0), {"language": "german"}, 422, "language"),
    ],
    ids=["nothing", "picture", "long", "silent", "tone", "German", "no language"],
)
def test_what_is_not_understood_is_refused_with_its_reason(
    place: E2eWorkspace, sent: bytes, query: dict[str, str], status: int, why: str
) -> None:
    answer = hear(place, sent, **query)
    assert (answer.status_code, why in answer.json()["detail"]) == (status, True), answer.text


def test_people_are_understood_by_a_command_for_a_folder(place: E2eWorkspace, tmp_path: Path) -> None:
    """At most one word in six is another; the folder has a file that is no recording too."""
    said: dict[str, str] = {}
    for line in (RECORDED / "transcription").read_text().splitlines()[:3]:
        text, _, name = line.replace("<s>", "").replace("</s>", "").rpartition("(")
        said[f"{name.rstrip(')').strip()}.wav"] = text.strip()
    for name in said:
        shutil.copy(RECORDED / name, tmp_path / name)
    (tmp_path / "notes.wav").write_bytes(b"notes")
    rows = {Path(row["file"]).name: row for row in place.here("hear", str(tmp_path), "--model", "intent")}
    assert "is no WAV" in rows.pop("notes.wav")["refused"]
    assert set(rows) == set(said)
    wrong = sum(_errors(said[name].split(), _words(row["text"])) for name, row in rows.items())
    assert wrong <= sum(len(text.split()) for text in said.values()) / 6, rows
    assert all(Prediction(**row["answer"]).label in {"card", "loan", "trip"} for row in rows.values())


def test_the_same_recording_gives_the_same_words(tmp_path: Path) -> None:
    sound, recogniser = sound_of(spoken("how much is the fee", tmp_path)), Recogniser.load(RecogniserSpec())
    assert recogniser.hear(sound) == recogniser.hear(sound)


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


def _errors(said: list[str], heard: list[str]) -> int:
    """The least number of words that were changed, left out or added."""
    before = list(range(len(heard) + 1))
    for place, word in enumerate(said, start=1):
        row = [place]
        for other, told in enumerate(heard, start=1):
            row.append(min(row[-1] + 1, before[other] + 1, before[other - 1] + (word != told)))
        before = row
    return before[-1]
