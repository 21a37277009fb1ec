"""How a reply is chosen: by its questions, by its text, by what usually follows; and that what is learnt is kept."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from perennial.continual.errors import ConfigurationError, DataError
from perennial.continual.learning.replies import (
    FEATURES,
    Action,
    FitSettings,
    Library,
    Matcher,
    Question,
    Reply,
    Sending,
    SendingRule,
    fit_matcher,
    key_of,
    read_library,
    write_library,
)
from perennial.continual.learning.replies.features import Surface
from perennial.continual.learning.replies.files import read_reply_file
from perennial.continual.learning.replies.fitting import cross_fitted
from perennial.continual.learning.replies.index import LibraryIndex, Past, Wanted
from perennial.continual.learning.replies.weighing import Rivals, fitted_weights

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOWHERE = np.zeros(4, dtype=np.float32)
REPLIES = (
    Reply(id="block", text="Please block the card in the app.", intent="lost_card"),
    Reply(id="fee", text="A transfer costs {fee}.", intent="fee", language="en"),
    Reply(id="gebuehr", text="Eine Überweisung kostet {fee}.", intent="fee", language="de"),
)


def asked(text: str, **more: object) -> Wanted:
    return Wanted(text=text, embedding=NOWHERE, intents={"fee": 0.5, "lost_card": 0.5}, **more)  # type: ignore[arg-type]


def best(library: Library, wanted: Wanted, *, at: datetime = NOON) -> list[str]:
    (found,) = LibraryIndex(library, Matcher()).suggested([wanted], {}, at=at, most=3)
    return [one.reply.id for one in found]


def test_a_reply_is_found_by_its_text_and_surely_by_an_approved_question() -> None:
    library = Library(replies=REPLIES)
    assert best(library, asked("how do I block my card"))[0] == "block"
    told = Library(replies=REPLIES, questions=(Question(reply="fee", text="what do you charge for sending money"),))
    assert best(told, asked("what do you charge for sending money abroad"))[0] == "fee"


@pytest.mark.parametrize("text", ["what does a transfer cost?", "What does a TRANSFER cost"])
def test_a_question_approved_as_it_stands_outweighs_the_text_of_another_reply(text: str) -> None:
    weights = Matcher().weights.copy()
    weights[[FEATURES.index("asked_answer_words"), FEATURES.index("asked_answer_letters")]] = 15.0
    given = Question(reply="block", text="what does a transfer cost?"), Question(reply="fee", text="fees")

    def first(text: str, *questions: Question) -> tuple[str, str]:
        index = LibraryIndex(Library(replies=REPLIES[:2], questions=questions), Matcher(weights=weights))
        ((found,),) = index.suggested([asked(text)], {}, at=NOON, most=1)
        return found.reply.id, found.reason

    reply, reason = first(text, *given)
    assert (reply, reason.startswith("just this question was approved")) == ("block", True)
    assert first(f"{text} now", *given)[0] == "fee", "the text of that reply has most of the words"
    assert first("!? transfer costs", Question(reply="block", text="?!"))[0] == "fee", "signs alone are no question"


def test_a_question_that_it_was_refused_for_speaks_against_a_reply() -> None:
    words = np.eye(4, dtype=np.float32)
    index = LibraryIndex(
        Library(replies=REPLIES[:2], questions=(Question(reply="block", text="card and fee", weight=-1.0),)), Matcher()
    )
    known = {key_of("card and fee"): words[0]}
    wanted = Wanted(text="hello", embedding=words[0], intents={})
    (found,) = index.suggested([wanted], known, at=NOON, most=2)
    assert [one.reply.id for one in found] == ["fee", "block"]
    assert "it was refused for a question 1.00 alike" in found[1].reason


def test_language_and_times_leave_replies_out() -> None:
    library = Library(
        replies=(*REPLIES, Reply(id="old", text="gone", intent="fee", valid_until=NOON - timedelta(days=1)))
    )
    assert set(best(library, asked("fee", language="de"))) == {"block", "gebuehr"}
    assert "old" not in best(library, asked("gone"))
    assert best(library, asked("gone"), at=NOON - timedelta(days=2))[0] == "old"


def test_what_usually_follows_and_a_customers_habit_move_the_choice_and_are_told() -> None:
    library = Library(replies=REPLIES[:2])
    usual = {"fee": 50, "lost_card": 50}
    plain = asked("hello")
    for past, said in (
        (Past(overall=usual, after={"fee": 20}), "after the last one"),
        (Past(overall=usual, customer={"fee": 20}), "with this customer"),
    ):
        index = LibraryIndex(library, Matcher())
        (before,), (after,) = (
            index.suggested([one], {}, at=NOON, most=2) for one in (plain, asked("hello", past=past))
        )
        sure = {one.reply.id: one.sure for one in before}
        moved = {one.reply.id: one for one in after}
        assert moved["fee"].sure > sure["fee"]
        assert said in moved["fee"].reason


def test_embeddings_may_come_later() -> None:
    library = Library(replies=REPLIES)
    index, known = LibraryIndex(library, Matcher()), {}
    assert index.without_vector(known, 10) == list(library.texts)
    point = np.array([1, 0, 0, 0], dtype=np.float32)
    wanted = Wanted(text="zzz", embedding=point, intents={})
    (words,) = index.suggested([wanted], known, at=NOON, most=3)
    known[key_of(REPLIES[1].bare)] = point
    (meaning,) = index.suggested([wanted], known, at=NOON, most=3)
    assert index.without_vector(known, 1) == [REPLIES[0].bare]
    assert meaning[0].reply.id == "fee"
    assert meaning[0].sure > max(one.sure for one in words if one.reply.id == "fee")


def pairs(count: int, rng: np.random.Generator) -> tuple[Library, np.ndarray]:
    """Replies in a space that is turned against that of their questions, two questions each."""
    turn, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    centres = rng.normal(size=(count, 16))
    replies = tuple(Reply(id=f"r{n:03}", text=f"answer {n:03}", intent="one") for n in range(count))
    questions = tuple(Question(reply=f"r{n // 2:03}", text=f"ask {n:03}") for n in range(2 * count))
    library = Library(replies=replies, questions=questions)
    points = {reply.bare: centres[n] @ turn for n, reply in enumerate(replies)}
    points |= {q.text: centres[n // 2] + 0.1 * rng.normal(size=16) for n, q in enumerate(questions)}
    vectors = np.stack([points[text] for text in library.texts])
    return library, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_the_way_from_questions_to_answers_is_learnt_and_kept_in_a_file(tmp_path: Path) -> None:
    library, vectors = pairs(120, np.random.default_rng(0))
    matcher = fit_matcher(library, vectors, np.random.default_rng(1), FitSettings(folds=3))
    assert matcher.metrics["cold_recall_1"] > 0.5, "without the way it is 1 of 120"
    assert matcher.metrics["warm_recall_1"] > 0.95
    matcher.write(tmp_path)
    again = Matcher.read(tmp_path)
    assert np.array_equal(again.weights, matcher.weights)
    assert (again.slope, again.shift, again.metrics) == (matcher.slope, matcher.shift, matcher.metrics)
    assert again.way is not None
    assert matcher.way is not None
    assert np.array_equal(again.way, matcher.way)
    assert set(again.vectors) == {key_of(text) for text in library.texts}
    assert matcher.proved is not None
    before = Matcher.read(tmp_path, proved=True)
    assert np.array_equal(before.weights, matcher.proved.weights)
    assert not np.array_equal(before.weights, again.weights), "what proves a version was not learnt"
    assert set(before.vectors) == set(again.vectors)


def test_weights_that_another_release_learnt_of_other_features_are_not_used(tmp_path: Path) -> None:
    library, vectors = pairs(120, np.random.default_rng(0))
    matcher = fit_matcher(library, vectors, np.random.default_rng(1), FitSettings(folds=3))
    matcher.write(tmp_path)
    with safe_open(tmp_path / "matcher.safetensors", framework="np") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a mapping
    later = FEATURES.index("question_same")
    earlier = [name for name in FEATURES if name != "question_same"]
    kept = {**tensors, "weights": np.delete(matcher.weights, later)}
    kept["proved_weights"] = np.delete(tensors["proved_weights"], later)
    save_file(
        kept, str(tmp_path / "matcher.safetensors"), metadata={"about": json.dumps({**about, "features": earlier})}
    )
    for proved in (False, True):
        again = Matcher.read(tmp_path, proved=proved)
        assert (again.outdated, again.weights[later]) == (False, Matcher().weights[later]), "nothing learns this weight"
        learnt = tensors["proved_weights"] if proved else matcher.weights
        assert np.array_equal(np.delete(again.weights, later), np.delete(learnt, later))
    about["features"] = about["features"][:-1]
    tensors["weights"] = tensors["weights"][:-1]
    save_file(tensors, str(tmp_path / "matcher.safetensors"), metadata={"about": json.dumps(about)})
    again = Matcher.read(tmp_path)
    assert again.outdated
    assert np.array_equal(again.weights, Matcher().weights)
    assert (again.way, len(again.vectors)) == (None, len(library.texts))


def test_how_much_a_refusal_tells_is_learnt_of_refusals() -> None:
    """Here a question near a refused one is often the reply's own, so a refusal tells less than usually."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 24))
    replies = tuple(Reply(id=f"r{n:03}", text=f"answer {n:03}", intent="one") for n in range(120))
    asked = [(n, f"r{n // 6:03}" if n % 2 else f"r{60 + n // 6:03}", f"ask {n:03}") for n in range(360)]
    good = tuple(Question(reply=reply, text=text) for _, reply, text in asked)
    bad = tuple(
        Question(reply=f"r{60 + n // 6:03}" if n % 2 else f"r{n // 6:03}", text=text, weight=-1.0)
        for n, _, text in asked
    )
    points = {reply.bare: rng.normal(size=24) for reply in replies}
    for n, _, text in asked:  # the two replies of a centre are asked for on its two sides
        points[text] = centres[n // 6] + (0.5 if n % 2 else -0.5) * centres[(n // 6 + 1) % 60]
        points[text] = points[text] + 0.3 * rng.normal(size=24)
    at = FEATURES.index("refused")
    for questions, least, most in ((good + bad, -3.5, 0.0), (good, -4.001, -3.999)):
        library = Library(replies=replies, questions=questions)
        vectors = np.stack([points[text] for text in library.texts])
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        learnt = fit_matcher(library, vectors, np.random.default_rng(1), FitSettings(folds=3, steps=5)).weights
        assert least < learnt[at] < most


def test_a_reply_whose_only_question_is_left_out_is_not_known_by_having_none() -> None:
    """Nothing tells the replies apart, so a recall above chance would come of what was left out."""
    count, rng = 120, np.random.default_rng(0)
    library = Library(
        replies=tuple(Reply(id=f"r{n:03}", text=f"answer {n:03}", intent="one") for n in range(count)),
        questions=tuple(Question(reply=f"r{n:03}", text=f"ask {1000 - n}") for n in rng.permutation(count)),
    )
    vectors = rng.normal(size=(2 * count, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    found = cross_fitted(library, vectors, np.random.default_rng(1))
    assert found is not None
    matcher, tried = found
    assert (matcher.metrics["warm_pairs"], len(tried.places("warm"))) == (0, 0)
    assert matcher.metrics["cold_recall_1"] < 0.1
    at = FEATURES.index("asked")
    assert matcher.weights[at] < Matcher().weights[at], "each is asked for once, so that an approved one is not again"


def test_weights_are_those_of_all_replies_though_few_of_them_are_looked_at() -> None:
    """A meaning that is a little nearer than that of others speaks for a reply, beside the nearest ones too."""
    rng, pairs_of, replies, at = np.random.default_rng(0), 300, 500, FEATURES.index("answer")
    features = np.zeros((pairs_of, replies, len(FEATURES)), dtype=np.float32)
    features[:, :, at] = rng.normal(0.0, 0.1, size=(pairs_of, replies))
    features[:, 7, at] += 0.1  # so that the true weight is 0.1 / 0.1 ** 2
    truth = np.full(pairs_of, 7)
    few = fitted_weights(Rivals.of(features, truth, 60, rng), 1e-6)
    every = fitted_weights(Rivals.of(features, truth, 2 * replies, rng), 1e-6)
    assert every[at] == pytest.approx(10.0, abs=1.0)
    assert few[at] == pytest.approx(every[at], abs=1.0)


@pytest.mark.parametrize("seed", range(8))
def test_as_many_replies_as_folds_are_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    library = Library(
        replies=tuple(Reply(id=f"r{n}", text=f"answer {n}", intent="one") for n in range(4)),
        questions=tuple(Question(reply=f"r{n % 4}", text=f"ask {n}") for n in range(44)),
    )
    matcher = fit_matcher(library, rng.normal(size=(48, 3)).astype(np.float32), rng, FitSettings(steps=2))
    assert matcher.metrics["warm_pairs"] == 44
    assert np.isfinite(matcher.weights).all()


def test_too_few_pairs_leave_the_usual_weights(tmp_path: Path) -> None:
    library, vectors = pairs(5, np.random.default_rng(0))
    matcher = fit_matcher(library, vectors, np.random.default_rng(0))
    assert np.array_equal(matcher.weights, Matcher().weights)
    assert len(matcher.vectors) == len(library.texts)
    assert len(Matcher.read(tmp_path).weights) == len(FEATURES)
    (tmp_path / "matcher.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match="is no matcher of this release"):
        Matcher.read(tmp_path)


def test_a_library_survives_its_file(tmp_path: Path) -> None:
    library = Library(
        replies=(*REPLIES, Reply(id="x", text="bis dann", intent="fee", valid_from=NOON, owner="jo", version=3)),
        questions=(Question(reply="x", text="wann?"), Question(reply="x", text="nie", weight=-1.0)),
        revision=7,
    )
    write_library(tmp_path / "library.jsonl", library)
    again = read_library(tmp_path / "library.jsonl")
    assert (again.replies, set(again.questions), again.revision) == (library.replies, set(library.questions), 7)
    with pytest.raises(DataError, match="is no library of replies"):
        read_library(tmp_path / "nothing")


def test_replies_are_read_from_a_file_of_questions_and_answers(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text("question,answer,class\nis it free,It is free.,fee\nwhat does it cost,It is free.,fee\n,Bye.,end\n")
    read = read_reply_file(path)
    assert [(reply.text, reply.intent) for reply in read.replies] == [("It is free.", "fee"), ("Bye.", "end")]
    assert [question.text for question in read.questions] == ["is it free", "what does it cost"]
    path.write_text("id,answer,class\n1,Yes.,fee\n1,No.,fee\n")
    with pytest.raises(DataError, match=r"two answers of id"):
        read_reply_file(path)


def test_sending_begins_and_ends_with_the_measured_bound() -> None:
    rule = SendingRule(precision=0.95, sure=0.9)
    on, off = Sending.of(rule, right=59, judged=59), Sending.of(rule, right=60, judged=61)
    assert (on.on, off.on, Sending.of(SendingRule(), right=500, judged=500).on) == (True, False, False)
    assert on.action(0.95, known=True, whole=True) is Action.SEND
    assert on.action(0.95, known=True, whole=False) is Action.SUGGEST
    assert on.action(0.95, known=False, whole=True) is Action.SUGGEST
    assert on.action(0.8, known=False, whole=True) is Action.HAND_OVER
    assert on.action(0.8, known=True, whole=True) is off.action(0.95, known=True, whole=True) is Action.SUGGEST
    assert on.action(0.01, known=True, whole=True) is Action.HAND_OVER
    with pytest.raises(ConfigurationError, match=r"precision is 1\.5"):
        SendingRule(precision=1.5)


def test_a_surface_that_takes_over_what_another_knew_is_the_same_as_one_made_anew() -> None:
    before = Surface.of(Library(replies=REPLIES[:2], questions=(Question(reply=REPLIES[0].id, text="Where is it?"),)))
    questions = (Question(reply=REPLIES[1].id, text="And what of this one?"),)
    library = Library(replies=REPLIES[1:], questions=questions, revision=2)  # a reply and a question are gone
    taken, anew = Surface.of(library, before), Surface.of(library)
    assert taken.texts == anew.texts == library.texts
    assert (taken.spelt, taken.said) == (anew.spelt, anew.said)
    for one, other in zip(taken.found(["Where is this?"]), anew.found(["Where is this?"]), strict=True):
        assert np.array_equal(one, other)
    assert Surface.of(Library(replies=()), before).letters.shape[0] == 0
