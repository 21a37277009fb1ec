import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.continual.atomic_file import write_atomically
from perennial.continual.errors import NotFound
from perennial.continual.records import Arm, Route
from perennial.ops.serving.router.route import RouteFile, WaitingVersion, pick_arm


def _write(path: Path, **changes: object) -> None:
    content = {"model": "intent", "epoch": 1, "champion": 1, "previous": None, "challenger": None, "share": 0.0}
    write_atomically(path, json.dumps({**content, "resident": [1, 2], **changes}))


def _route(share: float, model: str = "intent") -> Route:
    return Route(model=model, epoch=1, champion=1, challenger=2, share=share, resident=(1, 2))


def test_a_replaced_file_is_seen_at_once(tmp_path):
    path = tmp_path / "route.json"
    _write(path)
    route = RouteFile(path)
    assert route.current().champion == 1
    _write(path, champion=2, epoch=2)
    assert route.current().champion == 2


def test_an_unchanged_file_is_not_read_again(tmp_path):
    path = tmp_path / "route.json"
    _write(path)
    route = RouteFile(path)
    assert route.current() is route.current()


@pytest.mark.parametrize(
    "torn", ['{"model": "intent", "epo', "", "[]", '{"model": "intent"}', '{"resident": 3}', "\0\0\0"]
)
def test_a_torn_file_leaves_the_last_good_route(tmp_path, torn):
    path = tmp_path / "route.json"
    _write(path, champion=2)
    route = RouteFile(path)
    route.current()
    path.write_text(torn)
    assert route.current().champion == 2
    path.unlink()
    assert route.current().champion == 2
    _write(path, champion=1, epoch=3)
    assert route.current().champion == 1


def test_a_file_that_could_not_be_read_for_a_moment_is_read_later(tmp_path, monkeypatch):
    path = tmp_path / "route.json"
    _write(path)
    route = RouteFile(path)
    route.current()
    _write(path, champion=2, epoch=2)

    def stale(_: Path) -> bytes:
        raise OSError("stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", stale)
        assert route.current().champion == 1
    assert route.current().champion == 2


def test_no_route_at_all_is_told(tmp_path):
    with pytest.raises(NotFound, match="no route at"):
        RouteFile(tmp_path / "none.json").current()


def test_a_growing_share_only_moves_keys_to_the_challenger():
    keys = [f"caller-{number}" for number in range(4_000)]
    before = {key for key in keys if pick_arm(_route(0.1), key) is Arm.CHALLENGER}
    after = {key for key in keys if pick_arm(_route(0.3), key) is Arm.CHALLENGER}
    assert before < after
    for share, chosen in ((0.1, before), (0.3, after)):
        three_sigma = 3 * (share * (1 - share) / len(keys)) ** 0.5
        assert abs(len(chosen) / len(keys) - share) < three_sigma


@given(
    key=st.text(max_size=40), model=st.sampled_from(["intent", "mood"]), shares=st.lists(st.floats(0, 1), max_size=6)
)
def test_a_key_changes_sides_at_one_share_and_never_back(key: str, model: str, shares: list[float]) -> None:
    """So a changed share moves exactly the keys whose place lies between the old share and the new one."""
    sides = [pick_arm(_route(share, model), key) is Arm.CHALLENGER for share in sorted(shares)]
    assert sides == sorted(sides)
    assert pick_arm(_route(1.0, model), key) is Arm.CHALLENGER
    epochs = {pick_arm(replace(_route(0.5, model), epoch=epoch, champion=2, challenger=1), key) for epoch in (1, 9)}
    assert len(epochs) == 1, "neither the versions nor the epoch move a key"


@pytest.mark.parametrize(("old", "new"), [(0.05, 0.25), (0.25, 0.05), (0.1, 0.9)])
def test_a_changed_share_moves_no_more_keys_than_it_must(old: float, new: float) -> None:
    keys = [f"caller-{number}" for number in range(4_000)]
    moved = sum(pick_arm(_route(old), key) is not pick_arm(_route(new), key) for key in keys) / len(keys)
    must = abs(new - old)
    assert abs(moved - must) < 3 * (must * (1 - must) / len(keys)) ** 0.5


def test_a_key_stays_on_its_side_across_restarts_and_releases():
    """A process of its own with another hash seed, and sides that were written down once and for all."""
    keys = [f"caller-{number}" for number in range(24)]
    program = (
        "from perennial.continual.records import Route\n"
        "from perennial.ops.serving.router.route import pick_arm; import sys\n"
        "route = Route(model='intent', epoch=1, champion=1, challenger=2, share=0.5, resident=(1, 2))\n"
        "print(''.join(pick_arm(route, key).value[3] for key in sys.argv[1:]))"
    )
    sides = "".join(pick_arm(_route(0.5), key).value[3] for key in keys)
    for seed in ("1", "2"):
        command = [sys.executable, "-c", program, *keys]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert done.stdout.strip() == sides
    assert sides == "lllmlllmlmlmmmmmlmmllmll"


def test_share_nothing_and_everything():
    assert pick_arm(_route(0.0), "k") is Arm.CHAMPION
    assert all(pick_arm(_route(1.0), str(number)) is Arm.CHALLENGER for number in range(500))


def test_models_split_the_same_keys_differently():
    keys = [str(number) for number in range(500)]
    sides = [[pick_arm(_route(0.5, model), key) for key in keys] for model in ("intent", "mood")]
    assert sides[0] != sides[1]


def test_a_key_whose_place_is_the_share_itself_is_the_champions():
    place = int.from_bytes(hashlib.blake2b(b"intent\x00k", digest_size=8).digest(), "big") / 2.0**64
    assert pick_arm(_route(place), "k") is Arm.CHAMPION
    assert pick_arm(_route(place + 1e-9), "k") is Arm.CHALLENGER


def test_without_a_challenger_the_champion_answers_everybody():
    route = Route(model="intent", epoch=1, champion=1, resident=(1,))
    assert all(pick_arm(route, str(number)) is Arm.CHAMPION for number in range(500))


@pytest.mark.parametrize(("epoch", "is_logged"), [(4, True), (5, False), (6, False)])
def test_a_route_older_than_the_one_before_it_is_followed_and_told(tmp_path, caplog, epoch, is_logged):
    path = tmp_path / "route.json"
    _write(path, epoch=5)
    route = RouteFile(path)
    route.current()
    assert caplog.messages == []
    _write(path, epoch=epoch, champion=2)
    assert route.current().champion == 2
    assert caplog.messages == ["route.older"] * is_logged


def test_a_version_waits_while_the_route_has_it_answer_nobody(tmp_path):
    path = tmp_path / "route.json"
    waits = [WaitingVersion(version, path) for version in (1, 2, 3)]
    assert [each() for each in waits] == [False, False, False], "without a route any of them may be asked"
    _write(path, champion=2, previous=1)
    assert [each() for each in waits] == [True, False, True]
    _write(path, champion=2, challenger=3, share=0.5, resident=[1, 2, 3], epoch=2)
    assert [each() for each in waits] == [True, False, False]
    path.unlink()
    assert [each() for each in waits] == [False, False, False]
