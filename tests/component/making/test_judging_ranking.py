"""Two real bundles of a ranking before the gate: replayed lists, parts of users, and what live lists earned."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.gate import GateEvidence, GateRules, judge
from perennial.continual.learning.ranking import Exploration, ItemGram
from perennial.continual.tasks.ranking import Impression, Query, Ranking
from perennial.exporters.ranking.outcomes import ListOutcomes
from perennial.ops.making.judging import JudgingSpec, measure
from perennial.ops.serving.bundled import BundledVersion
from perennial.ops.serving.tasks import serving_side
from perennial.ops.store.user_events import UserEvents
from tests.component.ranking_fixtures import ASKED_AT, ITEMS, asked_in_town, export_ranking, train_ranking
from tests.unit.learning.ranking.town import events

pytestmark = pytest.mark.component
_LOGGED = 300


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> JudgingSpec:
    """A champion that knows the town, and one that knows another town of the same items."""
    folder = tmp_path_factory.mktemp("judging")
    lends = Exploration(share=0.3, most=1, known_from=1_000.0)
    champion = train_ranking(folder / "1" / "trained", exploration=lends)
    challenger = train_ranking(folder / "2" / "trained", seed=9, exploration=lends)
    for number, trained in ((1, champion), (2, challenger)):
        export_ranking(folder / "bundles" / str(number), trained, number)
    gram, memory = ItemGram(), folder / "users.db"
    gram.add(events(seed=1))
    with UserEvents(memory) as users:
        users.add(events(seed=1))
    task, rows = Ranking(), []
    for asked in asked_in_town():
        later = {one.item: one.liked for one in gram.history(asked.user) if one.at >= ASKED_AT}
        query = Query(user=asked.user, at=ASKED_AT)
        rows.append(task.write_row(Impression(input=query, target=later | {ITEMS[-1].name: 0.3}, at=ASKED_AT)))
    return JudgingSpec(
        champion=1,
        challenger=2,
        champion_bundle=str(folder / "bundles" / "1"),
        challenger_bundle=str(folder / "bundles" / "2"),
        fresh=rows,
        old=[],
        rules={"max_latency_ratio": 1e6},
        seed=0,
        threads=1,
        task="ranking",
        memory=str(memory),
        logged=_log(folder / "bundles" / "1"),
    )


def _log(bundle: Path) -> list[dict[str, Any]]:
    """The champion's lists as the log keeps them, some places drawn; each first item that is even was liked."""
    side, version = serving_side("ranking"), BundledVersion.load(bundle, threads=1)
    town = asked_in_town()
    asked = [replace(town[number % len(town)], lottery=number) for number in range(_LOGGED)]
    columns = side.columns(asked, version.answers(asked))
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    firsts = [json.loads(row["prediction"])[0] for row in rows]
    return [
        row | {"at": ASKED_AT.isoformat(), "target": json.dumps({first: 1.0}) if int(first[1:]) % 2 == 0 else None}
        for row, first in zip(rows, firsts, strict=True)
    ]


@pytest.fixture(scope="module")
def evidence(spec: JudgingSpec) -> GateEvidence:
    return measure(JudgingSpec(**json.loads(json.dumps(asdict(spec)))))[0]


def test_the_parts_of_users_and_items_are_those_of_what_the_champion_knew(evidence: GateEvidence) -> None:
    parts = evidence.fresh.parts
    assert set(parts) == {"new users", "heavy users", "cold items"}
    assert parts["new users"][-1], "the last one of the town is new to it"
    assert not parts["heavy users"].any(), "nobody had done twenty things by then"
    assert parts["cold items"].all(), "nobody had liked the last item, and all of them did somewhat"


def test_what_live_lists_earned_is_told_of_both_with_intervals(evidence: GateEvidence) -> None:
    logged = evidence.logged
    assert logged is not None
    assert (logged.rows, logged.users) == (_LOGGED, len(asked_in_town()))
    assert logged.champion.mean() > 0.6
    decision = judge(evidence, GateRules(old_rows_bind=False, max_latency_ratio=1e6), np.random.default_rng(0))
    figures = decision.figures
    for name in ("champion_ips", "champion_dr", "challenger_ips", "challenger_dr"):
        assert figures[f"logged_{name}_low"] <= figures[f"logged_{name}"] <= figures[f"logged_{name}_high"]
    assert figures["logged_champion_dr_low"] <= figures["logged_earned"] <= figures["logged_champion_dr_high"]
    assert figures["cold_items_rows"] == len(asked_in_town())


def test_a_log_of_few_lists_or_in_which_nothing_was_drawn_says_nothing(spec: JudgingSpec) -> None:
    plain = [row | {"propensities": json.dumps([1.0] * 10)} for row in spec.logged]
    empty = [row | {"prediction": "[]", "propensities": "[]"} for row in spec.logged]
    for rows in (plain, empty, spec.logged[:49], []):
        assert measure(replace(spec, logged=rows))[0].logged is None


def test_the_tenth_that_did_most_are_heavy_users() -> None:
    outcomes = ListOutcomes({item.name: 1.0 for item in ITEMS})
    heavy, light = asked_in_town()[0], asked_in_town()[-1]
    known = replace(heavy.known, events=heavy.known.events * 20)
    inputs = [replace(heavy, profile=known), *[light] * 19]
    parts = outcomes.parts(inputs, [{}] * 20)
    assert [sum(parts[name]) for name in ("heavy users", "new users", "cold items")] == [1, 19, 0]
    assert outcomes.parts([], []) == {"new users": [], "heavy users": [], "cold items": []}
