"""`model report`: figures from what was kept of the proof, and no text that its row did not outlive."""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from perennial.continual.errors import NotFound
from perennial.continual.fairness.probes import probe_names
from perennial.continual.fairness.thresholds import EqualThresholds, equal_thresholds
from perennial.continual.learning.card import PRIVACY
from perennial.continual.learning.open_set import OpenSet
from perennial.continual.learning.proof_answers import ProofAnswers, read_proof_answers
from perennial.continual.quality.membership import membership_auc
from perennial.continual.records import Example, Route, Split
from perennial.continual.robustness import changed_answers
from perennial.ops.cli.main import app
from perennial.ops.ledger import Ledger, VersionRow, VersionState, version_card
from perennial.ops.making.held_out_answers import keep_answers, note_held_out
from perennial.ops.making.probing import ProbedVersion
from perennial.ops.settings import load_settings
from perennial.ops.store.workspace import Workspace
from perennial.ops.views import model_report
from tests.unit.learning.cards import text_card

SECRET = "<script>alert(1)</script> is what Mary asked about"
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Version 1 has learnt 40 rows and answered 10 held-out ones, of which it got Mary's wrong."""
    path = tmp_path / "perennial.toml"
    path.write_text('state = "state"\nrepository = "repository"\n[models.intent]\n', encoding="utf-8")
    workspace = Workspace(load_settings(path))
    train = [Example(text=f"my {'card' if n % 2 else 'loan'} {n}", label="ab"[n % 2], at=AT) for n in range(40)]
    held = [Example(text=f"held out card {n}", label="b", at=AT) for n in range(8)]
    held += [Example(text=SECRET, label="a", at=AT, key="mary"), Example(text="卡丢了 أين بطاقتي", label="c", at=AT)]
    texts = {row.text for row in held}
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        ledger.register_model("intent", {})
        ledger.add_examples("intent", [*train, *held], lambda text: Split.HOLDOUT if text in texts else Split.TRAIN)
        ledger.add_version(
            VersionRow(model="intent", version=1, state=VersionState.CHAMPION, card=version_card(labels=("a", "b")))
        )
        ledger.mark_learnt("intent", [row.id for row in ledger.examples("intent", split=Split.TRAIN)], 1)
        ledger.set_route(
            Route(model="intent", epoch=1, champion=1, resident=(1,)), expected_epoch=0, actor="test", reason="first"
        )
        stored = ledger.examples("intent", split=Split.HOLDOUT)
    note_held_out(workspace.run("intent", 1), [row.id for row in stored])
    trained = workspace.run("intent", 1) / "trained"
    trained.mkdir()
    answers = {"given": ["b"] * len(stored), "confidence": [0.75] * len(stored)}
    (trained / "holdout-answers.json").write_text(json.dumps(answers), encoding="utf-8")
    assert isinstance(read_proof_answers(trained), ProofAnswers)
    keep_answers(workspace, "intent", 1, trained=trained)
    return path


def _report(config: Path, *words: str) -> Any:
    done = CliRunner().invoke(app, ["model", "report", *words, "--config", str(config)])
    if done.exception is not None:
        raise done.exception
    return done


def test_figures_baselines_and_missing_classes_are_told(config: Path) -> None:
    report = json.loads(_report(config, "1", "--json").stdout)
    assert (report["answers"]["rows"], report["answers"]["accuracy"]) == (10, 0.8)
    assert report["answers"]["missing_class_rows"] == 1
    assert [(each["name"], each["learnt"]) for each in report["baselines"]] == [("majority", 40), ("tf-idf", 40)]
    assert report["unserved"] == [{"label": "c", "rows": 1}]
    assert report["open_set"] is None
    assert "of 10 held-out rows" in report["verdict"]
    shown = _report(config).stdout
    assert "this version" in shown
    assert "卡丢了 أين بطاقتي" in shown


def test_names_of_images_are_not_counted_as_words(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_report, "reads_words", lambda task: False)
    report = json.loads(_report(config, "1", "--json").stdout)
    assert [each["name"] for each in report["baselines"]] == ["majority"]
    assert "the commonest class" in report["verdict"]


def test_the_page_escapes_what_people_wrote(config: Path, tmp_path: Path) -> None:
    _report(config, "--html", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is what Mary asked about" in page
    assert "<script" not in page
    assert "卡丢了 أين بطاقتي" in page


def test_what_is_kept_holds_no_text_and_an_erased_row_is_in_no_report(config: Path) -> None:
    workspace = Workspace(load_settings(config))
    kept = (workspace.reports("intent") / "held-out-answers-1.json").read_text(encoding="utf-8")
    assert "Mary" not in kept
    with Ledger.open(workspace.settings.ledger_address) as ledger:
        _, at = ledger.begin_erasure("intent", "mary")
        ledger.erase_key("intent", "mary", erased_at=at)
    output = _report(config, "1", "--json").stdout
    assert json.loads(output)["answers"]["rows"] == 9
    assert "Mary" not in output


@pytest.mark.parametrize(
    "damage",
    [None, "", "{}", "[]", '{"ids": [1], "given": "b"}', '{"ids": [41, 42], "given": ["b"], "confidence": [0.5]}'],
)
def test_a_version_without_kept_answers_says_so(config: Path, damage: str | None) -> None:
    kept = Workspace(load_settings(config)).reports("intent") / "held-out-answers-1.json"
    kept.unlink()
    if damage is not None:
        kept.write_text(damage, encoding="utf-8")
    report = json.loads(_report(config, "1", "--json").stdout)
    assert report["answers"] is None
    assert "are not known" in report["verdict"]


def test_a_version_that_is_not_there_is_named(config: Path) -> None:
    with pytest.raises(NotFound, match="version 9"):
        _report(config, "9")


def test_what_a_version_takes_for_none_of_its_classes_is_told(config: Path, tmp_path: Path) -> None:
    assert "KNOWN is true for every text" in _html(config, tmp_path)
    bundle = Workspace(load_settings(config)).bundle("intent", 1)
    bundle.mkdir(parents=True)
    OpenSet(limit=0.0, per_logit=1.0, per_distance=0.0, false_refusals=0.05, rows=477).write(bundle)
    text_card("ridge", metrics={"holdout_new_class_recall": 0.41}).write(bundle)
    told = json.loads(_report(config, "1", "--json").stdout)["open_set"]
    assert told == {"false_refusals": 0.05, "rows": 477, "new_class_recall": 0.41}
    assert (
        "KNOWN is false for at most 5% of the texts of its classes, by 477 held-out rows; had their class been "
        "missing, it would be false for 41% of them"
    ) in _html(config, tmp_path)


def _html(config: Path, tmp_path: Path) -> str:
    page = tmp_path / "page.html"
    _report(config, "1", "--html", str(page))
    return page.read_text(encoding="utf-8")


def _say_whose(config: Path, *, limit: str = "") -> None:
    """Rows of the north were answered rightly, those of the south wrongly."""
    text = config.read_text(encoding="utf-8")
    config.write_text(
        f'{text}[models.intent.fairness]\nattributes = ["region", "age"]\nleast_rows = 2\n{limit}', encoding="utf-8"
    )
    with Ledger.open(load_settings(config).ledger_address) as ledger:
        held = [stored.example for stored in ledger.examples("intent", split=Split.HOLDOUT)]
        said = [replace(row, attributes={"region": "north" if row.label == "b" else "south"}) for row in held[1:]]
        ledger.add_examples("intent", said, lambda _: Split.HOLDOUT)


def test_groups_of_a_declared_attribute_are_told_apart(config: Path, tmp_path: Path) -> None:
    assert json.loads(_report(config, "1", "--json").stdout)["fairness"] is None
    assert "Whom it answers worse" not in _html(config, tmp_path)
    _say_whose(config, limit='limits = [{attribute = "region", figure = "accuracy_difference", bound = 0.05}]\n')
    fairness = json.loads(_report(config, "1", "--json").stdout)["fairness"]
    (region,) = fairness["attributes"]
    assert (region["rows"], region["unknown"], fairness["without_rows"]) == (9, 1, ["age"])
    groups = {each["group"]: (each["rows"], each["accuracy"]["mean"]) for each in region["groups"]}
    assert groups == {"north": (7, 1.0), "south": (2, 0.0)}
    said = _report(config, "1").stderr
    assert "region: 9 held-out rows say it; 1 rows do not" in said.replace("\n", " ")
    page = _html(config, tmp_path)
    for told in ("Whom it answers worse", "By region", "age: no held-out row says it", "What was not measured"):
        assert told in page
    assert "surely beyond the limit" in page
    assert "<script" not in page


def test_without_kept_answers_no_group_is_told_to_have_no_rows(config: Path, tmp_path: Path) -> None:
    _say_whose(config, limit='limits = [{attribute = "region", figure = "accuracy_difference", bound = 0.05}]\n')
    (Workspace(load_settings(config)).reports("intent") / "held-out-answers-1.json").unlink()
    said = " ".join(_report(config, "1").stderr.split())
    assert "answers to held-out rows were not kept, so no group of people is measured" in said
    for untrue in ("no held-out row says it", "rows enough", "Measured on 0 rows"):
        assert untrue not in said + _html(config, tmp_path)


def test_what_was_probed_is_in_every_later_report(config: Path, tmp_path: Path) -> None:
    workspace = Workspace(load_settings(config))
    (path := workspace.reports("intent") / "probes-1.json").write_text("{}", encoding="utf-8")
    assert json.loads(_report(config, "1", "--json").stdout)["probed"] is None, "of another release"
    texts, labels = ["My colour"] * 30, ["a"] * 30
    probed = ProbedVersion(
        at=AT.isoformat(),
        rows=30,
        changes=changed_answers(texts, labels, lambda some: ["a" if t[0] == "M" else "b" for t in some], seed=0),
        groups=probe_names(texts, labels, lambda some: ["a"] * len(some), seed=0),
        membership=membership_auc([0.9] * 30, [0.1] * 30),
        thresholds=(_thresholds(),),
    )
    path.write_text(json.dumps(asdict(probed)), encoding="utf-8")
    page = _html(config, tmp_path)
    assert "When texts are disturbed" in page
    assert "Black American (beside white American)" in page
    told = _report(config, "1").stderr.replace("\n", " ")
    assert "surer than that of another row in 100.0% of pairs" in told
    assert "lower case (no capitals): accuracy 1.000 before and 0.000 after on 30 rows" in told
    assert "thresholds of each group's own (by region, not served): the selection rate of 'yes' would lie" in told
    assert "selection rate of yes by region" in page
    assert "The service does not answer by these thresholds" in page


def _thresholds() -> EqualThresholds:
    scores = [0.2, 0.6, 0.7, 0.9] * 20 + [0.1, 0.3, 0.4, 0.6] * 20
    labels, given = (["yes" if score > cut else "no" for score in scores] for cut in (0.35, 0.5))
    groups = ["north"] * 80 + ["south"] * 80
    found = equal_thresholds("region", groups, labels, given, scores, label="yes", figure="selection_rate")
    assert found is not None
    return found


def test_what_a_version_may_tell_of_a_row_is_told(config: Path, tmp_path: Path) -> None:
    assert "it was learnt without noise" in _html(config, tmp_path)
    bundle = Workspace(load_settings(config)).bundle("intent", 1)
    bundle.mkdir(parents=True)
    noise = {"by": "sums", "told": "new rows", "epsilon": 4.0, "delta": 1e-5, "epsilon_spent": 5.81, "budget": 8.0}
    text_card(settings={PRIVACY: noise}).write(bundle)
    assert json.loads(_report(config, "1", "--json").stdout)["privacy"] == noise
    told = "with epsilon 4, and all versions together have spent epsilon 5.81 of a budget of 8 at delta 1e-05"
    assert told in _html(config, tmp_path)
    text_card(settings={PRIVACY: {**noise, "budget": None}}).write(bundle)
    assert json.loads(_report(config, "1", "--json").stdout)["privacy"]["budget"] is None
