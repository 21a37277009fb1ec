"""Evidence out of a real traffic log and ledger: nothing that came is forgotten, and what comes late still counts."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sqlalchemy import event
from tokenizers import Tokenizer, models, pre_tokenizers

from perennial.continual.errors import DependencyUnreachable, PublishFailed
from perennial.continual.labelling import Reason
from perennial.continual.records import Arm
from perennial.continual.rollout import LiveEvidence, RolloutRules, Verdict, judge_live
from perennial.exporters.engine import Inputs, Outputs
from perennial.ops.comparing.live_evidence import LiveEvidenceReader
from perennial.ops.ledger import FeedbackRow, Ledger
from perennial.ops.serving.tasks import SIDES
from perennial.ops.settings import Settings
from perennial.ops.store.state import LABEL_QUEUE, QueueChoice
from perennial.ops.store.workspace import Workspace
from perennial.ops.traffic import TrafficLog, TrafficWriter

pytestmark = pytest.mark.component

MODEL = "intent"
CHAMPION, CHALLENGER = 1, 2
WORDS = ("red", "blue", "[UNK]", "[", "EXTERNAL", "]")
LABELS = ("is_red", "is_blue")


class Canary:
    """Requests and labels at will. Version 1 is right with each text, version 2 says "is_red" to all."""

    def __init__(self, root: Path, *, task: str = "text_classification", answers: tuple[str, str] = LABELS) -> None:
        models_of = {MODEL: {"task": task}}
        settings = Settings(state=root / "var", repository=root / "repository", models=models_of)  # type: ignore[arg-type]
        self.workspace = Workspace(settings)
        self.answers = answers
        for version in (CHAMPION, CHALLENGER):
            _write_text_side(self.workspace.bundle(MODEL, version), answers)
        self.ledger = Ledger.open(settings.ledger_address)
        self.ledger.register_model(MODEL, {})
        self.log = TrafficLog(self.workspace.traffic(MODEL))
        self.writer = TrafficWriter(self.workspace.traffic(MODEL), "router")
        self.since = datetime.now(UTC) - timedelta(seconds=110)
        self.now = 0.0
        self.calls: list[tuple[int, int]] = []  # version, rows
        self.refuses: Exception | None = None
        self._number = 0
        self.reader = self.restarted()

    def restarted(self) -> LiveEvidenceReader:
        return LiveEvidenceReader(self.ledger, self.workspace, MODEL, self.log, self._ask, clock=lambda: self.now)

    def _ask(self, version: int, inputs: Inputs) -> Outputs:
        ids = inputs["input_ids"]
        if self.refuses is not None:
            raise self.refuses
        if (ids == WORDS.index("[UNK]")).any():
            raise PublishFailed("this text is too much for it")
        self.calls.append((version, len(ids)))
        blue = (ids == WORDS.index("blue")).any(axis=1) & (version == CHAMPION)
        logits = np.stack([~blue, blue], axis=1).astype(np.float32)
        return {"logits": logits, "embedding": logits}

    def log_rows(
        self,
        seconds: Sequence[float],
        *,
        text: str = "red",
        version: int = CHAMPION,
        arm: Arm | None = None,
        latency_ms: float = 2.0,
        key: str | None = None,
        redacted: bool = False,
    ) -> list[str]:
        """Requests so many seconds after the canary began, flushed together; their ids."""
        at = [self.since + timedelta(seconds=second) for second in seconds]
        ids = [f"{int(when.timestamp() * 1000):012x}{self._number + n:020x}" for n, when in enumerate(at)]
        self._number += len(at)
        answer = self.answers[text == "blue" and version == CHAMPION]
        usual = Arm.CHAMPION if version == CHAMPION else Arm.CHALLENGER
        same = {"text": text, "key": key, "prediction": answer, "confidence": 0.9, "margin": 0.5, "entropy": 0.1}
        same |= {"version": version, "arm": (arm or usual).value, "tokens": 1, "latency_ms": latency_ms}
        same |= {"redacted": redacted, "known": None}
        rows = {name: [value] * len(at) for name, value in same.items()}
        self.writer.append({"prediction_id": ids, "at": at, **rows, "embedding": None})
        return ids

    def label(self, ids: Sequence[str], label: str, *, key: str | None = None) -> None:
        rows = [FeedbackRow(prediction_id=name, label=label, at=datetime.now(UTC), key=key) for name in ids]
        self.ledger.add_feedback(MODEL, rows)

    def look(self, reader: LiveEvidenceReader | None = None, *, promoted: bool = False) -> LiveEvidence:
        self.now += 1.0
        return (reader or self.reader).read(
            champion=CHAMPION, challenger=CHALLENGER, since=self.since, latency_ratio=1.5, promoted=promoted
        )


def _write_text_side(folder: Path, answers: Sequence[str]) -> None:
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "labels.json").write_text(json.dumps(answers))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    canary = Canary(tmp_path)
    yield canary
    canary.writer.close()
    canary.ledger.close()


def _spread(count: int, begin: float = 1.0, end: float = 100.0) -> list[float]:
    return [float(second) for second in np.linspace(begin, end, count)]


def test_labels_that_come_thousands_of_requests_later_count(canary: Canary) -> None:
    early = canary.log_rows(_spread(30, 1, 5), text="blue")
    assert canary.look().rows == 0
    canary.log_rows(_spread(6_000, 6, 100))
    canary.label(early, "is_blue")
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (0, 30, 0)
    assert judge_live(evidence, RolloutRules()).verdict is Verdict.WORSE


def test_labels_beyond_what_one_look_may_ask_wait_for_the_next(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(100), text="blue"), "is_blue")
    assert [canary.look().losses for _ in range(5)] == [32, 64, 96, 100, 100]
    assert max(rows for _, rows in canary.calls) == 32
    without_label = canary.look().unlabelled.compared
    assert sum(rows for _, rows in canary.calls) == 100 + without_label, "nothing is asked twice"
    restarted = canary.restarted()
    assert [canary.look(restarted).waiting for _ in range(4)] == [68, 36, 4, 0]


def test_labels_of_requests_from_before_the_period_hold_nothing_up(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(500, -50.0, -0.01)), "is_red")
    canary.label(canary.log_rows(_spread(3)), "is_red")
    evidence = canary.look()
    assert (evidence.rows, evidence.waiting) == (3, 0)


def test_labels_from_before_the_period_are_read_once_and_no_later_one_is_missed(canary: Canary) -> None:
    """In a probation of a week there is a look each second."""
    reads: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "received_at >=" in statement:
            reads.append(statement)

    hour_ago = canary.since - timedelta(hours=1)
    with Ledger.open(canary.workspace.settings.ledger_address, clock=lambda: hour_ago) as earlier:
        rows = [FeedbackRow(prediction_id=f"p{n}", label="is_red", at=hour_ago) for n in range(3)]
        earlier.add_feedback(MODEL, rows)
    event.listen(canary.ledger.engine, "before_cursor_execute", note)
    assert [canary.look().rows for _ in range(4)] == [0, 0, 0, 0]
    assert len(reads) == 1
    canary.label(["p1"], "is_blue")
    canary.label(canary.log_rows(_spread(3)), "is_red")
    assert [canary.look().rows for _ in range(3)] == [3, 3, 3]
    assert len(reads) == 2


def test_of_requests_within_one_millisecond_those_from_the_beginning_on_count(canary: Canary) -> None:
    canary.since = canary.since.replace(microsecond=500)
    canary.label(canary.log_rows([-0.0002]), "is_red")
    canary.label(canary.log_rows([0.0, 0.0002]), "is_red")
    assert canary.look().rows == 2


def test_either_side_is_paired_and_a_text_that_was_changed_is_not(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(3), text="blue"), "is_blue")
    canary.label(canary.log_rows(_spread(2), text="blue", version=CHALLENGER), "is_red")
    canary.label(canary.log_rows(_spread(4), text="red", version=CHALLENGER), "is_red")
    canary.label(canary.log_rows(_spread(5), text="red", redacted=True), "is_red")
    canary.label(canary.log_rows(_spread(5), version=3), "is_red")
    canary.label(canary.log_rows([-5.0, -70.0]), "is_red")
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (2, 3, 4)


def test_answers_of_another_task_are_paired_by_its_score_and_a_correction_moves_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The versions answer with two orders of two items; an item in the second place is worth 1 / log2(3)."""
    monkeypatch.setitem(cast("dict[str, str]", SIDES), "ranking", SIDES["text_classification"])  # a choice of orders
    canary = Canary(tmp_path, task="ranking", answers=(json.dumps(["red", "blue"]), json.dumps(["blue", "red"])))
    second = 1 / np.log2(3)
    lost = canary.log_rows(_spread(4), text="blue")
    canary.label(lost, json.dumps({"blue": 1.0}))
    canary.label(canary.log_rows(_spread(5), text="red"), json.dumps({"blue": 1.0}))
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (0, 4, 5)
    assert evidence.sums.lost == pytest.approx(4 * (1 - second))
    assert evidence.difference_points == pytest.approx(-100 * 4 / 9 * (1 - second))
    canary.label(lost[:1], json.dumps({"red": 1.0}))
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (1, 3, 5)
    assert evidence.sums.gained == pytest.approx(1 - second)
    assert judge_live(evidence, RolloutRules()).figures["gained"] == evidence.sums.gained
    canary.writer.close()
    canary.ledger.close()


def test_a_callers_own_brackets_are_no_sign_of_redaction(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(5), text="red [EXTERNAL]"), "is_red")
    assert canary.look().rows == 5


def test_a_corrected_label_moves_its_row_to_another_count(canary: Canary) -> None:
    ids = canary.log_rows(_spread(40), text="blue")
    canary.label(ids, "is_blue")
    assert [canary.look().losses for _ in range(2)] == [32, 40]
    canary.label(ids[:10], "is_red")
    canary.label(ids[10:15], "neither")
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (10, 25, 5)


def test_counts_are_the_same_after_a_restart(canary: Canary) -> None:
    ids = []
    for part in range(5):
        begin, end = 20.0 * part + 1, 20.0 * part + 19
        ids += canary.log_rows(_spread(20, begin, end), text="blue")
        canary.log_rows(_spread(200, begin, end))
        canary.log_rows(_spread(20, begin, end), version=CHALLENGER)
        canary.log_rows([begin, begin + 1], arm=Arm.FALLBACK)
        canary.label(ids[-3:], "is_blue")
        if part >= 3:  # a row is written within a minute of its request
            evidence = canary.look()
    assert (evidence.losses, evidence.asked, evidence.failed, evidence.timed, evidence.slow) == (15, 105, 5, 100, 0)
    again = canary.look(canary.restarted())
    assert again.unlabelled.compared > 0, "drawn anew"
    assert replace(again, unlabelled=evidence.unlabelled) == evidence


def test_rows_that_come_late_and_rows_that_come_twice_count_once(canary: Canary) -> None:
    """Two router processes append to files of their own; the second one's rows come with older times."""
    canary.log_rows(_spread(50, 100, 109), version=CHALLENGER)
    assert canary.look().asked == 50
    canary.log_rows(_spread(50, 70, 109), version=CHALLENGER)
    assert [canary.look().asked for _ in range(3)] == [100] * 3
    canary.writer.close()
    assert canary.log.compact() == 100
    assert canary.look().asked == 100


def test_one_late_answer_is_one_failure_however_many_requests_the_champion_took(canary: Canary) -> None:
    canary.log_rows(_spread(287), version=CHALLENGER)
    canary.log_rows(_spread(13, 50.0, 56.0), arm=Arm.FALLBACK)
    evidence = canary.look()
    assert (evidence.asked, evidence.failed) == (288, 1)
    assert judge_live(evidence, RolloutRules()).verdict is Verdict.UNDECIDED


def test_a_challenger_is_slow_by_the_champions_time_at_the_time(canary: Canary) -> None:
    """The machine is three times as slow from the 50th second on, for both."""
    for second in range(1, 101):
        for version in (CHAMPION, CHALLENGER):
            times = _spread(60, second, second + 0.9)
            canary.log_rows(times, version=version, latency_ms=2.0 if second < 50 else 6.0)
    evidence = canary.look()
    assert evidence.timed == 6_000
    assert evidence.slow < 300
    canary.log_rows(_spread(200, 102, 109), version=CHALLENGER, latency_ms=20.0)
    assert canary.look().slow == evidence.slow + 200


def test_challengers_answers_are_compared_once_there_are_enough_of_the_champions(canary: Canary) -> None:
    canary.log_rows(_spread(10), version=CHALLENGER, latency_ms=9.0)
    canary.log_rows(_spread(19))
    assert canary.look().timed == 0
    canary.log_rows([101.0])
    evidence = canary.look()
    assert (evidence.slow, evidence.timed) == (10, 10)


def test_rows_erased_or_pruned_meanwhile_do_no_harm(canary: Canary) -> None:
    theirs = canary.log_rows(_spread(40, 1, 50), text="blue", key="ada")
    ours = canary.log_rows(_spread(40, 51, 100), text="blue")
    canary.label([*theirs, *ours], "is_blue")
    assert canary.look().losses == 32
    canary.log.erase("ada")
    canary.ledger.erase_key(MODEL, "ada", prediction_ids=theirs)
    assert [canary.look().losses for _ in range(3)] == [64, 72, 72]
    assert canary.look(canary.restarted()).losses == 32
    canary.log.prune(datetime.now(UTC))
    assert canary.look().losses == 72


def test_a_label_whose_row_is_not_written_yet_is_kept(canary: Canary) -> None:
    [name] = canary.log_rows([109.0], text="blue")
    later = f"{int(name[:12], 16):012x}{99:020x}"
    canary.label([name, later, f"{int(name[:12], 16) - 100_000:012x}{1:020x}", "no id of ours"], "is_blue")
    assert canary.look().losses == 1
    canary._number = 99
    assert canary.log_rows([109.0], text="blue") == [later]
    assert canary.look().losses == 2


def test_what_nobody_answers_waits(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(40), text="blue"), "is_blue")
    canary.refuses = DependencyUnreachable("Triton is away")
    assert canary.look().rows == 0
    canary.refuses = PublishFailed("no")
    evidence = canary.look()
    assert (evidence.rows, evidence.waiting) == (0, 0), "all were asked once; a limit need not wait for them"
    canary.refuses = None
    assert [canary.look().losses for _ in range(2)] == [32, 40]


def test_a_text_that_one_version_alone_refuses_counts_as_wrong(canary: Canary) -> None:
    canary.label(canary.log_rows(_spread(9), text="red"), "is_red")
    canary.label(canary.log_rows([50.0], text="strange"), "is_red")
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (0, 1, 9)


def test_a_champion_in_probation_is_judged_by_its_failures_and_by_asking(canary: Canary) -> None:
    """Here the older version is asked by the side of the newer one; live answers are the newer one's."""
    canary.log_rows(_spread(97), version=CHALLENGER, arm=Arm.CHAMPION)
    canary.log_rows([50.0, 50.1, 50.2], arm=Arm.FALLBACK)
    evidence = canary.look(promoted=True)
    assert (evidence.asked, evidence.failed) == (97 + 1 + 2, 1), "they failed at once, as when a process is killed"
    canary.log_rows([51.0, 52.0], arm=Arm.FALLBACK)
    evidence = canary.look(promoted=True)
    assert (evidence.asked, evidence.failed) == (97 + 5 + 4, 5)


def test_within_a_second_the_last_counts_are_given_again(canary: Canary) -> None:
    canary.log_rows(_spread(5, 60, 100), version=CHALLENGER)
    assert canary.look().asked == 5
    canary.log_rows(_spread(5, 60, 100), version=CHALLENGER)
    canary.now -= 0.5
    assert canary.look().asked == 5
    assert canary.look().asked == 10


def test_requests_without_a_label_are_asked_of_the_other_version_and_disputes_are_kept(canary: Canary) -> None:
    """Versions disagree on what is blue; none of it says which one is right."""
    blue = canary.log_rows([60, 61], text="blue")
    canary.log_rows([62, 63, 64])
    evidence = canary.look()
    assert (evidence.rows, evidence.unlabelled.compared, evidence.unlabelled.disagreed) == (0, 5, 2)
    assert set(canary.reader.disputed(champion=CHAMPION, challenger=CHALLENGER)) == set(blue)
    assert judge_live(evidence, RolloutRules(), at_limit=True).reasons[0].startswith("nothing speaks against it")


def test_labels_that_the_queue_asked_for_count_as_what_they_are(canary: Canary) -> None:
    disputed = canary.log_rows([10, 11], text="blue")
    doubtful = canary.log_rows([12], text="blue")
    came = canary.log_rows([13, 14], text="blue")
    choices = [QueueChoice(prediction_id=name, reason=Reason.DISPUTED, probability=1.0) for name in disputed]
    choices += [QueueChoice(prediction_id=name, reason=Reason.UNCERTAIN, probability=1.0) for name in doubtful]
    LABEL_QUEUE.keep(canary.ledger, MODEL, tuple(choices))
    canary.label([*disputed, *doubtful, *came], LABELS[1])
    evidence = canary.look()
    assert (evidence.gains, evidence.losses, evidence.ties) == (0, 4, 0), "the champion is right on what is blue"
    assert (evidence.disputed_gains, evidence.disputed_losses) == (0, 2)
    canary.label(disputed[:1], LABELS[0])
    evidence = canary.look()
    assert (evidence.disputed_gains, evidence.disputed_losses, evidence.losses) == (1, 1, 3), "a correction moves it"


def test_two_comparisons_go_on_side_by_side(canary: Canary) -> None:
    """A canary, and the probation of its champion."""
    canary.label(canary.log_rows([10], text="blue"), LABELS[1])
    assert canary.look().rows == 1
    for _ in range(3):
        other = canary.reader.read(
            champion=7, challenger=CHAMPION, since=canary.since, latency_ratio=1.5, promoted=True
        )
        assert other.rows == 0
        asked = len(canary.calls)
        assert canary.look().rows == 1
        assert len(canary.calls) == asked, "what was counted stays counted"
