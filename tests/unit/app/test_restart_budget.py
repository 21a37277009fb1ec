"""Which failing models are worth a restart of the server that others are answered by."""

from perennial.continual.errors import DependencyUnreachable, PublishFailed
from perennial.ops.app.probing import RestartBudget
from perennial.ops.serving.probe import ChampionSilent, Stalled

HUNG, REFUSED, SILENT = Stalled("nothing comes out"), PublishFailed("no version"), ChampionSilent("another answers")


class Server:
    """Counts its restarts, and has a clock."""

    def __init__(self) -> None:
        self.restarts, self.now = 0, 0.0
        self.budget = RestartBudget(lambda: self.restarts, clock=lambda: self.now)


def test_a_model_that_no_restart_mends_costs_one_in_ten_minutes() -> None:
    server = Server()
    assert server.budget.error({"a": HUNG}, answered=19) is HUNG
    server.restarts += 1
    for _ in range(3):
        server.now += 100
        assert server.budget.error({"a": HUNG}, answered=19) is None
    server.now += 400
    assert server.budget.error({"a": HUNG}, answered=19) is HUNG


def test_one_that_fails_again_and_again_after_each_restart_is_held_back_too() -> None:
    server = Server()
    server.budget.error({"a": HUNG}, answered=1)
    server.restarts += 1
    server.budget.error({"a": HUNG}, answered=1)
    assert server.budget.error({}, answered=2) is None
    server.now += 30
    assert server.budget.error({"a": HUNG}, answered=1) is None
    assert server.budget.error({"a": HUNG, "b": REFUSED}, answered=1) is REFUSED, "another one has its own"


def test_a_restart_is_charged_to_a_model_that_is_well_after_it_for_a_moment() -> None:
    server = Server()
    assert server.budget.error({"a": HUNG}, answered=19) is HUNG
    server.restarts += 1
    assert server.budget.error({}, answered=20) is None
    server.now += 5
    assert server.budget.error({"a": HUNG}, answered=19) is None
    server.now += 600
    assert server.budget.error({"a": HUNG}, answered=19) is HUNG


def test_an_answer_that_does_not_come_is_judged_before_a_refusal_whatever_the_order() -> None:
    away = DependencyUnreachable("no answer in time")
    for failing in ({"a": REFUSED, "b": away}, {"b": away, "a": REFUSED}):
        assert Server().budget.error(failing, answered=1) is away


def test_nothing_is_held_back_where_nobody_is_answered() -> None:
    server = Server()
    server.budget.error({"a": HUNG, "b": HUNG}, answered=0)
    server.restarts += 1
    away = DependencyUnreachable("no reply")
    assert server.budget.error({"a": away, "b": REFUSED}, answered=0) is away
    assert server.budget.error({"a": REFUSED}, answered=0) is REFUSED


def test_a_silent_champion_counts_as_answered_and_as_the_least_of_errors() -> None:
    server = Server()
    assert server.budget.error({"a": SILENT}, answered=0) is SILENT
    assert server.budget.error({"a": SILENT, "b": HUNG}, answered=0) is HUNG
    server.restarts += 1
    assert server.budget.error({"a": SILENT, "b": HUNG}, answered=0) is None


def test_a_lost_process_costs_the_others_one_restart_in_ten_minutes_and_the_model_is_told_meanwhile() -> None:
    server = Server()
    assert server.budget.allows("a", others_answered=19)
    server.restarts += 1
    for _ in range(3):
        server.now += 50
        assert not server.budget.allows("a", others_answered=19)
        assert server.budget.held == {"a"}
    assert server.budget.allows("b", others_answered=19), "another one has its own"
    server.now += 500
    assert server.budget.allows("a", others_answered=19)
    assert server.budget.held == frozenset()


def test_a_loss_and_a_failure_share_one_restart() -> None:
    server = Server()
    assert server.budget.error({"a": HUNG}, answered=1) is HUNG
    server.restarts += 1
    assert not server.budget.allows("a", others_answered=1)
    server.now += 600
    assert server.budget.allows("a", others_answered=1)
    server.restarts += 1
    assert server.budget.error({"a": HUNG}, answered=1) is None


def test_a_loss_is_never_held_back_where_no_other_model_is_answered() -> None:
    server = Server()
    for _ in range(3):
        assert server.budget.allows("a", others_answered=0)
        server.restarts += 1


def test_one_that_was_refused_and_asks_no_more_waits_for_nothing() -> None:
    server = Server()
    server.budget.allows("a", others_answered=1)
    server.restarts += 1
    server.budget.allows("a", others_answered=1)
    server.now += 100
    assert server.budget.held == frozenset(), "its version was unloaded, say"


def test_a_server_that_answered_nobody_is_charged_to_no_model() -> None:
    server = Server()
    server.budget.error({"a": HUNG, "b": HUNG}, answered=0)
    server.restarts += 1
    assert server.budget.error({}, answered=2) is None
    assert server.budget.allows("a", others_answered=1)
