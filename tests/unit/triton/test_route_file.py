import json
from pathlib import Path

import pytest

from continual.errors import NotFound
from continual.records import Arm, Route
from ops.triton.route import RouteFile, pick_arm
from ops.workspace import write_atomically


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


@pytest.mark.parametrize("torn", ['{"model": "intent", "epo', "", "[]", '{"model": "intent"}', '{"resident": 3}'])
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


def test_share_nothing_and_everything():
    assert pick_arm(_route(0.0), "k") is Arm.CHAMPION
    assert all(pick_arm(_route(1.0), str(number)) is Arm.CHALLENGER for number in range(500))


def test_models_split_the_same_keys_differently():
    keys = [str(number) for number in range(500)]
    sides = [[pick_arm(_route(0.5, model), key) for key in keys] for model in ("intent", "mood")]
    assert sides[0] != sides[1]
