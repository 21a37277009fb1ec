"""The loop as its users meet it: serve, drift, labels, a new version, roll back, and what survives a kill."""

import json
import subprocess
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perennial.client.texts import Prediction
from perennial.continual.errors import DataError, PerennialError
from tests.e2e.conftest import requests_about
from tests.e2e.receiver import SECRET, Receiver
from tests.e2e.workspace import E2eWorkspace, ask, kill, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
KNOWN = ["card", "loan", "trip"]


@pytest.fixture(scope="module", autouse=True)
def receiver(workspace: E2eWorkspace) -> Iterator[Receiver]:
    """Hears what the service tells through all of this module."""
    made = Receiver()
    settings = workspace.config.read_text().replace("[schedule]", "[schedule]\nnotify_s = 0.3\nreport_s = 600")
    workspace.config.write_text(f'{settings}[notify.webhook.test]\nurl = "{made.url}"\nsecret = "{SECRET}"\n')
    yield made
    made.close()


class Traffic:
    """A client that never stops asking; labels follow its answers while `labels` says so."""

    def __init__(self, workspace: E2eWorkspace) -> None:
        self._workspace, self.labels = workspace, True
        self.about, self.failed, self.answers = list(KNOWN), 0, list[tuple[str, Prediction]]()
        self._stop, self._seed = threading.Event(), 100

    def work(self) -> None:
        with self._workspace.client() as client:
            while not self._stop.is_set():
                self._seed += 1
                pairs = []
                for text, label in requests_about(self.about, 20, self._seed):
                    try:
                        answer = client.predict([text])[0]
                    except PerennialError:
                        self.failed += 1
                        time.sleep(0.1)
                        continue
                    self.answers.append((label, answer))
                    pairs.append((answer.prediction_id, label))
                    time.sleep(0.004)
                if pairs and self.labels:
                    self._workspace.feedback(pairs)

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        thread = threading.Thread(target=self.work)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()


def test_loop_learns_a_new_subject_unattended_and_rolls_back(workspace: E2eWorkspace) -> None:
    with workspace.serving(), Traffic(workspace).flowing() as traffic:
        wait_for(lambda: len(traffic.answers) > 450, 120, "a reference and a clean window")
        assert workspace.status()["champion"] == 1
        assert workspace.status()["cycle"] is None
        traffic.about = [*KNOWN, "fees", "fees"]
        wait_for(lambda: workspace.status()["champion"] == 2, 240, "version 2 to answer")
        wait_for(lambda: workspace.status()["cycle"] is None, 60, "the end of probation")
        seen = len(traffic.answers)
        wait_for(lambda: len(traffic.answers) > seen + 150, 60, "answers of version 2")
        late = traffic.answers[-100:]
        assert {answer.version for _, answer in late} == {2}
        assert sum(answer.label == label for label, answer in late) >= 85
        assert traffic.failed == 0

        rolled = workspace.cli("model", "rollback", "--reason", "test")
        assert (rolled["champion"], rolled["previous"]) == (1, 2)
        with workspace.client() as client:
            wait_for(lambda: client.predict(["my card"])[0].version == 1, 2, "version 1 to answer")
        promoted = workspace.cli("model", "promote", "2")
        assert promoted["champion"] == 2
        assert traffic.failed == 0

    versions = workspace.cli("model", "list", "--json")
    assert [v["version"] for v in versions][:2] == [1, 2]  # traffic after the rollback may have asked for another
    assert versions[1]["classes"] == 4
    assert "drift" in versions[1]["lineage"]["reason"]
    assert versions[1]["lineage"]["replay_rows"] == 60
    assert versions[1]["metrics"]["gate"]["accepted"]
    run = {path.name for path in (workspace.folder / "state" / "runs" / "intent" / "2").iterdir()}
    assert "decision.json" in run
    assert "judge.log" not in run, "it was judged in the export's process"


def test_serve_killed_and_restarted_has_the_same_champion_buffer_and_feedback(workspace: E2eWorkspace) -> None:
    with workspace.serving() as process, workspace.client() as client:
        before = workspace.status()
        asked = requests_about(KNOWN, 30, seed=7)
        answers = ask(client, [text for text, _ in asked])
        receipt = workspace.feedback([(a.prediction_id, label) for a, (_, label) in zip(answers, asked, strict=True)])
        assert receipt["new"] == 30
        kill(process.pid)
        process.wait()
    with workspace.serving(), workspace.client() as client:
        after = workspace.status()
        assert after["champion"] == before["champion"]
        assert after["replay_rows"] == before["replay_rows"]
        assert after["labels"]["feedback"] == before["labels"]["feedback"] + 30
        wait_for(
            lambda: client.predict(["my card"])[0].version == before["champion"], 30, "the same champion to answer"
        )


def test_triton_killed_comes_back_with_the_same_champion(workspace: E2eWorkspace, receiver: Receiver) -> None:
    with workspace.serving(), workspace.client() as client:
        champion = client.predict(["my card"])[0].version
        kill(workspace.triton_pid())

        def answers() -> bool:
            try:
                return client.predict(["my card"])[0].version == champion
            except PerennialError:
                return False

        wait_for(answers, 60, "Triton to answer again")
        wait_for(lambda: bool(receiver.messages_of("triton")), 30, "the message of the restart")
        assert httpx.get(f"http://127.0.0.1:{workspace.api}/healthz", timeout=10).json()["triton"]["restarts"] >= 1


def test_nothing_of_a_workspace_is_open_to_other_users(workspace: E2eWorkspace) -> None:
    """After training, serving, traffic and feedback; what was left open before is closed by the start."""
    for path in workspace.folder.rglob("*"):
        path.chmod(path.stat().st_mode | 0o044)
    with workspace.serving(), workspace.client() as client:
        answers = ask(client, ["my card", "my loan"])
        workspace.feedback([(answer.prediction_id, "card") for answer in answers])
        workspace.cli("predict", "my trip")
        ours = [path for name in ("state", "model_repository") for path in (workspace.folder / name).rglob("*")]
        assert len(ours) > 30
        open_to_others = [str(path) for path in (workspace.config, *ours) if path.lstat().st_mode & 0o077]
        assert [path for path in open_to_others if not Path(path).is_symlink()] == []


PLANTED = (  # in requests and in feedback: a card, an address, telephones, an account, numbers of people
    "4111 1111 1111 1111",
    "jo.planted@example.com",
    "+49 30 9018 2077",
    "138-1234-5678",
    "１３８\u2013１２３４\u2013５６７９",
    "DE89 3704 0044 0532 0130 00",
    "11010519491231002X",
    "٤١١١ ١١١١ ١١١١ ١١١١",
)
SEEN = "plastic visa"  # beside each of them, so that the search is seen to find what is there


def spellings(planted: str) -> set[bytes]:
    """As it was sent, and its plain characters without what stands between them."""
    plain = unicodedata.normalize("NFKC", planted)
    close = "".join(str(unicodedata.digit(c, c)) for c in plain if c.isalnum() or c in "@.")
    return {each.encode() for each in (planted, plain, close)}


def kept_bytes(path: Path) -> bytes:
    """What a file says, unpacked where it is packed."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        return str(pq.read_table(path).to_pylist()).encode()
    if path.suffix == ".arrow" or content[:6] == b"ARROW1":
        with suppress(pa.ArrowInvalid), pa.ipc.open_stream(content) as stream:
            return content + str(stream.read_all().to_pylist()).encode()
    return content


@pytest.fixture(scope="class")
def serve(workspace: E2eWorkspace) -> Iterator[subprocess.Popen[bytes]]:
    """One `perennial serve` for what changes nothing of it."""
    with workspace.serving() as process:
        yield process


@pytest.mark.usefixtures("serve")
class TestOneServe:
    def test_a_second_serve_of_the_same_workspace_is_refused(
        self, workspace: E2eWorkspace, serve: subprocess.Popen[bytes]
    ) -> None:
        message = workspace.cli("serve", check=4)
        assert f"another `perennial serve` (pid {serve.pid})" in message

    def test_no_personal_data_lies_in_any_file(self, workspace: E2eWorkspace) -> None:
        base = f"http://127.0.0.1:{workspace.api}/v1"
        with workspace.client() as client:
            answers = ask(client, [f"my {SEEN} {each} please" for each in PLANTED])
        workspace.feedback([(answer.prediction_id, "card") for answer in answers])
        labels = [{"label": "card", "text": f"new {SEEN} {each} please"} for each in PLANTED]
        assert httpx.post(f"{base}/feedback", json={"model": "intent", "labels": labels}, timeout=20).is_success
        wrong = [{"label": "card", "text": f"{PLANTED[1]} \ud800"}]
        body = json.dumps({"model": "intent", "labels": wrong})
        headers = {"Content-Type": "application/json"}
        assert httpx.post(f"{base}/feedback", content=body, headers=headers, timeout=20).status_code == 422
        workspace.here("label", "queue", "--json")
        found = {path: kept_bytes(path) for path in workspace.folder.rglob("*") if path.is_file()}
        assert sum(SEEN.encode() in content for content in found.values()) >= 2, "the log, and the ledger"
        needles = {needle for planted in PLANTED for needle in spellings(planted)}
        leaks = [(path.name, needle) for path, content in found.items() for needle in needles if needle in content]
        assert leaks == []

    def test_served_contract_over_plain_http(self, workspace: E2eWorkspace) -> None:
        body = {
            "inputs": [{"name": "TEXT", "shape": [2, 1], "datatype": "BYTES", "data": ["my card", ""]}],
            "outputs": [
                {"name": name} for name in ("LABEL", "CONFIDENCE", "VERSION", "PREDICTION_ID", "SCORES", "LABELS")
            ],
        }
        base = f"http://127.0.0.1:{workspace.http}/v2/models"
        answer = httpx.post(f"{base}/intent/infer", json=body, timeout=20)
        outputs = {output["name"]: output for output in answer.json()["outputs"]}
        assert outputs["LABEL"]["shape"] == [2, 1]
        width = outputs["LABELS"]["shape"][1]
        assert outputs["SCORES"]["shape"] == [2, width]
        assert sum(outputs["SCORES"]["data"][:width]) == pytest.approx(1.0, abs=1e-4)
        long = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["card " * 20_000]}]}
        assert httpx.post(f"{base}/intent/infer", json=long, timeout=20).status_code == 200
        wrong = {"inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}
        refused = httpx.post(f"{base}/intent/infer", json=wrong, timeout=20)
        assert refused.status_code == 400
        assert "TEXT" in refused.json()["error"]
        assert httpx.post(f"{base}/nobody/infer", json=body, timeout=20).status_code in {400, 404}

    def test_control_api_names_what_is_wrong(self, workspace: E2eWorkspace) -> None:
        base = f"http://127.0.0.1:{workspace.api}/v1"
        assert httpx.get(f"{base}/models/nobody", timeout=20).status_code == 404
        empty = httpx.post(f"{base}/feedback", json={"model": "intent", "labels": [{"label": "card"}]}, timeout=20)
        assert empty.status_code == 422
        (row,) = empty.json()["rows"]
        assert row["row"] == 0
        assert "prediction_id" in row["cause"]
        texts = {"model": "intent", "labels": [{"label": "card", "text": "my very own card"}]}
        assert httpx.post(f"{base}/feedback", json=texts, timeout=20).json()["new"] == 1
        assert httpx.post(f"{base}/models/intent/promote", json={"version": 99}, timeout=20).status_code == 404
        metrics = httpx.get(f"http://127.0.0.1:{workspace.api}/metrics", timeout=20).text
        assert 'perennial_champion_version{model="intent"}' in metrics

    def test_bad_text_is_an_error_for_its_own_request(self, workspace: E2eWorkspace) -> None:
        import numpy as np
        from tritonclient.grpc import InferenceServerClient, InferInput
        from tritonclient.utils import InferenceServerException

        with InferenceServerClient(f"127.0.0.1:{workspace.grpc}") as raw:
            tensor = InferInput("TEXT", [1, 1], "BYTES")
            tensor.set_data_from_numpy(np.array([[b"caf\xff"]], dtype=object))
            with pytest.raises(InferenceServerException, match=r"not UTF-8: byte 0xff at offset 3"):
                raw.infer("intent", [tensor])
            with workspace.client() as client:
                assert client.predict(["my card"])[0].label
                with pytest.raises((DataError, PerennialError), match=r"KEY of row 0 has 5000 bytes"):
                    client.predict(["my card"], ["k" * 5000])


def test_commands_tell_what_is_missing(workspace: E2eWorkspace, tmp_path: Path) -> None:
    assert "does not exist; give a file" in workspace.cli("feedback", "import", str(tmp_path / "nowhere.csv"), check=2)
    assert "model 'other' is not in the settings" in workspace.cli("model", "list", "--model", "other", check=1)
    again = workspace.cli("init", "--data", str(workspace.folder / "seed.csv"), check=4)
    assert "serves version" in again
    unreachable = workspace.cli("predict", "hello", check=3)  # nothing serves between the tests
    assert "does not answer" in unreachable


def test_feedback_file_with_a_bad_row_stores_nothing(workspace: E2eWorkspace, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    known = "0199abcd0123456789ab0123456789ab"  # of the form of an id
    file.write_text(f"prediction_id,label\n{known},card\n,loan\nabc,loan\n")
    message = workspace.cli("feedback", "import", str(file), check=2)
    assert "line 3" in message
    assert "line 4" in message
    file.write_text(f"prediction_id,label\n{known},card\n")
    assert workspace.cli("feedback", "import", str(file))["new"] == 1


def test_dry_run_changes_nothing(workspace: E2eWorkspace) -> None:
    before = json.loads((workspace.folder / "state" / "route" / "intent.json").read_text())
    plan = workspace.cli("model", "rollback", "--dry-run")
    assert plan["now"]["champion"] == before["champion"]
    assert plan["then"]["champion"] == before["previous"]
    assert json.loads((workspace.folder / "state" / "route" / "intent.json").read_text()) == before


def test_status_tells_accuracy_with_what_it_assumes(workspace: E2eWorkspace) -> None:
    (status,) = workspace.cli("status", "--json")["models"]
    measured, estimated = status["accuracy"]["measured"], status["accuracy"]["estimated"]
    assert measured["low"] <= measured["value"] <= measured["high"]
    assert "does not depend on the answer" in measured["assumption"]
    assert "blind to a change of concept" in estimated["assumption"]


def test_jobs_are_listed_paused_resumed_and_run_by_whoever_leads(workspace: E2eWorkspace) -> None:
    offline = workspace.cli("schedule", "run", "retention:intent", "--wait-s", "0.5", check=3)
    assert "is `perennial serve` running?" in offline
    with workspace.serving():
        planned = workspace.cli("schedule", "run", "compact:intent", "--dry-run", "--json")
        assert planned["would"] == "run once, at the leader's next beat"
        paused = workspace.cli("schedule", "pause", "compact:intent", "--json")
        assert (paused["paused"], paused["changed"]) == (True, True)
        assert workspace.cli("schedule", "run", "compact:intent", "--json")["outcome"] == "done"  # paused or not
        assert workspace.cli("schedule", "resume", "compact:intent", "--dry-run", "--json")["changed"]
        jobs = {job["job"]: job for job in workspace.cli("schedule", "list", "--json")}
        assert jobs["compact:intent"]["paused"]
        assert not workspace.cli("schedule", "resume", "compact:intent", "--json")["paused"]
    kinds = ("watch", "retrain", "compact", "retention", "reconcile", "report", "notify")
    assert {f"{kind}:intent" for kind in kinds} <= set(jobs)
    assert jobs["retention:intent"]["last_run"]["outcome"] == "done", (
        "asked for while nobody led, run by the next leader"
    )
    assert "job 'nothing' does not exist; there are" in workspace.cli("schedule", "run", "nothing", check=1)


def test_a_drift_is_explained_and_policies_are_replayed_over_the_past(workspace: E2eWorkspace, tmp_path: Path) -> None:
    windows = workspace.cli("drift", "watch", "--json", "--limit", "200")
    first = min(w["id"] for w in windows if w["comparison"]["drifted"] and w["version"] == 1)
    why = workspace.cli("drift", "explain", "--report", str(first), "--json")
    assert {"fee", "charge", "cost", "price"} & {word["word"] for word in why["rose"]}

    shown = workspace.cli("policy", "show", "--json")
    assert shown["policy"]["kind"] == "any"
    assert {"estimated_quality", "measured_quality", "drift", "unlearnt_feedback"} <= set(shown["facts"])
    used, never, often = (tmp_path / name for name in ("used.json", "never.toml", "often.json"))
    used.write_text(json.dumps(shown["policy"]))
    never.write_text('[policy]\nkind = "label_count"\nat_least = 1000000\n')
    often.write_text(json.dumps({"kind": "label_count", "at_least": 30}))
    options = [option for path in (used, never, often) for option in ("--policy", str(path))]
    replay = workspace.cli("policy", "replay", "--json", *options)
    assert (replay["kept_version"], replay["changes_from"], len(replay["changes"])) == (1, "labels", 1)
    assert replay["fresh_version"] >= 2
    assert replay["answered_anew"] > 0
    ours, lazy, eager = replay["policies"]
    assert ours["false_retrainings"] == 0
    assert ours["changes"][0]["delay_requests"] is not None
    assert ours["accuracy_saved"] > 0
    assert (lazy["retrainings"], lazy["accuracy_saved"]) == ([], 0.0)
    assert eager["false_retrainings"] > 0
    assert "cannot be read" in workspace.cli("policy", "replay", "--policy", str(tmp_path / "none.toml"), check=2)


def test_people_were_told_each_thing_once(receiver: Receiver) -> None:
    assert receiver.forged == 0
    sent = [(message["alert"], message["episode"]) for message in receiver.messages]
    assert len(sent) == len(set(sent))
    assert {"drift", "promoted", "rolled_back", "triton"} <= {alert for alert, _ in sent}
    titles = [message["title"] for message in receiver.messages]
    assert any(title.startswith("version 2 is champion (cycle ") for title in titles)
    assert any(title.endswith(" put back version 1") for title in titles)
