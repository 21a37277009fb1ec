"""Images as their users meet them: digits in folders, asked and labelled, a new version unattended, and erased."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import httpx
import numpy as np
import pytest

from perennial import client
from perennial.continual.images import ImageStore, read_image
from tests.component.image_fixtures import digits, file_of, write_image_encoder
from tests.e2e.workspace import SERVED_TOML, E2eWorkspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
KNOWN, LATER = range(6), range(6, 10)
HERE = ("--model", "digits")
_TOML = (
    SERVED_TOML
    + """[traffic]
rotate_s = 0.5
[models.digits]
task = "image_classification"
[models.digits.learning]
encoder = "{encoder}"
replay_rows = 100
[models.digits.learning.params]
features = 256
sketches = 1
[models.digits.drift]
window_rows = 100
reference_rows = 200
cooldown_requests = 100
report_every_windows = 1000
[models.digits.cycle]
probation_s = 1.0
min_fresh_rows = 5
[models.digits.policy]
kind = "drift"
limits = {{ cooldown_s = 1.0, min_feedback = 200 }}
"""
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[E2eWorkspace]:
    """Version 1 has learnt some digits out of a folder for each, and is served."""
    folder = tmp_path_factory.mktemp("digits")
    made = E2eWorkspace.written(folder, _TOML, encoder=write_image_encoder(folder / "encoder", "whole", side=16))
    for number, (content, label) in enumerate(digits(KNOWN)[:500]):
        (folder / "data" / label).mkdir(parents=True, exist_ok=True)
        (folder / "data" / label / f"{number}.png").write_bytes(content)
    report = made.here("init", "digits", "--data", str(folder / "data"))
    assert (report["version"], report["images"], report["labels"]) == (1, 500, 6)
    assert report["held_out"]["holdout_accuracy"] > 0.7
    with made.serving():
        yield made


def _client(place: E2eWorkspace) -> client.Client:
    return client.Client("digits", client.Places(grpc=f"127.0.0.1:{place.grpc}", api=f"http://127.0.0.1:{place.api}"))


def _model(place: E2eWorkspace) -> Any:
    answer = httpx.get(f"http://127.0.0.1:{place.api}/v1/models/digits", timeout=20)
    answer.raise_for_status()
    return answer.json()


class _Traffic:
    """Somebody who never stops asking, and tells the label of each answer."""

    def __init__(self, place: E2eWorkspace) -> None:
        self._place, self._stop = place, threading.Event()
        self.about, self.failed, self.answers = digits(KNOWN)[500:], 0, list[tuple[str, client.Prediction]]()

    def work(self) -> None:
        with _client(self._place) as asking:
            rows = cycle(self.about)
            about = self.about
            while not self._stop.is_set():
                if about is not self.about:
                    about, rows = self.about, cycle(self.about)
                part = [next(rows) for _ in range(8)]
                try:
                    answers = asking.look_many([content for content, _ in part])
                    pairs = zip(answers, part, strict=True)
                    told = [client.Label(prediction_id=each.prediction_id, label=b) for each, (_, b) in pairs]
                    asking.feedback(told)
                except client.ClientError:
                    self.failed += 1
                    continue
                self.answers += zip((label for _, label in part), answers, strict=True)

    @contextmanager
    def flowing(self) -> Iterator["_Traffic"]:
        thread = threading.Thread(target=self.work)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def _right(answers: Sequence[tuple[str, client.Prediction]]) -> float:
    return float(np.mean([answer.label == label for label, answer in answers]))


def test_new_digits_are_learnt_unattended_without_a_failed_request(place: E2eWorkspace) -> None:
    """By whichever version: one that was trained when the first labels of them came may be refused."""
    new = {label for _, label in digits(LATER)}
    with _Traffic(place).flowing() as traffic:
        wait_for(lambda: len(traffic.answers) > 320, 60, "a reference and a clean window")
        assert _right(traffic.answers[:320]) > 0.7
        traffic.about = digits(LATER)

        def late() -> list[tuple[str, client.Prediction]]:
            return [(label, answer) for label, answer in traffic.answers if label in new][-40:]

        wait_for(lambda: len(late()) == 40 and _right(late()) > 0.6, 120, "most of the new digits to be named")
        wait_for(lambda: late()[-1][1].version == _model(place)["champion"] > 1, 20, "the champion to answer")
        assert traffic.failed == 0
    wait_for(lambda: _model(place)["cycle"] is None, 60, "the end of probation")
    versions = {row["version"]: row for row in place.here("model", "list", *HERE, "--json")}
    champion = versions[_model(place)["champion"]]
    assert "drift" in champion["lineage"]["reason"]
    assert champion["classes"] > versions[1]["classes"] == 6
    windows = place.here("drift", "watch", *HERE, "--json")
    signals = {signal["signal"] for window in windows for signal in window["comparison"]["signals"]}
    assert {"embedding", "brightness", "size"} <= signals
    assert not {"length", "unknown_words", "non_letter"} & signals


def test_a_rollback_answers_at_once(place: E2eWorkspace) -> None:
    (content, _), *_ = digits(KNOWN)
    before = _model(place)["champion"]
    after = place.here("model", "rollback", *HERE, "--reason", "test")["champion"]
    assert after < before
    with _client(place) as asking:
        wait_for(lambda: asking.look(content).version == after, 20, "the version before it to answer")


def test_a_picture_is_shown_to_who_labels_and_leaves_with_its_person(place: E2eWorkspace) -> None:
    drawn = np.random.default_rng(1).integers(256, size=(40, 30, 3), dtype=np.uint8)
    content, store = file_of(drawn, "JPEG"), ImageStore(place.folder / "state" / "images" / "digits")
    kept = read_image(content)
    with _client(place) as asking:
        answer = asking.look(content, key="ann", scores=True)
        assert answer.scores is not None
        with pytest.raises(client.ClientError, match="IMAGE of row 0 is no JPEG or PNG file"):
            asking.look(b"<svg/>")
    assert store.get(kept.name) == kept
    site = f"http://127.0.0.1:{place.api}/console/models/digits"

    def shown() -> httpx.Response:
        return httpx.get(f"{site}/labels?request={answer.prediction_id}", timeout=20)

    picture = f"/console/models/digits/images/{kept.name.removeprefix('image:')}.jpg"
    wait_for(lambda: f'src="{picture}"' in shown().text, 20, "the picture to be on the page")
    given = httpx.get(f"http://127.0.0.1:{place.api}{picture}", timeout=20)
    assert (given.status_code, given.content) == (200, kept.content)
    assert given.headers["content-type"] == "image/jpeg"
    assert given.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in given.headers["content-security-policy"]
    assert httpx.get(f"{site}/images/../../x.jpg", timeout=20).status_code == 404
    receipt = place.here("erase", "--key", "ann", *HERE)
    assert (receipt["complete"], receipt["models"]["digits"]["traffic_rows"]) == (True, 1)
    assert store.get(kept.name) is None
    assert httpx.get(f"http://127.0.0.1:{place.api}{picture}", timeout=20).status_code == 404
    assert len(store.names()) > 500, "the pictures of others stay"
